/*
 * ledger/hold.c
 *	  The hold rows.  Invariants H1-H4 are in hold.h.
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/fault.h"
#include "base/row.h"
#include "ledger/hold.h"
#include "ledger/snapshot.h"

enum
{
	HOLD_ID,
	HOLD_ACCOUNT_ID,
	HOLD_COUNTERPARTY_ID,
	HOLD_PLACED_AT,
	HOLD_EXPIRES_AT,
	HOLD_TENANT_ID,
	HOLD_STATUS,
	HOLD_AMOUNT,
	HOLD_CAPTURED,
	HOLD_RELEASED,
	HOLD_COLUMNS
};

static const RowColumn hold_columns[HOLD_COLUMNS] = {
	{"id", INT8OID},
	{"account_id", INT8OID},
	{"counterparty_id", INT8OID},
	{"placed_at", TIMESTAMPTZOID},
	{"expires_at", TIMESTAMPTZOID},
	{"tenant_id", INT4OID},
	{"status", TEXTOID},
	{"amount", NUMERICOID},
	{"captured", NUMERICOID},
	{"released", NUMERICOID}
};

#define HOLD_INDEX_ID		0
#define HOLD_INDEX_OPEN		1
#define HOLD_INDEX_DUE		2
static const char *const hold_indexes[] = {"hold_id", "hold_open", "hold_due"};

static const RowTableSpec hold_spec = {
	"hold", HOLD_COLUMNS, hold_columns, lengthof(hold_indexes), hold_indexes
};

const char *const hold_status_names[] = {"open", "committed", "rolled_back", "expired"};

static HoldStatus
hold_status_from_text(const char *text)
{
	for (int i = 0; i <= HOLD_EXPIRED; i++)
		if (strcmp(text, hold_status_names[i]) == 0)
			return (HoldStatus) i;
	elog(ERROR, "unexpected hold status \"%s\"", text);
	return HOLD_EXPIRED;
}

static int128
hold_money(TupleTableSlot *slot, int column)
{
	int128		minor = 0;

	if (money_from_numeric(DatumGetNumeric(slot->tts_values[column]), &minor) != MONEY_OK)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("hold %lld has a value that is no whole number",
						(long long) DatumGetInt64(slot->tts_values[HOLD_ID])),
				 errhint("Run failsafe.ledger_verify().")));
	return minor;
}

static Hold *
hold_from_slot(TupleTableSlot *slot)
{
	Hold	   *hold = palloc0(sizeof(Hold));

	hold->id = DatumGetInt64(slot->tts_values[HOLD_ID]);
	hold->account_id = DatumGetInt64(slot->tts_values[HOLD_ACCOUNT_ID]);
	if (!slot->tts_isnull[HOLD_COUNTERPARTY_ID])
		hold->counterparty_id = DatumGetInt64(slot->tts_values[HOLD_COUNTERPARTY_ID]);
	hold->tenant_id = DatumGetInt32(slot->tts_values[HOLD_TENANT_ID]);
	hold->tid = slot->tts_tid;
	hold->xmin = row_xmin(slot);
	hold->status = hold_status_from_text(TextDatumGetCString(slot->tts_values[HOLD_STATUS]));
	hold->placed_at = DatumGetTimestampTz(slot->tts_values[HOLD_PLACED_AT]);
	hold->expires_at = DatumGetTimestampTz(slot->tts_values[HOLD_EXPIRES_AT]);
	hold->amount_minor = hold_money(slot, HOLD_AMOUNT);
	hold->captured_minor = hold_money(slot, HOLD_CAPTURED);
	hold->released_minor = hold_money(slot, HOLD_RELEASED);
	Assert(hold_rest(hold) >= 0);	/* H2 */
	Assert((hold->status == HOLD_OPEN) == (hold_rest(hold) > 0));	/* H2, H3 */
	return hold;
}

static void
hold_to_slot(const Hold *hold, TupleTableSlot *slot)
{
	Assert(hold_rest(hold) >= 0);
	Assert((hold->status == HOLD_OPEN) == (hold_rest(hold) > 0));
	memset(slot->tts_isnull, false, HOLD_COLUMNS);
	slot->tts_values[HOLD_ID] = Int64GetDatum(hold->id);
	slot->tts_values[HOLD_ACCOUNT_ID] = Int64GetDatum(hold->account_id);
	slot->tts_isnull[HOLD_COUNTERPARTY_ID] = hold->counterparty_id == 0;
	slot->tts_values[HOLD_COUNTERPARTY_ID] = Int64GetDatum(hold->counterparty_id);
	slot->tts_values[HOLD_PLACED_AT] = TimestampTzGetDatum(hold->placed_at);
	slot->tts_values[HOLD_EXPIRES_AT] = TimestampTzGetDatum(hold->expires_at);
	slot->tts_values[HOLD_TENANT_ID] = Int32GetDatum(hold->tenant_id);
	slot->tts_values[HOLD_STATUS] = CStringGetTextDatum(hold_status_names[hold->status]);
	slot->tts_values[HOLD_AMOUNT] = NumericGetDatum(money_to_numeric(hold->amount_minor));
	slot->tts_values[HOLD_CAPTURED] = NumericGetDatum(money_to_numeric(hold->captured_minor));
	slot->tts_values[HOLD_RELEASED] = NumericGetDatum(money_to_numeric(hold->released_minor));
	row_slot_store(slot);
}

Hold *
hold_read(int64 id, Snapshot snapshot)
{
	RowTable   *table = row_open_read(&hold_spec);
	ScanKeyData key;
	TupleTableSlot *slot;
	Hold	   *hold = NULL;

	Assert(id > 0);
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	row_scan_begin(table, HOLD_INDEX_ID, snapshot, 1, &key, false);
	slot = row_scan_next(table);
	if (slot != NULL)
		hold = hold_from_slot(slot);
	row_scan_end(table);
	row_close(table);
	return hold;
}

static void
hold_scan_open(RowTable *table, int64 account_id, TimestampTz until, Snapshot snapshot)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(account_id));
	ScanKeyInit(&keys[1], 2, BTLessEqualStrategyNumber, F_TIMESTAMPTZ_LE,
				TimestampTzGetDatum(until));
	row_scan_begin(table, HOLD_INDEX_OPEN, snapshot, 2, keys, false);
}

List *
hold_read_due(int64 account_id, TimestampTz until, Snapshot snapshot)
{
	RowTable   *table = row_open_read(&hold_spec);
	TupleTableSlot *slot;
	List	   *holds = NIL;

	hold_scan_open(table, account_id, until, snapshot);
	while ((slot = row_scan_next(table)) != NULL)
		holds = lappend(holds, hold_from_slot(slot));
	row_scan_end(table);
	row_close(table);
	return holds;
}

TimestampTz
hold_next_expiry_after(int64 account_id, TimestampTz after, Snapshot snapshot)
{
	RowTable   *table = row_open_read(&hold_spec);
	ScanKeyData keys[2];
	TupleTableSlot *slot;
	TimestampTz result = 0;

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(account_id));
	ScanKeyInit(&keys[1], 2, BTGreaterStrategyNumber, F_TIMESTAMPTZ_GT,
				TimestampTzGetDatum(after));
	row_scan_begin(table, HOLD_INDEX_OPEN, snapshot, 2, keys, false);
	slot = row_scan_next(table);
	if (slot != NULL)
		result = DatumGetTimestampTz(slot->tts_values[HOLD_EXPIRES_AT]);
	row_scan_end(table);
	row_close(table);
	return result;
}

int128
hold_sum_due(int64 account_id, TimestampTz until, Snapshot snapshot)
{
	List	   *holds = hold_read_due(account_id, until, snapshot);
	ListCell   *cell;
	int128		sum = 0;

	foreach(cell, holds)
		sum += hold_rest((Hold *) lfirst(cell));
	Assert(sum >= 0);
	return sum;
}

int
hold_due_accounts(TimestampTz until, int max, int64 *account_ids)
{
	RowTable   *table = row_open_read(&hold_spec);
	Snapshot	snapshot = snapshot_fresh();
	ScanKeyData key;
	TupleTableSlot *slot;
	int			count = 0;

	ScanKeyInit(&key, 1, BTLessEqualStrategyNumber, F_TIMESTAMPTZ_LE,
				TimestampTzGetDatum(until));
	row_scan_begin(table, HOLD_INDEX_DUE, snapshot, 1, &key, false);
	while (count < max && (slot = row_scan_next(table)) != NULL)
		account_ids[count++] = DatumGetInt64(slot->tts_values[HOLD_ACCOUNT_ID]);
	row_scan_end(table);
	UnregisterSnapshot(snapshot);
	row_close(table);
	return count;
}

void
holds_write(List *holds)
{
	RowTable   *table = NULL;
	ListCell   *cell;

	foreach(cell, holds)
	{
		Hold	   *hold = lfirst(cell);
		TupleTableSlot *slot;

		if (!hold->is_new && !hold->changed)
			continue;
		if (table == NULL)
			table = row_open(&hold_spec);
		slot = row_slot(table, 0);
		hold_to_slot(hold, slot);
		if (hold->is_new)
			row_insert(table, 1);
		else
			row_update(table, &hold->tid);
		FAULT_POINT(hold_written);
		hold->tid = slot->tts_tid;
		hold->is_new = hold->changed = false;
	}
	if (table != NULL)
		row_close(table);
}
