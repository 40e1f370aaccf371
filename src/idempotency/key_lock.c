/*
 * idempotency/key_lock.c
 *	  The short key lock and the bounded wait.
 *
 * A speculative insertion would close the same race, but it takes a heavyweight
 * lock as well and writes a second WAL record for each key.  Here the lock is
 * held for one index look-up and one insert: two backends with the same key
 * cannot both miss, and the second finds the first one's uncommitted row and
 * waits for its transaction instead.
 *
 * The lock tag is an advisory one whose fourth field is 3; pg_advisory_lock()
 * uses 1 and 2, so users' locks never meet ours.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/elog.h"

#include "idempotency/key_lock.h"

#define KEY_LOCK_FIELD4		3

void
key_lock_acquire(LOCKTAG *tag, KeyLockSpace space, int32 tenant_id,
				 const char *scope, const char *key)
{
	uint64		hash = hash_bytes_extended((const unsigned char *) key, strlen(key),
										   ((uint64) space << 32) | (uint32) tenant_id);

	Assert(key != NULL && space >= KEY_LOCK_WALLET);
	if (scope != NULL)
		hash = hash_combine64(hash, hash_bytes_extended((const unsigned char *) scope,
														strlen(scope), space));
	SET_LOCKTAG_ADVISORY(*tag, MyDatabaseId, (uint32) (hash >> 32), (uint32) hash,
						 KEY_LOCK_FIELD4);
	(void) LockAcquire(tag, ExclusiveLock, false, false);
}

void
key_lock_release(const LOCKTAG *tag)
{
	bool		released PG_USED_FOR_ASSERTS_ONLY;

	Assert(tag->locktag_field4 == KEY_LOCK_FIELD4);
	released = LockRelease(tag, ExclusiveLock, false);
	Assert(released);
}

/* Explain a time-out of the wait: the server's own message does not say for what. */
static void
key_wait_context(void *what)
{
	if (geterrcode() != ERRCODE_LOCK_NOT_AVAILABLE)
		return;
	errhint("Another transaction is using the same %s. Repeat the call; "
			"when that transaction has committed, its answer is returned.",
			(const char *) what);
}

void
key_wait(Relation relation, ItemPointer tid, TransactionId holder,
		 int timeout_ms, const char *what)
{
	ErrorContextCallback callback;
	int			saved_timeout = LockTimeout;

	Assert(TransactionIdIsValid(holder));
	Assert(!TransactionIdIsCurrentTransactionId(holder));
	callback.callback = key_wait_context;
	callback.arg = unconstify(char *, what);
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	PG_TRY();
	{
		if (timeout_ms > 0 && (LockTimeout == 0 || timeout_ms < LockTimeout))
			LockTimeout = timeout_ms;
		/*
		 * The weakest tuple lock there is: it lets failsafe.waits see in pg_locks
		 * which row is waited for.  Such locks do not meet each other, and nobody
		 * takes the one that they would meet: who deletes a key's row holds it.
		 */
		LockTuple(relation, tid, AccessShareLock);
		XactLockTableWait(holder, relation, tid, XLTW_InsertIndex);
		UnlockTuple(relation, tid, AccessShareLock);
	}
	PG_FINALLY();
	{
		LockTimeout = saved_timeout;
	}
	PG_END_TRY();
	error_context_stack = callback.previous;
}
