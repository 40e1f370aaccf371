/*
 * delivery/position.c
 *	  Owns failsafe.position: one row for each subscription and lane.
 *
 * Invariants:
 *	P1	A position is written over the version that this backend has read last, or
 *		not at all (40001): a rewind by somebody else is never lost.
 *	P2	Writing is a HOT update found by the remembered root of the row's chain, so it
 *		costs the same under a snapshot that is held open for hours [F28].
 *	P3	Open numbers are in the row before "high" has passed them [F14].
 *	P4	A new position misses nothing that is committed after it was made: see
 *		first_undecided().
 *	P5	A leaf is kept as long as a position, an open number or a delivery may need
 *		one of its events [O4].
 *
 * What is remembered of a row goes when a transaction or subtransaction aborts: the
 * position in memory may then be ahead of the row, and must be read again.
 *
 * Lock order: the row of lane 0 is the lock of a claimer and of whoever sets positions
 * back; rows of other lanes are written by who holds it, or by the worker of a pushing
 * subscription, in order of lanes.  Then leaves (AccessShareLock).
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/array.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/wait_event.h"

#include "base/commit.h"
#include "base/compat.h"
#include "base/row.h"
#include "base/settings.h"
#include "delivery/lane.h"
#include "delivery/reader.h"
#include "outbox/retention.h"

#define WRITERS_STEP_MS		5
#define START_SAFETY_US		(INT64CONST(60) * USECS_PER_SEC)	/* clocks that were set back */
#define OPEN_FIELDS			3	/* array elements of one range */
#define OPEN_ROOM_MIN		16	/* ranges; so open[] belongs to the context of the reading */

enum
{
	POSITION_SUBSCRIPTION_ID,
	POSITION_LANE,
	POSITION_HIGH,
	POSITION_HIGH_AT,
	POSITION_MOVED_AT,
	POSITION_DONE,
	POSITION_OPEN_NUMBERS,
	POSITION_COLUMNS
};

static const RowColumn position_columns[POSITION_COLUMNS] = {
	{"subscription_id", INT8OID},
	{"lane", INT2OID},
	{"high", INT8OID},
	{"high_at", TIMESTAMPTZOID},
	{"moved_at", TIMESTAMPTZOID},
	{"done", INT8OID},
	{"open_numbers", INT8ARRAYOID}
};

static const char *const position_indexes[] = {"position_subscription"};

static const RowTableSpec position_spec = {
	"position", POSITION_COLUMNS, position_columns, lengthof(position_indexes), position_indexes
};

/* Where a row is, and what it said when we read or wrote it last. */
typedef struct PlaceKey
{
	int64		subscription_id;
	int64		lane;
} PlaceKey;

typedef struct Place
{
	PlaceKey	key;
	ItemPointerData root;		/* of the chain of versions; invalid: not known */
	bool		known;			/* the fields below are what the row says [P1] */
	int64		high;
	int64		done;
	TimestampTz moved_at;
} Place;

static HTAB *places = NULL;

static Place *
place_find(int64 subscription_id, int lane)
{
	PlaceKey	key = {subscription_id, lane};
	HASHCTL		control;
	Place	   *place;
	bool		found;

	Assert(subscription_id > 0);
	Assert(lane >= 0 && lane < OUTBOX_LANES);
	if (places == NULL)
	{
		control.keysize = sizeof(PlaceKey);
		control.entrysize = sizeof(Place);
		places = hash_create("pg_failsafe positions", 64, &control, HASH_ELEM | HASH_BLOBS);
	}
	place = hash_search(places, &key, HASH_ENTER, &found);
	if (!found)
	{
		ItemPointerSetInvalid(&place->root);
		place->known = false;
	}
	return place;
}

static void
places_forget(void)
{
	HASH_SEQ_STATUS status;
	Place	   *place;

	if (places == NULL)
		return;
	hash_seq_init(&status, places);
	while ((place = hash_seq_search(&status)) != NULL)
		place->known = false;
}

/* ---------- rows in memory ---------- */

static void
open_numbers_decode(Datum value, Position *position)
{
	Datum	   *elements;
	int			count;

	deconstruct_array(DatumGetArrayTypeP(value), INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &elements, NULL, &count);
	Assert(count % OPEN_FIELDS == 0);
	position->open_count = count / OPEN_FIELDS;
	position->open_max = Max(position->open_count, OPEN_ROOM_MIN);
	position->open = palloc(position->open_max * sizeof(OpenNumbers));
	for (int i = 0; i < position->open_count; i++)
	{
		position->open[i].first = DatumGetInt64(elements[i * OPEN_FIELDS]);
		position->open[i].last = DatumGetInt64(elements[i * OPEN_FIELDS + 1]);
		position->open[i].horizon = (uint64) DatumGetInt64(elements[i * OPEN_FIELDS + 2]);
	}
	pfree(elements);
}

static Datum
open_numbers_encode(const Position *position)
{
	int			count = position->open_count * OPEN_FIELDS;
	Datum	   *elements = palloc(count * sizeof(Datum));
	Datum		value;

	Assert(position->open_count > 0);
	for (int i = 0; i < position->open_count; i++)
	{
		elements[i * OPEN_FIELDS] = Int64GetDatum(position->open[i].first);
		elements[i * OPEN_FIELDS + 1] = Int64GetDatum(position->open[i].last);
		elements[i * OPEN_FIELDS + 2] = Int64GetDatum((int64) position->open[i].horizon);
	}
	value = PointerGetDatum(construct_array(elements, count, INT8OID, sizeof(int64),
											FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	pfree(elements);
	return value;
}

static void
position_decode(TupleTableSlot *slot, Position *position)
{
	memset(position, 0, sizeof(*position));
	position->subscription_id = DatumGetInt64(slot->tts_values[POSITION_SUBSCRIPTION_ID]);
	position->lane = DatumGetInt16(slot->tts_values[POSITION_LANE]);
	position->high = DatumGetInt64(slot->tts_values[POSITION_HIGH]);
	if (!slot->tts_isnull[POSITION_HIGH_AT])
		position->high_at = DatumGetTimestampTz(slot->tts_values[POSITION_HIGH_AT]);
	position->done = DatumGetInt64(slot->tts_values[POSITION_DONE]);
	if (!slot->tts_isnull[POSITION_OPEN_NUMBERS])
		open_numbers_decode(slot->tts_values[POSITION_OPEN_NUMBERS], position);
	else
	{
		position->open_max = OPEN_ROOM_MIN;
		position->open = palloc(OPEN_ROOM_MIN * sizeof(OpenNumbers));
	}
	Assert(position->high >= 0 && position->subscription_id > 0);
}

static void
position_encode(TupleTableSlot *slot, const Position *position, TimestampTz moved_at)
{
	Assert(position->subscription_id > 0 && position->high >= 0);
	Assert(position->open_count >= 0 && position->open_count <= position->open_max);
	memset(slot->tts_isnull, false, POSITION_COLUMNS);
	slot->tts_values[POSITION_SUBSCRIPTION_ID] = Int64GetDatum(position->subscription_id);
	slot->tts_values[POSITION_LANE] = Int16GetDatum((int16) position->lane);
	slot->tts_values[POSITION_HIGH] = Int64GetDatum(position->high);
	slot->tts_values[POSITION_HIGH_AT] = TimestampTzGetDatum(position->high_at);
	slot->tts_isnull[POSITION_HIGH_AT] = position->high_at == 0;
	slot->tts_values[POSITION_MOVED_AT] = TimestampTzGetDatum(moved_at);
	slot->tts_values[POSITION_DONE] = Int64GetDatum(position->done);
	slot->tts_isnull[POSITION_OPEN_NUMBERS] = position->open_count == 0;
	if (position->open_count > 0)
		slot->tts_values[POSITION_OPEN_NUMBERS] = open_numbers_encode(position);
	row_slot_store(slot);
}

/* ---------- finding a row ---------- */

/* The root of the chain of a version that the index led to. */
static void
place_find_root(Place *place, RowTable *table, TupleTableSlot *slot, Snapshot snapshot)
{
	HeapTuple	tuples[MaxHeapTuplesPerPage];
	int			count;

	ItemPointerSetInvalid(&place->root);
	if (row_is_root(slot))
	{
		place->root = slot->tts_tid;
		return;
	}
	count = row_read_page(table, ItemPointerGetBlockNumber(&slot->tts_tid), snapshot, tuples,
						  lengthof(tuples));
	for (int i = 0; i < count; i++)
	{
		bool		isnull;
		TupleDesc	descriptor = RelationGetDescr(row_relation(table));

		if (DatumGetInt64(heap_getattr(tuples[i], POSITION_SUBSCRIPTION_ID + 1, descriptor,
									   &isnull)) == place->key.subscription_id &&
			DatumGetInt16(heap_getattr(tuples[i], POSITION_LANE + 1, descriptor,
									   &isnull)) == place->key.lane)
			place->root = tuples[i]->t_self;
		heap_freetuple(tuples[i]);
	}
}

static bool
position_find_by_index(RowTable *table, Place *place, Snapshot snapshot)
{
	ScanKeyData key;
	TupleTableSlot *slot;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(place->key.subscription_id));
	row_scan_begin(table, 0, snapshot, 1, &key, false);
	while ((slot = row_scan_next(table)) != NULL)
		if (DatumGetInt16(slot->tts_values[POSITION_LANE]) == place->key.lane)
			break;
	row_scan_end_keep(table);
	if (slot == NULL)
		return false;
	place_find_root(place, table, slot, snapshot);
	return true;
}

/* Find the version that the snapshot sees: it is then in row_current(). */
static bool
position_find(RowTable *table, Place *place, Snapshot snapshot)
{
	if (row_fetch_root(table, &place->root, snapshot, POSITION_SUBSCRIPTION_ID + 1,
					   place->key.subscription_id) &&
		DatumGetInt16(row_current(table)->tts_values[POSITION_LANE]) == place->key.lane)
		return true;
	return position_find_by_index(table, place, snapshot);
}

pg_noreturn static void
position_raise_missing(int64 subscription_id)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("the subscription with id %lld has no position",
					(long long) subscription_id),
			 errdetail("It was dropped by another transaction."),
			 errhint("Retry the transaction.")));
}

pg_noreturn static void
position_raise_moved(int64 subscription_id)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not move the position of the subscription with id %lld",
					(long long) subscription_id),
			 errdetail("Another transaction has moved it."),
			 errhint("Retry the transaction.")));
}

/* ---------- reading and locking ---------- */

static void
place_note(Place *place, const Position *position, TimestampTz moved_at)
{
	place->known = true;
	place->high = position->high;
	place->done = position->done;
	place->moved_at = moved_at;
}

static void
position_read(RowTable *table, int64 subscription_id, int lane, Snapshot snapshot,
			  Position *position)
{
	Place	   *place = place_find(subscription_id, lane);
	TupleTableSlot *slot;

	if (!position_find(table, place, snapshot))
		position_raise_missing(subscription_id);
	slot = row_current(table);
	position_decode(slot, position);
	Assert(position->subscription_id == subscription_id && position->lane == lane);
	place_note(place, position, DatumGetTimestampTz(slot->tts_values[POSITION_MOVED_AT]));
}

void
positions_read(int64 subscription_id, Position positions[OUTBOX_LANES])
{
	RowTable   *table = row_open_read(&position_spec);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());

	for (int lane = 0; lane < OUTBOX_LANES; lane++)
		position_read(table, subscription_id, lane, snapshot, &positions[lane]);
	UnregisterSnapshot(snapshot);
	row_close(table);
}

/* The row of lane 0 stands for all of them; false: there is none. */
static bool
positions_try_lock(int64 subscription_id)
{
	RowTable   *table = row_open(&position_spec);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	ItemPointerData tid;
	bool		found;

	found = position_find(table, place_find(subscription_id, 0), snapshot);
	if (found)
	{
		tid = row_current(table)->tts_tid;
		found = row_lock(table, &tid, snapshot, setting_lock_wait_ms);
	}
	UnregisterSnapshot(snapshot);
	row_close(table);
	return found;
}

void
positions_lock(int64 subscription_id)
{
	Assert(!IsolationUsesXactSnapshot());
	if (!positions_try_lock(subscription_id))
		position_raise_missing(subscription_id);
}

/* ---------- writing ---------- */

/* Is the row still what this backend has read or written last [P1]? */
static bool
place_is_current(const Place *place, TupleTableSlot *slot)
{
	return place->known &&
		DatumGetInt64(slot->tts_values[POSITION_HIGH]) == place->high &&
		DatumGetInt64(slot->tts_values[POSITION_DONE]) == place->done &&
		DatumGetTimestampTz(slot->tts_values[POSITION_MOVED_AT]) == place->moved_at;
}

/* Did this transaction lock the version in the slot? */
static bool
slot_is_locked_by_us(TupleTableSlot *slot)
{
	HeapTupleHeader tuple = ((HeapTupleTableSlot *) slot)->tuple->t_data;

	Assert(TTS_IS_BUFFERTUPLE(slot));
	return HEAP_XMAX_IS_LOCKED_ONLY(tuple->t_infomask) &&
		!(tuple->t_infomask & (HEAP_XMAX_IS_MULTI | HEAP_XMAX_INVALID)) &&
		TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetRawXmax(tuple));
}

typedef enum PositionWrite
{
	POSITION_WRITTEN,
	POSITION_MOVED,
	POSITION_GONE
} PositionWrite;

static PositionWrite
position_update(RowTable *table, Place *place, const Position *position, Snapshot snapshot)
{
	TimestampTz moved_at = GetCurrentTimestamp();
	ItemPointerData tid;
	bool		is_hot;
	bool		is_locked;

	if (!position_find(table, place, snapshot))
		return POSITION_GONE;
	if (!place_is_current(place, row_current(table)))
		return POSITION_MOVED;
	tid = row_current(table)->tts_tid;
	is_locked = slot_is_locked_by_us(row_current(table));
	position_encode(row_slot(table, 0), position, moved_at);
	if (is_locked)
		is_hot = row_update(table, &tid);	/* the other way takes no row that is locked */
	else if (!row_try_update(table, &tid, &is_hot))
		return POSITION_MOVED;
	if (!is_hot)
		place->root = row_inserted_tid(table, 0);
	place_note(place, position, moved_at);
	return POSITION_WRITTEN;
}

static void
position_insert(RowTable *table, const Position *position)
{
	Place	   *place = place_find(position->subscription_id, position->lane);
	TimestampTz moved_at = GetCurrentTimestamp();

	position_encode(row_slot(table, 0), position, moved_at);
	row_insert(table, 1);
	place->root = row_inserted_tid(table, 0);
	place_note(place, position, moved_at);
}

static PositionWrite
position_write_checked(const Position *position)
{
	bool		is_outer = !commit_is_writing();
	RowTable   *table;
	Snapshot	snapshot;
	PositionWrite result;

	if (is_outer)
		commit_write_begin();
	table = row_open(&position_spec);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	result = position_update(table, place_find(position->subscription_id, position->lane),
							 position, snapshot);
	UnregisterSnapshot(snapshot);
	row_close(table);
	CommandCounterIncrement();	/* the next look must find the new version */
	if (is_outer)
		commit_write_end();
	return result;
}

void
position_write(const Position *position)
{
	PositionWrite result = position_write_checked(position);

	if (result == POSITION_GONE)
		position_raise_missing(position->subscription_id);
	if (result == POSITION_MOVED)
		position_raise_moved(position->subscription_id);
}

bool
position_try_write(const Position *position)
{
	return position_write_checked(position) == POSITION_WRITTEN;
}

/* ---------- where a position begins ---------- */

/* Poll until the transactions have ended, or the time is up; false: some go on. */
static bool
writers_wait(VirtualTransactionId *writers, int count, TimestampTz until)
{
	Assert(count >= 0);
	for (int i = 0; i < count; i++)
		while (!VirtualXactLock(writers[i], false))
		{
			if (GetCurrentTimestamp() >= until)
				return false;
			(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							 WRITERS_STEP_MS, PG_WAIT_EXTENSION);
			ResetLatch(MyLatch);
			CHECK_FOR_INTERRUPTS();
		}
	return true;
}

/* Does a transaction that wrote into the leaf go on, after we waited for it? */
static bool
leaf_has_writer(Oid leaf_id, TimestampTz until)
{
	LOCKTAG		tag;
	VirtualTransactionId *writers;
	int			count;
	Relation	leaf = table_open(leaf_id, AccessShareLock);
	bool		is_own = CheckRelationLockedByMe(leaf, RowExclusiveLock, true);

	table_close(leaf, AccessShareLock);
	if (is_own)
		return true;
	SET_LOCKTAG_RELATION(tag, MyDatabaseId, leaf_id);
	writers = GetLockConflicts(&tag, ShareLock, &count);
	return !writers_wait(writers, count, until);
}

/*
 * The first number of the lane that must be looked at to begin a position: all smaller
 * ones were drawn by transactions that have ended when this returns.
 *
 * Who draws a number holds RowExclusiveLock on the leaf from before the draw until its
 * transaction has ended.  So whoever drew one of the numbers up to the last one, and
 * has not ended, is among the holders that are seen after that number was read.
 * They are waited for, failsafe.lock_wait at most.  Where one goes on (a long or a
 * prepared transaction, this one, or a vacuum, which cannot be told from them), the
 * leaf is looked through from its first number.
 */
static int64
first_undecided(int lane, TimestampTz until)
{
	int64		first = reader_last_number(lane) + 1;

	for (int leaf = 0; leaf < OUTBOX_RING_LEAVES; leaf++)
	{
		Oid			leaf_id = lane_leaf_id(lane, leaf);

		if (leaf_has_writer(leaf_id, until))
		{
			int64		seq = lane_leaf_first_number(leaf_id);

			if (seq > 0)
				first = Min(first, seq);
		}
	}
	Assert(first > 0);
	return first;
}

/* The first event from that number on; its number, or 0, and when it occurred. */
static int64
event_from(LaneCursor *cursor, int64 first, TimestampTz *occurred_at)
{
	int64		seq;
	TupleTableSlot *slot;

	lane_seek(cursor, first, OUTBOX_SEQ_MAX);
	slot = lane_next(cursor, &seq);
	if (slot == NULL)
		return 0;
	*occurred_at = lane_row_occurred_at(slot);
	return seq;
}

/*
 * The smallest number up to last + 1 from which on events occurred at that time or later.
 * Numbers follow the clock but for a minute: they are halved down to a minute before,
 * and gone through from there.
 */
static int64
first_number_at(LaneCursor *cursor, int64 last, TimestampTz at)
{
	int64		low = 1;		/* before it, every event is older than the safety */
	int64		high = last + 1;
	TimestampTz occurred_at = 0;
	int64		seq;
	TupleTableSlot *slot;

	while (low < high)
	{
		int64		middle = low + (high - low) / 2;

		seq = event_from(cursor, middle, &occurred_at);
		if (seq == 0 || seq > last || occurred_at >= at - START_SAFETY_US)
			high = middle;
		else
			low = seq + 1;
	}
	if (low > last)
		return last + 1;
	lane_seek(cursor, low, last);
	while ((slot = lane_next(cursor, &seq)) != NULL)
		if (lane_row_occurred_at(slot) >= at)
			return seq;
	return last + 1;
}

void
position_set_back(Position *position, int64 high)
{
	int			kept = 0;

	Assert(high >= 0 && high <= position->high);
	for (int i = 0; i < position->open_count; i++)
	{
		if (position->open[i].first > high)
			break;
		position->open[i].last = Min(position->open[i].last, high);
		kept++;
	}
	position->open_count = kept;
	position->high = high;
	position->high_at = 0;
}

typedef enum PositionStart
{
	START_NOW,
	START_BEGINNING,
	START_TIME
} PositionStart;

static PositionStart
start_from(const char *name, TimestampTz at)
{
	if (strcmp(name, "now") == 0)
		return START_NOW;
	if (strcmp(name, "beginning") == 0)
		return START_BEGINNING;
	if (strcmp(name, "time") != 0)
		elog(ERROR, "unknown start \"%s\" of a position", name);
	if (TIMESTAMP_NOT_FINITE(at))
		return TIMESTAMP_IS_NOBEGIN(at) ? START_BEGINNING : START_NOW;
	return START_TIME;
}

static void
position_begin(Position *position, PositionStart start, TimestampTz at, TimestampTz until)
{
	int64		first;
	Snapshot	snapshot;

	if (start == START_BEGINNING)
		return;
	first = first_undecided(position->lane, until);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	reader_begin(position, snapshot, first);
	if (start == START_TIME)
	{
		LaneCursor *cursor = lane_open(position->lane, snapshot);
		int64		number = first_number_at(cursor, position->high, at);

		lane_close(cursor);
		if (number <= position->high)
			position_set_back(position, number - 1);
	}
	UnregisterSnapshot(snapshot);
}

void
positions_start(int64 subscription_id, const char *start, TimestampTz at)
{
	PositionStart kind = start_from(start, at);
	bool		exists = positions_try_lock(subscription_id);
	bool		is_outer = !commit_is_writing();
	TimestampTz until = GetCurrentTimestamp() + setting_lock_wait_ms * INT64CONST(1000);
	Position	positions[OUTBOX_LANES];

	if (exists)
		positions_read(subscription_id, positions);
	else
		memset(positions, 0, sizeof(positions));
	for (int lane = 0; lane < OUTBOX_LANES; lane++)
	{
		positions[lane].subscription_id = subscription_id;
		positions[lane].lane = lane;
		positions[lane].high = 0;
		positions[lane].high_at = 0;
		positions[lane].open_count = 0;
		position_begin(&positions[lane], kind, at, until);
	}
	if (is_outer)
		commit_write_begin();
	if (!exists)
	{
		RowTable   *table = row_open(&position_spec);

		for (int lane = 0; lane < OUTBOX_LANES; lane++)
			position_insert(table, &positions[lane]);
		row_close(table);
		CommandCounterIncrement();
	}
	else
		for (int lane = 0; lane < OUTBOX_LANES; lane++)
			position_write(&positions[lane]);
	if (is_outer)
		commit_write_end();
}

/* ---------- what retention must keep ---------- */

static const char *const keep_query =
	"SELECT EXISTS (SELECT FROM failsafe.position AS p"
	" WHERE p.lane = $1 AND (p.high < $3"
	"  OR EXISTS (SELECT FROM pg_catalog.generate_series("
	"    1, pg_catalog.cardinality(p.open_numbers), 3) AS i"
	"   WHERE p.open_numbers[i] <= $3 AND p.open_numbers[i + 1] >= $2)))"
	" OR EXISTS (SELECT FROM failsafe.delivery AS d"
	"  WHERE d.lane = $1 AND d.seq BETWEEN $2 AND $3 AND d.dead_letter_id IS NULL)";

/* May one of the numbers still be needed [P5]?  One statement, so one snapshot. */
static bool
positions_need(int lane, int64 oldest_seq, int64 newest_seq)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[3] = {INT2OID, INT8OID, INT8OID};
	Datum		values[3] = {Int16GetDatum((int16) lane), Int64GetDatum(oldest_seq),
	Int64GetDatum(newest_seq)};
	bool		isnull;
	bool		needed;

	Assert(oldest_seq > 0 && oldest_seq <= newest_seq);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	if (plan == NULL)
	{
		plan = SPI_prepare(keep_query, lengthof(types), types);
		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "could not prepare the question to the positions");
	}
	if (SPI_execute_plan(plan, values, NULL, false, 1) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "could not ask the positions what to keep");
	needed = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
										&isnull));
	SPI_finish();
	return needed;
}

void
positions_init(void)
{
	outbox_set_keep_hook(positions_need);
	commit_add_abort_hook(places_forget);
}
