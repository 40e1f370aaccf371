/*
 * init.c
 *	  What happens when the library is loaded: each module's init, in floor order.
 */
#include "postgres.h"

#include "fmgr.h"

#include "base/actor.h"
#include "base/commit.h"
#include "base/compat.h"
#include "base/errors.h"
#include "base/fault.h"
#include "base/guard.h"
#include "base/refusal.h"
#include "base/row.h"
#include "base/settings.h"
#include "base/stats.h"
#include "base/tenant.h"
#include "base/version.h"
#include "delivery/delivery.h"
#include "delivery/delivery_stats.h"
#include "ledger/account.h"

PG_MODULE_MAGIC_COMPAT("pg_failsafe", FAILSAFE_VERSION);

void		_PG_init(void);

void
_PG_init(void)
{
	fault_init();
	settings_init();
	errors_init();
	commit_init();
	version_init();
	row_init();
	tenant_init();
	actor_init();
	guard_init();
	stats_init();
	refusal_init();
	account_init();
	delivery_init();
	positions_init();
	delivery_stats_init();
}
