/*
 * delivery/lane.c
 *	  Reads the leaves of a lane: rows in the order of their numbers, the fate of a
 *	  row, the last number that was drawn.
 *
 * Invariants:
 *	L1	All leaves of the lane are looked into, whatever the clock says [O3].  A
 *		leaf that somebody holds is waited for, never left out.
 *	L2	Rows are read by index and table access methods: no statement, no plan.
 *	L3	A row that this transaction wrote is never ROW_VISIBLE: nothing leaves before
 *		its commit [D3].
 *	L4	The fate is judged by the snapshot first.  Whether a transaction runs now is
 *		asked only about those that the snapshot does not know as ended, so the
 *		answer can be newer than the snapshot, but never contradict it.
 *
 * Lock order: AccessShareLock on the leaves, in order of their slots, released by
 * lane_close(); it meets only who truncates or rebuilds a leaf, waits for that
 * failsafe.lock_wait at most, and then raises 55P03.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/subtrans.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"

#include "base/compat.h"
#include "base/row.h"
#include "base/settings.h"
#include "delivery/lane.h"

/* Columns of a leaf, in the order of outbox/tables.sql. */
enum
{
	LEAF_SEQ = 1,
	LEAF_JOURNAL_ID,
	LEAF_OCCURRED_AT,
	LEAF_DELIVER_AFTER,
	LEAF_EXPIRES_AT,
	LEAF_EVENT_ID,
	LEAF_TENANT_ID,
	LEAF_SLOT,
	LEAF_PRIORITY,
	LEAF_EVENT_TYPE,
	LEAF_ORDER_KEY,
	LEAF_PAYLOAD,
	LEAF_HEADERS,
	LEAF_SUBJECT,
	LEAF_REGION,
	LEAF_TRACE_ID,
	LEAF_TRACEPARENT,
	LEAF_COLUMNS = LEAF_TRACEPARENT
};

typedef struct LeafCursor
{
	Relation	leaf;
	Relation	index;
	IndexScanDesc scan;			/* NULL: not begun yet */
	TupleTableSlot *slot;
	int64		seq;			/* of the row in slot; 0: no more */
} LeafCursor;

struct LaneCursor
{
	Snapshot	snapshot;
	int			count;
	int			current;		/* whose row was given last; -1: none */
	LeafCursor	leaves[OUTBOX_RING_LEAVES];
};

static const char *const lane_sequences[OUTBOX_LANES] = {
	"outbox_seq_0", "outbox_seq_1", "outbox_seq_2", "outbox_seq_3"
};

/* ---------- leaves ---------- */

Oid
lane_leaf_id(int lane, int leaf)
{
	NameData	name;

	Assert(lane >= 0 && lane < OUTBOX_LANES);
	Assert(leaf >= 0 && leaf < OUTBOX_RING_LEAVES);
	outbox_leaf_name(lane * OUTBOX_RING_LEAVES + leaf, &name);
	return row_relation_id(NameStr(name));
}

static void
leaf_lock_wait(Oid leaf_id)
{
	int			saved_timeout = LockTimeout;

	PG_TRY();
	{
		if (LockTimeout == 0 || setting_lock_wait_ms < LockTimeout)
			LockTimeout = setting_lock_wait_ms;
		LockRelationOid(leaf_id, AccessShareLock);
	}
	PG_FINALLY();
	{
		LockTimeout = saved_timeout;
	}
	PG_END_TRY();
}

/* Open the leaf, unless it has no page at all. */
static bool
leaf_open(LeafCursor *cursor, Oid leaf_id)
{
	char		name[NAMEDATALEN + 8];

	if (!ConditionalLockRelationOid(leaf_id, AccessShareLock))
		leaf_lock_wait(leaf_id);
	cursor->leaf = table_open(leaf_id, NoLock);
	if (RelationGetNumberOfBlocks(cursor->leaf) == 0)
	{
		table_close(cursor->leaf, AccessShareLock);
		return false;
	}
	Assert(RelationGetDescr(cursor->leaf)->natts >= LEAF_COLUMNS);
	snprintf(name, sizeof(name), "%s_seq", RelationGetRelationName(cursor->leaf));
	cursor->index = index_open(row_relation_id(name), AccessShareLock);
	cursor->slot = table_slot_create(cursor->leaf, NULL);
	cursor->scan = NULL;
	cursor->seq = 0;
	return true;
}

static void
leaf_close(LeafCursor *cursor)
{
	if (cursor->scan != NULL)
		index_endscan(cursor->scan);
	ExecDropSingleTupleTableSlot(cursor->slot);
	index_close(cursor->index, AccessShareLock);
	table_close(cursor->leaf, AccessShareLock);
}

static void
leaf_advance(LeafCursor *cursor)
{
	bool		isnull;

	cursor->seq = 0;
	if (!index_getnext_slot(cursor->scan, ForwardScanDirection, cursor->slot))
		return;
	cursor->seq = DatumGetInt64(slot_getattr(cursor->slot, LEAF_SEQ, &isnull));
	Assert(!isnull && cursor->seq > 0);
}

static void
leaf_seek(LeafCursor *cursor, Snapshot snapshot, int64 first, int64 last)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(first));
	ScanKeyInit(&keys[1], 1, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(last));
	if (cursor->scan == NULL)
		cursor->scan = index_beginscan_compat(cursor->leaf, cursor->index, snapshot, 2, 0);
	index_rescan(cursor->scan, keys, 2, NULL, 0);
	leaf_advance(cursor);
}

int64
lane_leaf_first_number(Oid leaf_id)
{
	LeafCursor	cursor;
	int64		seq;

	if (!leaf_open(&cursor, leaf_id))
		return 0;
	leaf_seek(&cursor, SnapshotAny, 1, OUTBOX_SEQ_MAX);
	seq = cursor.seq;
	leaf_close(&cursor);
	Assert(seq >= 0);
	return seq;
}

/* ---------- the lane ---------- */

LaneCursor *
lane_open(int lane, Snapshot snapshot)
{
	LaneCursor *cursor = palloc(sizeof(LaneCursor));

	Assert(lane >= 0 && lane < OUTBOX_LANES);
	Assert(snapshot != NULL);
	cursor->snapshot = snapshot;
	cursor->count = 0;
	cursor->current = -1;
	for (int leaf = 0; leaf < OUTBOX_RING_LEAVES; leaf++)
		if (leaf_open(&cursor->leaves[cursor->count], lane_leaf_id(lane, leaf)))
			cursor->count++;
	return cursor;
}

void
lane_close(LaneCursor *cursor)
{
	for (int i = 0; i < cursor->count; i++)
		leaf_close(&cursor->leaves[i]);
	pfree(cursor);
}

void
lane_seek(LaneCursor *cursor, int64 first, int64 last)
{
	Assert(first > 0 && first <= last);
	cursor->current = -1;
	for (int i = 0; i < cursor->count; i++)
		leaf_seek(&cursor->leaves[i], cursor->snapshot, first, last);
}

TupleTableSlot *
lane_next(LaneCursor *cursor, int64 *seq)
{
	int			smallest = -1;

	CHECK_FOR_INTERRUPTS();
	if (cursor->current >= 0)
		leaf_advance(&cursor->leaves[cursor->current]);
	for (int i = 0; i < cursor->count; i++)
		if (cursor->leaves[i].seq > 0 &&
			(smallest < 0 || cursor->leaves[i].seq < cursor->leaves[smallest].seq))
			smallest = i;
	cursor->current = smallest;
	if (smallest < 0)
		return NULL;
	*seq = cursor->leaves[smallest].seq;
	return cursor->leaves[smallest].slot;
}

/* ---------- rows ---------- */

RowFate
lane_row_fate(LaneCursor *cursor, Snapshot snapshot, TransactionId *writer)
{
	LeafCursor *leaf = &cursor->leaves[cursor->current];
	TransactionId xmin = row_xmin(leaf->slot);

	Assert(cursor->current >= 0 && leaf->seq > 0);
	Assert(IsMVCCSnapshot(snapshot));
	if (TransactionIdIsCurrentTransactionId(xmin))
	{
		*writer = GetTopTransactionId();
		return ROW_OPEN;
	}
	if (table_tuple_satisfies_snapshot(leaf->leaf, leaf->slot, snapshot))
		return ROW_VISIBLE;
	/* ended before the snapshot, and yet not visible: rolled back */
	if (!TransactionIdIsNormal(xmin) || !XidInMVCCSnapshot(xmin, snapshot))
		return ROW_GONE;
	if (TransactionIdIsInProgress(xmin))
	{
		*writer = SubTransGetTopmostTransaction(xmin);
		return ROW_OPEN;
	}
	return TransactionIdDidCommit(xmin) ? ROW_LATER : ROW_GONE;
}

static const char *
column_text(TupleTableSlot *slot, int column)
{
	Assert(column >= 1 && column <= slot->tts_nvalid);
	if (slot->tts_isnull[column - 1])
		return NULL;
	return TextDatumGetCString(slot->tts_values[column - 1]);
}

static TimestampTz
column_time(TupleTableSlot *slot, int column)
{
	Assert(column >= 1 && column <= slot->tts_nvalid);
	if (slot->tts_isnull[column - 1])
		return 0;
	return DatumGetTimestampTz(slot->tts_values[column - 1]);
}

TimestampTz
lane_row_occurred_at(TupleTableSlot *slot)
{
	slot_getsomeattrs(slot, LEAF_OCCURRED_AT);
	return column_time(slot, LEAF_OCCURRED_AT);
}

/* The fields by which subscriptions filter. */
static void
event_fill_filtered(TupleTableSlot *slot, DeliveryEvent *event)
{
	event->tenant_id = DatumGetInt32(slot->tts_values[LEAF_TENANT_ID - 1]);
	event->priority = DatumGetInt16(slot->tts_values[LEAF_PRIORITY - 1]);
	event->event_type = column_text(slot, LEAF_EVENT_TYPE);
	event->region = column_text(slot, LEAF_REGION);
}

static void
event_fill_rest(TupleTableSlot *slot, DeliveryEvent *event)
{
	event->seq = DatumGetInt64(slot->tts_values[LEAF_SEQ - 1]);
	event->event_id = *DatumGetUUIDP(slot->tts_values[LEAF_EVENT_ID - 1]);
	event->occurred_at = column_time(slot, LEAF_OCCURRED_AT);
	event->deliver_after = column_time(slot, LEAF_DELIVER_AFTER);
	event->expires_at = column_time(slot, LEAF_EXPIRES_AT);
	event->order_key = column_text(slot, LEAF_ORDER_KEY);
	event->payload = column_text(slot, LEAF_PAYLOAD);
	event->headers = column_text(slot, LEAF_HEADERS);
	event->subject = column_text(slot, LEAF_SUBJECT);
	event->trace_id = column_text(slot, LEAF_TRACE_ID);
	event->traceparent = column_text(slot, LEAF_TRACEPARENT);
}

bool
lane_row_event(TupleTableSlot *slot, int lane, const Subscription *subscription,
			   DeliveryEvent *event)
{
	slot_getsomeattrs(slot, LEAF_COLUMNS);
	memset(event, 0, sizeof(*event));
	event->lane = lane;
	event_fill_filtered(slot, event);
	Assert(event->event_type != NULL && event->tenant_id > 0);
	if (subscription != NULL && !subscription_wants(subscription, event))
	{
		pfree(unconstify(char *, event->event_type));
		if (event->region != NULL)
			pfree(unconstify(char *, event->region));
		return false;
	}
	event_fill_rest(slot, event);
	return true;
}

/* ---------- numbers ---------- */

int64
reader_last_number(int lane)
{
	Assert(lane >= 0 && lane < OUTBOX_LANES);
	return row_sequence_last(lane_sequences[lane]);
}
