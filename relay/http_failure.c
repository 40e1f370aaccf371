/*
 * relay/http_failure.c
 *	  From what libcurl says to a code and a sentence.
 *
 * Invariant: a reason holds host and port, never a path, a query string or a header.
 * Of libcurl's own messages only those of TLS and of the protocol are shown: they speak of
 * certificates and of bytes that came.
 */
#include "http_failure.h"

#include <string.h>

#include "assertion.h"

typedef struct FailureKind
{
	CURLcode	result;
	const char *code;
} FailureKind;

static const FailureKind kinds[] = {
	{CURLE_COULDNT_RESOLVE_HOST, RELAY_CODE_DNS},
	{CURLE_COULDNT_RESOLVE_PROXY, RELAY_CODE_DNS},
	{CURLE_COULDNT_CONNECT, RELAY_CODE_REFUSED},
	{CURLE_INTERFACE_FAILED, RELAY_CODE_REFUSED},
	{CURLE_PROXY, RELAY_CODE_REFUSED},
	{CURLE_OPERATION_TIMEDOUT, RELAY_CODE_TIMEOUT},
	{CURLE_SSL_CONNECT_ERROR, RELAY_CODE_TLS},
	{CURLE_PEER_FAILED_VERIFICATION, RELAY_CODE_TLS},
	{CURLE_SSL_CIPHER, RELAY_CODE_TLS},
	{CURLE_SSL_ISSUER_ERROR, RELAY_CODE_TLS},
	{CURLE_SSL_INVALIDCERTSTATUS, RELAY_CODE_TLS},
	{CURLE_SSL_CLIENTCERT, RELAY_CODE_TLS},
	{CURLE_USE_SSL_FAILED, RELAY_CODE_TLS},
	{CURLE_SSL_CERTPROBLEM, RELAY_CODE_CONFIG},
	{CURLE_SSL_CACERT_BADFILE, RELAY_CODE_CONFIG},
	{CURLE_URL_MALFORMAT, RELAY_CODE_CONFIG},
	{CURLE_GOT_NOTHING, RELAY_CODE_CLOSED},
	{CURLE_RECV_ERROR, RELAY_CODE_CLOSED},
	{CURLE_SEND_ERROR, RELAY_CODE_CLOSED},
	{CURLE_PARTIAL_FILE, RELAY_CODE_CLOSED},
	{CURLE_HTTP2_STREAM, RELAY_CODE_CLOSED},
	{CURLE_HTTP2, RELAY_CODE_PROTOCOL},
	{CURLE_WEIRD_SERVER_REPLY, RELAY_CODE_PROTOCOL},
	{CURLE_UNSUPPORTED_PROTOCOL, RELAY_CODE_PROTOCOL},	/* an answer as of HTTP/0.9 */
	{CURLE_BAD_CONTENT_ENCODING, RELAY_CODE_PROTOCOL},
};

/* libcurl tells a broken chunk apart by its message only. */
static const char *
failure_code(const Request *request, CURLcode result)
{
	if (result == CURLE_RECV_ERROR && strstr(request->error, "chunk") != NULL)
		return RELAY_CODE_PROTOCOL;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
	{
		if (kinds[i].result == result)
			return kinds[i].code;
	}
	return RELAY_CODE_OTHER;
}

static void
blocked_failure(Outcome *outcome, const Request *request)
{
	char		address[ADDRESS_TEXT_BYTES];

	address_text(&request->blocked_address, address);
	outcome_fail(outcome, RELAY_CODE_BLOCKED_ADDRESS, "%s is %s (%s), which may not be reached; "
				 "\"allow_addresses\" of the configuration can allow it.", request->host,
				 address, request->blocked_range);
}

static void
timeout_failure(Outcome *outcome, const Request *request, const char *label, int64_t timeout_ms)
{
	curl_off_t	looked_up = 0;
	curl_off_t	sent = 0;
	curl_off_t	answered = 0;
	const char *phase = "the answer was not complete";

	curl_easy_getinfo(request->easy, CURLINFO_NAMELOOKUP_TIME_T, &looked_up);
	curl_easy_getinfo(request->easy, CURLINFO_PRETRANSFER_TIME_T, &sent);
	curl_easy_getinfo(request->easy, CURLINFO_STARTTRANSFER_TIME_T, &answered);
	if (looked_up == 0)
		phase = "the name was not resolved";
	else if (sent == 0)
		phase = "no connection was set up";
	else if (answered == 0)
		phase = "no answer came";
	outcome_fail(outcome, RELAY_CODE_TIMEOUT, "%s: %s within %lld ms.", label, phase,
				 (long long) timeout_ms);
}

static void
refused_failure(Outcome *outcome, const Request *request, const char *label)
{
	long		error = 0;

	curl_easy_getinfo(request->easy, CURLINFO_OS_ERRNO, &error);
	outcome_fail(outcome, RELAY_CODE_REFUSED, "%s cannot be connected to: %s.", label,
				 error != 0 ? strerror((int) error) : "no address answers");
}

void
http_failure(Outcome *outcome, const Request *request, CURLcode result, const char *label,
			 int64_t timeout_ms)
{
	const char *code = failure_code(request, result);

	Assert(result != CURLE_OK);
	if (request->blocked && !request->connecting)
		blocked_failure(outcome, request);
	else if (strcmp(code, RELAY_CODE_TIMEOUT) == 0)
		timeout_failure(outcome, request, label, timeout_ms);
	else if (strcmp(code, RELAY_CODE_REFUSED) == 0)
		refused_failure(outcome, request, label);
	else if (strcmp(code, RELAY_CODE_DNS) == 0)
		outcome_fail(outcome, code, "The name %s cannot be resolved.", request->host);
	else if (strcmp(code, RELAY_CODE_TLS) == 0)
		outcome_fail(outcome, code, "TLS with %s failed: %s.", label,
					 request->error[0] != '\0' ? request->error : curl_easy_strerror(result));
	else if (strcmp(code, RELAY_CODE_CONFIG) == 0)
		outcome_fail(outcome, code, "A certificate, key or address of the configuration cannot be "
					 "used: %s.", curl_easy_strerror(result));
	else if (strcmp(code, RELAY_CODE_CLOSED) == 0)
		outcome_fail(outcome, code, "%s closed the connection before its answer was complete.",
					 label);
	else if (strcmp(code, RELAY_CODE_PROTOCOL) == 0)
		outcome_fail(outcome, code, "%s sent an answer that is not HTTP: %s.", label,
					 request->error[0] != '\0' ? request->error : curl_easy_strerror(result));
	else
		outcome_fail(outcome, code, "The request to %s failed: %s.", label,
					 curl_easy_strerror(result));
}
