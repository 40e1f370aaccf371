/*
 * ledger/journal.h
 *	  The journal (one immutable row per command with an outcome) and its entries.
 *
 * Invariants:
 *	J1	A journal row and an entry are inserted once and never changed.
 *	J2	A journal row holds everything that a replay answers [F9].
 *	J3	Entry ids are drawn in pairs (odd, even) after all locks are held and the
 *		xid exists; nothing waits between the draw and the insert [I4].
 *	J4	The legs of a row, summed per currency, are zero.
 *	J5	Reversals of a row never return more than it moved: the sum is kept in
 *		failsafe.reversible, under the lock of the journal row [F7].
 */
#ifndef FAILSAFE_LEDGER_JOURNAL_H
#define FAILSAFE_LEDGER_JOURNAL_H

#include "storage/itemptr.h"
#include "utils/snapshot.h"

#include "ledger/command.h"

typedef struct JournalRow
{
	int64		id;
	int64		account_id;		/* 0 = NULL, also below */
	int64		entry_id;
	int64		counterparty_id;
	int64		hold_id;
	int64		reverses;
	int64		version;
	TransactionId xmin;			/* when read */
	ItemPointerData tid;		/* when read */
	TimestampTz recorded_at;
	TimestampTz effective_at;	/* 0 = as recorded */
	TimestampTz expires_at;
	int32		tenant_id;
	LedgerCommandType command;
	LedgerStatus status;
	FailsafeCode code;
	const char *key;
	bool		has_amount;
	bool		has_balances;	/* posted is given */
	bool		has_held;
	bool		has_available;
	bool		has_hold_remaining;
	bool		has_released;
	int128		amount_minor;
	int128		posted_minor;
	int128		held_minor;
	int128		available_minor;
	int128		hold_remaining_minor;
	int128		released_minor;
	const char *reference;
	const char *reason;
	const char *trace_id;
	const char *traceparent;
	const char *region;
	Jsonb	   *metadata;
	const char *detail;
	int			leg_count;		/* postings and their reversals only */
	int64	   *entry_blocks;	/* (leg_count + 1) / 2 */
	int64	   *leg_account_ids;	/* leg_count */
} JournalRow;

typedef struct EntryRow
{
	int64		id;
	int64		account_id;
	int64		journal_id;
	int64		version;		/* 0 = system account */
	TimestampTz effective_at;	/* 0 = as recorded */
	int128		amount_minor;
	bool		has_posted;
	int128		posted_minor;
} EntryRow;

/* Read one row; NULL when the snapshot sees none. */
extern JournalRow *journal_read(int64 id, Snapshot snapshot);

/* The journal id that an entry id belongs to; 0 when there is none. */
extern int64 journal_id_of_entry(int64 entry_id, Snapshot snapshot);

/* The amount of an entry of an account; false when the snapshot sees none. */
extern bool entry_amount(int64 account_id, int64 entry_id, Snapshot snapshot, int128 *amount);

extern void journal_write(const JournalRow *rows, int count);
extern void entries_write(EntryRow *entries, int count);	/* sorts them */

/* Lock the journal row that is to be reversed; it stays as it is. */
extern void journal_lock(const JournalRow *row, Snapshot snapshot);

/* What has been reversed so far; tid is invalid when there is no row yet. */
extern int128 reversible_read(int64 journal_id, ItemPointer tid);
extern void reversible_write(int64 journal_id, ItemPointer tid, int128 reversed_minor);

#endif							/* FAILSAFE_LEDGER_JOURNAL_H */
