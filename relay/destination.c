/*
 * relay/destination.c
 *	  Owns destinations and, until they are given to a sink, events.
 *
 * Invariants
 *	 1. Events of one destination start in the order in which they came.
 *	 2. Never more than in_flight events of a destination are with its sink.
 *	 3. Each event is answered once, and its memory is given back then.
 *	 4. A removed destination stays in the table until its last event is answered.
 */
#include "destination.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "assertion.h"
#include "channel.h"
#include "clock.h"
#include "network.h"

#define BUCKETS				256
#define TIMEOUT_MS_DEFAULT	15000
#define TIMEOUT_MS_MAX		3600000
#define IDLE_CONNECTIONS_MIN 64

struct Destination
{
	int64_t		id;
	Destination *next;			/* in its bucket */
	const Sink *sink;			/* NULL: unknown */
	SinkPlace  *place;			/* NULL: cannot be used, by trouble */
	Reason		trouble;
	int			limit;
	int			in_flight;
	Event	   *head;
	Event	  **tail;
	bool		removed;
	bool		ready;			/* in the list of those to look at */
	Destination *next_ready;
};

static const Sink *const sinks[] = {&sink_http};

static Destination *table[BUCKETS];
static Destination *ready_list;
static const char *own_source = "";
static int	held_events;
static size_t held_bytes;
static long limits;				/* of all destinations */

void
destinations_open(const char *source)
{
	own_source = source;
}

void
destinations_held(int *events, size_t *bytes)
{
	*events = held_events;
	*bytes = held_bytes;
}

static Destination **
bucket_of(int64_t id)
{
	uint64_t	mixed = (uint64_t) id * UINT64_C(0x9E3779B97F4A7C15);

	return &table[mixed >> 56];
}

static Destination *
find(int64_t id)
{
	Destination *at = *bucket_of(id);

	while (at != NULL && at->id != id)
		at = at->next;
	return at;
}

static void
mark_ready(Destination *destination)
{
	if (destination->ready)
		return;
	destination->ready = true;
	destination->next_ready = ready_list;
	ready_list = destination;
}

static void
change_limits(long by)
{
	limits += by;
	Assert(limits >= 0);
	network_set_idle(limits < IDLE_CONNECTIONS_MIN ? IDLE_CONNECTIONS_MIN : limits);
}

static void
close_place(Destination *destination)
{
	if (destination->place != NULL)
		destination->sink->close(destination->place);
	destination->place = NULL;
}

/* Taken out of the table when nothing needs it any more. */
static void
free_if_done(Destination *destination)
{
	Destination **at = bucket_of(destination->id);

	if (!destination->removed || destination->in_flight > 0 || destination->head != NULL ||
		destination->ready)
		return;
	while (*at != destination)
		at = &(*at)->next;
	*at = destination->next;
	close_place(destination);
	change_limits(-destination->limit);
	free(destination);
}

static Destination *
create(int64_t id)
{
	Destination *destination = memory_take(sizeof(Destination));
	Destination **bucket = bucket_of(id);

	destination->id = id;
	destination->tail = &destination->head;
	destination->next = *bucket;
	*bucket = destination;
	return destination;
}

static const Sink *
find_sink(const FrameField *name)
{
	for (size_t i = 0; i < sizeof(sinks) / sizeof(sinks[0]); i++)
	{
		if (strlen(sinks[i]->name) == name->length &&
			memcmp(sinks[i]->name, name->data, name->length) == 0)
			return sinks[i];
	}
	return NULL;
}

bool
destination_put(int64_t id, int64_t in_flight, const FrameFields *fields, Reason *reason)
{
	const FrameField *name = &fields->field[RELAY_TAG_SINK];
	const FrameField *config = &fields->field[RELAY_TAG_CONFIG];
	Destination *destination = find(id);
	int			limit = in_flight < 1 ? 1 :
		in_flight > IN_FLIGHT_LIMIT_MAX ? IN_FLIGHT_LIMIT_MAX : (int) in_flight;

	if (destination == NULL)
		destination = create(id);
	close_place(destination);
	change_limits(limit - destination->limit);
	destination->limit = limit;
	destination->removed = false;
	destination->sink = find_sink(name);
	if (destination->sink == NULL)
		reason_set(&destination->trouble, "The sink \"%.*s\" is not known.",
				   name->length > 60 ? 60 : (int) name->length, name->length > 0 ? name->data : "");
	else
		destination->place = destination->sink->open(config->data, config->length, own_source,
													 &destination->trouble);
	mark_ready(destination);
	if (destination->place == NULL)
	{
		*reason = destination->trouble;
		return false;
	}
	return destination->sink->check(destination->place, reason);
}

void
destination_remove(int64_t id)
{
	Destination *destination = find(id);

	if (destination == NULL)
		return;
	destination->removed = true;
	mark_ready(destination);
}

/* ---- events --------------------------------------------------------------- */

void
outcome_init(Outcome *outcome)
{
	outcome->ok = false;
	outcome->status = 0;
	outcome->code = "";
	outcome->reason.text[0] = '\0';
	outcome->retry_after_ms = -1;
	outcome->response = "";
	outcome->response_length = 0;
}

void
outcome_fail(Outcome *outcome, const char *code, const char *format, ...)
{
	char		text[2 * sizeof(outcome->reason.text)];
	va_list		arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	outcome->ok = false;
	outcome->code = code;
	reason_set(&outcome->reason, "%s", text);
}

static void
write_result(const Event *event, const Outcome *outcome)
{
	FrameBuffer *out = channel_output();
	char		response[RELAY_RESPONSE_BYTES_MAX + 1];
	size_t		length = utf8_clean(response, sizeof(response), outcome->response,
									outcome->response_length);
	size_t		start = frame_begin(out, RELAY_RESULT);

	frame_number(out, RELAY_TAG_TOKEN, event->token);
	frame_number(out, RELAY_TAG_OK, outcome->ok ? 1 : 0);
	frame_number(out, RELAY_TAG_STATUS, outcome->status);
	frame_text(out, RELAY_TAG_CODE, outcome->code, strlen(outcome->code));
	frame_text(out, RELAY_TAG_REASON, outcome->reason.text, strlen(outcome->reason.text));
	if (outcome->retry_after_ms >= 0)
		frame_number(out, RELAY_TAG_RETRY_AFTER_MS, outcome->retry_after_ms);
	frame_number(out, RELAY_TAG_DURATION_US, clock_us() - event->started_us);
	frame_text(out, RELAY_TAG_RESPONSE, response, length);
	frame_end(out, start);
}

static void
free_event(Event *event)
{
	Assert(held_events > 0 && held_bytes >= event->bytes_held);
	held_events--;
	held_bytes -= event->bytes_held;
	free(event);
}

void
event_answer(Event *event, const Outcome *outcome)
{
	Destination *destination = event->destination;

	Assert(outcome->ok == (outcome->code[0] == '\0'));
	write_result(event, outcome);
	free_event(event);
	if (destination == NULL)
		return;
	Assert(destination->in_flight > 0);
	destination->in_flight--;
	if (destination->head != NULL || destination->removed)
		mark_ready(destination);
}

static void
refuse(Event *event, const char *text)
{
	Outcome		outcome;

	outcome_init(&outcome);
	outcome_fail(&outcome, RELAY_CODE_CONFIG, "%s", text);
	event_answer(event, &outcome);
}

/* A copy of the frame: the bytes that it is in are needed for the next one. */
static Event *
copy_event(const Frame *frame)
{
	Event	   *event = memory_resize(NULL, sizeof(Event) + frame->length);
	Frame		copy = *frame;

	event->next = NULL;
	event->destination = NULL;
	event->bytes_held = sizeof(Event) + frame->length;
	memcpy(event->bytes, frame->fields, frame->length);
	copy.fields = event->bytes;
	if (frame_read(&copy, &event->fields))
		return event;
	free(event);
	return NULL;
}

bool
destination_take(const Frame *frame)
{
	Event	   *event = copy_event(frame);
	Destination *destination;
	int64_t		id;

	if (event == NULL)
		return false;
	if (!frame_get_number(&event->fields, RELAY_TAG_TOKEN, &event->token) ||
		!frame_get_number(&event->fields, RELAY_TAG_DESTINATION_ID, &id))
	{
		free(event);
		return false;
	}
	if (!frame_get_number(&event->fields, RELAY_TAG_TIMEOUT_MS, &event->timeout_ms))
		event->timeout_ms = TIMEOUT_MS_DEFAULT;
	if (event->timeout_ms < 1 || event->timeout_ms > TIMEOUT_MS_MAX)
		event->timeout_ms = event->timeout_ms < 1 ? 1 : TIMEOUT_MS_MAX;
	if (!frame_get_number(&event->fields, RELAY_TAG_ATTEMPT, &event->attempt))
		event->attempt = 1;
	event->started_us = clock_us();
	held_events++;
	held_bytes += event->bytes_held;
	destination = find(id);
	if (destination == NULL || destination->removed)
	{
		refuse(event, "The destination is not known to the relay.");
		return true;
	}
	event->destination = destination;
	*destination->tail = event;
	destination->tail = &event->next;
	mark_ready(destination);
	return true;
}

/* The answer may come before send() returns: then the loop goes on. */
static void
run(Destination *destination)
{
	while (destination->head != NULL && destination->in_flight < destination->limit)
	{
		Event	   *event = destination->head;

		destination->head = event->next;
		if (destination->head == NULL)
			destination->tail = &destination->head;
		event->next = NULL;
		event->started_us = clock_us();
		destination->in_flight++;
		if (destination->place != NULL)
			destination->sink->send(destination->place, event);
		else
			refuse(event, destination->trouble.text);
	}
}

void
destinations_run(void)
{
	Destination *list = ready_list;
	Destination *next;

	ready_list = NULL;
	for (; list != NULL; list = next)
	{
		next = list->next_ready;
		list->ready = false;
		run(list);
		free_if_done(list);
	}
}
