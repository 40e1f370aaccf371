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
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "base/commit.h"
#include "base/json.h"
#include "base/row.h"
#include "delivery/courier.h"
#include "delivery/dispatch.h"
#include "delivery/frame.h"
#include "relay/protocol.h"

/* ---------- frames out ---------- */

static void
field_time(Frame *frame, RelayTag tag, TimestampTz at)
{
	StringInfoData text;

	if (at == 0)
		return;
	initStringInfo(&text);
	json_append_time(&text, at);
	frame_add_text(frame, tag, text.data);
	pfree(text.data);
}

static void
field_text(Frame *frame, RelayTag tag, const char *text)
{
	if (text != NULL && text[0] != '\0')
		frame_add_text(frame, tag, text);
}

void
flight_encode(Flight *flight, const DeliveryEvent *event)
{
	Channel    *channel = flight->channel;
	const Delivery *delivery = &flight->delivery;
	Frame		frame;
	char	   *envelope;
	int			length;

	Assert(flight->frame == NULL);
	frame_begin(&frame, RELAY_EVENT);
	frame_add_number(&frame, RELAY_TAG_TOKEN, flight->token);
	frame_add_number(&frame, RELAY_TAG_DESTINATION_ID, channel->subscription.id);
	frame_add_number(&frame, RELAY_TAG_TIMEOUT_MS, channel->subscription.policy.timeout_ms);
	frame_add_number(&frame, RELAY_TAG_ATTEMPT, delivery->attempts + 1);
	frame_add_text(&frame, RELAY_TAG_EVENT_ID, uuid_text(&event->event_id));
	frame_add_text(&frame, RELAY_TAG_EVENT_TYPE, event->event_type);
	frame_add_text(&frame, RELAY_TAG_ORDER_KEY, event->order_key);
	field_time(&frame, RELAY_TAG_TIME, event->occurred_at);
	field_time(&frame, RELAY_TAG_EXPIRES_AT, event->expires_at);
	field_text(&frame, RELAY_TAG_TENANT, reader_tenant_name(event->tenant_id));
	field_text(&frame, RELAY_TAG_SUBJECT, event->subject);
	field_text(&frame, RELAY_TAG_REGION, event->region);
	field_text(&frame, RELAY_TAG_TRACE_ID, event->trace_id);
	field_text(&frame, RELAY_TAG_TRACEPARENT, event->traceparent);
	field_text(&frame, RELAY_TAG_HEADERS, event->headers);
	frame_add_text(&frame, RELAY_TAG_SCHEMA_VERSION, OUTBOX_SCHEMA_VERSION);
	envelope = reader_envelope(event, &length);
	frame_add_bytes(&frame, RELAY_TAG_DATA, envelope, length);
	pfree(envelope);
	flight->frame = frame_end(&frame, channel->context, &flight->frame_length);
}

static bool
destination_send(Channel *channel)
{
	Frame		frame;
	char	   *bytes;
	int			length;
	bool		is_sent;

	frame_begin(&frame, RELAY_DESTINATION);
	frame_add_number(&frame, RELAY_TAG_DESTINATION_ID, channel->subscription.id);
	frame_add_number(&frame, RELAY_TAG_GENERATION, channel->subscription.generation);
	frame_add_text(&frame, RELAY_TAG_SINK, channel->subscription.sink);
	frame_add_text(&frame, RELAY_TAG_CONFIG, channel->subscription.config);
	frame_add_number(&frame, RELAY_TAG_IN_FLIGHT, channel->subscription.policy.in_flight);
	bytes = frame_end(&frame, CurrentMemoryContext, &length);
	is_sent = courier_send(bytes, length);
	pfree(bytes);
	if (is_sent)
		channel->sent_generation = channel->subscription.generation;
	return is_sent;
}

/* ---------- gates ---------- */

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
			return true;
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

		if (dispatch.courier_epoch != courier_epoch())
			channel->sent_generation = 0;
		if (channel->subscription.state == SUBSCRIPTION_ACTIVE &&
			strcmp(channel->subscription.sink, "pull") != 0 && !channel_send(channel, now))
			break;
	}
	dispatch.courier_epoch = courier_epoch();
}

/* ---------- frames in ---------- */

static void
result_read(Flight *flight, const char *fields, int length)
{
	AttemptResult *result = &flight->result;
	MemoryContext caller = MemoryContextSwitchTo(flight->channel->context);
	FrameField	field;
	FrameReader reader;
	bool		is_ok = false;

	memset(result, 0, sizeof(*result));
	result->retry_after_ms = -1;
	result->code = "";
	frame_reader_begin(&reader, fields, length);
	while (frame_reader_next(&reader, &field))
	{
		switch (field.tag)
		{
			case RELAY_TAG_OK:
				is_ok = frame_field_number(&field) == 1;
				break;
			case RELAY_TAG_STATUS:
				result->status = (int) frame_field_number(&field);
				break;
			case RELAY_TAG_DURATION_US:
				result->duration_us = frame_field_number(&field);
				break;
			case RELAY_TAG_RETRY_AFTER_MS:
				result->retry_after_ms = frame_field_number(&field);
				break;
			case RELAY_TAG_CODE:
				result->code = frame_field_text(&field);
				break;
			case RELAY_TAG_REASON:
				result->reason = frame_field_text(&field);
				break;
			case RELAY_TAG_RESPONSE:
				result->response = frame_field_text(&field);
				break;
			default:
				break;
		}
	}
	result->started_at = flight->sent_at;
	/* CLASS_COUNT: the rules say it, in the next round */
	result->class = is_ok ? CLASS_DELIVERED : CLASS_COUNT;
	MemoryContextSwitchTo(caller);
}

/* At the first try an event that arrived is nothing but a number that is done. */
static void
flight_landed(Flight *flight)
{
	Channel    *channel = flight->channel;
	ChannelLane *lane = &channel->lanes[flight->delivery.lane];
	TimestampTz now = GetCurrentTimestamp();

	lane->reading.done++;
	(void) destination_note(&channel->destination, &channel->subscription.policy,
							CLASS_DELIVERED, -1, now);
	flight_unregister(flight);
	flight_decided(flight);
}

static void
result_arrived(const char *fields, int length)
{
	FrameReader reader;
	FrameField	field;
	Flight	   *flight = NULL;

	frame_reader_begin(&reader, fields, length);
	while (frame_reader_next(&reader, &field))
	{
		if (field.tag == RELAY_TAG_TOKEN)
			flight = flight_find(frame_field_number(&field));
	}
	if (flight == NULL || flight->state != FLIGHT_SENT)
		return;
	result_read(flight, fields, length);
	flight_answered(flight);
	if (flight->result.class == CLASS_DELIVERED && flight->delivery.id == 0)
		flight_landed(flight);
	else
		dispatch_answer(flight);
}

/* A destination that the relay cannot use: each event to it fails with the reason. */
static void
destination_state_arrived(const char *fields, int length)
{
	FrameReader reader;
	FrameField	field;
	int64		id = 0;
	bool		is_ok = true;
	char	   *reason = NULL;

	frame_reader_begin(&reader, fields, length);
	while (frame_reader_next(&reader, &field))
	{
		if (field.tag == RELAY_TAG_DESTINATION_ID)
			id = frame_field_number(&field);
		else if (field.tag == RELAY_TAG_OK)
			is_ok = frame_field_number(&field) == 1;
		else if (field.tag == RELAY_TAG_REASON)
			reason = frame_field_text(&field);
	}
	if (!is_ok)
		ereport(WARNING,
				(errmsg("pg_failsafe: subscription " INT64_FORMAT " cannot be delivered as configured: %s",
						id, reason != NULL ? reason : "no reason was given")));
}

void
dispatch_frame(int type, const char *fields, int length)
{
	if (type == RELAY_RESULT)
		result_arrived(fields, length);
	else if (type == RELAY_DESTINATION_STATE)
		destination_state_arrived(fields, length);
}

/* Whether they arrived nobody knows; each counts as an attempt. */
void
dispatch_courier_lost(void)
{
	HASH_SEQ_STATUS scan;
	FlightEntry *entry;

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
channel_has_work(const Channel *channel, TimestampTz now)
{
	bool		may_send = channel->refused_until <= now;

	for (int i = 0; i < OUTBOX_LANES; i++)
	{
		const ChannelLane *lane = &channel->lanes[i];

		if (channel->subscription.state == SUBSCRIPTION_ACTIVE && may_send &&
			channel_room((Channel *) channel, i) > 0 && reader_has_more(&lane->reading))
			return true;
		if (lane->is_dirty && now - dispatch.positions_written_at >=
			(int64) POSITION_INTERVAL_MS * 1000)
			return true;
	}
	if (channel->subscription.state != SUBSCRIPTION_ACTIVE)
		return now - channel->lag_checked_at >= (int64) 10 * USECS_PER_SEC;
	return channel->next_due_at <= now || channel->next_replay_at <= now ||
		(channel->rows_are_left && hash_get_num_entries(channel->rows) == 0);
}

bool
dispatch_has_work(TimestampTz now)
{
	bool		has_work = dispatch.answer_count > 0 || dispatch.reload_horizon != 0;
	dlist_iter	iter;

	if (has_work)
		return true;
	Assert(!IsTransactionState());
	/* no snapshot and no statement: it only lets relations be opened */
	StartTransactionCommand();
	has_work = row_sequence_last("subscription_generation_seq") != dispatch.generation;
	dlist_foreach(iter, &dispatch.channels)
	{
		if (has_work)
			break;
		has_work = channel_has_work(dlist_container(Channel, node, iter.cur), now);
	}
	CommitTransactionCommand();
	return has_work;
}

TimestampTz
dispatch_next_due(void)
{
	TimestampTz next = DT_NOEND;
	dlist_iter	iter;

	dlist_foreach(iter, &dispatch.channels)
	{
		const Channel *channel = dlist_container(Channel, node, iter.cur);

		if (channel->subscription.state != SUBSCRIPTION_ACTIVE)
			continue;
		next = Min(next, channel->next_due_at);
		next = Min(next, channel->next_replay_at);
		if (channel->refused_until != 0)
			next = Min(next, channel->refused_until);
	}
	return next;
}
