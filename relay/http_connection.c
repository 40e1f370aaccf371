/*
 * relay/http_connection.c
 *	  What a configuration says about connections, as options of a handle.
 */
#include "http_connection.h"

void
connection_apply(CURL *easy, const HttpConfig *config)
{
	bool		http2 = config->http2 && config->endpoint.https;

	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, config->verify ? 1L : 0L);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, config->verify ? 2L : 0L);
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION,
					 (long) (http2 ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1));
	curl_easy_setopt(easy, CURLOPT_PIPEWAIT, http2 ? 1L : 0L);
	if (config->ca_file != NULL)
		curl_easy_setopt(easy, CURLOPT_CAINFO, config->ca_file);
	if (config->client_certificate != NULL)
		curl_easy_setopt(easy, CURLOPT_SSLCERT, config->client_certificate);
	if (config->client_key != NULL)
		curl_easy_setopt(easy, CURLOPT_SSLKEY, config->client_key);
	if (config->proxy.url != NULL)
		curl_easy_setopt(easy, CURLOPT_PROXY, config->proxy.url);
}

const char *
connection_peer(const HttpConfig *config, const Endpoint *endpoint)
{
	return config->proxy.url != NULL ? config->proxy.host : endpoint->host;
}
