/*
 * idempotency/key_lock.h
 *	  The short lock that makes look-up and insert of a key one step, and the
 *	  bounded wait for a transaction that holds a key.
 */
#ifndef FAILSAFE_IDEMPOTENCY_KEY_LOCK_H
#define FAILSAFE_IDEMPOTENCY_KEY_LOCK_H

#include "storage/itemptr.h"
#include "storage/lock.h"
#include "utils/relcache.h"

/* Name spaces of the short lock, so that different kinds of keys seldom meet. */
typedef enum KeyLockSpace
{
	KEY_LOCK_WALLET = 1,
	KEY_LOCK_APPLICATION,
	KEY_LOCK_ACCOUNT,
	KEY_LOCK_CURRENCY,
	KEY_LOCK_TENANT
} KeyLockSpace;

/*
 * Take the short lock on the hash of (space, tenant, scope, key); scope may be
 * NULL.  It is held for one look-up and one insert, never while waiting for a
 * transaction, and must be released by key_lock_release().  Two keys with one
 * hash only wait for each other's look-up.
 */
extern void key_lock_acquire(LOCKTAG *tag, KeyLockSpace space, int32 tenant_id,
							 const char *scope, const char *key);
extern void key_lock_release(const LOCKTAG *tag);

/*
 * Wait until the transaction has ended; timeout_ms at most, then 55P03 with a
 * hint.  A deadlock raises 40P01.  what: "idempotency key" or "account code".
 */
extern void key_wait(Relation relation, ItemPointer tid, TransactionId holder,
					 int timeout_ms, const char *what);

#endif							/* FAILSAFE_IDEMPOTENCY_KEY_LOCK_H */
