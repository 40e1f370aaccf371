/*
 * delivery/dispatch_send.c
 *	  Flights become frames, answers become results; without a statement.
 *
 * The gates, in their order: the event has not expired, the log is safe up to its commit
 * (D3), the destination has room, and neither throttle, breaker, rate nor the budget of
 * retries refuse (D7).  A refusal costs no attempt.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "base/commit.h"
#include "base/json.h"
#include "base/row.h"
#include "delivery/courier.h"
#include "delivery/delivery_stats.h"
#include "delivery/dispatch.h"
#include "relay/frame.h"
#include "relay/protocol.h"

#define ACKNOWLEDGE_LOOK_US	2000	/* between two looks at the synchronous standby */

/* ---------- frames out ---------- */

static void
add_text(FrameBuffer *buffer, RelayTag tag, const char *text)
{
	if (text != NULL && text[0] != '\0')
		frame_text(buffer, tag, text, strlen(text));
}

static void
add_time(FrameBuffer *buffer, RelayTag tag, TimestampTz at)
{
	StringInfoData text;

	if (at == 0)
		return;
	initStringInfo(&text);
	json_append_time(&text, at);
	frame_text(buffer, tag, text.data, text.len);
}

/* What is allocated here goes with the caller's scratch. */
static void
add_event(FrameBuffer *buffer, const DeliveryEvent *event)
{
	char	   *envelope;
	int			length;

	add_text(buffer, RELAY_TAG_EVENT_ID,
			 DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&event->event_id))));
	add_text(buffer, RELAY_TAG_EVENT_TYPE, event->event_type);
	add_text(buffer, RELAY_TAG_ORDER_KEY, event->order_key);
	add_time(buffer, RELAY_TAG_TIME, event->occurred_at);
	add_time(buffer, RELAY_TAG_EXPIRES_AT, event->expires_at);
	add_text(buffer, RELAY_TAG_TENANT, tenant_name(event->tenant_id));
	add_text(buffer, RELAY_TAG_SUBJECT, event->subject);
	add_text(buffer, RELAY_TAG_REGION, event->region);
	add_text(buffer, RELAY_TAG_TRACE_ID, event->trace_id);
	add_text(buffer, RELAY_TAG_TRACEPARENT, event->traceparent);
	add_text(buffer, RELAY_TAG_HEADERS, event->headers);
	add_text(buffer, RELAY_TAG_SCHEMA_VERSION, OUTBOX_SCHEMA_VERSION);
	envelope = reader_envelope(event, &length);
	frame_text(buffer, RELAY_TAG_DATA, envelope, length);
}

/* What an encoding leaves behind; emptied after each. */
static MemoryContext
scratch_context(void)
{
	static MemoryContext scratch = NULL;

	if (scratch == NULL)
		scratch = AllocSetContextCreate(TopMemoryContext, "failsafe frames",
										ALLOCSET_DEFAULT_SIZES);
	return scratch;
}

/* An event of an application has a bounded payload, so its frame always fits. */
void
flight_encode(Flight *flight, const DeliveryEvent *event)
{
	Channel    *channel = flight->channel;
	MemoryContext scratch = scratch_context();
	MemoryContext caller = MemoryContextSwitchTo(scratch);
	FrameBuffer buffer;
	size_t		start;

	Assert(flight->frame == NULL);
	courier_buffer_init(&buffer);
	start = frame_begin(&buffer, RELAY_EVENT);
	frame_number(&buffer, RELAY_TAG_TOKEN, flight->token);
	frame_number(&buffer, RELAY_TAG_DESTINATION_ID, channel->subscription.id);
	frame_number(&buffer, RELAY_TAG_TIMEOUT_MS, channel->subscription.policy.timeout_ms);
	frame_number(&buffer, RELAY_TAG_ATTEMPT, flight->delivery.attempts + 1);
	add_event(&buffer, event);
	if (!frame_end(&buffer, start))
		elog(ERROR, "event " INT64_FORMAT " of lane %d does not fit into a frame",
			 event->seq, event->lane);
	flight->frame = MemoryContextAlloc(channel->context, buffer.length);
	memcpy(flight->frame, buffer.data, buffer.length);
	flight->frame_length = (int) buffer.length;
	MemoryContextSwitchTo(caller);
	MemoryContextReset(scratch);
}

static bool
destination_send(Channel *channel)
{
	const Subscription *subscription = &channel->subscription;
	FrameBuffer buffer;
	size_t		start;
	bool		is_sent;

	courier_buffer_init(&buffer);
	start = frame_begin(&buffer, RELAY_DESTINATION);
	frame_number(&buffer, RELAY_TAG_DESTINATION_ID, subscription->id);
	frame_number(&buffer, RELAY_TAG_GENERATION, subscription->generation);
	add_text(&buffer, RELAY_TAG_SINK, subscription->sink);
	add_text(&buffer, RELAY_TAG_CONFIG, subscription->config);
	frame_number(&buffer, RELAY_TAG_IN_FLIGHT, subscription->policy.in_flight);
	if (!frame_end(&buffer, start))
		elog(ERROR, "the configuration of subscription \"%s\" does not fit into a frame",
			 subscription->name);
	is_sent = courier_send(buffer.data, buffer.length);
	pfree(buffer.data);
	if (is_sent)
		channel->sent_generation = subscription->generation;
	return is_sent;
}

/* ---------- gates ---------- */

static bool
is_pushing(const Channel *channel)
{
	return channel->subscription.state == SUBSCRIPTION_ACTIVE &&
		strcmp(channel->subscription.sink, "pull") != 0;
}

/* To be recorded in the next round. */
void
dispatch_answer(Flight *flight)
{
	Assert(flight->state == FLIGHT_ANSWERED);
	dlist_push_tail(&dispatch.answers, &flight->list_node);
	dispatch.answer_count++;
}

static bool
flight_has_expired(Flight *flight, TimestampTz now)
{
	if (flight->expires_at == 0 || now < flight->expires_at)
		return false;
	flight_withdraw(flight);
	dispatch_answer(flight);
	return true;
}

static bool
flight_hand_over(Flight *flight, TimestampTz now)
{
	if (!courier_send(flight->frame, flight->frame_length))
		return false;
	pfree(flight->frame);
	flight->frame = NULL;
	flight_sent(flight, now);
	return true;
}

/* False: the relay takes nothing more now. */
static bool
channel_send(Channel *channel, TimestampTz now)
{
	const Policy *policy = &channel->subscription.policy;
	bool		with_retries = true;
	Flight	   *flight;

	if (channel->sent_generation != channel->subscription.generation &&
		!destination_send(channel))
		return false;
	channel->refused_until = 0;
	while ((flight = channel_next(channel, with_retries)) != NULL)
	{
		int64		until;
		DestinationRefusal refusal;

		if (flight_has_expired(flight, now))
			continue;
		if (!commit_is_acknowledged(flight->durable_lsn))
		{
			channel->refused_until = now + ACKNOWLEDGE_LOOK_US;
			return true;
		}
		if (!courier_has_room(flight->frame_length))
			return false;
		refusal = destination_allows(&channel->destination, policy,
									 flight->delivery.attempts > 0, now, &until);
		if (refusal == DESTINATION_BUDGET && with_retries)
		{
			channel->refused_until = until;
			with_retries = false;
			continue;
		}
		if (refusal != DESTINATION_ALLOWED)
		{
			channel->refused_until = until;
			return true;
		}
		if (!flight_hand_over(flight, now))
			return false;
	}
	return true;
}

void
dispatch_send(TimestampTz now)
{
	dlist_iter	iter;

	if (!courier_is_up())
		return;
	dlist_foreach(iter, &dispatch.channels)
	{
		Channel    *channel = dlist_container(Channel, node, iter.cur);

		if (is_pushing(channel) && !channel_send(channel, now))
			break;
	}
}

/* ---------- frames in ---------- */

static int64
field_number(const FrameFields *fields, RelayTag tag, int64 otherwise)
{
	int64_t		value;

	return frame_get_number(fields, tag, &value) ? (int64) value : otherwise;
}

/*
 * What the relay sends is UTF-8 without zero bytes; another database encoding gets ASCII.
 * In the current memory context, which the worker empties in each turn.
 */
static const char *
field_text(const FrameFields *fields, RelayTag tag)
{
	const FrameField *field = &fields->field[tag];
	char	   *text;

	if (field->data == NULL)
		return NULL;
	text = pnstrdup(field->data, field->length);
	for (char *c = text; *c != '\0'; c++)
	{
		if (GetDatabaseEncoding() != PG_UTF8 && IS_HIGHBIT_SET(*c))
			*c = '?';
	}
	if (GetDatabaseEncoding() == PG_UTF8 && !pg_verifymbstr(text, strlen(text), true))
		return "(an answer that is not UTF-8)";
	return text;
}

/* Copies a text to *at, and moves it on. */
static const char *
put_text(char **at, const char *text)
{
	char	   *copy = *at;

	if (text == NULL)
		return NULL;
	*at += strlen(text) + 1;
	memcpy(copy, text, *at - copy);
	return copy;
}

/* In one piece of memory, which is freed with the flight. */
static void
result_keep_texts(Flight *flight, const char *code, const char *reason, const char *response)
{
	AttemptResult *result = &flight->result;
	const char *texts[] = {code, reason, response};
	size_t		length = 0;
	char	   *at;

	Assert(flight->answer == NULL);
	for (int i = 0; i < lengthof(texts); i++)
		length += texts[i] != NULL ? strlen(texts[i]) + 1 : 0;
	flight->answer = at = MemoryContextAlloc(flight->channel->context, Max(length, 1));
	result->code = put_text(&at, code);
	result->reason = put_text(&at, reason);
	result->response = put_text(&at, response);
	Assert(at == flight->answer + length);
}

static void
result_read(Flight *flight, const FrameFields *fields)
{
	AttemptResult *result = &flight->result;
	bool		is_ok = field_number(fields, RELAY_TAG_OK, 0) == 1;
	const char *code;

	memset(result, 0, sizeof(*result));
	result->started_at = flight->sent_at;
	result->duration_us = field_number(fields, RELAY_TAG_DURATION_US, 0);
	result->status = (int) field_number(fields, RELAY_TAG_STATUS, 0);
	result->retry_after_ms = field_number(fields, RELAY_TAG_RETRY_AFTER_MS, -1);
	/* CLASS_COUNT: the rules say it, in the next round */
	result->class = is_ok ? CLASS_DELIVERED : CLASS_COUNT;
	result->code = "";
	if (is_ok)
		return;
	code = field_text(fields, RELAY_TAG_CODE);
	result_keep_texts(flight, code != NULL ? code : RELAY_CODE_OTHER,
					  field_text(fields, RELAY_TAG_REASON),
					  field_text(fields, RELAY_TAG_RESPONSE));
}

/* At the first try an event that arrived is nothing but a number that is done. */
static void
flight_landed(Flight *flight)
{
	Channel    *channel = flight->channel;
	ChannelLane *lane = &channel->lanes[flight->delivery.lane];
	TimestampTz now = GetCurrentTimestamp();

	lane->reading.done++;
	lane->is_dirty = true;
	delivery_stats_delivered(channel->stats, false, now - flight->occurred_at);
	(void) destination_note(&channel->destination, &channel->subscription.policy,
							CLASS_DELIVERED, -1, now);
	flight_unregister(flight);
	flight_decided(flight);
}

static void
result_arrived(const FrameFields *fields)
{
	Flight	   *flight = flight_find(field_number(fields, RELAY_TAG_TOKEN, 0));

	if (flight == NULL || flight->state != FLIGHT_SENT)
		return;
	result_read(flight, fields);
	flight_answered(flight);
	if (flight->result.class == CLASS_DELIVERED && flight->delivery.id == 0)
		flight_landed(flight);
	else
		dispatch_answer(flight);
}

/* A destination that the relay cannot use: each event to it fails with the reason. */
static void
destination_state_arrived(const FrameFields *fields)
{
	const char *reason;
	dlist_iter	iter;

	if (field_number(fields, RELAY_TAG_OK, 0) == 1)
		return;
	reason = field_text(fields, RELAY_TAG_REASON);
	dlist_foreach(iter, &dispatch.channels)
	{
		Channel    *channel = dlist_container(Channel, node, iter.cur);

		if (channel->subscription.id == field_number(fields, RELAY_TAG_DESTINATION_ID, 0))
			ereport(WARNING,
					(errmsg("pg_failsafe: subscription \"%s\" cannot be delivered to: %s",
							channel->subscription.name,
							reason != NULL ? reason : "no reason was given")));
	}
}

void
dispatch_result(RelayFrameType type, const FrameFields *fields)
{
	if (type == RELAY_RESULT)
		result_arrived(fields);
	else if (type == RELAY_DESTINATION_STATE)
		destination_state_arrived(fields);
}

/* Whether they arrived nobody knows; each counts as an attempt. */
void
dispatch_courier_lost(void)
{
	HASH_SEQ_STATUS scan;
	FlightEntry *entry;
	dlist_iter	iter;

	dlist_foreach(iter, &dispatch.channels)
		dlist_container(Channel, node, iter.cur)->sent_generation = 0;
	hash_seq_init(&scan, dispatch.flights);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		Flight	   *flight = entry->flight;

		if (flight->state != FLIGHT_SENT)
			continue;
		memset(&flight->result, 0, sizeof(flight->result));
		flight->result.class = CLASS_COUNT;
		flight->result.code = "unknown";
		flight->result.reason = "the relay ended before the answer came";
		flight->result.started_at = flight->sent_at;
		flight->result.retry_after_ms = -1;
		flight_answered(flight);
		dispatch_answer(flight);
	}
}

/* ---------- is there something to do? ---------- */

static bool
channel_is_behind(const Channel *channel)
{
	for (int i = 0; i < OUTBOX_LANES; i++)
	{
		if (channel->lanes[i].drawn > channel->lanes[i].reading.high)
			return true;
	}
	return false;
}

static bool
channel_has_work(const Channel *channel, TimestampTz now)
{
	bool		may_read = is_pushing(channel) && channel->refused_until <= now;

	for (int i = 0; i < OUTBOX_LANES; i++)
	{
		const ChannelLane *lane = &channel->lanes[i];

		if (may_read && channel_room((Channel *) channel, i) > 0 && lane_has_more(lane, now))
			return true;
		if (lane->is_dirty && now - dispatch.positions_written_at >=
			(int64) POSITION_INTERVAL_MS * 1000)
			return true;
	}
	if (channel_is_behind(channel) &&
		now - channel->lag_checked_at >= (int64) LAG_CHECK_MS * 1000)
		return true;
	if (!is_pushing(channel))
		return false;
	return channel->next_due_at <= now || channel->next_replay_at <= now ||
		(channel->rows_are_left && hash_get_num_entries(channel->rows) == 0);
}

/*
 * Which numbers were drawn, and was a subscription changed?  No snapshot and no statement:
 * the transaction only lets relations be opened.
 */
static bool
look(TimestampTz now)
{
	bool		is_changed;
	dlist_iter	iter;

	Assert(!IsTransactionState());
	dispatch.look_at = TimestampTzPlusMilliseconds(now, LOOK_MS);
	StartTransactionCommand();
	is_changed = row_sequence_last("subscription_generation_seq") != dispatch.generation;
	for (int lane = 0; lane < OUTBOX_LANES && !is_changed; lane++)
	{
		int64		drawn = reader_last_number(lane);

		dlist_foreach(iter, &dispatch.channels)
			dlist_container(Channel, node, iter.cur)->lanes[lane].drawn = drawn;
	}
	CommitTransactionCommand();
	return is_changed;
}

/* Between two looks, what is known already is enough: there are many turns then. */
bool
dispatch_has_work(TimestampTz now)
{
	dlist_iter	iter;

	if (dispatch.answer_count > 0 ||
		(dispatch.reload_horizon != 0 && dispatch.reload_at <= now))
		return true;
	if (dispatch.look_at <= now && look(now))
		return true;
	dlist_foreach(iter, &dispatch.channels)
	{
		if (channel_has_work(dlist_container(Channel, node, iter.cur), now))
			return true;
	}
	return false;
}

bool
dispatch_needs_relay(void)
{
	dlist_iter	iter;

	dlist_foreach(iter, &dispatch.channels)
	{
		if (is_pushing(dlist_container(Channel, node, iter.cur)))
			return true;
	}
	return false;
}

void
dispatch_woken(void)
{
	dlist_iter	iter;

	dispatch.reload_at = 0;
	dispatch.look_at = 0;
	dlist_foreach(iter, &dispatch.channels)
	{
		Channel    *channel = dlist_container(Channel, node, iter.cur);

		for (int lane = 0; lane < OUTBOX_LANES; lane++)
			channel->lanes[lane].look_at = 0;
	}
}

TimestampTz
dispatch_next_due(void)
{
	TimestampTz next = DT_NOEND;
	dlist_iter	iter;

	dlist_foreach(iter, &dispatch.channels)
	{
		const Channel *channel = dlist_container(Channel, node, iter.cur);

		if (!is_pushing(channel))
			continue;
		next = Min(next, channel->next_due_at);
		next = Min(next, channel->next_replay_at);
		if (channel->refused_until != 0)
			next = Min(next, channel->refused_until);
	}
	return next;
}
