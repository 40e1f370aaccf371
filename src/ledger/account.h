/*
 * ledger/account.h
 *	  What never changes about an account, remembered by each backend.
 *
 * Invariants:
 *	A1	Only rows of committed transactions enter the cache [F10]; a row of our
 *		own transaction is answered from a copy that lives as long as the call.
 *	A2	An account never changes; only the status of a system account does, and
 *		its change sends a relcache message on failsafe.account, which empties
 *		the cache.
 */
#ifndef FAILSAFE_LEDGER_ACCOUNT_H
#define FAILSAFE_LEDGER_ACCOUNT_H

#include "storage/itemptr.h"
#include "utils/snapshot.h"

#include "base/errors.h"
#include "base/settings.h"

#define CURRENCY_BYTES_MAX	16
#define ACCOUNT_CACHE_MAX	131072	/* accounts; beyond it the cache starts anew */

typedef enum AccountStatus
{
	ACCOUNT_STATUS_OPEN,
	ACCOUNT_STATUS_FROZEN_OUT,
	ACCOUNT_STATUS_FROZEN_ALL,
	ACCOUNT_STATUS_CLOSED
} AccountStatus;

extern const char *const account_status_names[];
extern AccountStatus account_status_from_text(const char *text);

typedef struct Account
{
	int64		id;
	int32		tenant_id;
	bool		is_system;
	AccountStatus system_status;	/* of system accounts only; others: the balance */
	int			exponent;		/* decimal places of the currency */
	ItemPointerData balance_root;	/* where the balance's chain of versions began */
	struct Account *world;		/* of the same tenant and currency, once it was needed */
	int			contention;		/* postings that still treat the account as busy */
	char		currency[CURRENCY_BYTES_MAX + 1];
	const char *code;			/* behind the struct, in one piece with it */
} Account;

/* Pointers stay valid until the end of the call (account_cache_pin / unpin). */
extern void account_cache_pin(void);

/* By code or id; NULL when the tenant has none. */
extern Account *account_find(int32 tenant_id, const char *code);
extern Account *account_find_id(int64 id);

/* The account if this backend remembers it; no look-up. */
extern Account *account_cached(int64 id);

/* The tenant's system account 'world:' for the currency; opened at first use. */
extern Account *account_world(int32 tenant_id, const char *currency);

/* The same for an account's tenant and currency; remembered beside the account. */
extern Account *account_world_of(Account *sibling);

/* Is this the code of a world account? */
extern bool account_code_is_world(const char *code);

/* ACCOUNT_CODE_INVALID or FAILSAFE_OK; pure. */
extern FailsafeCode account_code_validate(const char *code);

/*
 * Insert the account row, or find it when another transaction was first; a
 * running one is waited for.  *created says which.
 */
extern Account *account_insert(int32 tenant_id, const char *code, const char *currency,
							   bool is_system, Datum metadata, bool *created);

/* The metadata given when the account was opened: a jsonb datum. */
extern Datum account_metadata(int64 id);

extern void account_init(void);

#endif							/* FAILSAFE_LEDGER_ACCOUNT_H */
