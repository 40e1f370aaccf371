/*
 * ledger/journal.h
 *	  The journal (one immutable row per command with an outcome) and its entries.
 *
 * Invariants:
 *	J1	A journal row and an entry are inserted once and never changed.
 *	J2	A journal row holds everything that a replay answers [F9].
 *	J3	The id of an entry is its journal id and the number of its leg in one: an
 *		entry needs no sequence and no index of its own id.  A journal id is drawn
 *		at the claim, when the xid exists [I4], so the order of ids is not the order
 *		in which a wallet's entries were posted; that is the order of its versions.
 *	J4	The legs of a row, summed per currency, are zero.
 *	J5	Reversals of a row never return more than it moved: the sum is kept in
 *		failsafe.reversible, under the lock of the journal row [F7].
 *	J6	An entry's place in its account is its version in a wallet, its id in a
 *		system account: entry_account has the one or the other.
 */
#ifndef FAILSAFE_LEDGER_JOURNAL_H
#define FAILSAFE_LEDGER_JOURNAL_H

#include "storage/itemptr.h"
#include "utils/snapshot.h"

#include "ledger/command.h"

/* Room for legs, numbered from 0, in the ids of one journal row [J3]; SQL says 1024 too. */
#define ENTRY_LEGS_MAX	1024

typedef struct JournalRow
{
	int64		id;
	int64		account_id;		/* 0 = NULL, also below */
	int64		counterparty_id;
	int64		hold_id;
	int64		reverses;
	int64		version;
	int64		counterparty_version;
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
	int64	   *leg_account_ids;	/* leg_count */
	int64	   *leg_versions;	/* leg_count; 0 = system account */
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

static inline int64
entry_id_of_leg(int64 journal_id, int leg)
{
	Assert(journal_id > 0 && leg >= 0 && leg < ENTRY_LEGS_MAX);
	return journal_id * ENTRY_LEGS_MAX + leg;
}

/* Read one row; NULL when the snapshot sees none. */
extern JournalRow *journal_read(int64 id, Snapshot snapshot);

/* How many entries the row has. */
extern int	journal_entry_count(const JournalRow *row);

/* The amount of a leg of a posting; false when the snapshot sees no entry. */
extern bool entry_amount(const JournalRow *row, int leg, Snapshot snapshot, int128 *amount);

extern void journal_write(const JournalRow *rows, int count);
extern void entries_write(EntryRow *entries, int count);	/* sorts them */

/* Lock the journal row that is to be reversed; it stays as it is. */
extern void journal_lock(const JournalRow *row, Snapshot snapshot);

/* What has been reversed so far; tid is invalid when there is no row yet. */
extern int128 reversible_read(int64 journal_id, ItemPointer tid);
extern void reversible_write(int64 journal_id, ItemPointer tid, int128 reversed_minor);

#endif							/* FAILSAFE_LEDGER_JOURNAL_H */
