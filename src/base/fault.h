/*
 * base/fault.h
 *	  Fault points: places where a test lets a command fail, die or wait.
 *
 * In a normal build FAULT_POINT() is nothing and the setting does not exist.  With
 * FAILSAFE_FAULTS (make FAULTS=1), failsafe.fault = 'POINT:KIND[:PASS]' names one
 * point, what happens there, and at which pass since it was set (the first):
 *
 *	error	an error, SQLSTATE XX000
 *	crash	the process kills itself with SIGKILL, so the server restarts
 *	wait	until nobody holds pg_advisory_lock(40)
 *
 * Invariant: behind the commit record only "crash" is accepted, because an error
 * could not be an error any more [F35].
 */
#ifndef FAILSAFE_BASE_FAULT_H
#define FAILSAFE_BASE_FAULT_H

/* In the order of the write path: X(name, FAULT_RUNNING, _WRITTEN or _FLUSHED). */
#define FAULT_POINTS(X) \
	X(replay_read, FAULT_RUNNING) \
	X(key_inserted, FAULT_RUNNING)	/* the short lock on the key is held */ \
	X(keys_claimed, FAULT_RUNNING) \
	X(account_inserted, FAULT_RUNNING)	/* the short lock on the code is held */ \
	X(balance_inserted, FAULT_RUNNING) \
	X(account_change_inserted, FAULT_RUNNING) \
	X(world_opened, FAULT_RUNNING) \
	X(reversals_locked, FAULT_RUNNING) \
	X(balance_peeked, FAULT_RUNNING) \
	X(balances_locked, FAULT_RUNNING) \
	X(holds_expired, FAULT_RUNNING) \
	X(decided, FAULT_RUNNING) \
	X(key_unclaimed, FAULT_RUNNING) \
	X(actor_inserted, FAULT_RUNNING) \
	X(balance_written, FAULT_RUNNING) \
	X(hold_written, FAULT_RUNNING) \
	X(reversal_written, FAULT_RUNNING) \
	X(entries_made, FAULT_RUNNING) \
	X(entries_written, FAULT_RUNNING) \
	X(journal_written, FAULT_RUNNING) \
	X(application_key_inserted, FAULT_RUNNING)	/* the short lock is held */ \
	X(application_key_written, FAULT_RUNNING) \
	X(currency_inserted, FAULT_RUNNING) \
	X(order_locked, FAULT_RUNNING) \
	X(events_drawn, FAULT_RUNNING) \
	X(events_written, FAULT_RUNNING) \
	X(leaf_proved, FAULT_RUNNING)	/* a ShareLock is held on the leaf */ \
	X(leaf_truncated, FAULT_RUNNING)	/* the guard is open */ \
	X(open_numbers_judged, FAULT_RUNNING)	/* the new ones are not yet */ \
	X(before_commit, FAULT_RUNNING) \
	X(commit_written, FAULT_WRITTEN)	/* not flushed, with early lock release */ \
	X(commit_flushed, FAULT_FLUSHED)	/* the client has not been answered */

#ifdef FAILSAFE_FAULTS

#define FAULT_ENUM(name, stage)		FAULT_##name,
typedef enum FaultPoint
{
	FAULT_POINTS(FAULT_ENUM)
	FAULT_POINT_COUNT
} FaultPoint;
#undef FAULT_ENUM

/* Define failsafe.fault; called before the other settings, which reserve the prefix. */
extern void fault_init(void);
extern void fault_pass(FaultPoint point);

#define FAULT_POINT(name)		fault_pass(FAULT_##name)

#else

#define fault_init()			((void) 0)
#define FAULT_POINT(name)		((void) 0)

#endif

#endif							/* FAILSAFE_BASE_FAULT_H */
