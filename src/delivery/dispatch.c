/*
 * delivery/dispatch.c
 *	  The rounds of the worker; see dispatch.h for the invariants P1 to P4.
 *
 * A round is one transaction under READ COMMITTED:
 *
 *		1. subscriptions that changed are read again
 *		2. answers are recorded
 *		3. rows that are due become flights
 *		4. new events are read, all of them by one registered snapshot
 *		5. positions are stored, every POSITION_INTERVAL_MS
 *
 * Its commit does not wait for its flush: what it loses in a crash is sent again.  What
 * it has read leaves only when the log is safe (D3): flushed here, and acknowledged by
 * synchronous standbys, for which the worker asks and never waits [F19].
 *
 * A change of a subscription draws a number before it commits.  So a new number means:
 * read the subscriptions now, and again in each round until every transaction that ran
 * when the number was seen has ended.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/commit.h"
#include "base/row.h"
#include "delivery/delivery_stats.h"
#include "delivery/dispatch.h"
#include "delivery/replay.h"

#define FLIGHTS_INITIAL		1024

Dispatch	dispatch;

/* ---------- life ---------- */

static void
dispatch_clear(void)
{
	HASHCTL		control = {0};

	MemoryContextReset(dispatch.context);
	control.keysize = sizeof(int64);
	control.entrysize = sizeof(FlightEntry);
	control.hcxt = dispatch.context;
	dispatch.flights = hash_create("events on their way", FLIGHTS_INITIAL, &control,
								   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	dlist_init(&dispatch.channels);
	dlist_init(&dispatch.answers);
	dispatch.answer_count = 0;
	dispatch.generation = -1;
	dispatch.reload_horizon = 0;
	dispatch.look_at = 0;
}

void
dispatch_begin(void)
{
	Assert(dispatch.context == NULL);
	dispatch.context = AllocSetContextCreate(TopMemoryContext, "failsafe dispatch",
											 ALLOCSET_DEFAULT_SIZES);
	dispatch.next_token = 1;
	dispatch_clear();
}

/* Tokens go on: answers to forgotten ones must not fit new ones [P4]. */
void
dispatch_forget(void)
{
	Assert(dispatch.context != NULL);
	dispatch_clear();
}

Flight *
flight_find(int64 token)
{
	FlightEntry *entry = hash_search(dispatch.flights, &token, HASH_FIND, NULL);

	return entry != NULL ? entry->flight : NULL;
}

void
flight_register(Flight *flight)
{
	FlightEntry *entry;
	bool		found;

	entry = hash_search(dispatch.flights, &flight->token, HASH_ENTER, &found);
	Assert(!found);
	entry->flight = flight;
}

void
flight_unregister(Flight *flight)
{
	(void) hash_search(dispatch.flights, &flight->token, HASH_REMOVE, NULL);
}

/* ---------- subscriptions ---------- */

static int64
generation_drawn(void)
{
	return row_sequence_last("subscription_generation_seq");
}

static void
forget_channel(Channel *channel)
{
	HASH_SEQ_STATUS scan;
	FlightEntry *entry;
	dlist_mutable_iter iter;

	hash_seq_init(&scan, dispatch.flights);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (entry->flight->channel == channel)
			(void) hash_search(dispatch.flights, &entry->token, HASH_REMOVE, NULL);
	}
	dlist_foreach_modify(iter, &dispatch.answers)
	{
		Flight	   *flight = dlist_container(Flight, list_node, iter.cur);

		if (flight->channel == channel)
		{
			dlist_delete(&flight->list_node);
			dispatch.answer_count--;
		}
	}
	dlist_delete(&channel->node);
	channel_free(channel);
}

static Channel *
channel_find(int64 subscription_id)
{
	dlist_iter	iter;

	dlist_foreach(iter, &dispatch.channels)
	{
		Channel    *channel = dlist_container(Channel, node, iter.cur);

		if (channel->subscription.id == subscription_id)
			return channel;
	}
	return NULL;
}

/* Rows that hold keys back, and how many there are in all. */
static void
load_keys(Channel *channel)
{
	Datum		value = Int64GetDatum(channel->subscription.id);
	Oid			type = INT8OID;

	if (SPI_execute_with_args("SELECT lane, order_key, pg_catalog.count(*) FILTER "
							  "(WHERE dead_letter_id IS NULL AND class IS DISTINCT FROM '"
							  CLASS_DELAYED "'), pg_catalog.count(*) "
							  "FROM failsafe.delivery WHERE subscription_id = $1 "
							  "GROUP BY lane, order_key",
							  1, &type, &value, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read deliveries");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	descriptor = SPI_tuptable->tupdesc;
		bool		isnull;
		int			lane = DatumGetInt16(SPI_getbinval(tuple, descriptor, 1, &isnull));
		int64		holding = DatumGetInt64(SPI_getbinval(tuple, descriptor, 3, &isnull));

		channel->row_count += DatumGetInt64(SPI_getbinval(tuple, descriptor, 4, &isnull));
		if (holding > 0)
			channel_key_rows(channel, lane, SPI_getvalue(tuple, descriptor, 2), (int) holding);
	}
	channel->next_due_at = channel->row_count > 0 ? dispatch.now : DT_NOEND;
}

/*
 * An older number that was not decided keeps the stored position back; above it there
 * may be numbers that have a row already.  They must not get a second one (D1).
 */
static void
load_skips(Channel *channel, int lane)
{
	Datum		values[3] = {Int64GetDatum(channel->subscription.id), Int16GetDatum(lane),
	Int64GetDatum(channel->lanes[lane].reading.high)};
	Oid			types[3] = {INT8OID, INT2OID, INT8OID};

	if (SPI_execute_with_args("SELECT seq FROM failsafe.delivery "
							  "WHERE subscription_id = $1 AND lane = $2 AND seq > $3 "
							  "AND dead_letter_id IS NULL "
							  "UNION SELECT seq FROM failsafe.dead_letter "
							  "WHERE subscription_id = $1 AND lane = $2 AND seq > $3",
							  3, types, values, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read deliveries");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;

		channel_skip(channel, lane,
					 DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc,
												 1, &isnull)));
	}
}

/* Who is told to hear old events is not late with them: lag counts from here. */
static void
load_start(Channel *channel)
{
	Datum		value = Int64GetDatum(channel->subscription.id);
	Oid			type = INT8OID;
	bool		isnull;
	Datum		started_at;

	if (SPI_execute_with_args("SELECT pg_catalog.max(changed_at) "
							  "FROM failsafe.subscription_change "
							  "WHERE subscription_id = $1 AND action IN ('created', 'rewound')",
							  1, &type, &value, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read changes of subscriptions");
	started_at = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	channel->started_at = isnull ? 0 : DatumGetTimestampTz(started_at);
}

static void
add_channel(const Subscription *subscription)
{
	Channel    *channel = channel_create(dispatch.context, subscription);
	Position	positions[OUTBOX_LANES];

	dlist_push_tail(&dispatch.channels, &channel->node);
	positions_read(subscription->id, positions);
	for (int lane = 0; lane < OUTBOX_LANES; lane++)
	{
		channel_set_reading(channel, lane, &positions[lane]);
		load_skips(channel, lane);
	}
	load_keys(channel);
	load_start(channel);
	channel->stats = delivery_stats_of(subscription->id);
}

static bool
is_pushed(const Subscription *subscription)
{
	return strcmp(subscription->sink, "pull") != 0;
}

/* A new or resumed replay draws a generation too; its subscription's stays. */
static void
look_for_replays(void)
{
	dlist_iter	iter;

	dlist_foreach(iter, &dispatch.channels)
		dlist_container(Channel, node, iter.cur)->next_replay_at = dispatch.now;
}

/*
 * A subscription that is being rewound or dropped is no reason to undo what was recorded
 * of others.  It has drawn a generation: its channel starts anew when that is visible.
 */
static void
store_position(Channel *channel, int lane)
{
	Position	position;

	channel_position(channel, lane, &position);
	if (position_try_write(&position))
		channel->lanes[lane].is_dirty = false;
}

static void
store_channel(Channel *channel)
{
	for (int lane = 0; lane < OUTBOX_LANES; lane++)
	{
		if (channel->lanes[lane].is_dirty)
			store_position(channel, lane);
	}
}

/*
 * A changed subscription starts anew: its flights are forgotten and read again.  Their
 * answers come to tokens that nobody knows; the events go out once more [P3].  What was
 * done is stored first.
 */
static void
load_subscriptions(void)
{
	int			count;
	Subscription *subscriptions = subscriptions_read(0, &count);
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &dispatch.channels)
	{
		Channel    *channel = dlist_container(Channel, node, iter.cur);
		bool		is_same = false;

		for (int i = 0; i < count && !is_same; i++)
			is_same = subscriptions[i].id == channel->subscription.id &&
				subscriptions[i].generation == channel->subscription.generation;
		if (is_same)
			continue;
		store_channel(channel);
		forget_channel(channel);
	}
	for (int i = 0; i < count; i++)
	{
		if (channel_find(subscriptions[i].id) == NULL)
			add_channel(&subscriptions[i]);
	}
	look_for_replays();
}

/* The snapshot's xmin with its epoch: it is not ahead of the next transaction. */
static uint64
snapshot_xmin_full(Snapshot snapshot)
{
	FullTransactionId next = ReadNextFullTransactionId();
	uint32		epoch = EpochFromFullTransactionId(next);

	if (snapshot->xmin > XidFromFullTransactionId(next))
		epoch--;
	return U64FromFullTransactionId(FullTransactionIdFromEpochAndXid(epoch, snapshot->xmin));
}

static void
reload_if_changed(Snapshot snapshot)
{
	int64		drawn = generation_drawn();

	if (drawn != dispatch.generation)
	{
		dispatch.generation = drawn;
		dispatch.reload_horizon = U64FromFullTransactionId(ReadNextFullTransactionId());
		load_subscriptions();
		return;
	}
	if (dispatch.reload_horizon == 0)
		return;
	load_subscriptions();
	dispatch.reload_at = TimestampTzPlusMilliseconds(dispatch.now, OPEN_LOOK_MS);
	if (snapshot_xmin_full(snapshot) >= dispatch.reload_horizon)
		dispatch.reload_horizon = 0;
}

/* ---------- a round ---------- */

/* What was shed of a pulled subscription cannot wait: others may move it next. */
static bool
channel_must_store(const Channel *channel)
{
	bool		is_dirty = false;

	for (int lane = 0; lane < OUTBOX_LANES; lane++)
		is_dirty |= channel->lanes[lane].is_dirty;
	return is_dirty && !is_pushed(&channel->subscription);
}

static void
store_positions(bool must)
{
	dlist_iter	iter;

	dlist_foreach(iter, &dispatch.channels)
		must |= channel_must_store(dlist_container(Channel, node, iter.cur));

	if (!must && dispatch.now - dispatch.positions_written_at <
		(int64) POSITION_INTERVAL_MS * 1000)
		return;
	dispatch.positions_written_at = dispatch.now;
	dlist_foreach(iter, &dispatch.channels)
		store_channel(dlist_container(Channel, node, iter.cur));
}

static void
serve_channel(Channel *channel, Snapshot snapshot, XLogRecPtr durable_lsn)
{
	bool		is_active = channel->subscription.state == SUBSCRIPTION_ACTIVE;

	if (is_active && is_pushed(&channel->subscription))
	{
		if (channel->next_replay_at <= dispatch.now)
		{
			if (replay_feed(channel->subscription.id, dispatch.now, CHANNEL_QUEUE_MAX) > 0)
				channel->next_due_at = dispatch.now;
			channel->next_replay_at = replay_next_due(channel->subscription.id, dispatch.now);
		}
		if (channel->next_due_at <= dispatch.now)
			dispatch_load_rows(channel);
		dispatch_read_channel(channel, snapshot, durable_lsn);
	}
	dispatch_shed(channel, snapshot);
}

static void
round_in_transaction(XLogRecPtr *durable_lsn, bool is_last)
{
	Snapshot	snapshot;
	dlist_iter	iter;

	snapshot = RegisterSnapshot(GetLatestSnapshot());
	*durable_lsn = commit_log_end();
	reload_if_changed(snapshot);
	dispatch_record_answers();
	dlist_foreach(iter, &dispatch.channels)
	{
		CHECK_FOR_INTERRUPTS();
		if (!is_last)
			serve_channel(dlist_container(Channel, node, iter.cur), snapshot, *durable_lsn);
	}
	store_positions(is_last);
	UnregisterSnapshot(snapshot);
}

/* What the view shows. */
static void
show_channels(void)
{
	dlist_iter	iter;

	dlist_foreach(iter, &dispatch.channels)
	{
		Channel    *channel = dlist_container(Channel, node, iter.cur);
		int			queued = 0;

		for (int lane = 0; lane < OUTBOX_LANES; lane++)
			queued += channel->lanes[lane].waiting_count;
		delivery_stats_now(channel->stats, channel->sent_count, queued,
						   &channel->destination);
	}
}

static void
run_round(bool is_last)
{
	XLogRecPtr	durable_lsn;

	Assert(!IsTransactionState());
	dispatch.now = GetCurrentTimestamp();
	StartTransactionCommand();
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	PushActiveSnapshot(GetTransactionSnapshot());
	round_in_transaction(&durable_lsn, is_last);
	PopActiveSnapshot();
	SPI_finish();
	CommitTransactionCommand();
	show_channels();
	if (hash_get_num_entries(dispatch.flights) > 0)
		commit_flush(durable_lsn);
}

void
dispatch_round(void)
{
	run_round(false);
	dispatch_send(GetCurrentTimestamp());
}

void
dispatch_end(void)
{
	run_round(true);
}
