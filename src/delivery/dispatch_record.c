/*
 * delivery/dispatch_record.c
 *	  What an answer means, written down.
 *
 * An event that arrived at the first try leaves nothing but a position that moves.  All
 * else becomes rows: a delivery that waits, its attempts, or a dead letter; and the
 * events behind it in its key are parked (D5).
 *
 * Runs in the worker's transaction; an error there undoes all of it, and the worker
 * reads everything again [P3].
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "delivery/dead_letter.h"
#include "delivery/delivery_stats.h"
#include "delivery/dispatch.h"
#include "delivery/reason.h"
#include "delivery/record.h"

#define REASON_DISABLED "the receiver answered 410: it does not want this subscription any more"

/* ---------- rows that hold a key back ---------- */

static bool
key_is_held(const Flight *flight)
{
	return flight->channel->subscription.ordered && flight->channel->subscription.block &&
		flight->key != NULL;
}

/* A row of a live event keeps later ones of its key back; a letter sent again does not. */
static void
hold_key(Flight *flight)
{
	if (flight->holds_key || !key_is_held(flight) || flight->delivery.dead_letter_id != 0)
		return;
	flight->holds_key = true;
	channel_key_rows(flight->channel, flight->delivery.lane, flight->order_key, 1);
}

static void
release_key(Flight *flight)
{
	Channel    *channel = flight->channel;
	const Delivery *delivery = &flight->delivery;

	if (flight->holds_key)
	{
		flight->holds_key = false;
		channel_key_rows(channel, delivery->lane, flight->order_key, -1);
	}
	if (channel->subscription.ordered &&
		delivery_release_next(channel->subscription.id, delivery->lane, flight->order_key))
		channel->next_due_at = dispatch.now;
}

/* What was read behind a failing event gets rows: the position may go on. */
static void
park_behind(Flight *flight)
{
	Flight	   *behind;

	while ((behind = flight_take_behind(flight)) != NULL)
	{
		if (behind->from_outbox)
		{
			behind->delivery.state = DELIVERY_PARKED;
			behind->delivery.created_at = dispatch.now;
			behind->delivery.due_at = DT_NOEND;
			delivery_insert(&behind->delivery, NULL, NULL);
			behind->channel->row_count++;
			channel_key_rows(behind->channel, behind->delivery.lane, behind->order_key, 1);
		}
		else
			behind->channel->next_due_at = dispatch.now;
		flight_unregister(behind);
		flight_decided(behind);
	}
}

/* ---------- the three ends of an attempt ---------- */

static void
record_delivered(Flight *flight)
{
	Assert(flight->result.class == CLASS_DELIVERED);
	flight->channel->lanes[flight->delivery.lane].reading.done++;
	flight->channel->lanes[flight->delivery.lane].is_dirty = true;
	delivery_stats_delivered(flight->channel->stats, flight->delivery.attempts > 0,
							 dispatch.now - flight->occurred_at);
	if (flight->delivery.id == 0)
		return;
	delivery_done(&flight->delivery, &flight->result);
	flight->channel->row_count--;
	release_key(flight);
}

static void
record_retry(Flight *flight, int64 delay_ms)
{
	Delivery   *delivery = &flight->delivery;
	Channel    *channel = flight->channel;
	const char *class = failure_class_names[flight->result.class];

	Assert(delay_ms >= 0);
	delivery->state = DELIVERY_WAITING;
	delivery->due_at = TimestampTzPlusMilliseconds(dispatch.now, delay_ms);
	if (delivery->id == 0)
	{
		delivery->created_at = flight->result.started_at;
		delivery_insert(delivery, class, flight->result.reason);
		channel->row_count++;
	}
	else
		delivery_update(delivery, class, flight->result.reason);
	attempt_insert(delivery, &flight->result);
	channel->next_due_at = Min(channel->next_due_at, delivery->due_at);
	hold_key(flight);
	if (key_is_held(flight) && delivery->dead_letter_id == 0)
		park_behind(flight);
}

/* The event, for the copy and the news: still in the outbox, or that of a dead letter. */
static void
event_for_death(Flight *flight, DeliveryEvent *event)
{
	const Delivery *delivery = &flight->delivery;

	if (delivery->dead_letter_id != 0 ? dead_letter_fetch(delivery->dead_letter_id, event) :
		reader_fetch(delivery->lane, delivery->seq, GetActiveSnapshot(), event))
		return;
	memset(event, 0, sizeof(*event));
	event->lane = delivery->lane;
	event->seq = delivery->seq;
	event->event_id = delivery->event_id;
	event->tenant_id = flight->channel->subscription.tenant_id;
	event->occurred_at = flight->occurred_at;
	event->event_type = flight->event_type;
	event->order_key = flight->order_key;
}

/* The row may be older than the first attempt: it may have waited for its time, or its key. */
static TimestampTz
first_attempt_at(const Flight *flight)
{
	TimestampTz at = 0;

	if (flight->delivery.attempts > 1)
		at = delivery_first_attempt_at(&flight->delivery);
	return at != 0 ? at : flight->result.started_at;
}

static void
record_death(Flight *flight, RetryVerdict verdict)
{
	Delivery   *delivery = &flight->delivery;
	Channel    *channel = flight->channel;
	DeliveryEvent event;

	event_for_death(flight, &event);
	attempt_insert(delivery, &flight->result);
	delivery_die(delivery, &event, dead_letter_class(verdict, &flight->result),
				 dead_letter_reason(verdict, channel->subscription.sink, delivery->attempts,
									dispatch.now - first_attempt_at(flight), &flight->result));
	delivery_stats_died(channel->stats);
	if (delivery->id != 0)
		channel->row_count--;
	release_key(flight);
}

/* ---------- one answer ---------- */

static RetryVerdict
judge(const Flight *flight, int64 delay_ms)
{
	const RetryPolicy *retry = &flight->channel->subscription.policy.retry;
	const Delivery *delivery = &flight->delivery;
	TimestampTz due_at = TimestampTzPlusMilliseconds(dispatch.now, delay_ms);
	RetryVerdict verdict;

	Assert(delivery->attempts > 0);
	/* the age of the row is at hand, and never less than that of the first attempt */
	verdict = retry_judge(retry, flight->result.class, delivery->attempts,
						  delivery->attempts > 1 ? delivery->created_at : flight->result.started_at,
						  due_at, flight->expires_at, dispatch.now);
	if (verdict == RETRY_TOO_OLD)
		verdict = retry_judge(retry, flight->result.class, delivery->attempts,
							  first_attempt_at(flight), due_at, flight->expires_at, dispatch.now);
	return verdict;
}

static void
record_failed(Flight *flight)
{
	Channel    *channel = flight->channel;
	const RetryPolicy *retry = &channel->subscription.policy.retry;
	int			attempts = ++flight->delivery.attempts;
	int64		delay_ms = retry_delay_ms(retry, attempts, flight->result.retry_after_ms,
										  pg_prng_double(&pg_global_prng_state));
	RetryVerdict verdict;

	delivery_stats_failed(channel->stats, flight->result.class);
	if (flight->result.class == CLASS_GONE)
	{
		/* the event is not to blame: it waits for somebody to resume */
		record_retry(flight, 0);
		subscription_set_state(channel->subscription.id, SUBSCRIPTION_DISABLED, REASON_DISABLED);
		channel->subscription.state = SUBSCRIPTION_DISABLED;
		return;
	}
	verdict = judge(flight, delay_ms);
	if (verdict == RETRY_LATER)
		record_retry(flight, delay_ms);
	else
		record_death(flight, verdict);
}

/* An event whose time ran out before it could be sent: no attempt was made. */
static void
record_expired(Flight *flight)
{
	DeliveryEvent event;

	event_for_death(flight, &event);
	delivery_die(&flight->delivery, &event, CLASS_EXPIRED,
				 "expired before it could be sent: its expires_at has passed");
	if (flight->delivery.id != 0)
		flight->channel->row_count--;
	release_key(flight);
}

/* What came of it tells about the destination, too; the event about it is a hint. */
static void
note_breaker(Flight *flight)
{
	Channel    *channel = flight->channel;

	if (!destination_note(&channel->destination, &channel->subscription.policy,
						  flight->result.class, flight->result.retry_after_ms, dispatch.now))
		return;
	ereport(LOG,
			(errmsg("pg_failsafe: breaker of subscription \"%s\" opened: %s",
					channel->subscription.name,
					flight->result.reason != NULL ? flight->result.reason : flight->result.code)));
	subscription_emit_breaker(&channel->subscription, flight->result.reason);
}

static void
record_answer(Flight *flight)
{
	if (flight->result.started_at == 0)
		record_expired(flight);
	else
	{
		if (flight->result.class == CLASS_COUNT)
			flight->result.class = failure_classify(flight->channel->subscription.sink,
													flight->result.status,
													flight->result.code);
		if (flight->result.class == CLASS_DELIVERED)
			record_delivered(flight);
		else
			record_failed(flight);
		note_breaker(flight);
	}
	flight_unregister(flight);
	flight_decided(flight);
}

void
dispatch_record_answers(void)
{
	int			recorded = 0;

	while (!dlist_is_empty(&dispatch.answers) && recorded < DISPATCH_ANSWERS_MAX)
	{
		Flight	   *flight = dlist_container(Flight, list_node,
											 dlist_pop_head_node(&dispatch.answers));

		Assert(flight->state == FLIGHT_ANSWERED);
		dispatch.answer_count--;
		record_answer(flight);
		recorded++;
	}
}
