/*
 * delivery/dispatch_read.c
 *	  What goes out next: rows that are due, and new events of the outbox.
 *
 * A new event becomes a flight, or a row at once: parked behind a failing event of its
 * key (D5), or waiting because its time has not come.  Either way the position may
 * move over its number (D2).
 *
 * A subscription that does not take its events, because it is paused, disabled, pulled by
 * nobody or too slow, keeps them in the outbox up to its limits of number and age;
 * what is beyond becomes dead letters, oldest first, warned about at half the limit.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "delivery/dead_letter.h"
#include "delivery/delivery_stats.h"
#include "delivery/dispatch.h"
#include "delivery/record.h"

#define ROWS_MAX		256		/* due rows of one channel in one round */
#define SHED_MAX		1000	/* dead letters for lag in one round */
#define LAG_REASON		"the subscription was too far behind: see max_lag of its policy"

/* ---------- rows that are due ---------- */

/*
 * These are not read-only to the server: each must see what this transaction has just
 * written, or a row that was done a moment ago would fly again.
 */

static const char *const due_query =
"SELECT id, lane, seq, attempts, created_at, dead_letter_id, replay_id, event_id, "
"event_type, order_key, class "
"FROM failsafe.delivery "
"WHERE subscription_id = $1 AND due_at <= $2 AND state = 'waiting' "
"ORDER BY due_at, id LIMIT $3";

static const char *const next_due_query =
"SELECT pg_catalog.min(due_at) FROM failsafe.delivery "
"WHERE subscription_id = $1 AND due_at > $2 AND state = 'waiting'";

static SPIPlanPtr due_plan = NULL;
static SPIPlanPtr next_due_plan = NULL;

static void
plan_keep(SPIPlanPtr *plan, const char *query, int argument_count, Oid *types)
{
	if (*plan != NULL)
		return;
	*plan = SPI_prepare(query, argument_count, types);
	if (*plan == NULL)
		elog(ERROR, "could not prepare \"%s\": %s", query, SPI_result_code_string(SPI_result));
	if (SPI_keepplan(*plan) != 0)
		elog(ERROR, "could not keep a plan");
}

static int64
column_int64(HeapTuple tuple, TupleDesc descriptor, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(tuple, descriptor, column, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

static void
row_to_delivery(HeapTuple tuple, TupleDesc descriptor, int64 subscription_id,
				Delivery *delivery)
{
	bool		isnull;

	memset(delivery, 0, sizeof(*delivery));
	delivery->subscription_id = subscription_id;
	delivery->id = column_int64(tuple, descriptor, 1);
	delivery->lane = DatumGetInt16(SPI_getbinval(tuple, descriptor, 2, &isnull));
	delivery->seq = column_int64(tuple, descriptor, 3);
	delivery->attempts = DatumGetInt32(SPI_getbinval(tuple, descriptor, 4, &isnull));
	delivery->created_at = column_int64(tuple, descriptor, 5);
	delivery->dead_letter_id = column_int64(tuple, descriptor, 6);
	delivery->replay_id = column_int64(tuple, descriptor, 7);
	delivery->event_id = *DatumGetUUIDP(SPI_getbinval(tuple, descriptor, 8, &isnull));
	delivery->event_type = SPI_getvalue(tuple, descriptor, 9);
	delivery->order_key = SPI_getvalue(tuple, descriptor, 10);
	delivery->state = DELIVERY_WAITING;
	Assert(delivery->id > 0);
	Assert(delivery->lane >= 0 && delivery->lane < OUTBOX_LANES);
}

static void
die_unread(Delivery *delivery, const char *reason)
{
	DeliveryEvent event = {0};

	event.lane = delivery->lane;
	event.seq = delivery->seq;
	event.event_id = delivery->event_id;
	event.event_type = delivery->event_type;
	event.order_key = delivery->order_key;
	event.occurred_at = delivery->created_at;
	delivery_die(delivery, &event, CLASS_LAG, reason);
}

/* The time of a delayed event has come, but an earlier failure blocks its key (D5). */
static bool
park_delayed(Channel *channel, Delivery *delivery)
{
	if (!channel_key_blocked(channel, delivery->lane, delivery->order_key))
		return false;
	delivery->state = DELIVERY_PARKED;
	delivery->due_at = DT_NOEND;
	delivery_update(delivery, NULL, NULL);
	channel_key_rows(channel, delivery->lane, delivery->order_key, 1);
	return true;
}

/* A row becomes a flight again; its event is in the outbox, or in the dead letter. */
static void
fly_row(Channel *channel, Delivery *delivery, const char *class)
{
	bool		is_delayed = class != NULL && strcmp(class, CLASS_DELAYED) == 0;
	DeliveryEvent event;
	Flight	   *flight;
	bool		is_found;

	if (is_delayed && park_delayed(channel, delivery))
		return;
	is_found = delivery->dead_letter_id != 0 ?
		dead_letter_fetch(delivery->dead_letter_id, &event) :
		reader_fetch(delivery->lane, delivery->seq, GetActiveSnapshot(), &event);
	if (!is_found)
	{
		die_unread(delivery, "the event is no longer kept in the outbox");
		channel->row_count--;
		return;
	}
	flight = flight_create(channel, dispatch.next_token++, delivery, &event);
	flight->holds_key = channel->subscription.ordered && channel->subscription.block &&
		delivery->dead_letter_id == 0 && !is_delayed;
	flight_encode(flight, &event);
	flight_register(flight);
	channel_add(flight);
}

static TimestampTz
next_due(const Channel *channel)
{
	Datum		values[2] = {Int64GetDatum(channel->subscription.id),
	TimestampTzGetDatum(dispatch.now)};
	Oid			types[2] = {INT8OID, TIMESTAMPTZOID};
	bool		isnull;
	Datum		value;

	plan_keep(&next_due_plan, next_due_query, 2, types);
	if (SPI_execute_plan(next_due_plan, values, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look for the next delivery");
	value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	return isnull ? DT_NOEND : DatumGetTimestampTz(value);
}

void
dispatch_load_rows(Channel *channel)
{
	Datum		values[3] = {Int64GetDatum(channel->subscription.id),
	TimestampTzGetDatum(dispatch.now), Int64GetDatum(0)};
	Oid			types[3] = {INT8OID, TIMESTAMPTZOID, INT8OID};
	SPITupleTable *rows;
	int64		limit = ROWS_MAX + hash_get_num_entries(channel->rows);
	uint64		row_count;

	values[2] = Int64GetDatum(limit);
	plan_keep(&due_plan, due_query, 3, types);
	if (SPI_execute_plan(due_plan, values, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read deliveries");
	rows = SPI_tuptable;
	row_count = SPI_processed;
	for (uint64 i = 0; i < row_count; i++)
	{
		Delivery	delivery;

		row_to_delivery(rows->vals[i], rows->tupdesc, channel->subscription.id, &delivery);
		if (hash_search(channel->rows, &delivery.id, HASH_FIND, NULL) == NULL)
			fly_row(channel, &delivery, SPI_getvalue(rows->vals[i], rows->tupdesc, 11));
	}
	SPI_freetuptable(rows);
	/* the rest comes when there is room, which an answer makes */
	channel->next_due_at = row_count == (uint64) limit ? DT_NOEND : next_due(channel);
	channel->rows_are_left = row_count == (uint64) limit;
}

/* ---------- new events ---------- */

static void
delivery_of_event(Delivery *delivery, const Channel *channel, const DeliveryEvent *event)
{
	memset(delivery, 0, sizeof(*delivery));
	delivery->subscription_id = channel->subscription.id;
	delivery->lane = event->lane;
	delivery->seq = event->seq;
	delivery->event_id = event->event_id;
	delivery->event_type = event->event_type;
	delivery->order_key = event->order_key;
	delivery->state = DELIVERY_WAITING;
}

/* A row instead of a flight: later, or after those before it. */
static bool
put_aside(Channel *channel, Delivery *delivery, const DeliveryEvent *event)
{
	bool		is_delayed = event->deliver_after > dispatch.now;
	bool		is_blocked = channel_key_blocked(channel, event->lane, event->order_key);

	if (!is_delayed && !is_blocked)
		return false;
	delivery->created_at = dispatch.now;
	delivery->state = is_delayed ? DELIVERY_WAITING : DELIVERY_PARKED;
	delivery->due_at = is_delayed ? event->deliver_after : DT_NOEND;
	delivery_insert(delivery, is_delayed ? CLASS_DELAYED : NULL, NULL);
	channel->row_count++;
	if (is_delayed)
		channel->next_due_at = Min(channel->next_due_at, delivery->due_at);
	else
		channel_key_rows(channel, event->lane, event->order_key, 1);
	return true;
}

/*
 * A number was drawn that was not read, or an open one may have become an event: its
 * commit woke the worker, or it is time to look.
 */
bool
lane_has_more(const ChannelLane *lane, TimestampTz now)
{
	return lane->drawn > lane->reading.high ||
		(lane->reading.open_count > 0 && lane->look_at <= now);
}

static void
read_lane(Channel *channel, int lane_number, Snapshot snapshot, XLogRecPtr durable_lsn,
		  int room)
{
	ChannelLane *lane = &channel->lanes[lane_number];
	int64		high_before = lane->reading.high;
	int			open_before = lane->reading.open_count;
	int			count;
	DeliveryEvent *events = reader_read(&lane->reading, &channel->subscription, snapshot,
										room, &count);

	Assert(count <= room);
	for (int i = 0; i < count; i++)
	{
		Delivery	delivery;
		Flight	   *flight;

		if (channel_skips(channel, lane_number, events[i].seq))
			continue;
		delivery_of_event(&delivery, channel, &events[i]);
		if (put_aside(channel, &delivery, &events[i]))
			continue;
		flight = flight_create(channel, dispatch.next_token++, &delivery, &events[i]);
		flight->is_late = events[i].seq <= high_before;
		flight->durable_lsn = durable_lsn;
		flight_encode(flight, &events[i]);
		flight_register(flight);
		channel_add(flight);
	}
	lane->look_at = TimestampTzPlusMilliseconds(dispatch.now, OPEN_LOOK_MS);
	if (lane->reading.high != high_before || lane->reading.open_count != open_before)
		lane->is_dirty = true;
}

void
dispatch_read_channel(Channel *channel, Snapshot snapshot, XLogRecPtr durable_lsn)
{
	Assert(channel->subscription.state == SUBSCRIPTION_ACTIVE);
	for (int lane = 0; lane < OUTBOX_LANES; lane++)
	{
		int			room = Min(channel_room(channel, lane), READ_EVENTS_MAX);

		channel->lanes[lane].drawn = reader_last_number(lane);
		if (room > 0 && lane_has_more(&channel->lanes[lane], dispatch.now))
			read_lane(channel, lane, snapshot, durable_lsn, room);
	}
}

/* ---------- too far behind ---------- */

/* How many numbers of all lanes were drawn after what the subscription has read? */
static int64
lag_numbers(const Channel *channel)
{
	int64		numbers = 0;

	for (int lane = 0; lane < OUTBOX_LANES; lane++)
		numbers += Max(reader_last_number(lane) - channel->lanes[lane].reading.high, 0);
	return numbers;
}

static bool
lag_is_half(const Channel *channel, int64 numbers)
{
	const Policy *policy = &channel->subscription.policy;
	TimestampTz half_old = dispatch.now - (int64) policy->max_lag_s * USECS_PER_SEC / 2;

	if (numbers > policy->max_lag_events / 2)
		return true;
	for (int i = 0; i < OUTBOX_LANES; i++)
	{
		const Position *reading = &channel->lanes[i].reading;

		/* what was not read is younger than what was, but hardly */
		if (reading->high_at != 0 && Max(reading->high_at, channel->started_at) < half_old &&
			reader_last_number(i) > reading->high)
			return true;
	}
	return false;
}

static void
lag_warn(Channel *channel, int64 numbers)
{
	const Policy *policy = &channel->subscription.policy;
	bool		is_half = lag_is_half(channel, numbers);

	if (is_half && !channel->lag_warned)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("pg_failsafe: subscription \"%s\" is about " INT64_FORMAT " events behind",
						channel->subscription.name, numbers),
				 errdetail("Beyond " INT64_FORMAT " events or %d seconds its oldest ones become dead letters.",
						   policy->max_lag_events, policy->max_lag_s),
				 errhint("Resume it, repair its receiver, or raise max_lag.")));
	channel->lag_warned = is_half;
	channel->lag_told &= is_half;
}

static DeliveryEvent *
read_ahead(const Channel *channel, int lane_number, Snapshot snapshot, int max,
		   Position *ahead, int *count)
{
	const Position *reading = &channel->lanes[lane_number].reading;

	*ahead = *reading;
	ahead->open = palloc(sizeof(OpenNumbers) * reading->open_max);
	memcpy(ahead->open, reading->open, sizeof(OpenNumbers) * reading->open_count);
	return reader_read(ahead, &channel->subscription, snapshot, max, count);
}

static TimestampTz
lag_too_old(const Channel *channel)
{
	return dispatch.now - (int64) channel->subscription.policy.max_lag_s * USECS_PER_SEC;
}

/* Is there too much, or may something be too old?  What was not read is hardly older. */
static bool
lag_may_be_over(const Channel *channel, int64 numbers)
{
	if (numbers > channel->subscription.policy.max_lag_events)
		return true;
	for (int i = 0; i < OUTBOX_LANES; i++)
	{
		const Position *reading = &channel->lanes[i].reading;

		if (reading->high_at < lag_too_old(channel) && reader_last_number(i) > reading->high)
			return true;
	}
	return false;
}

/*
 * How many of these, oldest first, are too many or too old?  Numbers are what is too
 * many, so an event that is alone among those of others dies alone.
 */
static int
count_too_late(const Channel *channel, const Position *reading, const DeliveryEvent *events,
			   int count, int64 too_many)
{
	int64		last = too_many > 0 ? reading->high + too_many : 0;
	int			late = 0;

	while (late < count && (events[late].seq <= last ||
							events[late].occurred_at < lag_too_old(channel)))
		late++;
	return late;
}

static void
shed_event(Channel *channel, const DeliveryEvent *event)
{
	Delivery	delivery;

	if (channel_skips(channel, event->lane, event->seq))
		return;
	delivery_of_event(&delivery, channel, event);
	delivery.created_at = dispatch.now;
	delivery_shed(&delivery, event, LAG_REASON);
	delivery_stats_died(channel->stats);
}

/*
 * Oldest events first; how many.  Unwanted ones are passed on the way, up to the first
 * that is kept: they are not pinned either.
 */
static int
shed_lane(Channel *channel, int lane_number, Snapshot snapshot, int64 too_many)
{
	const Position *reading = &channel->lanes[lane_number].reading;
	Position	ahead;
	int			count;
	int			late;
	DeliveryEvent *events = read_ahead(channel, lane_number, snapshot, SHED_MAX, &ahead, &count);

	late = count_too_late(channel, reading, events, count, too_many);
	if (late < count && events[late].seq > reading->high)
	{
		position_set_back(&ahead, events[late].seq - 1);
		ahead.high_at = events[late].occurred_at;	/* what is unread begins there */
	}
	else if (late > 0 && late < count)
		events = read_ahead(channel, lane_number, snapshot, late, &ahead, &count);
	else if (late < count)
		return 0;				/* the first one was an open number, and is young */
	for (int i = 0; i < late; i++)
		shed_event(channel, &events[i]);
	channel_set_reading(channel, lane_number, &ahead);
	channel->lanes[lane_number].is_dirty = true;
	return late;
}

/* Once, until the lag has gone below half of its limit: each event adds to the lag. */
static void
tell_shed(Channel *channel, int count)
{
	ereport(LOG,
			(errmsg("pg_failsafe: subscription \"%s\" is too far behind: %d events became dead letters",
					channel->subscription.name, count)));
	if (!channel->lag_told)
		subscription_emit_lag(&channel->subscription, LAG_REASON);
	channel->lag_told = true;
}

/* Who pulls moves the positions: they are read anew. */
static void
read_pulled_positions(Channel *channel)
{
	Position	positions[OUTBOX_LANES];

	positions_read(channel->subscription.id, positions);
	for (int lane = 0; lane < OUTBOX_LANES; lane++)
		channel_set_reading(channel, lane, &positions[lane]);
}

/*
 * Of an active subscription these are the events after those that are on their way; a
 * restart meets them as numbers with a dead letter, see channel_skip().  The positions of
 * a pulled one are locked only when there is something to shed, until the round's commit.
 */
void
dispatch_shed(Channel *channel, Snapshot snapshot)
{
	bool		is_pulled = strcmp(channel->subscription.sink, "pull") == 0;
	int			shed = 0;

	if (dispatch.now - channel->lag_checked_at < (int64) LAG_CHECK_MS * 1000)
		return;
	channel->lag_checked_at = dispatch.now;
	if (is_pulled)
		read_pulled_positions(channel);
	lag_warn(channel, lag_numbers(channel));
	if (!lag_may_be_over(channel, lag_numbers(channel)))
		return;
	if (is_pulled)
	{
		positions_lock(channel->subscription.id);
		read_pulled_positions(channel);
	}
	for (int lane = OUTBOX_LANES - 1; lane >= 0; lane--)
	{
		int64		too_many = lag_numbers(channel) - channel->subscription.policy.max_lag_events;
		int			late;

		if (!reader_has_more(&channel->lanes[lane].reading))
			continue;
		late = shed_lane(channel, lane, snapshot, too_many);
		if (late == SHED_MAX)
			channel->lag_checked_at = 0;	/* go on in the next round */
		shed += late;
	}
	if (shed > 0)
		tell_shed(channel, shed);
}
