/*
 * base/version.c
 *	  Owns the check that library and SQL have the same version.
 *
 * Invariants:
 *	V1	version_known is true only after the installed version was read and
 *		equal, and no function of the database changed since.
 *	V2	pg_extension sends no invalidation of its own.  Every update script
 *		replaces failsafe._library_version(), and pg_proc does send one.
 *
 * Takes AccessShareLock on pg_extension for the time of the look-up.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_extension.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "base/errors.h"
#include "base/version.h"

static bool version_known = false;

static void
version_invalidate(Datum arg, int cache_id, uint32 hash_value)
{
	version_known = false;
}

void
version_init(void)
{
	CacheRegisterSyscacheCallback(PROCOID, version_invalidate, (Datum) 0);
}

/* The installed version, palloc'd; NULL when the extension is not installed. */
static char *
version_installed(void)
{
	Relation	relation = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	char	   *version = NULL;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum("pg_failsafe"));
	scan = systable_beginscan(relation, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;
		Datum		value = heap_getattr(tuple, Anum_pg_extension_extversion,
										 RelationGetDescr(relation), &isnull);

		Assert(!isnull);
		version = TextDatumGetCString(value);
	}
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return version;
}

void
version_check(void)
{
	char	   *installed;
	StringInfoData detail;

	if (likely(version_known))
		return;
	Assert(IsTransactionState());
	installed = version_installed();
	if (installed != NULL && strcmp(installed, FAILSAFE_VERSION) == 0)
	{
		version_known = true;
		pfree(installed);
		return;
	}
	error_detail_begin(&detail, FAILSAFE_VERSION_SKEW);
	error_detail_text(&detail, "library", FAILSAFE_VERSION);
	error_detail_text(&detail, "installed", installed != NULL ? installed : "none");
	error_detail_end(&detail);
	error_raise(FAILSAFE_VERSION_SKEW, NULL, detail.data);
}

VersionState
version_look(void)
{
	char	   *installed;
	bool		same;

	Assert(IsTransactionState());
	installed = version_installed();
	if (installed == NULL)
		return VERSION_ABSENT;
	same = strcmp(installed, FAILSAFE_VERSION) == 0;
	pfree(installed);
	return same ? VERSION_SAME : VERSION_SKEWED;
}

PG_FUNCTION_INFO_V1(failsafe_library_version);

Datum
failsafe_library_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(FAILSAFE_VERSION));
}
