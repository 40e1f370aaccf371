/*
 * idempotency/key.h
 *	  Wallet keys: one key, one effect, for ever [I3].
 *
 * Invariants:
 *	K1	A key row is inserted once, by the transaction of its effect, and never
 *		updated.  It is deleted only by the transaction that inserted it, when a
 *		command of a batch is refused after its key was claimed.
 *	K2	A key row exists if and only if its journal row does.
 *	K3	Keys of a batch are claimed in (bytewise) order, before any other lock.
 *	K4	A hit under REPEATABLE READ or SERIALIZABLE that the snapshot does not
 *		see raises 40001; a hit is never answered from a dirty read.
 */
#ifndef FAILSAFE_IDEMPOTENCY_KEY_H
#define FAILSAFE_IDEMPOTENCY_KEY_H

#include "base/errors.h"
#include "base/money.h"
#include "common/sha2.h"
#include "storage/itemptr.h"

#define FINGERPRINT_VERSION	1
#define FINGERPRINT_BYTES	PG_SHA256_DIGEST_LENGTH

typedef enum KeyState
{
	KEY_CLAIMED,				/* new: the row is inserted, the effect is ours to make */
	KEY_FOUND					/* committed, or made earlier by this transaction */
} KeyState;

typedef struct KeyClaim
{
	/* given */
	const char *key;
	int32		tenant_id;
	uint8		fingerprint[FINGERPRINT_BYTES];
	/* set */
	KeyState	state;
	int64		journal_id;		/* pre-drawn when claimed, the stored one when found */
	int16		stored_version; /* of the fingerprint, when found */
	bool		matches;		/* found, and the fingerprint is the same */
	TransactionId xmin;			/* of the row found */
	ItemPointerData tid;		/* of the row inserted */
} KeyClaim;

/* Is the text a key?  KEY_REQUIRED, KEY_INVALID or FAILSAFE_OK; pure. */
extern FailsafeCode key_validate(const char *key);

/*
 * Look up or claim the keys, which must be sorted by key and distinct.  A key in
 * use by a running transaction is waited for, failsafe.key_wait at most (55P03).
 * With claim false nothing is written and a missing key keeps journal_id 0.
 */
extern void key_claim(KeyClaim **claims, int count, bool claim);

/* Take back a claim of this call: the command was refused after all. */
extern void key_unclaim(KeyClaim *claim);

/* Is the key held by a transaction that still runs?  Does not wait. */
extern bool key_in_progress(int32 tenant_id, const char *key);

/* A fingerprint is SHA-256 over length-prefixed, typed fields, in a fixed order. */
typedef struct Fingerprint Fingerprint;
extern Fingerprint *fingerprint_begin(int16 version);
/* NULL differs from "". */
extern void fingerprint_text(Fingerprint *fingerprint, const char *value);
extern void fingerprint_int64(Fingerprint *fingerprint, int64 value);
extern void fingerprint_money(Fingerprint *fingerprint, bool given, int128 minor);
extern void fingerprint_end(Fingerprint *fingerprint, uint8 digest[FINGERPRINT_BYTES]);

#endif							/* FAILSAFE_IDEMPOTENCY_KEY_H */
