/*
 * ledger/hold.h
 *	  Reserved money.
 *
 * Invariants:
 *	H1	A hold is read and written only under the lock of its account's balance
 *		[F8]; its account never changes.
 *	H2	captured + released <= amount; an open hold has a rest above zero.
 *	H3	A hold that is not open has captured + released = amount and never
 *		changes again.
 *	H4	expires_at is judged by the clock after the lock, never by now().
 */
#ifndef FAILSAFE_LEDGER_HOLD_H
#define FAILSAFE_LEDGER_HOLD_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "storage/itemptr.h"
#include "utils/snapshot.h"

#include "base/money.h"

typedef enum HoldStatus
{
	HOLD_OPEN,
	HOLD_COMMITTED,
	HOLD_ROLLED_BACK,
	HOLD_EXPIRED
} HoldStatus;

extern const char *const hold_status_names[];

typedef struct Hold
{
	int64		id;
	int64		account_id;
	int64		counterparty_id;	/* 0 = none given */
	int32		tenant_id;
	ItemPointerData tid;
	TransactionId xmin;
	bool		is_new;
	bool		changed;
	HoldStatus	status;
	TimestampTz placed_at;
	TimestampTz expires_at;
	int128		amount_minor;
	int128		captured_minor;
	int128		released_minor;
} Hold;

static inline int128
hold_rest(const Hold *hold)
{
	return hold->amount_minor - hold->captured_minor - hold->released_minor;
}

/* Read a hold by id; NULL when the snapshot sees none. */
extern Hold *hold_read(int64 id, Snapshot snapshot);

/* The open holds of an account with expires_at <= until, in order of expiry. */
extern List *hold_read_due(int64 account_id, TimestampTz until, Snapshot snapshot);

/* When the account's first open hold after a time expires; 0 when it has none. */
extern TimestampTz hold_next_expiry_after(int64 account_id, TimestampTz after,
										  Snapshot snapshot);

/* Insert the new and update the changed ones. */
extern void holds_write(List *holds);

/*
 * Sum of the rest of open holds that have expired but have no expiry row yet:
 * for reads without a lock.
 */
extern int128 hold_sum_due(int64 account_id, TimestampTz until, Snapshot snapshot);

/* Account ids (int64 list) that have holds due, the oldest first, at most max. */
extern int	hold_due_accounts(TimestampTz until, int max, int64 *account_ids);

#endif							/* FAILSAFE_LEDGER_HOLD_H */
