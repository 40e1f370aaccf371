/*
 * base/commit.c
 *	  Owns the transaction callbacks of the extension: early lock release, answers
 *	  that rest on durable rows, the refusal of PREPARE, and the hooks that other
 *	  modules hang here.
 *
 * How early lock release works.  A commit writes its record, leaves the list of
 * running transactions and drops its locks; usually it waits for the disk (and
 * for synchronous standbys) before the last two, so a hot row passes from hand to
 * hand at the speed of the disk.  Here, when somebody waits for us, PRE_COMMIT
 * turns synchronous_commit off for this one commit, COMMIT turns it on again, and
 * the wait follows when the locks are gone.  The client is answered after that
 * wait, as ever.
 *
 * Invariants:
 *	C1	Nobody is told of a commit before its record is flushed and, where the
 *		session's synchronous_commit asks for it, acknowledged by the standbys.
 *	C2	What others read from an early released transaction is answered by our
 *		functions only after commit_wait_durable().
 *	C3	With 'own', a transaction is released early only when nothing but our
 *		functions wrote in it: no xid and no command id was used before our first
 *		write, none between our writes, none after the last, no NOTIFY.
 *	C4	synchronous_commit has its own value again before any code outside of
 *		CommitTransaction() can look at it, also when the commit fails.
 *	C5	Between the commit record and the end of the transaction nothing here
 *		throws or allocates; a failing flush is a PANIC, as in the server's own
 *		commit.
 *	C6	A prepared transaction is never released early: PREPARE runs no
 *		PRE_COMMIT, and COMMIT PREPARED runs without our flag.
 *
 * Takes SyncRepLock (shared) for a moment; waits hold no lock of ours but what
 * the transaction has.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_proc.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/lock.h"
#include "storage/lwlock.h"
#include "tcop/utility.h"
#include "utils/fmgroids.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#include "base/commit.h"
#include "base/compat.h"
#include "base/errors.h"
#include "base/fault.h"
#include "base/settings.h"

#define HOOKS_MAX		8

/* What this transaction did so far; all zero outside of a transaction. */
typedef struct TransactionState
{
	bool		wrote;			/* our functions wrote */
	bool		in_write;		/* between commit_write_begin() and _end() */
	bool		foreign;		/* somebody else wrote too, or may have */
	bool		contended;		/* we had to wait for a row that others want */
	bool		notified;		/* NOTIFY or pg_notify() may have been called */
	CommandId	last_command;	/* current command id after our last write */
} TransactionState;

static TransactionState transaction;

/*
 * The library was loaded by a statement of this transaction; what happened before
 * was not watched.
 */
static bool loaded_inside = false;

/* The early release in progress. */
static bool release_decided = false;	/* PRE_COMMIT until COMMIT or ABORT */
static bool wait_due = false;	/* COMMIT until the locks are gone */
static int	saved_synchronous_commit;
static bool last_released_early = false;	/* for tests and for doctor() */

static CommitHook commit_hooks[HOOKS_MAX];
static int	commit_hook_count = 0;
static AbortHook abort_hooks[HOOKS_MAX];
static int	abort_hook_count = 0;

static object_access_hook_type previous_object_access_hook = NULL;
static ProcessUtility_hook_type previous_process_utility_hook = NULL;

/* ---------- who wrote ---------- */

/*
 * Was a command id used since the current one was last_command?  Closes the
 * current command: a command id is taken by a statement that may write, before
 * its first row, and only CommandCounterIncrement() shows it.
 */
static bool
command_used_since(CommandId last_command)
{
	CommandCounterIncrement();
	return GetCurrentCommandId(false) != last_command;
}

static bool
foreign_before_first_write(void)
{
	if (loaded_inside || TransactionIdIsValid(GetTopTransactionIdIfAny()))
		return true;
	return command_used_since(FirstCommandId);
}

void
commit_write_begin(void)
{
	if (transaction.in_write)
		return;
	if (!transaction.foreign)
		transaction.foreign = transaction.wrote ?
			command_used_since(transaction.last_command) :
			foreign_before_first_write();
	transaction.wrote = true;
	transaction.in_write = true;
	(void) GetTopTransactionId();
	Assert(TransactionIdIsValid(GetTopTransactionIdIfAny()));
}

void
commit_write_end(void)
{
	Assert(transaction.wrote);
	CommandCounterIncrement();
	transaction.last_command = GetCurrentCommandId(false);
	transaction.in_write = false;
}

void
commit_note_contention(void)
{
	transaction.contended = true;
}

bool
commit_is_writing(void)
{
	return transaction.in_write;
}

/* pg_notify() is about to run: seen when an expression that calls it is set up. */
static void
commit_object_access(ObjectAccessType access, Oid class_id, Oid object_id,
					 int sub_id, void *arg)
{
	if (previous_object_access_hook != NULL)
		previous_object_access_hook(access, class_id, object_id, sub_id, arg);
	if (access == OAT_FUNCTION_EXECUTE && object_id == F_PG_NOTIFY &&
		class_id == ProcedureRelationId)
		transaction.notified = true;
}

static void
commit_process_utility(PlannedStmt *statement, const char *query, bool read_only_tree,
					   ProcessUtilityContext context, ParamListInfo parameters,
					   QueryEnvironment *environment, DestReceiver *receiver,
					   QueryCompletion *completion)
{
	if (IsA(statement->utilityStmt, NotifyStmt))
		transaction.notified = true;
	if (previous_process_utility_hook != NULL)
		previous_process_utility_hook(statement, query, read_only_tree, context,
									  parameters, environment, receiver, completion);
	else
		standard_ProcessUtility(statement, query, read_only_tree, context,
								parameters, environment, receiver, completion);
}

/* ---------- early lock release ---------- */

/*
 * Does anybody wait for this transaction id, that is, for a row that it holds?
 * Who waited for a committed subtransaction waits for its parent now.
 */
static bool
xid_has_waiters(TransactionId xid)
{
	LOCKTAG		tag;

	Assert(TransactionIdIsValid(xid));
	SET_LOCKTAG_TRANSACTION(tag, xid);
	return LockHasWaiters(&tag, ExclusiveLock, false);
}

/*
 * Is somebody waiting for us now?  If not, an early release gains nothing, and it
 * costs: an asynchronous commit wakes the WAL writer, which before 17 then
 * flushes beside the backends (measured: half a core at 6 000 commits a second).
 */
static bool
transaction_has_waiters(void)
{
	/* who waited in a queue is followed by the rest of it, asleep or just waking up */
	return transaction.contended || xid_has_waiters(GetTopTransactionId());
}

/* May this transaction drop its locks before its commit is durable? */
static bool
release_allowed(void)
{
	if (!transaction.wrote || synchronous_commit == SYNCHRONOUS_COMMIT_OFF ||
		setting_early_lock_release == EARLY_LOCK_RELEASE_OFF)
		return false;
	if (setting_early_lock_release_when == EARLY_LOCK_RELEASE_WAITED &&
		!transaction_has_waiters())
		return false;
	switch ((EarlyLockRelease) setting_early_lock_release)
	{
		case EARLY_LOCK_RELEASE_OFF:
			return false;
		case EARLY_LOCK_RELEASE_ALL:
			return true;
		case EARLY_LOCK_RELEASE_OWN:
			return !transaction.foreign && !transaction.notified &&
				!transaction.in_write &&
				!command_used_since(transaction.last_command);
	}
	return false;
}

static void
release_decide(void)
{
	Assert(!release_decided && !wait_due);
	if (!release_allowed())
		return;
	saved_synchronous_commit = synchronous_commit;
	synchronous_commit = SYNCHRONOUS_COMMIT_OFF;
	release_decided = true;
}

/* Give synchronous_commit its value back [C4]. */
static void
release_restore(void)
{
	if (!release_decided)
		return;
	synchronous_commit = saved_synchronous_commit;
	release_decided = false;
}

/*
 * The locks are gone: now wait for the disk and the standbys.  Called once for
 * each resource owner, children first; the first call does the work.
 */
static void
commit_resource_release(ResourceReleasePhase phase, bool is_commit, bool is_top_level,
						void *arg)
{
	if (!wait_due || phase != RESOURCE_RELEASE_AFTER_LOCKS || !is_top_level)
		return;
	wait_due = false;
	Assert(is_commit);

	/* an error here could not be an error any more: the commit is done [C5] */
	START_CRIT_SECTION();
	XLogFlush(XactLastCommitEnd);
	END_CRIT_SECTION();

	/* returns at once unless the session's synchronous_commit asks for standbys */
	HOLD_INTERRUPTS();
	SyncRepWaitForLSN(XactLastCommitEnd, true);
	RESUME_INTERRUPTS();
	FAULT_POINT(commit_flushed);
}

/* ---------- callbacks ---------- */

static void
run_abort_hooks(void)
{
	for (int i = 0; i < abort_hook_count; i++)
		abort_hooks[i] ();
}

static void
transaction_finish(bool committed)
{
	if (!committed)
		run_abort_hooks();
	for (int i = 0; i < commit_hook_count; i++)
		commit_hooks[i] (committed);
	memset(&transaction, 0, sizeof(transaction));
	loaded_inside = false;
}

static void
commit_transaction_event(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			release_decide();
			if (transaction.wrote)
				FAULT_POINT(before_commit);
			break;
		case XACT_EVENT_COMMIT:
			wait_due = release_decided;
			if (transaction.wrote)
			{
				FAULT_POINT(commit_written);
				last_released_early = release_decided;
			}
			release_restore();
			transaction_finish(true);
			break;
		case XACT_EVENT_ABORT:
			release_restore();
			wait_due = false;
			transaction_finish(false);
			break;
		case XACT_EVENT_PRE_PREPARE:
			if (transaction.wrote && !setting_allow_prepare)
				error_raise(FAILSAFE_PREPARE_REFUSED, NULL, NULL);
			break;
		case XACT_EVENT_PREPARE:
			/* what it wrote may still be undone: caches must forget it */
			transaction_finish(false);
			break;
		default:
			/* parallel workers write nothing of ours */
			break;
	}
}

static void
commit_subtransaction_event(SubXactEvent event, SubTransactionId my_id,
							SubTransactionId parent_id, void *arg)
{
	if (event != SUBXACT_EVENT_ABORT_SUB)
		return;
	/* an error left the bracket open; the next write checks the command id */
	transaction.in_write = false;
	run_abort_hooks();
}

void
commit_add_hook(CommitHook hook)
{
	Assert(commit_hook_count < HOOKS_MAX && hook != NULL);
	commit_hooks[commit_hook_count++] = hook;
}

void
commit_add_abort_hook(AbortHook hook)
{
	Assert(abort_hook_count < HOOKS_MAX && hook != NULL);
	abort_hooks[abort_hook_count++] = hook;
}

void
commit_init(void)
{
	RegisterXactCallback(commit_transaction_event, NULL);
	RegisterSubXactCallback(commit_subtransaction_event, NULL);
	RegisterResourceReleaseCallback(commit_resource_release, NULL);
	previous_object_access_hook = object_access_hook;
	object_access_hook = commit_object_access;
	previous_process_utility_hook = ProcessUtility_hook;
	ProcessUtility_hook = commit_process_utility;
	loaded_inside = IsTransactionState();
}

/* ---------- durable answers ---------- */

/*
 * What the synchronous standbys are known to have: every transaction below
 * acknowledged_xid that committed.  candidate_* is the next such pair, which
 * becomes true when the standbys acknowledge candidate_lsn.
 */
typedef struct StandbyKnowledge
{
	int			mode;			/* SYNC_REP_WAIT_...; the pairs are of this mode */
	TransactionId acknowledged_xid;
	TransactionId candidate_xid;
	XLogRecPtr	candidate_lsn;
} StandbyKnowledge;

static StandbyKnowledge standby = {SYNC_REP_NO_WAIT, InvalidTransactionId,
InvalidTransactionId, InvalidXLogRecPtr};

static bool
standby_requested(void)
{
	return SyncRepRequested() && SyncRepStandbyNames != NULL &&
		SyncRepStandbyNames[0] != '\0';
}

static int
standby_mode(void)
{
	switch (synchronous_commit)
	{
		case SYNCHRONOUS_COMMIT_REMOTE_WRITE:
			return SYNC_REP_WAIT_WRITE;
		case SYNCHRONOUS_COMMIT_REMOTE_APPLY:
			return SYNC_REP_WAIT_APPLY;
		default:
			return SYNC_REP_WAIT_FLUSH;
	}
}

static XLogRecPtr
standby_position(int mode)
{
	XLogRecPtr	position;

	Assert(mode >= SYNC_REP_WAIT_WRITE && mode < NUM_SYNC_REP_WAIT_MODE);
	LWLockAcquire(SyncRepLock, LW_SHARED);
	position = WalSndCtl->lsn[mode];
	LWLockRelease(SyncRepLock);
	return position;
}

/*
 * Wait until the standbys have the log up to lsn.  A canceled wait returns
 * normally from the server's function, with a warning; so look again, and
 * never confirm what the standbys lack.
 */
static void
standby_wait(int mode, XLogRecPtr lsn)
{
	StringInfoData detail;

	if (standby_position(mode) >= lsn)
		return;
	HOLD_INTERRUPTS();
	SyncRepWaitForLSN(lsn, true);
	RESUME_INTERRUPTS();
	CHECK_FOR_INTERRUPTS();
	if (standby_position(mode) >= lsn)
		return;
	error_detail_begin(&detail, FAILSAFE_REPLICATION_WAIT_CANCELED);
	error_detail_text(&detail, "synchronous_standby_names", SyncRepStandbyNames);
	error_detail_end(&detail);
	error_raise(FAILSAFE_REPLICATION_WAIT_CANCELED, NULL, detail.data);
}

/* Did the standbys acknowledge xid's commit, as far as we remember or can tell? */
static bool
standby_knows(int mode, TransactionId xid)
{
	if (standby.mode != mode)
	{
		standby.mode = mode;
		standby.acknowledged_xid = InvalidTransactionId;
		standby.candidate_xid = InvalidTransactionId;
	}
	if (TransactionIdIsValid(standby.candidate_xid) &&
		standby_position(mode) >= standby.candidate_lsn)
	{
		standby.acknowledged_xid = standby.candidate_xid;
		standby.candidate_xid = InvalidTransactionId;
	}
	if (!TransactionIdIsValid(standby.candidate_xid) && TransactionIdIsNormal(RecentXmin))
	{
		/* every xid below RecentXmin wrote its commit record before this position */
		standby.candidate_xid = RecentXmin;
		standby.candidate_lsn = GetXLogInsertRecPtr();
	}
	/* a memory older than half the xid space says nothing */
	if (!TransactionIdIsNormal(RecentXmin) ||
		!TransactionIdPrecedesOrEquals(standby.acknowledged_xid, RecentXmin))
		return false;
	return TransactionIdIsNormal(standby.acknowledged_xid) &&
		TransactionIdPrecedes(xid, standby.acknowledged_xid);
}

void
commit_wait_durable(TransactionId xmin)
{
	XLogRecPtr	lsn;
	int			mode;

	if (!TransactionIdIsNormal(xmin) || RecoveryInProgress() ||
		TransactionIdIsCurrentTransactionId(xmin))
		return;

	/*
	 * The commit log keeps a position only for commits that did not wait for
	 * their flush, one per group of xids: the commit's own or a later one.  No
	 * position means flushed.
	 */
	lsn = TransactionIdGetCommitLSN(xmin);
	if (!XLogRecPtrIsInvalid(lsn))
		XLogFlush(lsn);
	if (likely(!standby_requested()))
		return;

	mode = standby_mode();
	if (standby_knows(mode, xmin))
		return;
	standby_wait(mode, XLogRecPtrIsInvalid(lsn) ? GetFlushRecPtr(NULL) : lsn);
}

/*
 * The end of the last record in the log.  The insert position lies behind the
 * header of the next page when a record ends with its page, and to flush up to
 * there would be an error; so step back over such a header.
 */
XLogRecPtr
commit_log_end(void)
{
	XLogRecPtr	lsn = GetXLogInsertRecPtr();

	if (XLogSegmentOffset(lsn, wal_segment_size) == SizeOfXLogLongPHD)
		return lsn - SizeOfXLogLongPHD;
	if (lsn % XLOG_BLCKSZ == SizeOfXLogShortPHD)
		return lsn - SizeOfXLogShortPHD;
	return lsn;
}

void
commit_flush(XLogRecPtr lsn)
{
	XLogFlush(lsn);
}

/*
 * synchronous_commit of this session does not matter: whoever sets synchronous
 * standbys wants nothing told to the world that they lack.
 */
bool
commit_is_acknowledged(XLogRecPtr lsn)
{
	if (max_wal_senders == 0 || SyncRepStandbyNames == NULL || SyncRepStandbyNames[0] == '\0')
		return true;
	return standby_position(SYNC_REP_WAIT_FLUSH) >= lsn;
}

void
commit_wait_durable_all(void)
{
	XLogRecPtr	lsn;

	if (RecoveryInProgress())
		return;
	lsn = commit_log_end();
	XLogFlush(lsn);
	if (standby_requested())
		standby_wait(standby_mode(), lsn);
}

PG_FUNCTION_INFO_V1(failsafe_released_early);

/* Did the last transaction of this session in which we wrote drop its locks early? */
Datum
failsafe_released_early(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(last_released_early);
}

PG_FUNCTION_INFO_V1(failsafe_wait_durable_all);

Datum
failsafe_wait_durable_all(PG_FUNCTION_ARGS)
{
	commit_wait_durable_all();
	PG_RETURN_VOID();
}
