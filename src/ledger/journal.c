/*
 * ledger/journal.c
 *	  Reading and writing the journal, the entries and the reversal sums.
 *	  Invariants J1-J5 are in journal.h.
 *
 * Lock order: journal_lock() comes after the keys and before the balances [I4].
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "base/actor.h"
#include "base/fault.h"
#include "base/row.h"
#include "base/settings.h"
#include "ledger/journal.h"
#include "ledger/snapshot.h"

#define JOURNAL_WRITE_CHUNK		256 /* rows of one multi-insert */

enum
{
	JOURNAL_ID,
	JOURNAL_ACCOUNT_ID,
	JOURNAL_COUNTERPARTY_ID,
	JOURNAL_HOLD_ID,
	JOURNAL_REVERSES,
	JOURNAL_VERSION,
	JOURNAL_COUNTERPARTY_VERSION,
	JOURNAL_ACTOR_ID,
	JOURNAL_XID,
	JOURNAL_RECORDED_AT,
	JOURNAL_EFFECTIVE_AT,
	JOURNAL_EXPIRES_AT,
	JOURNAL_TENANT_ID,
	JOURNAL_COMMAND,
	JOURNAL_STATUS,
	JOURNAL_CODE,
	JOURNAL_KEY,
	JOURNAL_AMOUNT,
	JOURNAL_POSTED,
	JOURNAL_HELD,
	JOURNAL_AVAILABLE,
	JOURNAL_HOLD_REMAINING,
	JOURNAL_RELEASED,
	JOURNAL_REFERENCE,
	JOURNAL_REASON,
	JOURNAL_TRACE_ID,
	JOURNAL_TRACEPARENT,
	JOURNAL_REGION,
	JOURNAL_METADATA,
	JOURNAL_DETAIL,
	JOURNAL_LEG_ACCOUNT_IDS,
	JOURNAL_LEG_VERSIONS,
	JOURNAL_COLUMNS
};

static const RowColumn journal_columns[JOURNAL_COLUMNS] = {
	{"id", INT8OID},
	{"account_id", INT8OID},
	{"counterparty_id", INT8OID},
	{"hold_id", INT8OID},
	{"reverses", INT8OID},
	{"version", INT8OID},
	{"counterparty_version", INT8OID},
	{"actor_id", INT8OID},
	{"xid", XID8OID},
	{"recorded_at", TIMESTAMPTZOID},
	{"effective_at", TIMESTAMPTZOID},
	{"expires_at", TIMESTAMPTZOID},
	{"tenant_id", INT4OID},
	{"command", TEXTOID},
	{"status", TEXTOID},
	{"code", TEXTOID},
	{"key", TEXTOID},
	{"amount", NUMERICOID},
	{"posted", NUMERICOID},
	{"held", NUMERICOID},
	{"available", NUMERICOID},
	{"hold_remaining", NUMERICOID},
	{"released", NUMERICOID},
	{"reference", TEXTOID},
	{"reason", TEXTOID},
	{"trace_id", TEXTOID},
	{"traceparent", TEXTOID},
	{"region", TEXTOID},
	{"metadata", JSONBOID},
	{"detail", JSONOID},
	{"leg_account_ids", INT8ARRAYOID},
	{"leg_versions", INT8ARRAYOID}
};

static const char *const journal_indexes[] = {"journal_id"};

static const RowTableSpec journal_spec = {
	"journal", JOURNAL_COLUMNS, journal_columns, lengthof(journal_indexes), journal_indexes
};

enum
{
	ENTRY_ID,
	ENTRY_ACCOUNT_ID,
	ENTRY_JOURNAL_ID,
	ENTRY_VERSION,
	ENTRY_EFFECTIVE_AT,
	ENTRY_AMOUNT,
	ENTRY_POSTED,
	ENTRY_COLUMNS
};

static const RowColumn entry_columns[ENTRY_COLUMNS] = {
	{"id", INT8OID},
	{"account_id", INT8OID},
	{"journal_id", INT8OID},
	{"version", INT8OID},
	{"effective_at", TIMESTAMPTZOID},
	{"amount", NUMERICOID},
	{"posted", NUMERICOID}
};

static const char *const entry_indexes[] = {"entry_account"};

static const RowTableSpec entry_spec = {
	"entry", ENTRY_COLUMNS, entry_columns, lengthof(entry_indexes), entry_indexes
};

enum
{
	REVERSIBLE_JOURNAL_ID,
	REVERSIBLE_REVERSED,
	REVERSIBLE_COLUMNS
};

static const RowColumn reversible_columns[REVERSIBLE_COLUMNS] = {
	{"journal_id", INT8OID},
	{"reversed", NUMERICOID}
};

static const char *const reversible_indexes[] = {"reversible_journal_id"};

static const RowTableSpec reversible_spec = {
	"reversible", REVERSIBLE_COLUMNS, reversible_columns,
	lengthof(reversible_indexes), reversible_indexes
};

/* ---------- small setters and getters ---------- */

static void
set_int64(TupleTableSlot *slot, int column, int64 value)
{
	slot->tts_isnull[column] = value == 0;
	slot->tts_values[column] = Int64GetDatum(value);
}

static void
set_money(TupleTableSlot *slot, int column, bool given, int128 value)
{
	slot->tts_isnull[column] = !given;
	slot->tts_values[column] = given ? NumericGetDatum(money_to_numeric(value)) : (Datum) 0;
}

static void
set_text(TupleTableSlot *slot, int column, const char *value)
{
	slot->tts_isnull[column] = value == NULL;
	slot->tts_values[column] = value != NULL ? CStringGetTextDatum(value) : (Datum) 0;
}

static void
set_int64_array(TupleTableSlot *slot, int column, const int64 *values, int count)
{
	Datum	   *datums;

	slot->tts_isnull[column] = count == 0;
	if (count == 0)
		return;
	datums = palloc(count * sizeof(Datum));
	for (int i = 0; i < count; i++)
		datums[i] = Int64GetDatum(values[i]);
	slot->tts_values[column] =
		PointerGetDatum(construct_array(datums, count, INT8OID, 8, FLOAT8PASSBYVAL,
										TYPALIGN_DOUBLE));
}

static int64
get_int64(TupleTableSlot *slot, int column)
{
	return slot->tts_isnull[column] ? 0 : DatumGetInt64(slot->tts_values[column]);
}

static bool
get_money(TupleTableSlot *slot, int column, int128 *value)
{
	*value = 0;
	if (slot->tts_isnull[column])
		return false;
	if (money_from_numeric(DatumGetNumeric(slot->tts_values[column]), value) != MONEY_OK)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("a journal or entry row has a value that is no whole number"),
				 errhint("Run failsafe.ledger_verify().")));
	return true;
}

static const char *
get_text(TupleTableSlot *slot, int column)
{
	return slot->tts_isnull[column] ? NULL : TextDatumGetCString(slot->tts_values[column]);
}

static int
get_int64_array(TupleTableSlot *slot, int column, int64 **values)
{
	ArrayType  *array;
	int			count;

	*values = NULL;
	if (slot->tts_isnull[column])
		return 0;
	array = DatumGetArrayTypePCopy(slot->tts_values[column]);
	if (ARR_NDIM(array) != 1 || ARR_HASNULL(array) || ARR_ELEMTYPE(array) != INT8OID)
		elog(ERROR, "unexpected array in a journal row");
	count = ARR_DIMS(array)[0];
	*values = (int64 *) ARR_DATA_PTR(array);
	return count;
}

/* ---------- journal ---------- */

static LedgerCommandType
command_from_text(const char *text)
{
	for (int i = 0; i < LEDGER_COMMAND_TYPES; i++)
		if (strcmp(text, ledger_command_names[i]) == 0)
			return (LedgerCommandType) i;
	elog(ERROR, "unexpected command \"%s\" in the journal", text);
	return LEDGER_DEBIT;
}

static LedgerStatus
status_from_text(const char *text)
{
	for (int i = 0; i <= LEDGER_EXPIRED; i++)
		if (strcmp(text, ledger_status_names[i]) == 0)
			return (LedgerStatus) i;
	elog(ERROR, "unexpected status \"%s\" in the journal", text);
	return LEDGER_DECLINED;
}

static JournalRow *
journal_from_slot(TupleTableSlot *slot)
{
	JournalRow *row = palloc0(sizeof(JournalRow));
	int			version_count;

	row->id = DatumGetInt64(slot->tts_values[JOURNAL_ID]);
	row->account_id = get_int64(slot, JOURNAL_ACCOUNT_ID);
	row->counterparty_id = get_int64(slot, JOURNAL_COUNTERPARTY_ID);
	row->hold_id = get_int64(slot, JOURNAL_HOLD_ID);
	row->reverses = get_int64(slot, JOURNAL_REVERSES);
	row->version = get_int64(slot, JOURNAL_VERSION);
	row->counterparty_version = get_int64(slot, JOURNAL_COUNTERPARTY_VERSION);
	row->xmin = row_xmin(slot);
	row->tid = slot->tts_tid;
	row->recorded_at = DatumGetTimestampTz(slot->tts_values[JOURNAL_RECORDED_AT]);
	row->effective_at = get_int64(slot, JOURNAL_EFFECTIVE_AT);
	row->expires_at = get_int64(slot, JOURNAL_EXPIRES_AT);
	row->tenant_id = DatumGetInt32(slot->tts_values[JOURNAL_TENANT_ID]);
	row->command = command_from_text(get_text(slot, JOURNAL_COMMAND));
	row->status = status_from_text(get_text(slot, JOURNAL_STATUS));
	if (!slot->tts_isnull[JOURNAL_CODE])
		row->code = error_from_name(get_text(slot, JOURNAL_CODE));
	row->key = get_text(slot, JOURNAL_KEY);
	row->has_amount = get_money(slot, JOURNAL_AMOUNT, &row->amount_minor);
	row->has_balances = get_money(slot, JOURNAL_POSTED, &row->posted_minor);
	row->has_held = get_money(slot, JOURNAL_HELD, &row->held_minor);
	row->has_available = get_money(slot, JOURNAL_AVAILABLE, &row->available_minor);
	row->has_hold_remaining = get_money(slot, JOURNAL_HOLD_REMAINING,
										&row->hold_remaining_minor);
	row->has_released = get_money(slot, JOURNAL_RELEASED, &row->released_minor);
	row->reference = get_text(slot, JOURNAL_REFERENCE);
	row->reason = get_text(slot, JOURNAL_REASON);
	row->trace_id = get_text(slot, JOURNAL_TRACE_ID);
	row->traceparent = get_text(slot, JOURNAL_TRACEPARENT);
	row->region = get_text(slot, JOURNAL_REGION);
	row->detail = get_text(slot, JOURNAL_DETAIL);
	row->leg_count = get_int64_array(slot, JOURNAL_LEG_ACCOUNT_IDS, &row->leg_account_ids);
	version_count = get_int64_array(slot, JOURNAL_LEG_VERSIONS, &row->leg_versions);
	Assert(row->id > 0);
	if (version_count != row->leg_count)
		elog(ERROR, "unexpected number of legs in journal row %lld", (long long) row->id);
	return row;
}

static void
journal_to_slot(const JournalRow *row, int64 actor_id, TupleTableSlot *slot)
{
	memset(slot->tts_isnull, false, JOURNAL_COLUMNS);
	slot->tts_values[JOURNAL_ID] = Int64GetDatum(row->id);
	set_int64(slot, JOURNAL_ACCOUNT_ID, row->account_id);
	set_int64(slot, JOURNAL_COUNTERPARTY_ID, row->counterparty_id);
	set_int64(slot, JOURNAL_HOLD_ID, row->hold_id);
	set_int64(slot, JOURNAL_REVERSES, row->reverses);
	set_int64(slot, JOURNAL_VERSION, row->version);
	set_int64(slot, JOURNAL_COUNTERPARTY_VERSION, row->counterparty_version);
	slot->tts_values[JOURNAL_ACTOR_ID] = Int64GetDatum(actor_id);
	slot->tts_values[JOURNAL_XID] = FullTransactionIdGetDatum(GetTopFullTransactionId());
	slot->tts_values[JOURNAL_RECORDED_AT] = TimestampTzGetDatum(row->recorded_at);
	set_int64(slot, JOURNAL_EFFECTIVE_AT, row->effective_at);
	set_int64(slot, JOURNAL_EXPIRES_AT, row->expires_at);
	slot->tts_values[JOURNAL_TENANT_ID] = Int32GetDatum(row->tenant_id);
	set_text(slot, JOURNAL_COMMAND, ledger_command_names[row->command]);
	set_text(slot, JOURNAL_STATUS, ledger_status_names[row->status]);
	set_text(slot, JOURNAL_CODE,
			 row->code == FAILSAFE_OK ? NULL : error_info(row->code)->name);
	set_text(slot, JOURNAL_KEY, row->key);
	set_money(slot, JOURNAL_AMOUNT, row->has_amount, row->amount_minor);
	set_money(slot, JOURNAL_POSTED, row->has_balances, row->posted_minor);
	set_money(slot, JOURNAL_HELD, row->has_held, row->held_minor);
	set_money(slot, JOURNAL_AVAILABLE, row->has_available, row->available_minor);
	set_money(slot, JOURNAL_HOLD_REMAINING, row->has_hold_remaining,
			  row->hold_remaining_minor);
	set_money(slot, JOURNAL_RELEASED, row->has_released, row->released_minor);
	set_text(slot, JOURNAL_REFERENCE, row->reference);
	set_text(slot, JOURNAL_REASON, row->reason);
	set_text(slot, JOURNAL_TRACE_ID, row->trace_id);
	set_text(slot, JOURNAL_TRACEPARENT, row->traceparent);
	set_text(slot, JOURNAL_REGION, row->region);
	slot->tts_isnull[JOURNAL_METADATA] = row->metadata == NULL;
	slot->tts_values[JOURNAL_METADATA] = PointerGetDatum(row->metadata);
	set_text(slot, JOURNAL_DETAIL, row->detail);
	set_int64_array(slot, JOURNAL_LEG_ACCOUNT_IDS, row->leg_account_ids, row->leg_count);
	set_int64_array(slot, JOURNAL_LEG_VERSIONS, row->leg_versions, row->leg_count);
	row_slot_store(slot);
}

static void
journal_scan(RowTable *table, int64 id, Snapshot snapshot)
{
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	row_scan_begin(table, 0, snapshot, 1, &key, false);
}

JournalRow *
journal_read(int64 id, Snapshot snapshot)
{
	RowTable   *table = row_open_read(&journal_spec);
	TupleTableSlot *slot;
	JournalRow *row = NULL;

	Assert(id > 0);
	journal_scan(table, id, snapshot);
	slot = row_scan_next(table);
	if (slot != NULL)
		row = journal_from_slot(slot);
	row_scan_end(table);
	row_close(table);
	return row;
}

void
journal_write(const JournalRow *rows, int count)
{
	int64		actor_id = actor_current();
	RowTable   *table = row_open(&journal_spec);

	for (int done = 0; done < count; done += JOURNAL_WRITE_CHUNK)
	{
		int			chunk = Min(JOURNAL_WRITE_CHUNK, count - done);

		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < chunk; i++)
		{
			Assert(rows[done + i].id > 0 && rows[done + i].recorded_at != 0);
			journal_to_slot(&rows[done + i], actor_id, row_slot(table, i));
		}
		row_insert(table, chunk);
	}
	row_close(table);
}

void
journal_lock(const JournalRow *row, Snapshot snapshot)
{
	RowTable   *table = row_open(&journal_spec);
	ItemPointerData tid = row->tid;

	Assert(row->id > 0);
	if (!row_lock(table, &tid, snapshot, setting_lock_wait_ms))
		elog(ERROR, "journal row %lld vanished", (long long) row->id);
	row_close(table);
}

/* ---------- entries ---------- */

int
journal_entry_count(const JournalRow *row)
{
	if (row->status != LEDGER_COMMITTED)
		return 0;
	return row->leg_count > 0 ? row->leg_count : 2;
}

static int
compare_entries(const void *a, const void *b)
{
	const EntryRow *left = a;
	const EntryRow *right = b;

	if (left->account_id != right->account_id)
		return left->account_id < right->account_id ? -1 : 1;
	if (left->version != right->version)
		return left->version < right->version ? -1 : 1;
	return left->id < right->id ? -1 : 1;
}

/* The entries of a batch go in by account: neighbours meet the same index pages. */
void
entries_write(EntryRow *entries, int count)
{
	RowTable   *table = row_open(&entry_spec);

	if (count > 2)
		qsort(entries, count, sizeof(EntryRow), compare_entries);
	for (int done = 0; done < count; done += JOURNAL_WRITE_CHUNK)
	{
		int			chunk = Min(JOURNAL_WRITE_CHUNK, count - done);

		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < chunk; i++)
		{
			const EntryRow *entry = &entries[done + i];
			TupleTableSlot *slot = row_slot(table, i);

			Assert(entry->id / ENTRY_LEGS_MAX == entry->journal_id);
			Assert(entry->journal_id > 0 && entry->amount_minor != 0);
			memset(slot->tts_isnull, false, ENTRY_COLUMNS);
			slot->tts_values[ENTRY_ID] = Int64GetDatum(entry->id);
			slot->tts_values[ENTRY_ACCOUNT_ID] = Int64GetDatum(entry->account_id);
			slot->tts_values[ENTRY_JOURNAL_ID] = Int64GetDatum(entry->journal_id);
			set_int64(slot, ENTRY_VERSION, entry->version);
			set_int64(slot, ENTRY_EFFECTIVE_AT, entry->effective_at);
			set_money(slot, ENTRY_AMOUNT, true, entry->amount_minor);
			set_money(slot, ENTRY_POSTED, entry->has_posted, entry->posted_minor);
			row_slot_store(slot);
		}
		row_insert(table, chunk);
	}
	row_close(table);
}

bool
entry_amount(const JournalRow *row, int leg, Snapshot snapshot, int128 *amount)
{
	RowTable   *table = row_open_read(&entry_spec);
	int64		place = row->leg_versions[leg] != 0 ? row->leg_versions[leg] :
		entry_id_of_leg(row->id, leg);
	ScanKeyData keys[2];
	TupleTableSlot *slot;

	Assert(leg >= 0 && leg < row->leg_count);
	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(row->leg_account_ids[leg]));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(place));
	row_scan_begin(table, 0, snapshot, 2, keys, false);
	slot = row_scan_next(table);
	Assert(slot == NULL ||
		   DatumGetInt64(slot->tts_values[ENTRY_ID]) == entry_id_of_leg(row->id, leg));
	if (slot != NULL)
		(void) get_money(slot, ENTRY_AMOUNT, amount);
	row_scan_end(table);
	row_close(table);
	return slot != NULL;
}

/* ---------- reversal sums ---------- */

int128
reversible_read(int64 journal_id, ItemPointer tid)
{
	RowTable   *table = row_open(&reversible_spec);
	Snapshot	latest = RegisterSnapshot(GetLatestSnapshot());
	ScanKeyData key;
	TupleTableSlot *slot;
	int128		reversed = 0;

	/*
	 * The journal row is locked, so the latest committed sum is the sum.  Under
	 * REPEATABLE READ a sum newer than the snapshot must not be used: the lock of
	 * the sum's own row raises 40001 when it was updated, and a row that the
	 * snapshot does not see at all is refused here.
	 */
	ItemPointerSetInvalid(tid);
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(journal_id));
	row_scan_begin(table, 0, latest, 1, &key, false);
	slot = row_scan_next(table);
	if (slot != NULL)
		*tid = slot->tts_tid;
	row_scan_end(table);
	if (ItemPointerIsValid(tid) && IsolationUsesXactSnapshot())
	{
		Snapshot	own = snapshot_fresh();

		row_scan_begin(table, 0, own, 1, &key, false);
		slot = row_scan_next(table);
		if (slot == NULL || !ItemPointerEquals(&slot->tts_tid, tid))
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("could not serialize access: the transaction was reversed "
							"after this transaction's snapshot was taken"),
					 errhint("Retry the transaction.")));
		row_scan_end(table);
		UnregisterSnapshot(own);
	}
	if (ItemPointerIsValid(tid))
	{
		if (!row_lock(table, tid, latest, setting_lock_wait_ms))
			elog(ERROR, "reversal sum of journal row %lld vanished", (long long) journal_id);
		*tid = row_current(table)->tts_tid;
		(void) get_money(row_current(table), REVERSIBLE_REVERSED, &reversed);
	}
	UnregisterSnapshot(latest);
	row_close(table);
	Assert(reversed >= 0);
	return reversed;
}

void
reversible_write(int64 journal_id, ItemPointer tid, int128 reversed_minor)
{
	RowTable   *table = row_open(&reversible_spec);
	TupleTableSlot *slot = row_slot(table, 0);

	Assert(journal_id > 0 && reversed_minor > 0);
	memset(slot->tts_isnull, false, REVERSIBLE_COLUMNS);
	slot->tts_values[REVERSIBLE_JOURNAL_ID] = Int64GetDatum(journal_id);
	set_money(slot, REVERSIBLE_REVERSED, true, reversed_minor);
	row_slot_store(slot);
	if (ItemPointerIsValid(tid))
		row_update(table, tid);
	else
		row_insert(table, 1);
	FAULT_POINT(reversal_written);
	row_close(table);
}
