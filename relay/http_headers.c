/*
 * relay/http_headers.c
 *	  Headers of a request and of an answer.
 *
 * Invariants
 *	 1. A line has no line end, no zero and no control character inside: nobody who may
 *		emit events can add a header or a request.
 *	 2. A header of the relay cannot be set by an event or a configuration.
 */
#include "http_headers.h"

#include <curl/curl.h>
#include <jansson.h>
#include <string.h>
#include <strings.h>

#include "assertion.h"

#define RETRY_AFTER_S_MAX	(366 * 86400)

/* A name that ends with '-' stands for all that begin with it. */
static const char *const reserved[] = {
	"accept-encoding", "ce-", "connection", "content-", "date", "expect", "host",
	"http2-settings", "idempotency-key", "keep-alive", "proxy-", "te", "traceparent", "trailer",
	"transfer-encoding", "upgrade", "user-agent", "webhook-", "x-failsafe-", "x-trace-id",
};

static const char *const sensitive_parts[] = {
	"access-key", "api-key", "apikey", "auth", "cookie", "credential", "password", "secret",
	"token",
};

bool
header_reserved(const char *name)
{
	for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++)
	{
		size_t		length = strlen(reserved[i]);

		if (reserved[i][length - 1] == '-' ? strncasecmp(name, reserved[i], length) == 0 :
			strcasecmp(name, reserved[i]) == 0)
			return true;
	}
	return false;
}

bool
header_sensitive(const char *name)
{
	for (size_t i = 0; i < sizeof(sensitive_parts) / sizeof(sensitive_parts[0]); i++)
	{
		if (strcasestr(name, sensitive_parts[i]) != NULL)
			return true;
	}
	return false;
}

void
header_append(FrameBuffer *out, const char *name, const char *value, size_t length)
{
	/* "Name:" alone would take a header away, "Name;" sends an empty one. */
	buffer_text(out, name);
	if (length == 0)
		frame_append(out, ";", 1);
	else
		frame_append(out, ": ", 2);
	frame_append(out, value, length);
	buffer_char(out, '\0');
}

/* Why the header may not be sent; NULL: it may. */
static const char *
header_trouble(const char *name, size_t name_length, const json_t *value)
{
	if (!header_name_valid(name, name_length))
		return "its name is not a token";
	if (header_reserved(name))
		return "it is set by the relay";
	if (header_sensitive(name))
		return "events do not carry credentials";
	if (!json_is_string(value))
		return "its value is not a string";
	if (json_string_length(value) > HEADER_VALUE_BYTES_MAX)
		return "its value is too long";
	if (!header_value_valid(json_string_value(value), json_string_length(value)))
		return "its value is not printable ASCII";
	return NULL;
}

static int
append_members(FrameBuffer *out, json_t *object, HeaderTaken taken, const void *context,
			   Reason *reason)
{
	int			left_out = 0;
	int			count = 0;
	void	   *at;

	for (at = json_object_iter(object); at != NULL; at = json_object_iter_next(object, at))
	{
		const char *name = json_object_iter_key(at);
		const json_t *value = json_object_iter_value(at);
		const char *trouble = header_trouble(name, strlen(name), value);

		if (trouble == NULL && taken != NULL && taken(context, name))
			trouble = "the subscription sets it";
		if (trouble == NULL && count == HEADER_COUNT_MAX)
			trouble = "there are too many";
		if (trouble != NULL)
		{
			reason_set(reason, "header \"%.100s\" is left out: %s", name, trouble);
			left_out++;
			continue;
		}
		header_append(out, name, json_string_value(value), json_string_length(value));
		count++;
	}
	return left_out;
}

int
header_append_event(FrameBuffer *out, const char *json, size_t length, HeaderTaken taken,
					const void *context, Reason *reason)
{
	json_t	   *object;
	int			left_out;

	if (length == 0 || (length == 2 && memcmp(json, "{}", 2) == 0))
		return 0;
	object = json_loadb(json, length, JSON_REJECT_DUPLICATES, NULL);
	if (!json_is_object(object))
	{
		reason_set(reason, "the headers are left out: they are not a JSON object");
		left_out = 1;
	}
	else
		left_out = append_members(out, object, taken, context, reason);
	json_decref(object);
	return left_out;
}

static bool
lower_hex(const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++)
	{
		if (!((text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f')))
			return false;
	}
	return true;
}

static bool
all_zero(const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++)
	{
		if (text[i] != '0')
			return false;
	}
	return true;
}

/* version 2, trace 32, parent 16, flags 2 digits; later versions may append to it. */
static bool
traceparent_valid(const char *parent, size_t length)
{
	if (length < TRACEPARENT_BYTES || parent[2] != '-' || parent[35] != '-' || parent[52] != '-')
		return false;
	if (!lower_hex(parent, 2) || !lower_hex(parent + 3, 32) || !lower_hex(parent + 36, 16) ||
		!lower_hex(parent + 53, 2))
		return false;
	if (memcmp(parent, "ff", 2) == 0 || all_zero(parent + 3, 32) || all_zero(parent + 36, 16))
		return false;
	if (length > TRACEPARENT_BYTES)
		return memcmp(parent, "00", 2) != 0 && parent[TRACEPARENT_BYTES] == '-';
	return true;
}

bool
traceparent_next(const char *parent, size_t length, const unsigned char span[SPAN_BYTES],
				 char next[TRACEPARENT_BYTES + 1])
{
	static const char digits[] = "0123456789abcdef";

	if (!traceparent_valid(parent, length))
		return false;
	memcpy(next, parent, TRACEPARENT_BYTES);
	memcpy(next, "00", 2);
	for (int i = 0; i < SPAN_BYTES; i++)
	{
		next[36 + 2 * i] = digits[span[i] >> 4];
		next[37 + 2 * i] = digits[span[i] & 0x0F];
	}
	if (all_zero(next + 36, 16))
		next[51] = '1';
	next[TRACEPARENT_BYTES] = '\0';
	Assert(traceparent_valid(next, TRACEPARENT_BYTES));
	return true;
}

int64_t
retry_after_ms(const char *value, size_t length, int64_t now)
{
	char		text[64];
	int64_t		seconds = 0;

	while (length > 0 && (value[0] == ' ' || value[0] == '\t'))
	{
		value++;
		length--;
	}
	while (length > 0 && strchr(" \t\r\n", value[length - 1]) != NULL)
		length--;
	if (length == 0 || length >= sizeof(text))
		return -1;
	memcpy(text, value, length);
	text[length] = '\0';
	if (strspn(text, "0123456789") == length)
	{
		for (size_t i = 0; i < length && seconds < RETRY_AFTER_S_MAX; i++)
			seconds = seconds * 10 + (text[i] - '0');
	}
	else
	{
		time_t		date;

		/* An HTTP date has a name of a day or a month; anything else is none. */
		if (!((text[0] >= 'A' && text[0] <= 'Z') && strchr(text, ':') != NULL))
			return -1;
		date = curl_getdate(text, NULL);
		if (date == (time_t) -1)
			return -1;
		seconds = (int64_t) date > now ? (int64_t) date - now : 0;
	}
	return (seconds < RETRY_AFTER_S_MAX ? seconds : RETRY_AFTER_S_MAX) * 1000;
}
