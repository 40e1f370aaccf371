/*
 * relay/sink_http.c
 *	  Events as HTTP requests: CloudEvents, Standard Webhooks, one POST each.
 *
 * Owns its places (destinations as this file knows them) and their slots: a slot is a
 * handle of libcurl with the memory that one request needs, used for one event after
 * the other.
 *
 * Invariants
 *	 1. A slot is idle, waiting for a token, or on its way; only the last two have an event.
 *	 2. Every event of send() is answered once, by finish_slot().
 *	 3. A place that was closed lives until its last slot is idle.
 *	 4. Nothing of an answer is kept but its first RELAY_RESPONSE_BYTES_MAX bytes.
 */
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "assertion.h"
#include "clock.h"
#include "cloudevents.h"
#include "config.h"
#include "http_connection.h"
#include "http_failure.h"
#include "log.h"
#include "network.h"
#include "oauth2.h"
#include "sink.h"

#define ANSWER_BODY_BYTES_MAX	65536
#define ANSWER_HEAD_BYTES_MAX	65536
#define EVENT_ID_BYTES_MAX		128
#define KEPT_BYTES_MAX			65536	/* of a slot's memory, between two events */
#define SPANS_AT_ONCE			256
#define STATUS_UNAUTHORIZED		401

typedef struct Slot Slot;

struct SinkPlace
{
	HttpConfig *config;
	char	   *source;
	char	   *user_agent;		/* a whole line */
	bool		closed;
	int			busy;			/* slots with an event */
	Slot	   *idle;
	Slot	   *waiting;		/* for a token, first come first */
	Slot	  **waiting_end;
	OAuth2	   *oauth2;			/* NULL: none */
	SignatureKey *key[SIGNATURE_KEYS_MAX];
	int			key_version[SIGNATURE_KEYS_MAX];	/* of the secret that it was made of */
};

struct Slot
{
	Request		request;		/* first: done() gets it back */
	SinkPlace  *place;
	Slot	   *next;
	Event	   *event;
	int64_t		timeout_ms;		/* that this request was given */
	FrameBuffer text;			/* header lines, each with a zero at its end */
	FrameBuffer body;			/* structured mode */
	struct curl_slist *lines;	/* nodes that point into text */
	size_t		lines_room;

	/* the answer */
	size_t		head_bytes;
	size_t		body_bytes;
	bool		head_too_large;
	bool		body_cut;
	int64_t		retry_after_ms;
	size_t		response_length;
	char		response[RELAY_RESPONSE_BYTES_MAX];
};

/* ---- the answer ----------------------------------------------------------- */

/* Trailers come here too, so only the size counts after the head. */
static size_t
take_header(char *bytes, size_t size, size_t count, void *context)
{
	static const char name[] = "retry-after:";
	const size_t name_length = sizeof(name) - 1;
	Slot	   *slot = context;
	size_t		length = size * count;

	slot->head_bytes += length;
	if (slot->head_bytes > ANSWER_HEAD_BYTES_MAX)
	{
		slot->head_too_large = true;
		return 0;
	}
	if (length > name_length && strncasecmp(bytes, name, name_length) == 0)
		slot->retry_after_ms = retry_after_ms(bytes + name_length, length - name_length,
											  (int64_t) time(NULL));
	return length;
}

/* Too much of a body ends the transfer: the status is known, and that is the answer. */
static size_t
take_body(char *bytes, size_t size, size_t count, void *context)
{
	Slot	   *slot = context;
	size_t		length = size * count;
	size_t		room = RELAY_RESPONSE_BYTES_MAX - slot->response_length;
	size_t		kept = length < room ? length : room;

	memcpy(slot->response + slot->response_length, bytes, kept);
	slot->response_length += kept;
	slot->body_bytes += length;
	if (slot->body_bytes > ANSWER_BODY_BYTES_MAX)
	{
		slot->body_cut = true;
		return 0;
	}
	return length;
}

static void
judge_status(Outcome *outcome, const Slot *slot, long status)
{
	const char *label = slot->place->config->endpoint.label;

	outcome->status = (int) status;
	outcome->ok = status >= 200 && status <= 299;
	if (outcome->ok)
		return;
	outcome->retry_after_ms = slot->retry_after_ms;
	if (status >= 300 && status <= 399)
		outcome_fail(outcome, RELAY_CODE_STATUS, "%s answered %ld; redirects are not followed.",
					 label, status);
	else if (slot->retry_after_ms >= 0)
		outcome_fail(outcome, RELAY_CODE_STATUS, "%s answered %ld and asks to wait %lld ms.",
					 label, status, (long long) slot->retry_after_ms);
	else
		outcome_fail(outcome, RELAY_CODE_STATUS, "%s answered %ld.", label, status);
}

static void
judge(Outcome *outcome, const Slot *slot, CURLcode result)
{
	const char *label = slot->place->config->endpoint.label;
	long		status = 0;

	curl_easy_getinfo(slot->request.easy, CURLINFO_RESPONSE_CODE, &status);
	if (result == CURLE_OK || (slot->body_cut && status != 0))
		judge_status(outcome, slot, status);
	else if (slot->head_too_large)
		outcome_fail(outcome, RELAY_CODE_TOO_LARGE, "The headers of the answer of %s are longer "
					 "than %d bytes.", label, ANSWER_HEAD_BYTES_MAX);
	else
	{
		http_failure(outcome, &slot->request, result, label, slot->timeout_ms);
		outcome->status = (int) status;
	}
	outcome->response = slot->response;
	outcome->response_length = slot->response_length;
}

/* ---- slots and places ----------------------------------------------------- */

static void
free_slot(Slot *slot)
{
	request_close(&slot->request);
	buffer_wipe(&slot->text);
	buffer_free(&slot->text);
	buffer_free(&slot->body);
	free(slot->lines);
	free(slot);
}

static void
free_place(SinkPlace *place)
{
	Assert(place->busy == 0 && place->waiting == NULL);
	while (place->idle != NULL)
	{
		Slot	   *slot = place->idle;

		place->idle = slot->next;
		free_slot(slot);
	}
	if (place->oauth2 != NULL)
		oauth2_close(place->oauth2);
	for (int i = 0; i < SIGNATURE_KEYS_MAX; i++)
		signature_key_close(place->key[i]);
	config_free(place->config);
	free(place->source);
	free(place->user_agent);
	free(place);
}

/* Large memory is for large events, not for the time between them. */
static void
shrink(FrameBuffer *buffer)
{
	if (buffer->capacity > KEPT_BYTES_MAX)
		buffer_free(buffer);
	buffer->length = 0;
}

static void
finish_slot(Slot *slot, const Outcome *outcome)
{
	SinkPlace  *place = slot->place;
	Event	   *event = slot->event;

	Assert(event != NULL && place->busy > 0);
	slot->event = NULL;
	event_answer(event, outcome);
	buffer_wipe(&slot->text);
	shrink(&slot->text);
	shrink(&slot->body);
	slot->next = place->idle;
	place->idle = slot;
	place->busy--;
	if (place->closed && place->busy == 0)
		free_place(place);
}

static void
fail_slot(Slot *slot, const char *code, const Reason *reason)
{
	Outcome		outcome;

	outcome_init(&outcome);
	outcome_fail(&outcome, code, "%s", reason->text);
	finish_slot(slot, &outcome);
}

static void
slot_done(Request *request, CURLcode result)
{
	Slot	   *slot = (Slot *) request;
	Outcome		outcome;

	outcome_init(&outcome);
	judge(&outcome, slot, result);
	if (outcome.status == STATUS_UNAUTHORIZED && slot->place->oauth2 != NULL)
		oauth2_forget(slot->place->oauth2);
	finish_slot(slot, &outcome);
}

/* All that stays the same for every event of the place. */
static Slot *
new_slot(SinkPlace *place)
{
	Slot	   *slot = memory_take(sizeof(Slot));
	const HttpConfig *config = place->config;
	CURL	   *easy;

	slot->place = place;
	slot->request.done = slot_done;
	buffer_init(&slot->text);
	buffer_init(&slot->body);
	request_open(&slot->request, &config->allow, connection_peer(config, &config->endpoint));
	easy = slot->request.easy;
	connection_apply(easy, config);
	curl_easy_setopt(easy, CURLOPT_URL, config->endpoint.url);
	curl_easy_setopt(easy, CURLOPT_POST, 1L);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, slot);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, slot);
	return slot;
}

static Slot *
take_slot(SinkPlace *place, Event *event)
{
	Slot	   *slot = place->idle;

	if (slot != NULL)
		place->idle = slot->next;
	else
		slot = new_slot(place);
	place->busy++;
	slot->next = NULL;
	slot->event = event;
	slot->head_bytes = 0;
	slot->body_bytes = 0;
	slot->head_too_large = false;
	slot->body_cut = false;
	slot->retry_after_ms = -1;
	slot->response_length = 0;
	return slot;
}

/* ---- the request ---------------------------------------------------------- */

/* Keys follow their secrets; false: one cannot be used now. */
static bool
refresh_keys(SinkPlace *place, int64_t now_us, Reason *reason)
{
	HttpConfig *config = place->config;

	for (int i = 0; i < config->secret_count; i++)
	{
		int			version;
		const char *value = secret_value(config->secret[i], now_us, &version, reason);

		if (value != NULL && place->key[i] != NULL && place->key_version[i] == version)
			continue;
		signature_key_close(place->key[i]);
		place->key[i] = NULL;
		if (value == NULL)
			return false;
		place->key[i] = signature_key_open(value, secret_member(config, i), reason);
		if (place->key[i] == NULL)
			return false;
		place->key_version[i] = version;
	}
	return true;
}

/* The values of the configuration's headers are there, and can be sent. */
static bool
check_headers(SinkPlace *place, int64_t now_us, Reason *reason)
{
	for (int i = 0; i < place->config->header_count; i++)
	{
		ConfigHeader *header = &place->config->header[i];
		const char *value;

		if (header->secret == NULL)
			continue;
		value = secret_value(header->secret, now_us, NULL, reason);
		if (value == NULL)
			return false;
		if (!header_value_valid(value, strlen(value)))
		{
			reason_set(reason, "The value that \"headers.%.100s\" names is not printable ASCII.",
					   header->name);
			return false;
		}
	}
	return place->oauth2 == NULL ||
		secret_value(place->config->oauth2.client_secret, now_us, NULL, reason) != NULL;
}

static bool
config_sets_header(const void *context, const char *name)
{
	const HttpConfig *config = context;

	for (int i = 0; i < config->header_count; i++)
	{
		if (strcasecmp(config->header[i].name, name) == 0)
			return true;
	}
	return false;
}

/* Spans have to differ, not to be secret; the library is asked for many at once. */
static const unsigned char *
next_span(void)
{
	static unsigned char spans[SPANS_AT_ONCE][SPAN_BYTES];
	static int	used = SPANS_AT_ONCE;

	if (used == SPANS_AT_ONCE)
	{
		RAND_bytes(&spans[0][0], sizeof(spans));
		used = 0;
	}
	return spans[used++];
}

static void
append_trace(FrameBuffer *text, const FrameFields *fields)
{
	const FrameField *parent = &fields->field[RELAY_TAG_TRACEPARENT];
	const FrameField *trace = &fields->field[RELAY_TAG_TRACE_ID];
	char		next[TRACEPARENT_BYTES + 1];
	bool		traced = parent->length > 0 &&
		traceparent_next(parent->data, parent->length, next_span(), next);

	if (traced)
		header_append(text, "traceparent", next, TRACEPARENT_BYTES);
	if (trace->length > 0)
	{
		buffer_text(text, "X-Trace-Id: ");
		cloudevents_encode(text, trace->data, trace->length);
		buffer_char(text, '\0');
	}
	else if (traced)
		header_append(text, "X-Trace-Id", next + 3, 32);
}

static bool
append_signatures(FrameBuffer *text, const Slot *slot, const FrameField *body, Reason *reason)
{
	const SinkPlace *place = slot->place;
	const FrameField *id = &slot->event->fields.field[RELAY_TAG_EVENT_ID];
	int64_t		timestamp = (int64_t) time(NULL);

	header_append(text, "webhook-id", id->data, id->length);
	buffer_text(text, "webhook-timestamp: ");
	buffer_number(text, timestamp);
	buffer_char(text, '\0');
	if (place->config->secret_count == 0)
		return true;
	buffer_text(text, "webhook-signature: ");
	for (int i = 0; i < place->config->secret_count; i++)
	{
		if (i > 0)
			buffer_char(text, ' ');
		if (!signature_append(text, place->key[i], id->data, id->length, timestamp,
							  body->data, body->length))
		{
			reason_set(reason, "The event cannot be signed with the key that \"%s\" names.",
					   secret_member(place->config, i));
			return false;
		}
	}
	buffer_char(text, '\0');
	return true;
}

static void
append_config_headers(FrameBuffer *text, const HttpConfig *config, int64_t now_us)
{
	for (int i = 0; i < config->header_count; i++)
	{
		const ConfigHeader *header = &config->header[i];
		Reason		reason;
		const char *value = header->value;

		if (header->secret != NULL)
			value = secret_value(header->secret, now_us, NULL, &reason);
		Assert(value != NULL);
		header_append(text, header->name, value, strlen(value));
	}
}

static void
append_event_headers(FrameBuffer *text, const Slot *slot)
{
	const FrameFields *fields = &slot->event->fields;
	const FrameField *id = &fields->field[RELAY_TAG_EVENT_ID];
	const FrameField *headers = &fields->field[RELAY_TAG_HEADERS];
	Reason		reason;

	if (header_append_event(text, headers->data, headers->length, config_sets_header,
							slot->place->config, &reason) > 0)
		relay_log("warning", "event %.*s to %s: %s", (int) id->length, id->data,
				  slot->place->config->endpoint.label, reason.text);
}

/* All lines of the request into text. */
static bool
write_headers(Slot *slot, const FrameField *body, const char *token, Reason *reason)
{
	SinkPlace  *place = slot->place;
	const HttpConfig *config = place->config;
	const FrameFields *fields = &slot->event->fields;
	const FrameField *id = &fields->field[RELAY_TAG_EVENT_ID];
	FrameBuffer *text = &slot->text;

	text->length = 0;
	buffer_text(text, config->structured ?
				"Content-Type: application/cloudevents+json; charset=utf-8" :
				"Content-Type: application/json");
	buffer_char(text, '\0');
	buffer_text(text, "Expect:");	/* no waiting for 100 Continue */
	buffer_char(text, '\0');
	buffer_text(text, place->user_agent);
	buffer_char(text, '\0');
	if (!config->structured)
		cloudevents_headers(text, fields, place->source);
	header_append(text, "Idempotency-Key", id->data, id->length);
	buffer_text(text, "X-Failsafe-Attempt: ");
	buffer_number(text, slot->event->attempt);
	buffer_char(text, '\0');
	append_trace(text, fields);
	if (!append_signatures(text, slot, body, reason))
		return false;
	if (token != NULL)
	{
		buffer_text(text, "Authorization: Bearer ");
		buffer_text(text, token);
		buffer_char(text, '\0');
	}
	append_config_headers(text, config, clock_us());
	append_event_headers(text, slot);
	return true;
}

/*
 * libcurl wants a list; its nodes are the slot's and point into the text, so a request
 * costs no allocation here.
 */
static struct curl_slist *
list_lines(Slot *slot)
{
	FrameBuffer *text = &slot->text;
	size_t		count = 0;

	for (size_t at = 0; at < text->length; at += strlen(text->data + at) + 1)
	{
		if (count == slot->lines_room)
		{
			slot->lines_room = slot->lines_room == 0 ? 32 : slot->lines_room * 2;
			slot->lines = memory_resize(slot->lines, slot->lines_room * sizeof(struct curl_slist));
		}
		slot->lines[count++].data = text->data + at;
	}
	Assert(count > 0);
	for (size_t i = 0; i < count; i++)
		slot->lines[i].next = i + 1 < count ? &slot->lines[i + 1] : NULL;
	return slot->lines;
}

/* Why the event itself cannot be sent; NULL: it can. */
static const char *
event_trouble(const FrameFields *fields)
{
	const FrameField *id = &fields->field[RELAY_TAG_EVENT_ID];

	if (fields->field[RELAY_TAG_DATA].data == NULL ||
		fields->field[RELAY_TAG_EVENT_TYPE].length == 0)
		return "The event has no type or no data.";
	if (id->length == 0 || id->length > EVENT_ID_BYTES_MAX)
		return "The event's id is missing or too long.";
	for (size_t i = 0; i < id->length; i++)
	{
		char		c = id->data[i];

		/* A '.' would make the signed content ambiguous. */
		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
			  c == '-' || c == '_'))
			return "The event's id is not a plain identifier.";
	}
	return NULL;
}

static bool
write_request(Slot *slot, const char *token, Reason *reason)
{
	FrameField	body = slot->event->fields.field[RELAY_TAG_DATA];
	CURL	   *easy = slot->request.easy;

	if (slot->place->config->structured)
	{
		slot->body.length = 0;
		if (!cloudevents_structured(&slot->body, &slot->event->fields, slot->place->source))
		{
			reason_set(reason, "A text of the event is not UTF-8.");
			return false;
		}
		body.data = slot->body.data;
		body.length = slot->body.length;
	}
	if (!write_headers(slot, &body, token, reason))
		return false;
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, list_lines(slot));
	curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) body.length);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body.data);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long) slot->timeout_ms);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long) slot->timeout_ms);
	return true;
}

/* What the token took is taken from the time that the event has. */
static void
send_slot(Slot *slot, const char *token)
{
	Event	   *event = slot->event;
	Reason		reason;

	slot->timeout_ms = event->timeout_ms;
	if (token != NULL)
		slot->timeout_ms -= (clock_us() - event->started_us) / 1000;
	if (slot->timeout_ms <= 0)
	{
		reason_set(&reason, "The OAuth2 server %s left no time to send the event.",
				   slot->place->config->oauth2.endpoint.label);
		fail_slot(slot, RELAY_CODE_TIMEOUT, &reason);
		return;
	}
	if (!write_request(slot, token, &reason))
	{
		fail_slot(slot, RELAY_CODE_OTHER, &reason);
		return;
	}
	request_start(&slot->request);
}

/*
 * All who wait are answered or sent.  The place may be gone after the last of them, so it is
 * not looked at again.
 */
static void
token_ready(void *context, const char *token, const Reason *reason)
{
	SinkPlace  *place = context;
	Slot	   *slot = place->waiting;
	Slot	   *next;
	FrameBuffer copy;

	place->waiting = NULL;
	place->waiting_end = &place->waiting;
	/* An answer at once may free the place, and the token with it. */
	buffer_init(&copy);
	if (token != NULL)
		frame_append(&copy, token, strlen(token) + 1);
	for (; slot != NULL; slot = next)
	{
		next = slot->next;
		slot->next = NULL;
		if (token != NULL)
			send_slot(slot, copy.data);
		else
			fail_slot(slot, RELAY_CODE_AUTH, reason);
	}
	buffer_wipe(&copy);
	buffer_free(&copy);
}

/* ---- what a sink does ----------------------------------------------------- */

/* A comment of a header: no parentheses, nothing but printable ASCII. */
static char *
user_agent_line(const char *source)
{
	FrameBuffer line;

	buffer_init(&line);
	buffer_text(&line, "User-Agent: pg_failsafe/" FAILSAFE_VERSION " (");
	for (; *source != '\0'; source++)
	{
		if (*source > 0x20 && *source < 0x7F && strchr("()\\", *source) == NULL)
			buffer_char(&line, *source);
	}
	buffer_text(&line, ")");
	buffer_char(&line, '\0');
	return line.data;
}

static SinkPlace *
http_open(const char *json, size_t length, const char *source, Reason *reason)
{
	HttpConfig *config = config_parse(json, length, reason);
	SinkPlace  *place;

	if (config == NULL)
		return NULL;
	place = memory_take(sizeof(SinkPlace));
	place->config = config;
	place->source = memory_copy(source, strlen(source));
	place->user_agent = user_agent_line(source);
	place->waiting_end = &place->waiting;
	if (config->oauth2.given)
		place->oauth2 = oauth2_open(config, token_ready, place);
	return place;
}

static bool
http_check(SinkPlace *place, Reason *reason)
{
	return config_check(place->config, clock_us(), reason) &&
		check_headers(place, clock_us(), reason);
}

static void
http_close(SinkPlace *place)
{
	Assert(!place->closed);
	place->closed = true;
	if (place->busy == 0)
		free_place(place);
}

static void
http_send(SinkPlace *place, Event *event)
{
	Slot	   *slot = take_slot(place, event);
	const char *trouble = event_trouble(&event->fields);
	const char *token = NULL;
	int64_t		now_us = event->started_us;
	Reason		reason;

	if (trouble != NULL)
	{
		reason_set(&reason, "%s", trouble);
		fail_slot(slot, RELAY_CODE_OTHER, &reason);
		return;
	}
	if (!refresh_keys(place, now_us, &reason) || !check_headers(place, now_us, &reason))
	{
		fail_slot(slot, RELAY_CODE_CONFIG, &reason);
		return;
	}
	if (place->oauth2 != NULL)
	{
		token = oauth2_token(place->oauth2, now_us, event->timeout_ms);
		if (token == NULL)
		{
			*place->waiting_end = slot;
			place->waiting_end = &slot->next;
			return;
		}
	}
	send_slot(slot, token);
}

const Sink	sink_http = {
	.name = "http",
	.open = http_open,
	.check = http_check,
	.close = http_close,
	.send = http_send,
};
