/*
 * base/tenant.c
 *	  Owns failsafe.tenant and the session's current tenant.
 *
 * Invariants:
 *	T1	The cache holds committed rows only, and what it says is still true when
 *		no relcache message for failsafe.tenant arrived since it was filled.
 *	T2	Rows of failsafe.tenant are never updated or deleted; a new row sends a
 *		relcache message at its commit.
 *	T3	A session without a setting works with the tenant 'default' only as long
 *		as no other tenant exists: never by guess.
 *
 * Takes AccessShareLock on failsafe.tenant for a look-up.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/jsonb.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/errors.h"
#include "base/row.h"
#include "base/settings.h"
#include "base/tenant.h"
#include "base/version.h"

#define TENANT_NAME_BYTES_MAX	63
#define TENANT_DEFAULT_NAME		"default"

enum
{
	TENANT_ID = 1,				/* columns of failsafe.tenant */
	TENANT_NAME,
	TENANT_REGION
};

typedef struct TenantCache
{
	bool		valid;
	bool		has_setting;	/* false: filled for an empty setting */
	int32		id;
	char		name[TENANT_NAME_BYTES_MAX + 1];
	bool		has_region;
	char		region[TENANT_NAME_BYTES_MAX + 1];
} TenantCache;

static TenantCache current;
static Oid	tenant_relation_id = InvalidOid;

static void
tenant_invalidate(Datum arg, Oid relation_id)
{
	if (relation_id == InvalidOid || relation_id == tenant_relation_id)
		current.valid = false;
}

void
tenant_init(void)
{
	CacheRegisterRelcacheCallback(tenant_invalidate, (Datum) 0);
}

static void
tenant_fill(TenantCache *cache, HeapTuple tuple, TupleDesc descriptor)
{
	bool		isnull;
	Datum		value;

	cache->id = DatumGetInt32(heap_getattr(tuple, TENANT_ID, descriptor, &isnull));
	Assert(!isnull && cache->id > 0);
	value = heap_getattr(tuple, TENANT_NAME, descriptor, &isnull);
	Assert(!isnull);
	strlcpy(cache->name, TextDatumGetCString(value), sizeof(cache->name));
	value = heap_getattr(tuple, TENANT_REGION, descriptor, &isnull);
	cache->has_region = !isnull;
	if (!isnull)
		strlcpy(cache->region, TextDatumGetCString(value), sizeof(cache->region));
}

/*
 * Find the tenant of that name and fill *found.  *cacheable says whether the row
 * is committed.  The latest snapshot is used: whether a tenant exists is no
 * question of the transaction's age.
 */
static bool
tenant_find(Relation relation, const char *name, TenantCache *found, bool *cacheable)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, TENANT_NAME, BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(name));
	scan = systable_beginscan(relation, row_relation_id("tenant_name"), true,
							  snapshot, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		TransactionId xmin = HeapTupleHeaderGetXmin(tuple->t_data);

		tenant_fill(found, tuple, RelationGetDescr(relation));
		*cacheable = !TransactionIdIsCurrentTransactionId(xmin);
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	return HeapTupleIsValid(tuple);
}

/* Does any tenant but 'default' exist? */
static bool
tenant_has_second(Relation relation)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	ScanKeyData key;
	SysScanDesc scan;
	bool		found;

	ScanKeyInit(&key, TENANT_ID, BTGreaterStrategyNumber, F_INT4GT,
				Int32GetDatum(TENANT_DEFAULT_ID));
	scan = systable_beginscan(relation, row_relation_id("tenant_id"), true,
							  snapshot, 1, &key);
	found = HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	return found;
}

static void
tenant_look_up(void)
{
	bool		has_setting = setting_tenant[0] != '\0';
	const char *name = has_setting ? setting_tenant : TENANT_DEFAULT_NAME;
	Relation	relation;
	TenantCache found;
	bool		cacheable = false;
	bool		exists;

	memset(&found, 0, sizeof(found));
	tenant_relation_id = row_relation_id("tenant");
	relation = table_open(tenant_relation_id, AccessShareLock);
	exists = tenant_find(relation, name, &found, &cacheable);
	if (exists && !has_setting && tenant_has_second(relation))
		error_raise_field(FAILSAFE_TENANT_REQUIRED, "failsafe.tenant", NULL);
	table_close(relation, AccessShareLock);
	if (!exists)
		error_raise_field(FAILSAFE_TENANT_UNKNOWN, "failsafe.tenant", name);
	current = found;
	current.has_setting = has_setting;
	current.valid = cacheable;
}

static inline bool
tenant_cache_fits(void)
{
	if (!current.valid)
		return false;
	if (setting_tenant[0] == '\0')
		return !current.has_setting;
	return current.has_setting && strcmp(setting_tenant, current.name) == 0;
}

int32
tenant_current(void)
{
	if (unlikely(!tenant_cache_fits()))
		tenant_look_up();
	Assert(current.id >= TENANT_DEFAULT_ID);
	return current.id;
}

const char *
tenant_current_name(void)
{
	(void) tenant_current();
	return current.name;
}

const char *
tenant_current_region(void)
{
	if (setting_region[0] != '\0')
		return setting_region;
	(void) tenant_current();
	return current.has_region ? current.region : NULL;
}

PG_FUNCTION_INFO_V1(failsafe_tenant_id);

Datum
failsafe_tenant_id(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(tenant_current());
}

/* ---------- tenant_add() ---------- */

static bool
tenant_name_valid(const char *name)
{
	int			length = (int) strlen(name);

	if (length < 1 || length > TENANT_NAME_BYTES_MAX)
		return false;
	for (int i = 0; i < length; i++)
	{
		unsigned char c = (unsigned char) name[i];

		if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') &&
			!(c >= '0' && c <= '9') && c != '_' && c != '-' && c != '.')
			return false;
	}
	return true;
}

/* The option "region", palloc'd, NULL when absent; anything else is refused. */
static char *
tenant_options(Jsonb *options)
{
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	value;
	char	   *region = NULL;

	if (options == NULL)
		return NULL;
	if (!JB_ROOT_IS_OBJECT(options))
		error_raise_field(FAILSAFE_OPTION_INVALID, "options", "not an object");
	iterator = JsonbIteratorInit(&options->root);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		char	   *member;

		if (token != WJB_KEY)
			continue;
		member = pnstrdup(value.val.string.val, value.val.string.len);
		if (strcmp(member, "region") != 0)
			error_raise_field(FAILSAFE_OPTION_INVALID, member, "unknown option");
		(void) JsonbIteratorNext(&iterator, &value, true);
		if (value.type == jbvNull)
			continue;
		if (value.type != jbvString)
			error_raise_field(FAILSAFE_OPTION_INVALID, member, "not a text");
		region = pnstrdup(value.val.string.val, value.val.string.len);
		if (!tenant_name_valid(region))
			error_raise_field(FAILSAFE_OPTION_INVALID, member,
							  "a region has 1 to 63 letters, digits, '_', '-' and '.'");
	}
	return region;
}

/* Insert the tenant; false when the name exists. */
static bool
tenant_insert(const char *name, const char *region)
{
	Oid			types[2] = {TEXTOID, TEXTOID};
	Datum		values[2];
	char		nulls[2] = {' ', ' '};
	int			result;

	values[0] = CStringGetTextDatum(name);
	values[1] = region != NULL ? CStringGetTextDatum(region) : (Datum) 0;
	if (region == NULL)
		nulls[1] = 'n';
	result = SPI_execute_with_args("INSERT INTO failsafe.tenant (id, name, region) "
								   "VALUES (pg_catalog.nextval('failsafe.tenant_id_seq'), $1, $2) "
								   "ON CONFLICT (name) DO NOTHING",
								   2, types, values, nulls, false, 0);
	if (result != SPI_OK_INSERT)
		elog(ERROR, "adding a tenant failed: %s", SPI_result_code_string(result));
	Assert(SPI_processed <= 1);
	return SPI_processed == 1;
}

/* Add it, or make sure that the one that exists is the same. */
static bool
tenant_add(const char *name, const char *region)
{
	Relation	relation;
	TenantCache found;
	bool		cacheable;
	bool		created;

	SPI_connect();
	created = tenant_insert(name, region);
	SPI_finish();

	relation = table_open(row_relation_id("tenant"), AccessShareLock);
	if (created)
		CacheInvalidateRelcache(relation);	/* T2 */
	else
	{
		memset(&found, 0, sizeof(found));
		if (!tenant_find(relation, name, &found, &cacheable))
			elog(ERROR, "tenant \"%s\" has vanished", name);
		if (found.has_region != (region != NULL) ||
			(region != NULL && strcmp(found.region, region) != 0))
			error_raise_field(FAILSAFE_TENANT_CONFLICT, "region",
							  found.has_region ? found.region : "none");
	}
	table_close(relation, AccessShareLock);
	return created;
}

PG_FUNCTION_INFO_V1(failsafe_tenant_add);

Datum
failsafe_tenant_add(PG_FUNCTION_ARGS)
{
	char	   *name;
	char	   *region;
	bool		created;
	TupleDesc	descriptor;
	Datum		values[3];
	bool		nulls[3] = {false};

	version_check();
	PreventCommandIfReadOnly("tenant_add()");
	if (get_call_result_type(fcinfo, NULL, &descriptor) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (PG_ARGISNULL(0))
		error_raise_field(FAILSAFE_VALUE_REQUIRED, "tenant", NULL);
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (!tenant_name_valid(name))
		error_raise_field(FAILSAFE_TENANT_CONFLICT, "tenant",
						  "a name has 1 to 63 letters, digits, '_', '-' and '.'");
	region = tenant_options(PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1));
	created = tenant_add(name, region);

	values[0] = CStringGetTextDatum(name);
	nulls[1] = region == NULL;
	values[1] = region != NULL ? CStringGetTextDatum(region) : (Datum) 0;
	values[2] = BoolGetDatum(created);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(descriptor),
													  values, nulls)));
}
