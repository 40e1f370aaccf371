/*
 * base/currency.c
 *	  The currencies, and the SQL functions that convert by them.
 *
 * Owns: failsafe.currency and the backend's cache of it.
 *
 * Invariants:
 *	N1	A currency, once committed, never changes its exponent and never goes.
 *	N2	Only rows of committed transactions are in the cache.  A row of the own
 *		transaction is read again each time: a rollback takes it away, and no
 *		invalidation tells of that.
 *	N3	The cache is dropped when the table's relcache entry is invalidated, as
 *		DROP and CREATE EXTENSION do.
 *
 * Locks: AccessShareLock on the table while a row is looked up, RowExclusiveLock
 * (by SPI) while one is added; nothing else is locked inside.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/commit.h"
#include "base/currency.h"
#include "base/errors.h"
#include "base/fault.h"
#include "base/money.h"
#include "base/version.h"

#define COLUMN_CODE			1
#define COLUMN_EXPONENT		2

typedef struct CachedCurrency
{
	char		code[CURRENCY_CODE_BYTES_MAX + 1];	/* hash key */
	int			exponent;
} CachedCurrency;

static HTAB *cache = NULL;
static Oid	table_id = InvalidOid;
static Oid	index_id = InvalidOid;

PG_FUNCTION_INFO_V1(failsafe_currency_add);
PG_FUNCTION_INFO_V1(failsafe_minor);
PG_FUNCTION_INFO_V1(failsafe_major);

/* ---- the cache ---- */

/* Only marks: the next look-up builds anew. */
static void
on_relcache_invalidation(Datum argument, Oid relation_id)
{
	if (relation_id == InvalidOid || relation_id == table_id)
		table_id = InvalidOid;
}

/* Make the cache ready: an empty one where there was none or it is no longer valid. */
static void
prepare_cache(void)
{
	static bool is_registered = false;
	HASHCTL		control = {
		.keysize = sizeof(((CachedCurrency *) NULL)->code),
		.entrysize = sizeof(CachedCurrency)
	};
	Oid			schema_id;

	if (OidIsValid(table_id))
		return;

	if (!is_registered)
	{
		CacheRegisterRelcacheCallback(on_relcache_invalidation, (Datum) 0);
		is_registered = true;
	}
	if (cache != NULL)
		hash_destroy(cache);
	cache = hash_create("failsafe currencies", 64, &control, HASH_ELEM | HASH_STRINGS);

	schema_id = get_namespace_oid("failsafe", false);
	index_id = get_relname_relid("currency_code", schema_id);
	table_id = get_relname_relid("currency", schema_id);
	if (!OidIsValid(table_id) || !OidIsValid(index_id))
	{
		table_id = InvalidOid;
		error_raise(FAILSAFE_SCHEMA_ALTERED, "currency", NULL);
	}
}

/*
 * The newest committed rows and our own: a currency is a fact for every snapshot.
 * A parallel worker has to do with the snapshot that it was given.
 */
static Snapshot
lookup_snapshot(void)
{
	return IsInParallelMode() ? GetActiveSnapshot() : GetLatestSnapshot();
}

/* Read the row; *is_committed tells whether it may enter the cache. */
static bool
read_currency(const char *code, int *exponent, bool *is_committed)
{
	Relation	table = table_open(table_id, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(lookup_snapshot());
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		is_null;

	ScanKeyInit(&key, COLUMN_CODE, BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(code));
	scan = systable_beginscan(table, index_id, true, snapshot, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		*exponent = DatumGetInt16(heap_getattr(tuple, COLUMN_EXPONENT,
											   RelationGetDescr(table), &is_null));
		*is_committed =
			!TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));
		Assert(!is_null);
		Assert(*exponent >= 0 && *exponent <= CURRENCY_EXPONENT_MAX);
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(table, AccessShareLock);
	return HeapTupleIsValid(tuple);
}

bool
currency_exponent(const char *code, int *exponent)
{
	CachedCurrency *cached;
	bool		is_committed;

	Assert(code != NULL && exponent != NULL);

	if (strlen(code) > CURRENCY_CODE_BYTES_MAX)
		return false;

	prepare_cache();
	cached = hash_search(cache, code, HASH_FIND, NULL);
	if (cached != NULL)
	{
		*exponent = cached->exponent;
		return true;
	}
	if (!read_currency(code, exponent, &is_committed))
		return false;

	/* Opening the table may have processed an invalidation. */
	if (is_committed && OidIsValid(table_id))
	{
		cached = hash_search(cache, code, HASH_ENTER, NULL);
		cached->exponent = *exponent;
	}
	Assert(*exponent >= 0 && *exponent <= CURRENCY_EXPONENT_MAX);
	return true;
}

/* ---- the SQL functions ---- */

/* 1 to 16 upper-case letters, digits or '_'. */
static bool
is_currency_code(const char *code)
{
	int			length = strlen(code);

	for (const char *c = code; *c != '\0'; c++)
		if (!(*c >= 'A' && *c <= 'Z') && !(*c >= '0' && *c <= '9') && *c != '_')
			return false;
	return length >= 1 && length <= CURRENCY_CODE_BYTES_MAX;
}

/* Insert the row unless another transaction was faster; true when it is ours. */
static bool
insert_currency(const char *code, int exponent)
{
	Oid			types[] = {TEXTOID, INT2OID};
	Datum		values[] = {CStringGetTextDatum(code), Int16GetDatum((int16) exponent)};
	bool		is_new;

	Assert(is_currency_code(code));
	Assert(exponent >= 0 && exponent <= CURRENCY_EXPONENT_MAX);

	PreventCommandIfReadOnly("currency_add()");
	commit_write_begin();
	SPI_connect();
	if (SPI_execute_with_args("INSERT INTO failsafe.currency (code, exponent) VALUES ($1, $2)"
							  " ON CONFLICT (code) DO NOTHING",
							  lengthof(types), types, values, NULL, false, 0) != SPI_OK_INSERT)
		error_raise(FAILSAFE_SCHEMA_ALTERED, "currency", NULL);
	is_new = SPI_processed == 1;
	FAULT_POINT(currency_inserted);
	SPI_finish();
	commit_write_end();
	return is_new;
}

/*
 * currency_add(code text, exponent int) returns bool: true when the currency is
 * new, false when it was there with the same exponent.
 */
Datum
failsafe_currency_add(PG_FUNCTION_ARGS)
{
	const char *code;
	int			exponent;
	int			found;

	version_check();
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		error_raise_field(FAILSAFE_VALUE_REQUIRED, PG_ARGISNULL(0) ? "code" : "exponent", NULL);
	code = text_to_cstring(PG_GETARG_TEXT_PP(0));
	exponent = PG_GETARG_INT32(1);

	if (!is_currency_code(code))
		error_raise_field(FAILSAFE_CURRENCY_CONFLICT, "code",
						  "must be 1 to 16 upper-case letters, digits or '_'");
	if (exponent < 0 || exponent > CURRENCY_EXPONENT_MAX)
		error_raise_field(FAILSAFE_CURRENCY_CONFLICT, "exponent", "must be 0 to 24");

	if (!currency_exponent(code, &found))
	{
		if (insert_currency(code, exponent))
			PG_RETURN_BOOL(true);
		if (!currency_exponent(code, &found))
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("could not serialize access due to a concurrent change of the currencies"),
					 errhint("Repeat the transaction.")));
	}
	if (found != exponent)
		error_raise_field(FAILSAFE_CURRENCY_CONFLICT, "exponent",
						  psprintf("is %d already", found));
	PG_RETURN_BOOL(false);
}

/* The exponent of a currency that must exist. */
static int
required_exponent(text *currency)
{
	char	   *code = text_to_cstring(currency);
	int			exponent;

	version_check();
	if (!currency_exponent(code, &exponent))
	{
		StringInfoData detail;

		error_detail_begin(&detail, FAILSAFE_CURRENCY_UNKNOWN);
		error_detail_text(&detail, "field", "currency");
		error_detail_text(&detail, "currency", code);
		error_detail_end(&detail);
		error_raise(FAILSAFE_CURRENCY_UNKNOWN, NULL, detail.data);
	}
	Assert(exponent >= 0 && exponent <= CURRENCY_EXPONENT_MAX);
	return exponent;
}

/* Raise what is wrong with an amount that did not convert. */
static void
require_money(MoneyStatus status, const char *fraction_text)
{
	switch (status)
	{
		case MONEY_OK:
			return;
		case MONEY_NOT_FINITE:
			error_raise_field(FAILSAFE_AMOUNT_INVALID, "amount", "is not finite");
			break;
		case MONEY_HAS_SCALE:
			error_raise_field(FAILSAFE_AMOUNT_HAS_FRACTION, "amount", fraction_text);
			break;
		case MONEY_TOO_LARGE:
			error_raise_field(FAILSAFE_AMOUNT_TOO_LARGE, "amount", NULL);
			break;
	}
}

/* minor(amount numeric, currency text) returns numeric: 50.00 EUR is 5000. */
Datum
failsafe_minor(PG_FUNCTION_ARGS)
{
	int			exponent = required_exponent(PG_GETARG_TEXT_PP(1));
	int128		minor = 0;

	require_money(money_from_major(PG_GETARG_NUMERIC(0), exponent, &minor),
				  "has more decimal places than the currency");
	if (minor > AMOUNT_MINOR_MAX || minor < -AMOUNT_MINOR_MAX)
		require_money(MONEY_TOO_LARGE, NULL);
	PG_RETURN_NUMERIC(money_to_numeric(minor));
}

/* Decimal text with the point moved `exponent` digits to the left: 5 is 0.05. */
static char *
major_text(int128 minor, int exponent)
{
	char		digits[MONEY_TEXT_SIZE];
	int			length = money_to_text(minor < 0 ? -minor : minor, digits);
	int			whole = length - exponent;
	StringInfoData text;

	Assert(exponent >= 0 && exponent <= CURRENCY_EXPONENT_MAX);
	Assert(minor >= -BALANCE_MINOR_MAX && minor <= BALANCE_MINOR_MAX);

	initStringInfo(&text);
	if (minor < 0)
		appendStringInfoChar(&text, '-');
	if (whole > 0)
		appendBinaryStringInfo(&text, digits, whole);
	else
		appendStringInfoChar(&text, '0');
	if (exponent > 0)
		appendStringInfoChar(&text, '.');
	for (int i = whole; i < 0; i++)
		appendStringInfoChar(&text, '0');
	appendStringInfoString(&text, digits + Max(whole, 0));
	return text.data;
}

/* major(amount numeric, currency text) returns numeric: 5000 EUR is 50.00. */
Datum
failsafe_major(PG_FUNCTION_ARGS)
{
	int			exponent = required_exponent(PG_GETARG_TEXT_PP(1));
	int128		minor = 0;

	require_money(money_from_numeric(PG_GETARG_NUMERIC(0), &minor),
				  "must be whole minor units");
	PG_RETURN_DATUM(DirectFunctionCall3(numeric_in,
										CStringGetDatum(major_text(minor, exponent)),
										ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}
