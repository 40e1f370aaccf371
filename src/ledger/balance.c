/*
 * ledger/balance.c
 *	  The balance rows.  Invariants B1-B6 are in balance.h.
 *
 * A balance is found from the root of its chain of versions, where this backend
 * saw it last, and only then by the index: under a held snapshot an index look-up
 * walks every dead version, which costs more the longer the snapshot lives.  The
 * index is not unique for the same reason, and it is read backwards, because the
 * newest version is usually the one with the highest tid.
 *
 * Lock order: balances by account id [B1]; called after keys and journal rows.
 * The queue lock of a busy account comes right before its row.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "base/actor.h"
#include "base/commit.h"
#include "base/compat.h"
#include "base/fault.h"
#include "base/row.h"
#include "base/settings.h"
#include "ledger/balance.h"
#include "ledger/snapshot.h"

/* After a lost race or a wait this backend queues for the account so many times. */
#define BALANCE_CONTENTION	32

/* Marks the queue lock of an account among the advisory locks. */
#define ACCOUNT_QUEUE_FIELD4	6

enum
{
	BALANCE_ACCOUNT_ID,
	BALANCE_VERSION,
	BALANCE_RECORDED_AT,
	BALANCE_NEXT_HOLD_EXPIRY,
	BALANCE_STATUS,
	BALANCE_POSTED,
	BALANCE_HELD,
	BALANCE_FLOOR,
	BALANCE_CEILING,
	BALANCE_COLUMNS
};

static const RowColumn balance_columns[BALANCE_COLUMNS] = {
	{"account_id", INT8OID},
	{"version", INT8OID},
	{"recorded_at", TIMESTAMPTZOID},
	{"next_hold_expiry", TIMESTAMPTZOID},
	{"status", TEXTOID},
	{"posted", NUMERICOID},
	{"held", NUMERICOID},
	{"floor", NUMERICOID},
	{"ceiling", NUMERICOID}
};

static const char *const balance_indexes[] = {"balance_account_id"};

static const RowTableSpec balance_spec = {
	"balance", BALANCE_COLUMNS, balance_columns, lengthof(balance_indexes), balance_indexes
};

enum
{
	CHANGE_ID,
	CHANGE_ACCOUNT_ID,
	CHANGE_CHANGED_AT,
	CHANGE_ACTOR_ID,
	CHANGE_XID,
	CHANGE_CHANGE,
	CHANGE_STATUS,
	CHANGE_FLOOR,
	CHANGE_CEILING,
	CHANGE_REASON,
	CHANGE_COLUMNS
};

static const RowColumn change_columns[CHANGE_COLUMNS] = {
	{"id", INT8OID},
	{"account_id", INT8OID},
	{"changed_at", TIMESTAMPTZOID},
	{"actor_id", INT8OID},
	{"xid", XID8OID},
	{"change", TEXTOID},
	{"status", TEXTOID},
	{"floor", NUMERICOID},
	{"ceiling", NUMERICOID},
	{"reason", TEXTOID}
};

static const char *const change_indexes[] = {"account_change_account"};

static const RowTableSpec change_spec = {
	"account_change", CHANGE_COLUMNS, change_columns, lengthof(change_indexes), change_indexes
};

/* A stored amount; the table is ours, so anything but a whole number is damage. */
static int128
balance_money(TupleTableSlot *slot, int column)
{
	int128		minor = 0;

	if (money_from_numeric(DatumGetNumeric(slot->tts_values[column]), &minor) != MONEY_OK)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("a balance or limit in the ledger is no whole number"),
				 errhint("Run failsafe.ledger_verify().")));
	return minor;
}

static void
balance_from_slot(Balance *balance, TupleTableSlot *slot)
{
	Assert(DatumGetInt64(slot->tts_values[BALANCE_ACCOUNT_ID]) == balance->account->id);
	balance->tid = slot->tts_tid;
	balance->xmin = row_xmin(slot);
	balance->changed = false;
	balance->version = DatumGetInt64(slot->tts_values[BALANCE_VERSION]);
	balance->recorded_at = DatumGetTimestampTz(slot->tts_values[BALANCE_RECORDED_AT]);
	balance->next_hold_expiry = slot->tts_isnull[BALANCE_NEXT_HOLD_EXPIRY] ? 0 :
		DatumGetTimestampTz(slot->tts_values[BALANCE_NEXT_HOLD_EXPIRY]);
	balance->status =
		account_status_from_text(TextDatumGetCString(slot->tts_values[BALANCE_STATUS]));
	balance->posted_minor = balance_money(slot, BALANCE_POSTED);
	balance->held_minor = balance_money(slot, BALANCE_HELD);
	balance->has_floor = !slot->tts_isnull[BALANCE_FLOOR];
	balance->floor_minor = balance->has_floor ? balance_money(slot, BALANCE_FLOOR) : 0;
	balance->has_ceiling = !slot->tts_isnull[BALANCE_CEILING];
	balance->ceiling_minor = balance->has_ceiling ? balance_money(slot, BALANCE_CEILING) : 0;
	Assert(balance->held_minor >= 0 && balance->version >= 0);
}

static void
balance_to_slot(const Balance *balance, TupleTableSlot *slot)
{
	Assert(balance->held_minor >= 0 && balance->version >= 0);
	memset(slot->tts_isnull, false, BALANCE_COLUMNS);
	slot->tts_values[BALANCE_ACCOUNT_ID] = Int64GetDatum(balance->account->id);
	slot->tts_values[BALANCE_VERSION] = Int64GetDatum(balance->version);
	slot->tts_values[BALANCE_RECORDED_AT] = TimestampTzGetDatum(balance->recorded_at);
	slot->tts_isnull[BALANCE_NEXT_HOLD_EXPIRY] = balance->next_hold_expiry == 0;
	slot->tts_values[BALANCE_NEXT_HOLD_EXPIRY] = TimestampTzGetDatum(balance->next_hold_expiry);
	slot->tts_values[BALANCE_STATUS] =
		CStringGetTextDatum(account_status_names[balance->status]);
	slot->tts_values[BALANCE_POSTED] = NumericGetDatum(money_to_numeric(balance->posted_minor));
	slot->tts_values[BALANCE_HELD] = NumericGetDatum(money_to_numeric(balance->held_minor));
	slot->tts_isnull[BALANCE_FLOOR] = !balance->has_floor;
	if (balance->has_floor)
		slot->tts_values[BALANCE_FLOOR] = NumericGetDatum(money_to_numeric(balance->floor_minor));
	slot->tts_isnull[BALANCE_CEILING] = !balance->has_ceiling;
	if (balance->has_ceiling)
		slot->tts_values[BALANCE_CEILING] =
			NumericGetDatum(money_to_numeric(balance->ceiling_minor));
	row_slot_store(slot);
}

/*
 * The page that an index look-up led to holds the balances of other accounts, too:
 * note their roots, for those accounts that this backend remembers.  A root that has
 * become stale costs a look-up, nothing else.
 */
static void
balance_warm(RowTable *table, BlockNumber block, Snapshot snapshot)
{
	HeapTuple	tuples[MaxHeapTuplesPerPage];
	int			count = row_read_page(table, block, snapshot, tuples, lengthof(tuples));

	for (int i = 0; i < count; i++)
	{
		bool		isnull;
		Account    *account =
			account_cached(DatumGetInt64(heap_getattr(tuples[i], BALANCE_ACCOUNT_ID + 1,
													  RelationGetDescr(row_relation(table)),
													  &isnull)));

		if (account != NULL)
			account->balance_root = tuples[i]->t_self;
		heap_freetuple(tuples[i]);
	}
}

/*
 * Find a version to start from: by the root, else by the index.  The version is in
 * the table's scan slot.  SnapshotSelf is safe with the root: what it calls
 * current cannot be pruned while our active snapshot is held.
 */
static bool
balance_find(RowTable *table, Account *account, Snapshot snapshot)
{
	ScanKeyData key;
	bool		found;

	Assert(account->id > 0);
	if (row_fetch_root(table, &account->balance_root,
					   IsolationUsesXactSnapshot() ? snapshot : SnapshotSelf,
					   BALANCE_ACCOUNT_ID + 1, account->id))
		return true;
	ItemPointerSetInvalid(&account->balance_root);
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(account->id));
	row_scan_begin(table, 0, snapshot, 1, &key, true);
	found = row_scan_next(table) != NULL;
	row_scan_end_keep(table);
	if (found && row_is_root(row_current(table)))
		account->balance_root = row_current(table)->tts_tid;
	if (found)
		balance_warm(table, ItemPointerGetBlockNumber(&row_current(table)->tts_tid), snapshot);
	return found;
}

/*
 * Wait for a busy account in a queue of its own.  A row that many want is handed
 * over in two steps (the tuple's lock, then the holder's transaction), each with
 * its own sleep and wake-up; a plain lock is handed over in one, and when it is
 * granted the row is free.  Only busy accounts have such a lock, so the lock table
 * stays small; sessions that do not know that the account is busy wait for the row
 * as ever, so nothing depends on it.
 */
static void
account_queue(Account *account)
{
	LOCKTAG		tag;
	int			saved_timeout = LockTimeout;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (account->id >> 32),
						 (uint32) account->id, ACCOUNT_QUEUE_FIELD4);
	if (LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL)
		return;
	commit_note_contention();
	account->contention = BALANCE_CONTENTION;
	PG_TRY();
	{
		if (LockTimeout == 0 || setting_lock_wait_ms < LockTimeout)
			LockTimeout = setting_lock_wait_ms;
		(void) LockAcquire(&tag, ExclusiveLock, false, false);
	}
	PG_FINALLY();
	{
		LockTimeout = saved_timeout;
	}
	PG_END_TRY();
}

static void
balance_lock(RowTable *table, Balance *balance, Snapshot snapshot)
{
	Account    *account = balance->account;
	ItemPointerData tid;

	if (account->contention > 0)
	{
		account->contention--;
		account_queue(account);
	}

	if (!balance_find(table, account, snapshot))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access: account \"%s\" was opened after this "
						"transaction's snapshot was taken", account->code),
				 errhint("Retry the transaction.")));
	tid = row_current(table)->tts_tid;
	if (!row_lock(table, &tid, snapshot, setting_lock_wait_ms))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("balance of account \"%s\" is missing", account->code),
				 errhint("Run failsafe.ledger_verify().")));
	if (row_lock_waited(table))
		account->contention = BALANCE_CONTENTION;
	balance_from_slot(balance, row_current(table));
	if (row_is_root(row_current(table)))
		account->balance_root = balance->tid;
}

void
balances_lock(Balance **balances, int count)
{
	RowTable   *table;
	Snapshot	snapshot = snapshot_fresh();

	table = row_open(&balance_spec);
	for (int i = 0; i < count; i++)
	{
		Balance    *balance = balances[i];

		Assert(i == 0 || balances[i - 1]->account->id < balance->account->id);	/* B1 */
		if (balance->account->is_system)
			balance->status = balance->account->system_status;
		else
			balance_lock(table, balance, snapshot);
	}
	FAULT_POINT(balances_locked);
	row_close(table);
	UnregisterSnapshot(snapshot);
}

/*
 * Is the version in the slot free: not locked, not being changed?  A version that was
 * written under a lock carries the lock of its writer for ever, so a lock of a
 * transaction that is over counts as none.  The page is pinned, not locked: what is
 * read here may change at once, and balance_try_write() looks again.
 */
static bool
balance_is_free(TupleTableSlot *slot)
{
	HeapTupleHeader header = ((HeapTupleTableSlot *) slot)->tuple->t_data;
	uint16		infomask = header->t_infomask;

	Assert(TTS_IS_BUFFERTUPLE(slot));
	if ((infomask & HEAP_XMAX_INVALID) != 0)
		return true;
	return HEAP_XMAX_IS_LOCKED_ONLY(infomask) && (infomask & HEAP_XMAX_IS_MULTI) == 0 &&
		!TransactionIdIsInProgress(HeapTupleHeaderGetRawXmax(header));
}

RowTable *
balances_peek(Balance **balances, int count)
{
	RowTable   *table;
	Balance    *wallet = NULL;
	Snapshot	snapshot;
	bool		free;

	for (int i = 0; i < count; i++)
	{
		if (balances[i]->account->is_system)
			balances[i]->status = balances[i]->account->system_status;
		else if (wallet != NULL)
			return NULL;
		else
			wallet = balances[i];
	}
	if (wallet == NULL || wallet->account->contention > 0)
		return NULL;
	table = row_open(&balance_spec);
	snapshot = IsolationUsesXactSnapshot() ? snapshot_fresh() :
		RegisterSnapshot(GetActiveSnapshot());
	free = balance_find(table, wallet->account, snapshot) &&
		balance_is_free(row_current(table));
	if (free)
		balance_from_slot(wallet, row_current(table));
	UnregisterSnapshot(snapshot);
	if (free)
		return table;
	row_close(table);
	return NULL;
}

void
balances_peek_end(RowTable *table)
{
	row_close(table);
}

bool
balance_try_write(RowTable *table, Balance *balance)
{
	TupleTableSlot *slot = row_slot(table, 0);
	bool		written;
	bool		is_hot;

	Assert(balance->changed && !balance->account->is_system);
	balance_to_slot(balance, slot);
	written = row_try_update(table, &balance->tid, &is_hot);
	if (written)
	{
		FAULT_POINT(balance_written);
		balance->tid = slot->tts_tid;
		if (!is_hot)
			balance->account->balance_root = slot->tts_tid;
		balance->changed = false;
	}
	else
		balance->account->contention = BALANCE_CONTENTION;
	return written;
}

void
balances_write(Balance **balances, int count)
{
	RowTable   *table = NULL;

	for (int i = 0; i < count; i++)
	{
		Balance    *balance = balances[i];
		TupleTableSlot *slot;

		if (!balance->changed)
			continue;
		Assert(!balance->account->is_system);	/* B6 */
		if (table == NULL)
			table = row_open(&balance_spec);
		slot = row_slot(table, 0);
		balance_to_slot(balance, slot);
		if (!row_update(table, &balance->tid))
			balance->account->balance_root = slot->tts_tid;
		FAULT_POINT(balance_written);
		balance->tid = slot->tts_tid;
		balance->changed = false;
	}
	if (table != NULL)
		row_close(table);
}

/* Write the status of a system account, under a lock taken just for this. */
void
balance_lock_system(Balance *balance)
{
	RowTable   *table = row_open(&balance_spec);
	Snapshot	snapshot = snapshot_fresh();

	Assert(balance->account->is_system);
	balance_lock(table, balance, snapshot);
	UnregisterSnapshot(snapshot);
	row_close(table);
}

void
balance_write_system(Balance *balance)
{
	RowTable   *table = row_open(&balance_spec);

	Assert(balance->account->is_system);
	Assert(balance->posted_minor == 0 && balance->version == 0);	/* B6 */
	balance_to_slot(balance, row_slot(table, 0));
	row_update(table, &balance->tid);
	FAULT_POINT(balance_written);
	row_close(table);
}

void
balance_insert(Balance *balance)
{
	RowTable   *table = row_open(&balance_spec);
	TupleTableSlot *slot = row_slot(table, 0);

	Assert(balance->version == 0 && balance->posted_minor == 0);
	balance->recorded_at = GetCurrentTimestamp();
	balance_to_slot(balance, slot);
	row_insert(table, 1);
	FAULT_POINT(balance_inserted);
	row_close(table);
}

void
account_change_insert(const Balance *balance, const char *change, const char *reason)
{
	RowTable   *table;
	TupleTableSlot *slot;
	int64		actor_id = actor_current();
	int64		id = row_sequence_next("account_change_id_seq");

	Assert(balance->account->id > 0 && change != NULL);
	table = row_open(&change_spec);
	slot = row_slot(table, 0);
	memset(slot->tts_isnull, false, CHANGE_COLUMNS);
	slot->tts_values[CHANGE_ID] = Int64GetDatum(id);
	slot->tts_values[CHANGE_ACCOUNT_ID] = Int64GetDatum(balance->account->id);
	slot->tts_values[CHANGE_CHANGED_AT] = TimestampTzGetDatum(GetCurrentTimestamp());
	slot->tts_values[CHANGE_ACTOR_ID] = Int64GetDatum(actor_id);
	slot->tts_values[CHANGE_XID] = FullTransactionIdGetDatum(GetTopFullTransactionId());
	slot->tts_values[CHANGE_CHANGE] = CStringGetTextDatum(change);
	slot->tts_values[CHANGE_STATUS] =
		CStringGetTextDatum(account_status_names[balance->status]);
	slot->tts_isnull[CHANGE_FLOOR] = !balance->has_floor;
	if (balance->has_floor)
		slot->tts_values[CHANGE_FLOOR] = NumericGetDatum(money_to_numeric(balance->floor_minor));
	slot->tts_isnull[CHANGE_CEILING] = !balance->has_ceiling;
	if (balance->has_ceiling)
		slot->tts_values[CHANGE_CEILING] =
			NumericGetDatum(money_to_numeric(balance->ceiling_minor));
	slot->tts_isnull[CHANGE_REASON] = reason == NULL;
	if (reason != NULL)
		slot->tts_values[CHANGE_REASON] = CStringGetTextDatum(reason);
	row_slot_store(slot);
	row_insert(table, 1);
	FAULT_POINT(account_change_inserted);
	row_close(table);
}

void
account_change_read_opened(Balance *balance)
{
	RowTable   *table = row_open_read(&change_spec);
	Snapshot	snapshot = snapshot_fresh();
	ScanKeyData key;
	TupleTableSlot *slot;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(balance->account->id));
	row_scan_begin(table, 0, snapshot, 1, &key, false);
	slot = row_scan_next(table);	/* ids grow, so the first change is the opening */
	if (slot == NULL)
		elog(ERROR, "account \"%s\" has no opening", balance->account->code);
	balance->has_floor = !slot->tts_isnull[CHANGE_FLOOR];
	balance->floor_minor = balance->has_floor ? balance_money(slot, CHANGE_FLOOR) : 0;
	balance->has_ceiling = !slot->tts_isnull[CHANGE_CEILING];
	balance->ceiling_minor = balance->has_ceiling ? balance_money(slot, CHANGE_CEILING) : 0;
	row_scan_end(table);
	UnregisterSnapshot(snapshot);
	row_close(table);
}

bool
balance_read(Account *account, Balance *balance)
{
	RowTable   *table = row_open_read(&balance_spec);
	Snapshot	snapshot = snapshot_fresh();
	ScanKeyData key;
	bool		found;

	memset(balance, 0, sizeof(*balance));
	balance->account = account;
	found = row_fetch_root(table, &account->balance_root, snapshot,
						   BALANCE_ACCOUNT_ID + 1, account->id);
	if (!found)
	{
		ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(account->id));
		row_scan_begin(table, 0, snapshot, 1, &key, true);
		found = row_scan_next(table) != NULL;
		row_scan_end_keep(table);
	}
	if (found)
		balance_from_slot(balance, row_current(table));
	row_close(table);
	UnregisterSnapshot(snapshot);
	return found;
}

AccountStatus
balance_read_status(int64 account_id)
{
	Account		account = {.id = account_id};
	Balance		balance;

	if (!balance_read(&account, &balance))
		return ACCOUNT_STATUS_OPEN; /* opened by a transaction that is not visible yet */
	return balance.status;
}

bool
balance_available(const Balance *balance, int128 *available)
{
	*available = balance->posted_minor - balance->held_minor - balance->floor_minor;
	Assert(balance->held_minor >= 0);
	return balance->has_floor;
}
