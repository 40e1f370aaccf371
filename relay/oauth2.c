/*
 * relay/oauth2.c
 *	  Fetches access tokens and keeps them until shortly before they end.
 *
 * Invariants
 *	 1. One token request of a destination at a time.
 *	 2. A token and the client's secret are wiped where they are no longer needed, and are
 *		in no reason.
 *	 3. The token server is held to the same addresses, limits and TLS as the destination.
 */
#include "oauth2.h"

#include <jansson.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "assertion.h"
#include "clock.h"
#include "http_failure.h"
#include "http_connection.h"

#define ANSWER_BYTES_MAX	65536
#define TOKEN_BYTES_MAX		16384
#define LIFETIME_S_DEFAULT	300
#define LIFETIME_S_MAX		86400
#define SKEW_S				30
#define TIMEOUT_MS_MAX		30000

struct OAuth2
{
	Request		request;		/* first: done() gets it back */
	const HttpConfig *config;
	OAuth2Ready ready;
	void	   *context;
	bool		fetching;
	int64_t		timeout_ms;		/* of the request on its way */
	FrameBuffer token;			/* length 0: none */
	int64_t		expires_us;
	FrameBuffer answer;
	FrameBuffer form;
	FrameBuffer user;
	FrameBuffer password;
};

/* application/x-www-form-urlencoded; also wanted around the names in Basic (2.3.1). */
static void
append_form(FrameBuffer *out, const char *text)
{
	static const char hex[] = "0123456789ABCDEF";

	for (; *text != '\0'; text++)
	{
		unsigned char c = (unsigned char) *text;

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
			strchr("-._~", c) != NULL)
		{
			buffer_char(out, (char) c);
			continue;
		}
		buffer_char(out, '%');
		buffer_char(out, hex[c >> 4]);
		buffer_char(out, hex[c & 0x0F]);
	}
}

/* Short by the skew, or by a tenth where a token lives shorter. */
static int64_t
usable_s(const json_t *expires_in)
{
	int64_t		lifetime = LIFETIME_S_DEFAULT;

	if (json_is_number(expires_in))
	{
		double		given = json_number_value(expires_in);

		lifetime = given < 0 ? 0 : given > LIFETIME_S_MAX ? LIFETIME_S_MAX : (int64_t) given;
	}
	return lifetime - (lifetime / 10 < SKEW_S ? lifetime / 10 : SKEW_S);
}

static const char *
token_trouble(json_t *token, json_t *type)
{
	if (!json_is_string(token) || json_string_length(token) == 0)
		return "holds no \"access_token\"";
	if (json_string_length(token) > TOKEN_BYTES_MAX ||
		!header_value_valid(json_string_value(token), json_string_length(token)))
		return "holds an \"access_token\" that cannot be sent in a header";
	if (type != NULL && (!json_is_string(type) ||
						 strcasecmp(json_string_value(type), "bearer") != 0))
		return "has another \"token_type\" than Bearer";
	return NULL;
}

bool
oauth2_read_token(const char *json, size_t length, FrameBuffer *token, int64_t *lifetime_s,
				  Reason *reason)
{
	json_t	   *object = json_loadb(json, length, JSON_REJECT_DUPLICATES, NULL);
	json_t	   *value = json_object_get(object, "access_token");
	const char *trouble = "is not a JSON object";

	if (json_is_object(object))
		trouble = token_trouble(value, json_object_get(object, "token_type"));
	if (trouble == NULL)
	{
		buffer_wipe(token);
		frame_append(token, json_string_value(value), json_string_length(value));
		buffer_char(token, '\0');
		*lifetime_s = usable_s(json_object_get(object, "expires_in"));
	}
	else
		reason_set(reason, "Its answer %s.", trouble);
	json_decref(object);
	return trouble == NULL;
}

static size_t
keep_answer(char *bytes, size_t size, size_t count, void *context)
{
	OAuth2	   *oauth2 = context;
	size_t		length = size * count;

	if (oauth2->answer.length + length > ANSWER_BYTES_MAX)
		return 0;
	frame_append(&oauth2->answer, bytes, length);
	return length;
}

static size_t
count_header(char *bytes, size_t size, size_t count, void *context)
{
	curl_off_t	total = 0;
	OAuth2	   *oauth2 = context;

	curl_easy_getinfo(oauth2->request.easy, CURLINFO_HEADER_SIZE, &total);
	return total > ANSWER_BYTES_MAX ? 0 : size * count;
}

/* The error that the server names (RFC 6749, 5.2): a word of a list, not a secret. */
static void
status_reason(OAuth2 *oauth2, long status, Reason *reason)
{
	json_t	   *object = json_loadb(oauth2->answer.data, oauth2->answer.length, 0, NULL);
	const char *error = json_string_value(json_object_get(object, "error"));

	reason_set(reason, "The OAuth2 server %s answered %ld%s%.60s.",
			   oauth2->config->oauth2.endpoint.label, status, error != NULL ? ": " : "",
			   error != NULL ? error : "");
	json_decref(object);
}

static bool
take_token(OAuth2 *oauth2, CURLcode result, Reason *reason)
{
	const char *label = oauth2->config->oauth2.endpoint.label;
	long		status = 0;
	int64_t		lifetime_s;
	Outcome		outcome;

	curl_easy_getinfo(oauth2->request.easy, CURLINFO_RESPONSE_CODE, &status);
	if (result != CURLE_OK)
	{
		http_failure(&outcome, &oauth2->request, result, label, oauth2->timeout_ms);
		reason_set(reason, "No token from the OAuth2 server: %s", outcome.reason.text);
		return false;
	}
	if (status < 200 || status > 299)
	{
		status_reason(oauth2, status, reason);
		return false;
	}
	if (!oauth2_read_token(oauth2->answer.data, oauth2->answer.length, &oauth2->token, &lifetime_s,
						   &outcome.reason))
	{
		reason_set(reason, "No token from the OAuth2 server %s. %s", label, outcome.reason.text);
		return false;
	}
	oauth2->expires_us = clock_us() + lifetime_s * 1000000;
	return true;
}

/* libcurl's own copies of name and secret go as well. */
static void
wipe_request(OAuth2 *oauth2)
{
	buffer_wipe(&oauth2->answer);
	buffer_wipe(&oauth2->user);
	buffer_wipe(&oauth2->password);
	curl_easy_setopt(oauth2->request.easy, CURLOPT_USERNAME, NULL);
	curl_easy_setopt(oauth2->request.easy, CURLOPT_PASSWORD, NULL);
}

/*
 * Those who wait get the token even when it is used up at once; the next one asks again.
 */
static void
token_done(Request *request, CURLcode result)
{
	OAuth2	   *oauth2 = (OAuth2 *) request;
	Reason		reason;
	bool		good = take_token(oauth2, result, &reason);

	Assert(oauth2->fetching);
	wipe_request(oauth2);
	oauth2->fetching = false;
	/* Last: the one who is called may close this. */
	oauth2->ready(oauth2->context, good ? oauth2->token.data : NULL, &reason);
}

OAuth2 *
oauth2_open(const HttpConfig *config, OAuth2Ready ready, void *context)
{
	OAuth2	   *oauth2 = memory_take(sizeof(OAuth2));
	const Endpoint *endpoint = &config->oauth2.endpoint;
	CURL	   *easy;

	oauth2->config = config;
	oauth2->ready = ready;
	oauth2->context = context;
	oauth2->request.done = token_done;
	buffer_init(&oauth2->token);
	buffer_init(&oauth2->answer);
	buffer_init(&oauth2->form);
	buffer_init(&oauth2->user);
	buffer_init(&oauth2->password);
	buffer_text(&oauth2->form, "grant_type=client_credentials");
	if (config->oauth2.scope != NULL)
	{
		buffer_text(&oauth2->form, "&scope=");
		append_form(&oauth2->form, config->oauth2.scope);
	}
	request_open(&oauth2->request, &config->allow, connection_peer(config, endpoint));
	easy = oauth2->request.easy;
	connection_apply(easy, config);
	curl_easy_setopt(easy, CURLOPT_URL, endpoint->url);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) oauth2->form.length);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDS, oauth2->form.data);
	curl_easy_setopt(easy, CURLOPT_HTTPAUTH, (long) CURLAUTH_BASIC);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, keep_answer);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, oauth2);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, count_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, oauth2);
	return oauth2;
}

void
oauth2_close(OAuth2 *oauth2)
{
	Assert(!oauth2->fetching);
	request_close(&oauth2->request);
	buffer_wipe(&oauth2->token);
	buffer_free(&oauth2->token);
	buffer_free(&oauth2->answer);
	buffer_free(&oauth2->form);
	buffer_free(&oauth2->user);
	buffer_free(&oauth2->password);
	free(oauth2);
}

static void
fetch(OAuth2 *oauth2, const char *secret, int64_t timeout_ms)
{
	CURL	   *easy = oauth2->request.easy;

	append_form(&oauth2->user, oauth2->config->oauth2.client_id);
	buffer_char(&oauth2->user, '\0');
	append_form(&oauth2->password, secret);
	buffer_char(&oauth2->password, '\0');
	curl_easy_setopt(easy, CURLOPT_USERNAME, oauth2->user.data);
	curl_easy_setopt(easy, CURLOPT_PASSWORD, oauth2->password.data);
	oauth2->timeout_ms = timeout_ms < TIMEOUT_MS_MAX ? timeout_ms : TIMEOUT_MS_MAX;
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long) oauth2->timeout_ms);
	oauth2->fetching = true;
	request_start(&oauth2->request);
}

const char *
oauth2_token(OAuth2 *oauth2, int64_t now_us, int64_t timeout_ms)
{
	Reason		reason;
	const char *secret;

	if (oauth2->fetching)
		return NULL;
	if (oauth2->token.length > 0 && now_us < oauth2->expires_us)
		return oauth2->token.data;
	buffer_wipe(&oauth2->token);
	/* The caller has checked that it is there. */
	secret = secret_value(oauth2->config->oauth2.client_secret, now_us, NULL, &reason);
	Assert(secret != NULL);
	fetch(oauth2, secret, timeout_ms);
	return NULL;
}

void
oauth2_forget(OAuth2 *oauth2)
{
	buffer_wipe(&oauth2->token);
}

bool
oauth2_idle(const OAuth2 *oauth2)
{
	return !oauth2->fetching;
}
