/*
 * ledger/waits.c
 *	  What the report of waits (waits.sql) needs from C: a look at a row that is
 *	  waited for.
 *
 * Such a row may be of a transaction that still runs, so no snapshot is asked
 * whether it is visible.  Only columns that are never stored out of line are
 * asked for: ids, keys and codes.
 *
 * Takes AccessShareLock on the table for the time of the look.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#define SCHEMA_NAME		"failsafe"

PG_FUNCTION_INFO_V1(failsafe_column_at);

/* The column of the row version in the slot as text; NULL where there is none. */
static text *
column_text(TupleTableSlot *slot, AttrNumber column)
{
	Oid			type = TupleDescAttr(slot->tts_tupleDescriptor, column - 1)->atttypid;
	Oid			output_function;
	bool		is_varlena;
	bool		isnull;
	Datum		value = slot_getattr(slot, column, &isnull);

	Assert(column > 0 && column <= slot->tts_tupleDescriptor->natts);
	if (isnull)
		return NULL;
	Assert(OidIsValid(type));
	getTypeOutputInfo(type, &output_function, &is_varlena);
	return cstring_to_text(OidOutputFunctionCall(output_function, value));
}

/*
 * _column_at(relation regclass, page int8, tuple int4, column_name text) -> text:
 * of the row version at that place, visible or not; NULL when it is gone.
 */
Datum
failsafe_column_at(PG_FUNCTION_ARGS)
{
	Oid			relation_id = PG_GETARG_OID(0);
	int64		page = PG_GETARG_INT64(1);
	int32		number = PG_GETARG_INT32(2);
	AttrNumber	column = get_attnum(relation_id, text_to_cstring(PG_GETARG_TEXT_PP(3)));
	Relation	relation;
	TupleTableSlot *slot;
	ItemPointerData tid;
	text	   *result = NULL;

	if (get_rel_namespace(relation_id) != get_namespace_oid(SCHEMA_NAME, true) ||
		get_rel_relkind(relation_id) != RELKIND_RELATION || column <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("not a column of a pg_failsafe table")));
	relation = table_open(relation_id, AccessShareLock);
	slot = table_slot_create(relation, NULL);
	if (number > 0 && number <= MaxOffsetNumber && page >= 0 &&
		page < RelationGetNumberOfBlocks(relation))
	{
		ItemPointerSet(&tid, (BlockNumber) page, (OffsetNumber) number);
		if (table_tuple_fetch_row_version(relation, &tid, SnapshotAny, slot))
			result = column_text(slot, column);
	}
	ExecDropSingleTupleTableSlot(slot);
	table_close(relation, AccessShareLock);
	if (result == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(result);
}
