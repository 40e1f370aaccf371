/*
 * base/guard.c
 *	  Owns the refusal of UPDATE, DELETE and TRUNCATE on the extension's tables,
 *	  of DROP while the ledger holds rows, and of changing a table by hand.
 *
 * Invariants:
 *	G1	Every table of the schema, each leaf of the outbox too, has the statement
 *		trigger failsafe_guard, ENABLE ALWAYS (base/guard.sql; TRUNCATE triggers
 *		are not inherited by leaves).
 *	G2	The guard is open only inside retention's own statement.
 *	G3	The event trigger reads the parse tree: other extensions, schemas and
 *		tables are none of its business.
 *	G4	Scripts of the extension itself and pg_upgrade are let through.
 *
 * Lock order: to see whether the ledger holds rows, ShareLock on the journal,
 * before the DROP takes its own stronger lock; running commands end first.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_extension.h"
#include "commands/event_trigger.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "replication/logicalworker.h"
#include "utils/acl.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "base/commit.h"
#include "base/compat.h"
#include "base/errors.h"
#include "base/guard.h"
#include "base/settings.h"

#define EXTENSION_NAME	"pg_failsafe"
#define SCHEMA_NAME		"failsafe"

static bool guard_is_open = false;

void
guard_open(void)
{
	Assert(!guard_is_open);
	guard_is_open = true;
}

void
guard_close(void)
{
	guard_is_open = false;
}

static void
guard_transaction_end(bool committed)
{
	guard_is_open = false;
}

void
guard_init(void)
{
	commit_add_hook(guard_transaction_end);
	commit_add_abort_hook(guard_close);
}

/* ---------- rows ---------- */

PG_FUNCTION_INFO_V1(failsafe_guard);

Datum
failsafe_guard(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("failsafe._guard() can be called as a trigger only")));
	Assert(TRIGGER_FIRED_BEFORE(trigger->tg_event));
	Assert(TRIGGER_FIRED_FOR_STATEMENT(trigger->tg_event));
	if (guard_is_open)
		return PointerGetDatum(NULL);

	/* a subscriber repeats the publisher's retention, leaf by leaf */
	if (IsLogicalWorker() && TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event) &&
		trigger->tg_relation->rd_rel->relispartition)
		return PointerGetDatum(NULL);

	error_raise(FAILSAFE_APPEND_ONLY, RelationGetRelationName(trigger->tg_relation), NULL);
	return PointerGetDatum(NULL);
}

/* ---------- dropping ---------- */

/* Is there a row in the journal?  Waits for running commands to end. */
static bool
journal_holds_rows(void)
{
	Oid			schema_id = get_namespace_oid(SCHEMA_NAME, true);
	Oid			journal_id = OidIsValid(schema_id) ?
		get_relname_relid("journal", schema_id) : InvalidOid;
	Relation	journal;
	Snapshot	snapshot;
	TableScanDesc scan;
	TupleTableSlot *slot;
	bool		found;

	if (!OidIsValid(journal_id))
		return false;
	journal = table_open(journal_id, ShareLock);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	slot = table_slot_create(journal, NULL);
	scan = table_beginscan(journal, snapshot, 0, NULL);
	found = table_scan_getnextslot(scan, ForwardScanDirection, slot);
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	table_close(journal, NoLock);
	return found;
}

static Oid
extension_owner(void)
{
	Relation	relation = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			owner = InvalidOid;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum(EXTENSION_NAME));
	scan = systable_beginscan(relation, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		owner = ((Form_pg_extension) GETSTRUCT(tuple))->extowner;
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return owner;
}

static Oid
relation_owner(const char *name, Oid schema_id)
{
	Oid			relation_id = get_relname_relid(name, schema_id);
	HeapTuple	tuple;
	Oid			owner;

	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation_id));
	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

static bool
names_include(List *names, const char *wanted)
{
	ListCell   *cell;

	foreach(cell, names)
	{
		Node	   *name = lfirst(cell);

		if (IsA(name, String) && strcmp(strVal(name), wanted) == 0)
			return true;
	}
	return false;
}

/* Would DROP OWNED drop the extension, its schema or its tables? */
static bool
owned_includes_ledger(DropOwnedStmt *statement)
{
	Oid			schema_id = get_namespace_oid(SCHEMA_NAME, true);
	ListCell   *cell;

	foreach(cell, statement->roles)
	{
		Oid			role_id = get_rolespec_oid(lfirst_node(RoleSpec, cell), true);

		if (!OidIsValid(role_id))
			continue;
		if (role_id == extension_owner())
			return true;
		if (OidIsValid(schema_id) && role_id == relation_owner("journal", schema_id))
			return true;
	}
	return false;
}

/* Does the statement drop the books? */
static bool
drops_ledger(Node *statement)
{
	if (IsA(statement, DropOwnedStmt))
		return owned_includes_ledger((DropOwnedStmt *) statement);
	if (IsA(statement, DropStmt))
	{
		DropStmt   *drop = (DropStmt *) statement;

		if (drop->removeType == OBJECT_EXTENSION)
			return names_include(drop->objects, EXTENSION_NAME);
		if (drop->removeType == OBJECT_SCHEMA)
			return names_include(drop->objects, SCHEMA_NAME);
	}
	return false;
}

/* ---------- altering by hand ---------- */

/* Is it a relation in the extension's schema?  One that does not exist is not. */
static bool
relation_is_ours(RangeVar *name)
{
	Oid			relation_id;

	if (name == NULL)
		return false;
	relation_id = RangeVarGetRelid(name, NoLock, true);
	if (!OidIsValid(relation_id))
		return false;
	return get_rel_namespace(relation_id) == get_namespace_oid(SCHEMA_NAME, true);
}

/* Storage, statistics and ownership are the administrator's; all else is ours. */
static bool
alter_table_is_harmless(AlterTableStmt *statement)
{
	ListCell   *cell;

	foreach(cell, statement->cmds)
	{
		switch (lfirst_node(AlterTableCmd, cell)->subtype)
		{
			case AT_SetStatistics:
			case AT_SetOptions:
			case AT_ResetOptions:
			case AT_SetCompression:
			case AT_ClusterOn:
			case AT_DropCluster:
			case AT_SetTableSpace:
			case AT_SetRelOptions:
			case AT_ResetRelOptions:
			case AT_ChangeOwner:
			case AT_ReplicaIdentity:
				break;
			default:
				return false;
		}
	}
	return true;
}

/* DROP INDEX, TRIGGER, RULE or POLICY on a table of ours. */
static bool
drop_touches_ours(DropStmt *drop)
{
	ListCell   *cell;

	foreach(cell, drop->objects)
	{
		List	   *names = (List *) lfirst(cell);

		switch (drop->removeType)
		{
			case OBJECT_INDEX:
				break;
			case OBJECT_TRIGGER:
			case OBJECT_RULE:
			case OBJECT_POLICY:
				/* the last name is the trigger's, those before it the table's */
				names = list_truncate(list_copy(names), list_length(names) - 1);
				break;
			default:
				return false;
		}
		if (names != NIL && relation_is_ours(makeRangeVarFromNameList(names)))
			return true;
	}
	return false;
}

static bool
rename_touches_ours(RenameStmt *statement)
{
	if (statement->renameType == OBJECT_SCHEMA)
		return strcmp(statement->subname, SCHEMA_NAME) == 0;
	return relation_is_ours(statement->relation);
}

/* Does the statement change what the C code relies on? */
static bool
alters_ledger(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_AlterTableStmt:
			return relation_is_ours(((AlterTableStmt *) statement)->relation) &&
				!alter_table_is_harmless((AlterTableStmt *) statement);
		case T_AlterSeqStmt:
			return relation_is_ours(((AlterSeqStmt *) statement)->sequence);
		case T_AlterObjectSchemaStmt:
			return relation_is_ours(((AlterObjectSchemaStmt *) statement)->relation);
		case T_AlterExtensionContentsStmt:
			return ((AlterExtensionContentsStmt *) statement)->action < 0 &&
				strcmp(((AlterExtensionContentsStmt *) statement)->extname,
					   EXTENSION_NAME) == 0;
		case T_RenameStmt:
			return rename_touches_ours((RenameStmt *) statement);
		case T_DropStmt:
			return drop_touches_ours((DropStmt *) statement);
		case T_CreateTrigStmt:
			return relation_is_ours(((CreateTrigStmt *) statement)->relation);
		case T_RuleStmt:
			return relation_is_ours(((RuleStmt *) statement)->relation);
		case T_CreatePolicyStmt:
			return relation_is_ours(((CreatePolicyStmt *) statement)->table);
		default:
			return false;
	}
}

PG_FUNCTION_INFO_V1(failsafe_drop_guard);

Datum
failsafe_drop_guard(PG_FUNCTION_ARGS)
{
	EventTriggerData *trigger = (EventTriggerData *) fcinfo->context;
	Node	   *statement;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("failsafe._drop_guard() can be called as an event trigger only")));
	statement = trigger->parsetree;
	Assert(statement != NULL);
	if (setting_allow_drop || creating_extension || IsBinaryUpgrade)
		return PointerGetDatum(NULL);
	if (drops_ledger(statement))
	{
		if (journal_holds_rows())
			error_raise(FAILSAFE_DROP_REFUSED, NULL, NULL);
	}
	else if (alters_ledger(statement))
		error_raise(FAILSAFE_SCHEMA_PROTECTED, NULL, NULL);
	return PointerGetDatum(NULL);
}
