/*
 * delivery/reader.c
 *	  New events after a position, exactly once each, through gaps in the numbers.
 *
 * Numbers are drawn in one order and become visible in another.  A position says
 * that every number up to "high" is decided, but for the open numbers, which it lists.
 * A round goes through the open numbers and then on from high, one row after the
 * other, and asks what the row tells about its number (lane_row_fate()):
 *
 *	visible			the event is given to the caller; the number is decided
 *	rolled back		decided at once, without waiting for anything [F15]
 *	still running	open, with the top-level xid of its writer: as long as that one
 *					runs, or is prepared, the number costs one look at the snapshot
 *	later			committed, but after the snapshot: open, the next round sees it
 *	no row			drawn and not inserted yet, or never (a crash jumps over up to 32
 *					numbers, an error comes between draw and insert): open, with a
 *					horizon
 *
 * Invariants:
 *	H1	A round has one snapshot.  What is visible, and what has ended, is said by that
 *		snapshot alone: for open numbers, for new ones, and for closing [F3].
 *	H2	A horizon is the next xid, read after the scan that showed no row.  The writer
 *		had its xid before it drew [F2], so its xid is below the horizon, and a
 *		snapshot whose xmin has reached the horizon sees the row or knows that there
 *		is none [F1].
 *	H3	Numbers are judged in ascending order, and a round that stops (enough events,
 *		enough rows, too many open numbers) has judged all smaller ones: no event
 *		overtakes a smaller number that the same snapshot sees.
 *	H4	What was not judged stays as it was: high is the last number that was judged.
 *	H5	A round costs at most EXAMINE_ROWS_MAX rows, and open numbers have at most
 *		OPEN_NUMBERS_MAX ranges: beyond, high does not move on and reading waits.
 *	H6	An xid that lies in the future is from another life of the database (a dump,
 *		a copy): it counts as not asked.
 *
 * OpenNumbers.horizon is 0 (look again), a horizon, or, with OPEN_BY_WRITER set, the
 * writer's xid; xids have 64 bits, the epoch above.
 *
 * Lock order: the leaves of one lane (lane.c).  Nothing is written here.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/fault.h"
#include "base/row.h"
#include "delivery/lane.h"
#include "delivery/reader.h"

#define EXAMINE_ROWS_MAX	(READ_EVENTS_MAX * 10)
#define OPEN_NUMBERS_MAX	4096
#define OPEN_BY_WRITER		(UINT64CONST(1) << 62)
#define OPEN_SINCE_NOW		PG_UINT64_MAX	/* gets its horizon when the round ends */

typedef struct Round
{
	int			lane;
	const Subscription *subscription;	/* NULL: events are passed over */
	Snapshot	snapshot;
	LaneCursor *cursor;
	uint64		next_xid;		/* when the round began */
	uint64		oldest_xid;		/* the snapshot's xmin */
	int			rows_left;		/* that may be examined */
	int			max;			/* events */
	int			count;
	int			room;
	DeliveryEvent *events;
	TimestampTz newest_at;		/* occurred_at of the newest visible row; 0: none */
	int			open_count;		/* what is open after the round */
	int			open_room;
	OpenNumbers *open;
} Round;

/* ---------- xids of 64 bits ---------- */

/* The full form of an xid that is less than half the xid space away from next. */
static uint64
full_xid(TransactionId xid, uint64 next)
{
	Assert(TransactionIdIsNormal(xid));
	return next + (int64) (int32) (xid - (TransactionId) next);
}

static uint64
next_xid(void)
{
	return U64FromFullTransactionId(ReadNextFullTransactionId());
}

/* Had this writer not ended when the snapshot was taken? */
static bool
writer_runs(const Round *round, uint64 writer)
{
	TransactionId xid = (TransactionId) writer;

	if (writer >= round->next_xid)
		return false;			/* H6 */
	if (TransactionIdIsCurrentTransactionId(xid))
		return true;
	return writer >= round->oldest_xid && XidInMVCCSnapshot(xid, round->snapshot);
}

/* ---------- open numbers ---------- */

static void
open_add(Round *round, int64 first, int64 last, uint64 horizon)
{
	OpenNumbers *previous = round->open_count == 0 ? NULL : &round->open[round->open_count - 1];

	Assert(first > 0 && first <= last);
	Assert(previous == NULL || previous->last < first);
	if (previous != NULL && previous->horizon == horizon && previous->last + 1 == first)
	{
		previous->last = last;
		return;
	}
	if (round->open_count == round->open_room)
	{
		round->open_room *= 2;
		round->open = repalloc_huge(round->open, round->open_room * sizeof(OpenNumbers));
	}
	round->open[round->open_count].first = first;
	round->open[round->open_count].last = last;
	round->open[round->open_count].horizon = horizon;
	round->open_count++;
}

/* There is no row with these numbers; horizon is what they had before, 0 for new ones. */
static void
judge_missing(Round *round, int64 first, int64 last, uint64 horizon)
{
	if (horizon & OPEN_BY_WRITER)
	{
		/* there were rows, and their writer has ended: rolled back and cleaned away */
		if ((horizon & ~OPEN_BY_WRITER) < round->next_xid)
			return;
		horizon = 0;
	}
	if (horizon != 0 && horizon <= round->oldest_xid)
		return;					/* H2 */
	if (horizon == 0 || horizon > round->next_xid)
		horizon = OPEN_SINCE_NOW;
	open_add(round, first, last, horizon);
}

/* ---------- rows ---------- */

static void
event_add(Round *round, TupleTableSlot *slot)
{
	round->newest_at = Max(round->newest_at, lane_row_occurred_at(slot));
	if (round->subscription == NULL)
		return;
	Assert(round->count < round->max);
	if (round->count == round->room)
	{
		round->room *= 2;
		round->events = repalloc(round->events, round->room * sizeof(DeliveryEvent));
	}
	if (lane_row_event(slot, round->lane, round->subscription, &round->events[round->count]))
		round->count++;
}

static void
judge_row(Round *round, TupleTableSlot *slot, int64 seq)
{
	TransactionId writer = InvalidTransactionId;

	round->rows_left--;
	switch (lane_row_fate(round->cursor, round->snapshot, &writer))
	{
		case ROW_VISIBLE:
			event_add(round, slot);
			break;
		case ROW_OPEN:
			open_add(round, seq, seq, full_xid(writer, next_xid()) | OPEN_BY_WRITER);
			break;
		case ROW_LATER:
			open_add(round, seq, seq, 0);
			break;
		case ROW_GONE:
			break;
	}
}

static bool
round_is_full(const Round *round)
{
	return round->rows_left <= 0 ||
		(round->subscription != NULL && round->count >= round->max);
}

/* Are there so many open ranges that high must wait?  A row adds two at most. */
static bool
round_is_crowded(const Round *round)
{
	return round->subscription != NULL && round->open_count + 2 > OPEN_NUMBERS_MAX;
}

/*
 * Judge the numbers first .. last; horizon is what they had before.  Returns the last
 * number that was judged, which is first - 1 when there was no room for any [H4].
 */
static int64
judge_numbers(Round *round, int64 first, int64 last, uint64 horizon, bool are_new)
{
	int64		next = first;
	int64		seq;
	TupleTableSlot *slot;

	Assert(first > 0 && first <= last);
	lane_seek(round->cursor, first, last);
	for (;;)
	{
		if (round_is_full(round) || (are_new && round_is_crowded(round)))
			return next - 1;
		slot = lane_next(round->cursor, &seq);
		if (slot == NULL)
			break;
		Assert(seq >= next && seq <= last);
		if (seq > next)
			judge_missing(round, next, seq - 1, horizon);
		judge_row(round, slot, seq);
		next = seq + 1;
	}
	if (next <= last)
		judge_missing(round, next, last, horizon);
	return last;
}

/* Keep the open numbers from that one on, of range number i and all behind it. */
static void
keep_open_since(Round *round, const Position *position, int i, int64 since)
{
	Assert(since >= position->open[i].first && since <= position->open[i].last);
	open_add(round, since, position->open[i].last, position->open[i].horizon);
	while (++i < position->open_count)
		open_add(round, position->open[i].first, position->open[i].last,
				 position->open[i].horizon);
}

/* Look at the open numbers again; false: the round is full, some were not judged. */
static bool
judge_open(Round *round, const Position *position)
{
	for (int i = 0; i < position->open_count; i++)
	{
		const OpenNumbers *open = &position->open[i];
		int64		judged;

		Assert(open->last <= position->high);
		if ((open->horizon & OPEN_BY_WRITER) &&
			writer_runs(round, open->horizon & ~OPEN_BY_WRITER))
		{
			open_add(round, open->first, open->last, open->horizon);
			continue;
		}
		judged = judge_numbers(round, open->first, open->last, open->horizon, false);
		if (judged < open->last)
		{
			keep_open_since(round, position, i, judged + 1);
			return false;
		}
	}
	return true;
}

/* ---------- a round ---------- */

static void
round_begin(Round *round, const Position *position, const Subscription *subscription,
			Snapshot snapshot, int max)
{
	Assert(IsMVCCSnapshot(snapshot));
	Assert(position->lane >= 0 && position->lane < OUTBOX_LANES);
	memset(round, 0, sizeof(*round));
	round->lane = position->lane;
	round->subscription = subscription;
	round->snapshot = snapshot;
	round->next_xid = next_xid();
	round->oldest_xid = full_xid(snapshot->xmin, round->next_xid);
	round->rows_left = subscription == NULL ? PG_INT32_MAX : EXAMINE_ROWS_MAX;
	round->max = max;
	round->room = Min(max, 64);
	round->events = palloc(Max(round->room, 1) * sizeof(DeliveryEvent));
	round->open_room = Max(position->open_count + 2, 16);
	round->open = palloc(round->open_room * sizeof(OpenNumbers));
	round->cursor = lane_open(position->lane, SnapshotAny);
}

/* Make room for the round's open numbers; the array stays in its own memory context. */
static void
position_make_room(Position *position, int count)
{
	if (position->open_max >= count)
		return;
	if (position->open == NULL)
		position->open = palloc(count * sizeof(OpenNumbers));
	else
		position->open = repalloc_huge(position->open, count * sizeof(OpenNumbers));
	position->open_max = count;
}

static void
round_end(Round *round, Position *position, int64 high)
{
	uint64		horizon;

	Assert(high >= position->high);
	lane_close(round->cursor);
	horizon = next_xid();		/* after the scan [H2] */
	position_make_room(position, Max(round->open_count, 16));
	for (int i = 0; i < round->open_count; i++)
	{
		position->open[i] = round->open[i];
		if (position->open[i].horizon == OPEN_SINCE_NOW)
			position->open[i].horizon = horizon;
	}
	position->open_count = round->open_count;
	position->high = high;
	position->high_at = Max(position->high_at, round->newest_at);
	pfree(round->open);
}

DeliveryEvent *
reader_read(Position *position, const Subscription *subscription, Snapshot snapshot, int max,
			int *count)
{
	Round		round;
	int64		last;
	int64		high = position->high;
	bool		judged;

	Assert(subscription != NULL && max > 0 && max <= READ_EVENTS_MAX);
	round_begin(&round, position, subscription, snapshot, max);
	last = reader_last_number(position->lane);
	judged = judge_open(&round, position);
	FAULT_POINT(open_numbers_judged);
	if (judged && high < last)
		high = judge_numbers(&round, high + 1, last, 0, true);
	round_end(&round, position, high);
	*count = round.count;
	return round.events;
}

void
reader_begin(Position *position, Snapshot snapshot, int64 first)
{
	Round		round;
	int64		last;

	Assert(first > 0 && position->open_count == 0);
	round_begin(&round, position, NULL, snapshot, 0);
	last = reader_last_number(position->lane);
	while (first <= last)
	{
		round.rows_left = EXAMINE_ROWS_MAX;
		first = judge_numbers(&round, first, last, 0, true) + 1;
	}
	round_end(&round, position, last);
}

bool
reader_has_more(const Position *position)
{
	if (reader_last_number(position->lane) > position->high)
		return true;
	for (int i = 0; i < position->open_count; i++)
	{
		uint64		horizon = position->open[i].horizon;

		/* a writer that has a process has not ended; a prepared one is looked up */
		if (!(horizon & OPEN_BY_WRITER) || BackendXidGetPid((TransactionId) horizon) == 0)
			return true;
	}
	return false;
}

/* ---------- single events ---------- */

bool
reader_fetch(int lane, int64 seq, Snapshot snapshot, DeliveryEvent *event)
{
	LaneCursor *cursor;
	TupleTableSlot *slot;
	int64		found_seq;

	Assert(seq > 0 && IsMVCCSnapshot(snapshot));
	cursor = lane_open(lane, snapshot);
	lane_seek(cursor, seq, seq);
	slot = lane_next(cursor, &found_seq);
	if (slot != NULL)
		(void) lane_row_event(slot, lane, NULL, event);
	lane_close(cursor);
	Assert(slot == NULL || found_seq == seq);
	return slot != NULL;
}

/* ---------- the envelope ---------- */

typedef struct TenantName
{
	int32		id;				/* hash key */
	char	   *name;
} TenantName;

static HTAB *tenant_names = NULL;

/* The tenant of an event is committed with it or before it, and never changes. */
static char *
tenant_name_read(int32 tenant_id)
{
	Relation	relation = table_open(row_relation_id("tenant"), AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	char	   *name = NULL;
	bool		isnull;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(tenant_id));
	scan = systable_beginscan(relation, row_relation_id("tenant_id"), true, snapshot, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		name = MemoryContextStrdup(TopMemoryContext,
								   TextDatumGetCString(heap_getattr(tuple, 2,
																	RelationGetDescr(relation),
																	&isnull)));
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(relation, AccessShareLock);
	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("tenant %d of an event does not exist", tenant_id)));
	return name;
}

const char *
tenant_name(int32 tenant_id)
{
	TenantName *entry;
	HASHCTL		control;
	char	   *name;

	Assert(tenant_id > 0);
	if (tenant_names == NULL)
	{
		control.keysize = sizeof(int32);
		control.entrysize = sizeof(TenantName);
		tenant_names = hash_create("pg_failsafe tenant names", 16, &control,
								   HASH_ELEM | HASH_BLOBS);
	}
	entry = hash_search(tenant_names, &tenant_id, HASH_FIND, NULL);
	if (entry != NULL)
		return entry->name;
	name = tenant_name_read(tenant_id);
	entry = hash_search(tenant_names, &tenant_id, HASH_ENTER, NULL);
	entry->name = name;
	return name;
}

char *
reader_envelope(const DeliveryEvent *event, int *length)
{
	OutboxEnvelope envelope;
	StringInfoData out;

	Assert(event->event_type != NULL && event->tenant_id > 0);
	envelope.event_id = &event->event_id;
	envelope.event_type = event->event_type;
	envelope.occurred_at = event->occurred_at;
	envelope.tenant = tenant_name(event->tenant_id);
	envelope.region = event->region;
	envelope.trace_id = event->trace_id;
	envelope.payload = event->payload;
	envelope.payload_length = event->payload == NULL ? 0 : (int) strlen(event->payload);
	initStringInfo(&out);
	outbox_envelope_write(&out, &envelope);
	*length = out.len;
	return out.data;
}
