/*
 * delivery/worker_hook.c
 *	  Watches for statements that need a database without its worker, or that make
 *	  or unmake the extension.
 *
 * Invariants:
 *	H1	Only who may run the statement can send a worker away: the owner of the
 *		database, or a superuser.
 *	H2	A hold ends with the transaction that took it, however that ends; what it
 *		could not do in time, the statement itself reports.
 *	H3	This is for speed and certainty.  Where the library is not loaded, the worker
 *		sees the statement's lock on its database and leaves on its own (worker.c).
 *
 * Waits for the worker before the statement has any lock.
 */
#include "postgres.h"

#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/acl.h"

#include "base/compat.h"
#include "delivery/worker.h"
#include "delivery/worker_slot.h"

#define EXTENSION_NAME	"pg_failsafe"

static ProcessUtility_hook_type previous_process_utility_hook = NULL;

/* The value of an option as a name, or NULL. */
static const char *
option_name(List *options, const char *name)
{
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, name) == 0 && option->arg != NULL)
			return defGetString(option);
	}
	return NULL;
}

static bool
drops_extension(DropStmt *statement)
{
	ListCell   *cell;

	if (statement->removeType != OBJECT_EXTENSION)
		return false;
	foreach(cell, statement->objects)
		if (strcmp(strVal(lfirst(cell)), EXTENSION_NAME) == 0)
			return true;
	return false;
}

/* The database that the statement needs without connections, or NULL.  Pure. */
static const char *
database_to_empty(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_DropdbStmt:
			return ((DropdbStmt *) statement)->dbname;
		case T_RenameStmt:
			if (((RenameStmt *) statement)->renameType == OBJECT_DATABASE)
				return ((RenameStmt *) statement)->subname;
			return NULL;
		case T_AlterDatabaseStmt:
			if (option_name(((AlterDatabaseStmt *) statement)->options, "tablespace") != NULL)
				return ((AlterDatabaseStmt *) statement)->dbname;
			return NULL;
		case T_CreatedbStmt:
			return option_name(((CreatedbStmt *) statement)->options, "template");
		default:
			return NULL;
	}
}

static Oid
database_to_hold(Node *statement)
{
	const char *name;

	if (IsA(statement, DropStmt) && drops_extension((DropStmt *) statement))
		return MyDatabaseId;
	name = database_to_empty(statement);
	return name != NULL ? get_database_oid(name, true) : InvalidOid;
}

static void
before_statement(Node *statement)
{
	Oid			database_id = database_to_hold(statement);

	if (OidIsValid(database_id) &&
		(superuser() || database_ownercheck_compat(database_id, GetUserId())))
		worker_hold_database(database_id);
}

/* What a statement leaves to do when it has run. */
typedef enum Aftermath
{
	AFTER_NOTHING,
	AFTER_EXTENSION,			/* there may be an extension where none was, or a new version */
	AFTER_DATABASE				/* the list of databases changed */
} Aftermath;

/* Pure.  Asked before the statement runs: some free their own tree. */
static Aftermath
aftermath_of(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_CreateExtensionStmt:
		case T_AlterExtensionStmt:
			return AFTER_EXTENSION;
		case T_CreatedbStmt:
		case T_DropdbStmt:
		case T_AlterDatabaseStmt:
			return AFTER_DATABASE;
		default:
			return AFTER_NOTHING;
	}
}

static void
after_statement(Aftermath aftermath)
{
	if (aftermath == AFTER_DATABASE)
		worker_rescan_at_commit();
	if (aftermath == AFTER_EXTENSION && OidIsValid(get_extension_oid(EXTENSION_NAME, true)))
		worker_hint_at_commit();
}

static void
worker_process_utility(PlannedStmt *planned, const char *query, bool read_only_tree,
					   ProcessUtilityContext context, ParamListInfo parameters,
					   QueryEnvironment *environment, DestReceiver *receiver,
					   QueryCompletion *completion)
{
	Aftermath	aftermath = AFTER_NOTHING;

	if (workers != NULL)
	{
		aftermath = aftermath_of(planned->utilityStmt);
		before_statement(planned->utilityStmt);
	}
	if (previous_process_utility_hook != NULL)
		previous_process_utility_hook(planned, query, read_only_tree, context, parameters,
									  environment, receiver, completion);
	else
		standard_ProcessUtility(planned, query, read_only_tree, context, parameters,
								environment, receiver, completion);
	if (aftermath != AFTER_NOTHING)
		after_statement(aftermath);
}

void
worker_hook_init(void)
{
	previous_process_utility_hook = ProcessUtility_hook;
	ProcessUtility_hook = worker_process_utility;
}
