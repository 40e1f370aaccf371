/*
 * ledger/apply.h
 *	  The write path: the one function through which money moves [I1].
 *
 * A call works in segments: commands with distinct keys, none of which names
 * another one of the segment by its key.  A segment goes through
 *
 *	  validate (pure) -> resolve accounts and targets -> claim keys, sorted ->
 *	  answer replays -> lock journal rows to be reversed, by id -> lock balances,
 *	  by account id -> expire due holds -> decide each command in memory (pure)
 *	  -> write: balances, holds, reversal sums; entries, journal; then event
 *	  numbers are drawn; events.
 *
 * Nothing is written before everything is decided, but the key rows (the claim)
 * and a currency's world account at its first use.  A crash at any step leaves
 * nothing, because all of it is one transaction.
 */
#ifndef FAILSAFE_LEDGER_APPLY_H
#define FAILSAFE_LEDGER_APPLY_H

#include "idempotency/key.h"
#include "ledger/account.h"
#include "ledger/balance.h"
#include "ledger/command.h"
#include "ledger/hold.h"
#include "ledger/journal.h"

typedef enum LedgerDoor
{
	LEDGER_DOOR_RAISES,			/* SQL: refusals and unrecorded declines are errors */
	LEDGER_DOOR_VALUES			/* JSON and batch: every outcome is a value */
} LedgerDoor;

/*
 * Apply commands in order; outcomes[i] answers commands[i].  first_index is the
 * number of commands[0] in the caller's batch, or -1 outside of a batch; it is
 * put into DETAIL when a command is raised.  Raises 25006 in a READ ONLY
 * transaction, 55P03 when a wait is over, 40001 and 40P01 as PostgreSQL does.
 */
extern void ledger_apply(LedgerCommand *commands, LedgerOutcome *outcomes, int count,
						 LedgerDoor door, int first_index);

/* Write the expiry of at most max_holds due holds; returns how many. */
extern int	ledger_expire_due(int max_holds);

/* The same for one account (of kind wallet), all that are due. */
extern int	ledger_expire_account(int64 account_id);

/* ---------- inside the room ---------- */

typedef struct Reversal
{
	JournalRow *target;
	ItemPointerData tid;		/* of the sum's row; invalid when there is none */
	bool		changed;
	int128		moved_minor;	/* what the target moved; 1 for more than two legs */
	int128		reversed_minor;
	int128	   *leg_amounts;	/* of a posting; leg_count of the target */
} Reversal;

typedef struct Leg
{
	Balance    *balance;
	int128		amount_minor;	/* signed */
	int64		version;		/* after; 0 = system account */
	int128		posted_minor;	/* after; wallets only */
} Leg;

/* One command on its way through the segment. */
typedef struct Work
{
	LedgerCommand *command;
	LedgerOutcome *outcome;
	bool		settled;		/* the outcome is final, nothing is to be written */
	bool		claimed;
	KeyClaim	claim;

	Account    *account;		/* named first; NULL for postings */
	Account    *counterparty;
	Account   **leg_accounts;	/* postings */
	JournalRow *target_row;		/* what the target names, as first read */
	Reversal   *reversal;
	Hold	   *hold;

	/* decided */
	LedgerStatus status;
	FailsafeCode code;
	Balance    *judged;			/* whose state a decline is about; NULL: no balance's */
	const char *detail;			/* of a recorded decline, with the numbers it rested on */
	int			leg_count;
	Leg		   *legs;			/* the account named first comes first */
	int128		amount_minor;	/* moved, reserved, captured, released, returned */
	bool		has_amount;
	int128		released_minor;
	bool		has_released;
	bool		final;			/* commit: as it was carried out */
	TimestampTz recorded_at;
	Balance		after;			/* the described account after the command */
	bool		has_after;
	TimestampTz expires_at;
	bool		has_hold_remaining;
	int128		hold_remaining_minor;
} Work;

typedef struct Segment
{
	int32		tenant_id;
	LedgerDoor	door;
	int			first_index;
	TimestampTz now;			/* the clock after the locks */
	Snapshot	snapshot;		/* taken after the locks; NULL before */
	int			count;
	Work	   *works;
	int			balance_count;
	Balance   **balances;		/* by account id */
	List	   *holds;			/* of Hold, touched ones */
	List	   *reversals;		/* of Reversal */
	List	   *expired;		/* of Hold, expired by this segment */
} Segment;

/* validate.c: what can be said of a command without looking at any row; pure. */
extern FailsafeCode command_validate(LedgerCommand *command, TimestampTz now,
									 const char **field, const char **value);
extern TimestampTz command_hold_expiry(const LedgerCommand *command, TimestampTz now);

/* fingerprint of a resolved command; mismatching fields against the stored row. */
extern void work_fingerprint(Work *work, uint8 digest[FINGERPRINT_BYTES]);
extern char *work_mismatch(const Work *work, const JournalRow *stored, Snapshot snapshot);

/* target.c: accounts and targets; returns FAILSAFE_OK or why it is refused. */
extern FailsafeCode work_resolve(Segment *segment, Work *work, const char **field,
								 const char **value);
extern void work_world(Segment *segment, Work *work);

/*
 * decide.c: judge one command against the balances in memory and change them;
 * FAILSAFE_OK, or the code of the decline or refusal with nothing changed.  Pure
 * but for the memory it is given.
 */
extern FailsafeCode work_decide(Segment *segment, Work *work);
extern void hold_expire(Segment *segment, Balance *balance, Hold *hold);
extern Balance *segment_balance(Segment *segment, const Account *account);

/* write.c: everything that the decided segment has to write. */
extern void segment_write(Segment *segment);

/* outcome.c: from a stored row or a decided work to the outcome. */
extern void outcome_from_row(LedgerOutcome *outcome, const JournalRow *row);
extern void outcome_refuse(Segment *segment, Work *work, FailsafeCode code,
						   const char *field, const char *value);
extern char *outcome_detail(const Segment *segment, const Work *work, FailsafeCode code,
							const char *field, const char *value);

extern char *outcome_detail_mismatch(const Segment *segment, const Work *work,
									 const char *fields, const JournalRow *stored);

/* DETAIL with "index": the number of the command in its batch, from 0. */
extern char *outcome_detail_index(const char *detail, int index);

/* Raise a declined or refused outcome as its error. */
pg_noreturn extern void outcome_raise(const LedgerOutcome *outcome);

/* event.c: the outbox events of the segment, numbers already drawn. */
extern void segment_events(Segment *segment, const JournalRow *expiries);

#endif							/* FAILSAFE_LEDGER_APPLY_H */
