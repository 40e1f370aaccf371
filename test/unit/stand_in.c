/*
 * test/unit/stand_in.c
 *	  What the rooms under test call in rooms that are not: transaction callbacks,
 *	  settings, the version check.  Doing nothing is right here.
 */
#include "postgres.h"

#include "fmgr.h"

#include "base/commit.h"
#include "base/settings.h"
#include "base/version.h"
#include "delivery/delivery.h"

PG_MODULE_MAGIC;

bool		setting_log_refusals = true;

/* of delivery/failure.c, which reads a table */
const char *const failure_class_names[] = {
	"delivered", "temporary", "throttled", "unknown", "permanent", "gone"
};

void
commit_write_begin(void)
{
}

void
commit_write_end(void)
{
}

void
version_check(void)
{
}
