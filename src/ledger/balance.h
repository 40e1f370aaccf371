/*
 * ledger/balance.h
 *	  The balance rows: lock, judge, change.
 *
 * Invariants:
 *	B1	Balances are locked in the order of their account ids [I4].
 *	B2	posted = sum of the account's entries; held = sum of the rest of its
 *		holds whose row says 'open'.
 *	B3	version counts the entries; recorded_at never goes back.
 *	B4	next_hold_expiry is not later than the first expiry of an open hold.
 *	B5	Every change of a hold also writes its account's balance, so that a
 *		conflict under REPEATABLE READ shows at the balance.
 *	B6	The balance of a system account is never locked by a posting and keeps
 *		posted, held and version at 0; only its status counts.
 */
#ifndef FAILSAFE_LEDGER_BALANCE_H
#define FAILSAFE_LEDGER_BALANCE_H

#include "datatype/timestamp.h"
#include "storage/itemptr.h"

#include "base/money.h"
#include "base/row.h"
#include "ledger/account.h"

typedef struct Balance
{
	Account    *account;
	ItemPointerData tid;		/* of the locked version */
	TransactionId xmin;			/* of the version we found */
	bool		changed;
	AccountStatus status;
	int64		version;
	TimestampTz recorded_at;
	TimestampTz next_hold_expiry;	/* 0 = no open hold */
	bool		has_floor;
	bool		has_ceiling;
	int128		posted_minor;
	int128		held_minor;
	int128		floor_minor;
	int128		ceiling_minor;
	int128		net_minor;		/* scratch of the judgement of one command */
} Balance;

/* Insert the balance row of a new account: open, all zero, with the limits given. */
extern void balance_insert(Balance *balance);

/*
 * Lock and read the balances, which must be sorted by account id and distinct;
 * only .account is set by the caller.  System accounts are read, not locked.
 * Waits at most failsafe.lock_wait for each (55P03).
 */
extern void balances_lock(Balance **balances, int count);

/*
 * The same without a lock, for a posting that touches one wallet: NULL when the
 * balance is held by somebody or was fought for lately.  What is decided on it
 * must be written by balance_try_write(), which fails when the balance is not the
 * current one any more; then lock, read and decide again.  The open table goes to
 * balances_peek_end() in each case.
 */
extern RowTable *balances_peek(Balance **balances, int count);
extern bool balance_try_write(RowTable *table, Balance *balance);
extern void balances_peek_end(RowTable *table);

/* Write one new version of each balance that has changed. */
extern void balances_write(Balance **balances, int count);

/* Lock and write the status of a system account: freeze and unfreeze only. */
extern void balance_lock_system(Balance *balance);
extern void balance_write_system(Balance *balance);

/* An append-only row that tells of a change; status and limits as in the balance. */
extern void account_change_insert(const Balance *balance, const char *change,
								  const char *reason);

/* The limits with which the account was opened. */
extern void account_change_read_opened(Balance *balance);

/* Read without a lock; false when the account has no visible balance. */
extern bool balance_read(Account *account, Balance *balance);

/* The status in the balance row, by the account's id (system accounts). */
extern AccountStatus balance_read_status(int64 account_id);

/* posted - held - floor; false when there is no floor. */
extern bool balance_available(const Balance *balance, int128 *available);

#endif							/* FAILSAFE_LEDGER_BALANCE_H */
