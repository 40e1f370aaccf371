/*
 * relay/endpoint.c
 *	  Checks URLs with the parser that will call them, so that both mean the same host.
 *
 * Invariant: no reason repeats the text.  It may hold a password or a token.
 */
#include "endpoint.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "assertion.h"

/* One part as a copy; NULL: it is not there. */
static char *
url_part(CURLU *parsed, CURLUPart what, unsigned int flags)
{
	char	   *part = NULL;
	char	   *copy = NULL;

	if (curl_url_get(parsed, what, &part, flags) == CURLUE_OK)
		copy = memory_copy(part, strlen(part));
	curl_free(part);
	return copy;
}

static bool
has_part(CURLU *parsed, CURLUPart what)
{
	char	   *part = url_part(parsed, what, 0);
	bool		has = part != NULL;

	free(part);
	return has;
}

static bool
only_printable(const char *url, size_t length)
{
	for (size_t i = 0; i < length; i++)
	{
		if (url[i] <= 0x20 || url[i] >= 0x7F)
			return false;
	}
	return true;
}

/* Why the parsed URL may not be called, as the end of a sentence; NULL: it may. */
static const char *
url_trouble(CURLU *parsed, bool *https)
{
	char	   *scheme = url_part(parsed, CURLUPART_SCHEME, 0);
	bool		http = scheme != NULL && strcasecmp(scheme, "http") == 0;

	*https = scheme != NULL && strcasecmp(scheme, "https") == 0;
	free(scheme);
	if (!http && !*https)
		return "must begin with https:// or http://";
	if (has_part(parsed, CURLUPART_USER) || has_part(parsed, CURLUPART_PASSWORD))
		return "must not hold a user or a password; use \"headers\" or \"oauth2\"";
	if (has_part(parsed, CURLUPART_FRAGMENT))
		return "must not hold a fragment (#...)";
	return NULL;
}

static void
take_parts(CURLU *parsed, Endpoint *endpoint)
{
	char	   *host = url_part(parsed, CURLUPART_HOST, 0);
	char	   *port = url_part(parsed, CURLUPART_PORT, CURLU_DEFAULT_PORT);
	size_t		length = host != NULL ? strlen(host) : 0;
	size_t		label_bytes;

	if (length >= 2 && host[0] == '[' && host[length - 1] == ']')
		endpoint->host = memory_copy(host + 1, length - 2);
	else
		endpoint->host = memory_copy(host != NULL ? host : "", length);
	label_bytes = length + (port != NULL ? strlen(port) : 0) + 2;
	endpoint->label = memory_take(label_bytes);
	snprintf(endpoint->label, label_bytes, "%s:%s", host != NULL ? host : "",
			 port != NULL ? port : "");
	free(host);
	free(port);
}

bool
endpoint_parse(const char *url, size_t length, const char *member, Endpoint *endpoint,
			   Reason *reason)
{
	CURLU	   *parsed = curl_url();
	const char *trouble;
	char	   *copy = memory_copy(url, length);

	memset(endpoint, 0, sizeof(Endpoint));
	if (length > URL_BYTES_MAX)
		trouble = "is too long";
	else if (!only_printable(url, length))
		trouble = "may hold printable ASCII only; other characters are written as %XX";
	else if (parsed == NULL || curl_url_set(parsed, CURLUPART_URL, copy,
											CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK)
		trouble = "is not a URL, as https://host/path";
	else
		trouble = url_trouble(parsed, &endpoint->https);
	if (trouble == NULL)
	{
		take_parts(parsed, endpoint);
		if (endpoint->host[0] == '\0')
			trouble = "has no host";
	}
	curl_url_cleanup(parsed);
	if (trouble != NULL)
	{
		free(copy);
		endpoint_free(endpoint);
		reason_set(reason, "\"%s\" %s.", member, trouble);
		return false;
	}
	endpoint->url = copy;
	Assert(endpoint->label != NULL);
	return true;
}

void
endpoint_free(Endpoint *endpoint)
{
	free(endpoint->url);
	free(endpoint->host);
	free(endpoint->label);
	memset(endpoint, 0, sizeof(Endpoint));
}
