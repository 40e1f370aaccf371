/*
 * outbox/retention.c
 *	  Empties the leaves whose events have all reached their age.
 *
 * Invariants (O4 in outbox.h, and):
 *	R1	A leaf is emptied by TRUNCATE, never by DELETE: no dead tuples, no vacuum.
 *	R2	Nothing here queues for a lock.  Locks are asked for conditionally, again and
 *		again for RETRY_TOTAL_MS; who asks behind us never waits because we wait.
 *	R3	The proof is a scan of the whole leaf by a snapshot taken under ShareLock:
 *		occurred_at does not follow seq, and under that lock no transaction has an
 *		undecided row in the leaf and none can add one.  The lock stays until the
 *		leaf is empty, so what was proved stays true; readers go on meanwhile.
 *	R4	The current and the next leaf of a lane are never touched, so the locks of R3
 *		meet no writer whose clock and settings are those of this session.
 *
 * Lock order: one leaf after the other, ShareLock and then AccessExclusiveLock, both
 * conditional; so no deadlock.  The AccessExclusiveLock of an emptied leaf is held
 * until the caller's transaction ends, as TRUNCATE demands.
 *
 * TRUNCATE is not MVCC-safe: to an older snapshot of another transaction that has
 * not read the leaf before, its events are gone.  They are older than the
 * retention.  This transaction must not be REPEATABLE READ or SERIALIZABLE: its own
 * snapshot could not prove anything, so such a caller is refused.
 *
 * A crash at any step leaves the leaf as it was, or empty: TRUNCATE is
 * transactional.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "base/compat.h"
#include "base/fault.h"
#include "base/guard.h"
#include "base/options.h"
#include "base/row.h"
#include "base/settings.h"
#include "base/version.h"
#include "outbox/outbox.h"
#include "outbox/retention.h"

#define RETRY_TOTAL_MS		50
#define RETRY_STEP_MS		5

/* columns of a leaf */
#define LEAF_SEQ			1
#define LEAF_OCCURRED_AT	3

#define RETAIN_COLUMNS		5

typedef enum RetainAction
{
	RETAIN_NONE,				/* nothing to say: the leaf is empty */
	RETAIN_KEPT,				/* it has events that are too young */
	RETAIN_BUSY,				/* somebody uses it; next time */
	RETAIN_EMPTIED
} RetainAction;

static const char *const action_names[] = {NULL, "kept", "busy", "emptied"};

typedef struct LeafContent
{
	int64		events;			/* -1: not counted */
	int64		oldest_seq;		/* 0: no event seen */
	int64		newest_seq;
	TimestampTz oldest_at;
	TimestampTz newest_at;
} LeafContent;

static OutboxKeepHook keep_hook = NULL;

void
outbox_set_keep_hook(OutboxKeepHook hook)
{
	Assert(keep_hook == NULL && hook != NULL);
	keep_hook = hook;
}

bool
outbox_passed(int lane, int64 oldest_seq, int64 newest_seq, TimestampTz newest_at,
			  TimestampTz horizon)
{
	Assert(lane >= 0 && lane < OUTBOX_LANES);
	Assert(oldest_seq > 0 && oldest_seq <= newest_seq && newest_seq <= OUTBOX_SEQ_MAX);
	if (newest_at >= horizon)
		return false;
	return keep_hook == NULL || !keep_hook(lane, oldest_seq, newest_seq);
}

/* ---------- locks ---------- */

/* Take a lock without ever standing in its queue [R2]. */
static bool
leaf_lock(Oid leaf_id, LOCKMODE mode)
{
	Assert(OidIsValid(leaf_id));
	for (int waited_ms = 0;; waited_ms += RETRY_STEP_MS)
	{
		if (ConditionalLockRelationOid(leaf_id, mode))
			return true;
		if (waited_ms >= RETRY_TOTAL_MS)
			return false;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 RETRY_STEP_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* ---------- looking into a leaf ---------- */

static void
content_init(LeafContent *content)
{
	content->events = -1;
	content->oldest_seq = 0;
	content->newest_seq = 0;
	content->oldest_at = 0;
	content->newest_at = 0;
}

static void
content_add(LeafContent *content, TupleTableSlot *slot)
{
	bool		isnull;
	int64		seq = DatumGetInt64(slot_getattr(slot, LEAF_SEQ, &isnull));
	TimestampTz at = DatumGetTimestampTz(slot_getattr(slot, LEAF_OCCURRED_AT, &isnull));

	Assert(!isnull && seq > 0);
	content->oldest_seq = content->oldest_seq == 0 ? seq : Min(content->oldest_seq, seq);
	content->newest_seq = Max(content->newest_seq, seq);
	content->newest_at = content->newest_at == 0 ? at : Max(content->newest_at, at);
	content->oldest_at = content->oldest_at == 0 ? at : Min(content->oldest_at, at);
}

/* The event at one end of the leaf's numbers, by its index: cheap. */
static void
content_add_end(LeafContent *content, Relation leaf, ScanDirection direction)
{
	NameData	name;
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TupleTableSlot *slot = table_slot_create(leaf, NULL);
	Relation	index;
	IndexScanDesc scan;

	Assert(content->events < 0);
	Assert(CheckRelationLockedByMe(leaf, AccessShareLock, true));
	snprintf(NameStr(name), NAMEDATALEN, "%s_seq", RelationGetRelationName(leaf));
	index = index_open(row_relation_id(NameStr(name)), AccessShareLock);
	scan = index_beginscan_compat(leaf, index, snapshot, 0, 0);
	index_rescan(scan, NULL, 0, NULL, 0);
	if (index_getnext_slot(scan, direction, slot))
		content_add(content, slot);
	index_endscan(scan);
	index_close(index, AccessShareLock);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
}

/* All events of the leaf, by a snapshot taken now [R3]. */
static void
content_prove(LeafContent *content, Relation leaf)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TupleTableSlot *slot = table_slot_create(leaf, NULL);
	TableScanDesc scan = table_beginscan(leaf, snapshot, 0, NULL);

	Assert(CheckRelationLockedByMe(leaf, ShareLock, true));
	content_init(content);
	content->events = 0;
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		content_add(content, slot);
		content->events++;
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
}

static bool
content_passed(const LeafContent *content, int slot, TimestampTz horizon)
{
	/* no event seen: what the leaf's pages hold was rolled back */
	if (content->newest_seq == 0)
		return true;
	return outbox_passed(slot / OUTBOX_RING_LEAVES, content->oldest_seq, content->newest_seq,
						 content->newest_at, horizon);
}

/* ---------- emptying ---------- */

static void
leaf_truncate(const char *name)
{
	char		command[NAMEDATALEN + 32];

	Assert(strncmp(name, "outbox_", 7) == 0);
	snprintf(command, sizeof(command), "TRUNCATE failsafe.%s", quote_identifier(name));
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	guard_open();
	if (SPI_execute(command, false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "could not truncate \"%s\"", name);
	FAULT_POINT(leaf_truncated);
	guard_close();
	SPI_finish();
}

/* The leaf looks old enough: prove it under ShareLock, and empty it. */
static RetainAction
leaf_empty(Oid leaf_id, int slot, TimestampTz horizon, LeafContent *content)
{
	Relation	leaf;
	bool		passed;

	Assert(!IsolationUsesXactSnapshot());
	Assert(content->events < 0);
	if (!leaf_lock(leaf_id, ShareLock))
		return RETAIN_BUSY;
	leaf = table_open(leaf_id, NoLock);
	content_prove(content, leaf);
	FAULT_POINT(leaf_proved);
	passed = content_passed(content, slot, horizon);
	table_close(leaf, NoLock);
	if (passed && leaf_lock(leaf_id, AccessExclusiveLock))
	{
		NameData	name;

		outbox_leaf_name(slot, &name);
		leaf_truncate(NameStr(name));
		return RETAIN_EMPTIED;
	}
	UnlockRelationOid(leaf_id, ShareLock);
	return passed ? RETAIN_BUSY : RETAIN_KEPT;
}

static RetainAction
leaf_retain(int slot, TimestampTz horizon, LeafContent *content)
{
	NameData	name;
	Oid			leaf_id;
	Relation	leaf;
	bool		is_empty;

	Assert(slot >= 0 && slot < OUTBOX_SLOTS);
	content_init(content);
	outbox_leaf_name(slot, &name);
	leaf_id = row_relation_id(NameStr(name));
	if (!leaf_lock(leaf_id, AccessShareLock))
		return RETAIN_BUSY;
	leaf = table_open(leaf_id, NoLock);
	is_empty = RelationGetNumberOfBlocks(leaf) == 0;
	if (!is_empty)
	{
		content_add_end(content, leaf, ForwardScanDirection);
		content_add_end(content, leaf, BackwardScanDirection);
	}
	table_close(leaf, AccessShareLock);
	if (is_empty)
		return RETAIN_NONE;
	if (!content_passed(content, slot, horizon))
		return RETAIN_KEPT;
	return leaf_empty(leaf_id, slot, horizon, content);
}

/* ---------- the SQL function ---------- */

static void
report_leaf(ReturnSetInfo *result, int slot, RetainAction action, const LeafContent *content)
{
	Datum		values[RETAIN_COLUMNS];
	bool		nulls[RETAIN_COLUMNS] = {false};
	NameData	name;

	Assert(action != RETAIN_NONE);
	outbox_leaf_name(slot, &name);
	values[0] = CStringGetTextDatum(NameStr(name));
	values[1] = Int64GetDatum(content->events);
	nulls[1] = content->events < 0;
	values[2] = TimestampTzGetDatum(content->oldest_at);
	nulls[2] = content->newest_seq == 0;
	values[3] = TimestampTzGetDatum(content->newest_at);
	nulls[3] = content->newest_seq == 0;
	values[4] = CStringGetTextDatum(action_names[action]);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* Is events' next place, or the one after, this slot [R4]? */
static bool
slot_is_current(int slot, TimestampTz now, int64 period_s)
{
	int			lane = slot / OUTBOX_RING_LEAVES;
	TimestampTz next = now + period_s * USECS_PER_SEC;

	return slot == outbox_slot(lane, now, period_s) ||
		slot == outbox_slot(lane, next, period_s);
}

static void
retain_check(FunctionCallInfo fcinfo, int *max_leaves)
{
	version_check();
	PreventCommandIfReadOnly("outbox_retain()");
	PreventCommandIfParallelMode("outbox_retain()");
	options_read(PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1), NULL, 0, NULL);
	*max_leaves = PG_ARGISNULL(0) ? 0 : PG_GETARG_INT32(0);
	if (*max_leaves < 1 || *max_leaves > OUTBOX_SLOTS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_leaves must be between 1 and %d", OUTBOX_SLOTS)));
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("outbox_retain() cannot run in a REPEATABLE READ or SERIALIZABLE transaction"),
				 errdetail("The transaction's snapshot cannot prove that a leaf has no younger event."),
				 errhint("Call it in a READ COMMITTED transaction of its own.")));
}

PG_FUNCTION_INFO_V1(failsafe_outbox_retain);

/* outbox_retain(max_leaves int, options jsonb) -> leaf, events, oldest, newest, action */
Datum
failsafe_outbox_retain(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	int64		period_s = outbox_leaf_period_s(setting_event_retention_s);
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz horizon = now - setting_event_retention_s * USECS_PER_SEC;
	int			max_leaves;
	int			emptied = 0;

	retain_check(fcinfo, &max_leaves);
	InitMaterializedSRF(fcinfo, 0);
	Assert(result->setDesc->natts == RETAIN_COLUMNS);
	for (int slot = 0; slot < OUTBOX_SLOTS && emptied < max_leaves; slot++)
	{
		LeafContent content;
		RetainAction action;

		if (slot_is_current(slot, GetCurrentTimestamp(), period_s))
			continue;
		action = leaf_retain(slot, horizon, &content);
		if (action != RETAIN_NONE)
			report_leaf(result, slot, action, &content);
		if (action == RETAIN_EMPTIED)
			emptied++;
	}
	return (Datum) 0;
}
