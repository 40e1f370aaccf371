/*
 * base/commit.h
 *	  The only transaction callbacks of the extension: early lock release,
 *	  durable answers, two-phase refusal, wake-up at commit.
 */
#ifndef FAILSAFE_BASE_COMMIT_H
#define FAILSAFE_BASE_COMMIT_H

#include "access/xlogdefs.h"

/* Register the callbacks; called once from _PG_init. */
extern void commit_init(void);

/*
 * Bracket every write of ours.  commit_write_begin() is called before the first
 * row of a call is written (it notes whether the transaction already had an xid,
 * i.e. whether somebody else wrote before us, and makes sure that a top-level
 * xid exists); commit_write_end() after the last (it notes the command id, so
 * that PRE_COMMIT can tell whether somebody else wrote after us).
 */
extern void commit_write_begin(void);
extern void commit_write_end(void);

/* This transaction had to wait for a row: others probably wait behind it. */
extern void commit_note_contention(void);

/* Between the two? */
extern bool commit_is_writing(void);

/*
 * Before an answer rests on a row that another transaction wrote: wait until that
 * transaction's commit record is flushed here and, where synchronous standbys are
 * set, acknowledged.  xmin is the row's raw xmin; frozen or own xids return at
 * once.  Raises REPLICATION_WAIT_CANCELED when the standby wait is cancelled.
 * Cheap when there is nothing to wait for (no fsync).
 */
extern void commit_wait_durable(TransactionId xmin);

/*
 * The same for everything committed up to now: for reports that read many rows.
 * Called after the snapshot of the report was taken.
 */
extern void commit_wait_durable_all(void);

/*
 * For the worker, which asks and does not wait: the end of the log now, which is
 * behind the commit of everything that a snapshot taken before sees; flush up to a
 * place; have the synchronous standbys, where such are set, flushed it too?
 */
extern XLogRecPtr commit_log_end(void);
extern void commit_flush(XLogRecPtr lsn);
extern bool commit_is_acknowledged(XLogRecPtr lsn);

/* Other rooms hang their own flags here: run at XACT_EVENT_COMMIT / ABORT.  They
 * must not throw and not allocate [F35]. */
typedef void (*CommitHook) (bool committed);
extern void commit_add_hook(CommitHook hook);

/* Runs at subtransaction and transaction abort: caches drop what may be undone. */
typedef void (*AbortHook) (void);
extern void commit_add_abort_hook(AbortHook hook);

#endif							/* FAILSAFE_BASE_COMMIT_H */
