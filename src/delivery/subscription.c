/*
 * delivery/subscription.c
 *	  The SQL functions about subscriptions, and the only writer of
 *	  failsafe.subscription and failsafe.subscription_change.
 *
 * Invariants:
 *	U1	Each change draws a new generation, writes an append-only row with actor and
 *		reason, and wakes the worker at commit.  What already is so changes nothing.
 *	U2	A subscription is found by its name in the session's tenant; what it may hear of
 *		others was decided by an operator (definition.c).
 *	U3	A position only moves back here; moving it forward would lose events [D2].
 *	U4	Rows of failsafe.delivery above a position that was moved back go: their events
 *		are read again, and D1 says that they are in one place only.
 *
 * Lock order: instance -> subscription row -> position rows -> dead letters ->
 * deliveries -> the outbox.  A row that another transaction changes is waited for no
 * longer than failsafe.lock_wait (55P03).
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "base/actor.h"
#include "base/commit.h"
#include "base/errors.h"
#include "base/json.h"
#include "base/options.h"
#include "base/settings.h"
#include "base/tenant.h"
#include "base/text.h"
#include "base/version.h"
#include "delivery/statement.h"
#include "delivery/subscription.h"

PG_FUNCTION_INFO_V1(failsafe_subscription_create);
PG_FUNCTION_INFO_V1(failsafe_subscription_alter);
PG_FUNCTION_INFO_V1(failsafe_subscription_pause);
PG_FUNCTION_INFO_V1(failsafe_subscription_resume);
PG_FUNCTION_INFO_V1(failsafe_subscription_drop);
PG_FUNCTION_INFO_V1(failsafe_subscription_rewind);

#define DROP_COLUMNS	4

/* ---------- arguments ---------- */

static void
surface_begin(const char *function)
{
	version_check();
	PreventCommandIfReadOnly(function);
	PreventCommandDuringRecovery(function);
	PreventCommandIfParallelMode(function);
}

/* An older snapshot would not see what the worker has done since. */
static void
require_read_committed(const char *function)
{
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("%s cannot run in a REPEATABLE READ or SERIALIZABLE transaction",
						function),
				 errdetail("The transaction's snapshot may be older than the position of the subscription."),
				 errhint("Call it in a READ COMMITTED transaction.")));
}

static char *
required_text(FunctionCallInfo fcinfo, int argument, const char *name)
{
	if (PG_ARGISNULL(argument))
		error_raise_field(FAILSAFE_VALUE_REQUIRED, name, "the argument is NULL");
	return text_to_cstring(PG_GETARG_TEXT_PP(argument));
}

static char *
required_reason(FunctionCallInfo fcinfo, int argument)
{
	char	   *reason = required_text(fcinfo, argument, "reason");

	if (!text_is_clean(reason, 1, REASON_BYTES_MAX))
		error_raise_field(FAILSAFE_TEXT_INVALID, "reason", NULL);
	return reason;
}

static Jsonb *
jsonb_or_null(FunctionCallInfo fcinfo, int argument)
{
	return PG_ARGISNULL(argument) ? NULL : PG_GETARG_JSONB_P(argument);
}

static void
check_name(const char *name)
{
	if (!text_is_clean(name, 1, SUBSCRIPTION_NAME_BYTES_MAX) ||
		strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") !=
		strlen(name))
		error_raise_field(FAILSAFE_SUBSCRIPTION_INVALID, "name",
						  "a name has 1 to 63 letters, digits, '_', '-' and '.'");
}

void
subscription_refuse(FailsafeCode code, const char *name, const char *field)
{
	StringInfoData detail;

	error_detail_begin(&detail, code);
	error_detail_text(&detail, "subscription", name);
	error_detail_text(&detail, "field", field);
	error_detail_end(&detail);
	error_raise(code, field != NULL ? field :
				psprintf("\"%.*s\"", pg_mbcliplen(name, strlen(name), SUBSCRIPTION_NAME_BYTES_MAX),
						 name), detail.data);
}

/* ---------- rows ---------- */

enum
{
	ROW_ID,						/* columns of the statements below */
	ROW_STATE,
	ROW_SINK,
	ROW_CONFIG,
	ROW_EVENT_TYPES,
	ROW_ORDERING,
	ROW_ON_BLOCKED,
	ROW_TENANTS,
	ROW_REGIONS,
	ROW_POLICY
};

#define FIND \
	"SELECT s.id, s.state, s.sink, s.config::pg_catalog.text, s.event_types, s.ordering, " \
	"s.on_blocked, s.tenants, s.regions, s.policy " \
	"FROM failsafe.subscription AS s WHERE s.tenant_id = $1 AND s.name = $2"

static Statement find_statement = {FIND, 2, {INT4OID, TEXTOID}};
static Statement lock_statement = {FIND " FOR UPDATE", 2, {INT4OID, TEXTOID}};

static void
list_from_column(int column, TextList *list)
{
	bool		isnull;
	Datum		value = column_datum(0, column, &isnull);

	list->count = 0;
	list->items = NULL;
	if (!isnull)
		text_list_from_array(DatumGetArrayTypeP(value), list);
}

static void
definition_from_row(const char *name, Definition *definition)
{
	bool		isnull;

	memset(definition, 0, sizeof(*definition));
	definition->name = name;
	definition->id = column_int64(0, ROW_ID);
	for (int i = SUBSCRIPTION_ACTIVE; i <= SUBSCRIPTION_DISABLED; i++)
		if (strcmp(subscription_state_names[i], column_text(0, ROW_STATE)) == 0)
			definition->state = (SubscriptionState) i;
	definition->sink = column_text(0, ROW_SINK);
	definition->config =
		DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(column_text(0, ROW_CONFIG))));
	list_from_column(ROW_EVENT_TYPES, &definition->event_types);
	definition->ordering = column_text(0, ROW_ORDERING);
	definition->on_blocked = column_text(0, ROW_ON_BLOCKED);
	list_from_column(ROW_TENANTS, &definition->tenants);
	list_from_column(ROW_REGIONS, &definition->regions);
	policy_read(DatumGetJsonbPCopy(column_datum(0, ROW_POLICY, &isnull)), &definition->policy);
	Assert(definition->id > 0);
}

/* The subscription of this name, in the memory of the SPI; false: none. */
static bool
definition_find(const char *name, Definition *definition, Statement *statement)
{
	Arguments	arguments = {0};

	argument_int32(&arguments, tenant_current());
	argument_cstring(&arguments, name);
	if (statement_read(statement, &arguments) == 0)
		return false;
	definition_from_row(name, definition);
	return true;
}

/* Run a look-up or an insert that may wait for another transaction, lock_wait at most. */
static bool
with_lock_wait(bool (*run) (const char *name, Definition *definition, Statement *statement),
			   const char *name, Definition *definition, Statement *statement)
{
	int			saved_timeout = LockTimeout;
	volatile bool result = false;

	PG_TRY();
	{
		if (LockTimeout == 0 || setting_lock_wait_ms < LockTimeout)
			LockTimeout = setting_lock_wait_ms;
		result = run(name, definition, statement);
	}
	PG_FINALLY();
	{
		LockTimeout = saved_timeout;
	}
	PG_END_TRY();
	return result;
}

/* Lock it for a change; raises SUBSCRIPTION_UNKNOWN, and 55P03 after lock_wait. */
static void
definition_lock(const char *name, Definition *definition)
{
	if (!with_lock_wait(definition_find, name, definition, &lock_statement))
		subscription_refuse(FAILSAFE_SUBSCRIPTION_UNKNOWN, name, NULL);
	definition_check_rights(definition);
}

static void
argument_list(Arguments *arguments, const TextList *list)
{
	argument_datum(arguments, PointerGetDatum(text_list_to_array(list)), false);
}

/* NULL in the table where the list is empty. */
static void
argument_list_or_null(Arguments *arguments, const TextList *list)
{
	argument_datum(arguments,
				   list->count > 0 ? PointerGetDatum(text_list_to_array(list)) : (Datum) 0,
				   list->count == 0);
}

static void
argument_definition(Arguments *arguments, const Definition *definition)
{
	argument_cstring(arguments, JsonbToCString(NULL, &definition->config->root,
											VARSIZE(definition->config)));
	argument_list(arguments, &definition->event_types);
	argument_cstring(arguments, definition->on_blocked);
	argument_list_or_null(arguments, &definition->tenants);
	argument_list_or_null(arguments, &definition->regions);
	argument_datum(arguments, JsonbPGetDatum(policy_to_jsonb(&definition->policy)), false);
}

static Statement insert_statement = {
	"INSERT INTO failsafe.subscription (id, generation, created_at, tenant_id, actor_id, state, "
	"name, sink, ordering, config, event_types, on_blocked, tenants, regions, policy) "
	"VALUES (pg_catalog.nextval('failsafe.subscription_id_seq'), "
	"pg_catalog.nextval('failsafe.subscription_generation_seq'), pg_catalog.clock_timestamp(), "
	"$1, $2, 'active', $3, $4, $5, $6::pg_catalog.json, $7, $8, $9, $10, $11) "
	"ON CONFLICT (tenant_id, name) DO NOTHING RETURNING id",
	11, {INT4OID, INT8OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTARRAYOID, TEXTOID,
	TEXTARRAYOID, TEXTARRAYOID, JSONBOID}
};

/* False: somebody else was faster. */
static bool
definition_insert(const char *name, Definition *definition, Statement *statement)
{
	Arguments	arguments = {0};

	argument_int32(&arguments, tenant_current());
	argument_int64(&arguments, definition->actor_id);
	argument_cstring(&arguments, name);
	argument_cstring(&arguments, definition->sink);
	argument_cstring(&arguments, definition->ordering);
	argument_definition(&arguments, definition);
	if (statement_write(statement, &arguments) == 0)
		return false;
	definition->id = column_int64(0, 0);
	return true;
}

static Statement update_statement = {
	"UPDATE failsafe.subscription SET generation = "
	"pg_catalog.nextval('failsafe.subscription_generation_seq'), config = $2::pg_catalog.json, "
	"event_types = $3, on_blocked = $4, tenants = $5, regions = $6, policy = $7 WHERE id = $1",
	7, {INT8OID, TEXTOID, TEXTARRAYOID, TEXTOID, TEXTARRAYOID, TEXTARRAYOID, JSONBOID}
};

static void
definition_update(const Definition *definition)
{
	Arguments	arguments = {0};

	argument_int64(&arguments, definition->id);
	argument_definition(&arguments, definition);
	if (statement_write(&update_statement, &arguments) != 1)
		elog(ERROR, "subscription \"%s\" has vanished", definition->name);
}

static Statement state_statement = {
	"UPDATE failsafe.subscription SET generation = "
	"pg_catalog.nextval('failsafe.subscription_generation_seq'), state = $2, state_reason = $3 "
	"WHERE id = $1 AND state <> $2 RETURNING tenant_id, name, sink",
	3, {INT8OID, TEXTOID, TEXTOID}
};

/* True: it was in another state; tenant, name and sink are in SPI_tuptable. */
static bool
state_write(int64 id, SubscriptionState state, const char *reason)
{
	Arguments	arguments = {0};

	Assert(state >= SUBSCRIPTION_ACTIVE && state <= SUBSCRIPTION_DISABLED);
	argument_int64(&arguments, id);
	argument_cstring(&arguments, subscription_state_names[state]);
	argument_cstring(&arguments, reason);
	return statement_write(&state_statement, &arguments) == 1;
}

static Statement generation_statement = {
	"UPDATE failsafe.subscription SET generation = "
	"pg_catalog.nextval('failsafe.subscription_generation_seq') WHERE id = $1",
	1, {INT8OID}
};

static Statement change_statement = {
	"INSERT INTO failsafe.subscription_change (id, subscription_id, changed_at, actor_id, "
	"tenant_id, name, action, detail, reason) "
	"VALUES (pg_catalog.nextval('failsafe.subscription_change_id_seq'), $1, "
	"pg_catalog.clock_timestamp(), $2, $3, $4, $5, $6::pg_catalog.jsonb, $7)",
	7, {INT8OID, INT8OID, INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID}
};

/* The line in subscription_change, and the worker's wake-up [U1]. */
static void
change_insert(int64 id, int32 tenant_id, const char *name, int64 actor_id, const char *action,
			  const char *detail, const char *reason)
{
	Arguments	arguments = {0};

	Assert(id > 0 && actor_id > 0);
	argument_int64(&arguments, id);
	argument_int64(&arguments, actor_id);
	argument_int32(&arguments, tenant_id);
	argument_cstring(&arguments, name);
	argument_cstring(&arguments, action);
	argument_cstring(&arguments, detail);
	argument_cstring(&arguments, reason);
	(void) statement_write(&change_statement, &arguments);
	worker_wake_at_commit();
}

static Statement info_statement = {
	"SELECT s.name, s.sink, s.state, $2, t.name, s.event_types, s.ordering, s.on_blocked, "
	"s.tenants, s.regions, failsafe._config_shown(s.config), s.policy, s.created_at "
	"FROM failsafe.subscription AS s JOIN failsafe.tenant AS t ON t.id = s.tenant_id "
	"WHERE s.id = $1",
	2, {INT8OID, BOOLOID}
};

/* subscription_info, as the row is now. */
static Datum
subscription_info(FunctionCallInfo fcinfo, int64 id, bool created)
{
	Arguments	arguments = {0};
	TupleDesc	descriptor;
	StatementScope scope;
	HeapTupleHeader tuple;

	if (get_call_result_type(fcinfo, NULL, &descriptor) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	argument_int64(&arguments, id);
	argument_datum(&arguments, BoolGetDatum(created), false);
	scope = statement_begin(false);
	if (statement_read(&info_statement, &arguments) != 1)
		elog(ERROR, "subscription " INT64_FORMAT " has vanished", id);
	Assert(descriptor->natts == SPI_tuptable->tupdesc->natts);
	tuple = SPI_returntuple(SPI_tuptable->vals[0], BlessTupleDesc(descriptor));
	statement_end(scope);
	return HeapTupleHeaderGetDatum(tuple);
}

/* ---------- create ---------- */

static Statement count_statement = {
	"SELECT count(*) FROM failsafe.subscription", 0, {0}
};

/* Two that are created at the same moment may be one too many; the bound is no promise. */
static void
check_count(void)
{
	Arguments	arguments = {0};

	(void) statement_read(&count_statement, &arguments);
	if (column_int64(0, 0) >= SUBSCRIPTIONS_MAX)
		error_raise_field(FAILSAFE_SUBSCRIPTION_INVALID, "name",
						  psprintf("a database has at most %d subscriptions", SUBSCRIPTIONS_MAX));
}

/* (name, sink, config, event_types, ordering, options) */
static void
create_arguments(FunctionCallInfo fcinfo, Definition *definition)
{
	memset(definition, 0, sizeof(*definition));
	definition->name = required_text(fcinfo, 0, "name");
	check_name(definition->name);
	definition->sink = required_text(fcinfo, 1, "sink");
	definition->config = PG_ARGISNULL(2) ?
		DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}"))) :
		PG_GETARG_JSONB_P(2);
	if (PG_ARGISNULL(3))
		error_raise_field(FAILSAFE_VALUE_REQUIRED, "event_types", "the argument is NULL");
	text_list_from_array(PG_GETARG_ARRAYTYPE_P(3), &definition->event_types);
	definition->ordering = required_text(fcinfo, 4, "ordering");
	definition->on_blocked = "block";
	definition->start = "now";
	policy_read(NULL, &definition->policy);
	definition_check(definition);
	definition_options(jsonb_or_null(fcinfo, 5), true, definition);
}

static void
create_compare(const Definition *wanted, const Definition *found)
{
	const char *field = definition_conflict(found, wanted);

	if (field != NULL)
		subscription_refuse(FAILSAFE_SUBSCRIPTION_CONFLICT, wanted->name, field);
}

Datum
failsafe_subscription_create(PG_FUNCTION_ARGS)
{
	Definition	wanted;
	Definition	found;
	StatementScope scope;
	bool		created = false;

	surface_begin("subscription_create()");
	create_arguments(fcinfo, &wanted);
	instance_adopt_first();
	instance_require_adopted();
	wanted.actor_id = actor_current();
	scope = statement_begin(true);
	if (!definition_find(wanted.name, &found, &find_statement))
	{
		check_count();
		created = with_lock_wait(definition_insert, wanted.name, &wanted, &insert_statement);
		if (!created && !definition_find(wanted.name, &found, &find_statement))
			subscription_refuse(FAILSAFE_SUBSCRIPTION_CONFLICT, wanted.name, NULL);
	}
	if (created)
	{
		positions_start(wanted.id, wanted.start, wanted.start_at);
		change_insert(wanted.id, tenant_current(), wanted.name, wanted.actor_id, "created", NULL,
					  NULL);
		definition_notices(&wanted);
	}
	else
	{
		create_compare(&wanted, &found);
		wanted.id = found.id;
	}
	statement_end(scope);
	PG_RETURN_DATUM(subscription_info(fcinfo, wanted.id, created));
}

/* ---------- alter, pause, resume ---------- */

/* subscription_alter(name, config, event_types, reason, options); NULL leaves a thing */
Datum
failsafe_subscription_alter(PG_FUNCTION_ARGS)
{
	char	   *name = required_text(fcinfo, 0, "name");
	char	   *reason = required_reason(fcinfo, 3);
	int64		actor_id;
	Definition	before;
	Definition	after;
	StatementScope scope;
	char	   *detail;

	surface_begin("subscription_alter()");
	actor_id = actor_current();
	scope = statement_begin(true);
	definition_lock(name, &before);
	after = before;
	if (!PG_ARGISNULL(1))
		after.config = PG_GETARG_JSONB_P(1);
	if (!PG_ARGISNULL(2))
		text_list_from_array(PG_GETARG_ARRAYTYPE_P(2), &after.event_types);
	definition_check(&after);
	definition_options(jsonb_or_null(fcinfo, 4), false, &after);
	detail = definition_difference(&before, &after);
	if (detail != NULL)
	{
		definition_update(&after);
		change_insert(after.id, tenant_current(), name, actor_id, "altered", detail, reason);
		if (!text_list_equal(&before.event_types, &after.event_types))
			definition_notices(&after);
	}
	statement_end(scope);
	PG_RETURN_DATUM(subscription_info(fcinfo, after.id, false));
}

/* What a person does to the state; from says which states it is done to. */
static Datum
change_state(FunctionCallInfo fcinfo, SubscriptionState state, bool from_active,
			 const char *action)
{
	char	   *name = required_text(fcinfo, 0, "name");
	char	   *reason = required_reason(fcinfo, 1);
	int64		actor_id = actor_current();
	StatementScope scope;
	Definition	definition;

	options_read(jsonb_or_null(fcinfo, 2), NULL, 0, NULL);
	scope = statement_begin(true);
	definition_lock(name, &definition);
	if ((definition.state == SUBSCRIPTION_ACTIVE) == from_active &&
		state_write(definition.id, state, state == SUBSCRIPTION_ACTIVE ? NULL : reason))
		change_insert(definition.id, tenant_current(), name, actor_id, action, NULL, reason);
	statement_end(scope);
	return subscription_info(fcinfo, definition.id, false);
}

/* subscription_pause(name, reason, options): a disabled one stays as it is */
Datum
failsafe_subscription_pause(PG_FUNCTION_ARGS)
{
	surface_begin("subscription_pause()");
	PG_RETURN_DATUM(change_state(fcinfo, SUBSCRIPTION_PAUSED, true, "paused"));
}

/* subscription_resume(name, reason, options): paused and disabled ones go on */
Datum
failsafe_subscription_resume(PG_FUNCTION_ARGS)
{
	surface_begin("subscription_resume()");
	instance_require_adopted();
	PG_RETURN_DATUM(change_state(fcinfo, SUBSCRIPTION_ACTIVE, false, "resumed"));
}

/* ---------- drop ---------- */

/* What goes, or stays behind, with the subscription. */
typedef struct Remains
{
	int64		deliveries;
	int64		dead_letters;	/* that nobody has resolved */
	bool		unread;			/* events that it has not read yet */
} Remains;

static Statement remains_statement = {
	"SELECT (SELECT count(*) FROM failsafe.delivery AS d WHERE d.subscription_id = $1), "
	"(SELECT count(*) FROM failsafe.dead_letter AS l "
	"WHERE l.subscription_id = $1 AND l.state IN ('dead', 'replaying'))",
	1, {INT8OID}
};

/* Is there an event after the position that the subscription wants?  Moves nothing. */
static bool
lane_has_unread(const Subscription *subscription, Position *position, Snapshot snapshot)
{
	for (;;)
	{
		int64		before = position->high;
		int			count;

		(void) reader_read(position, subscription, snapshot, 1, &count);
		if (count > 0)
			return true;
		if (position->high <= before)
			return false;
		CHECK_FOR_INTERRUPTS();
	}
}

static bool
has_unread(int64 id)
{
	Position	positions[OUTBOX_LANES];
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	Subscription *subscription;
	int			count;
	bool		unread = false;

	subscription = subscriptions_read(id, &count);
	Assert(count == 1);
	positions_read(id, positions);
	for (int lane = 0; lane < OUTBOX_LANES && !unread; lane++)
		unread = lane_has_unread(subscription, &positions[lane], snapshot);
	UnregisterSnapshot(snapshot);
	return unread;
}

static void
remains_count(int64 id, Remains *remains)
{
	Arguments	arguments = {0};

	argument_int64(&arguments, id);
	(void) statement_read(&remains_statement, &arguments);
	remains->deliveries = column_int64(0, 0);
	remains->dead_letters = column_int64(0, 1);
	remains->unread = has_unread(id);
}

static void
remains_refuse(const char *name, const Remains *remains)
{
	StringInfoData detail;

	error_detail_begin(&detail, FAILSAFE_SUBSCRIPTION_BUSY);
	error_detail_text(&detail, "subscription", name);
	error_detail_raw(&detail, "deliveries", psprintf(INT64_FORMAT, remains->deliveries));
	error_detail_raw(&detail, "dead_letters", psprintf(INT64_FORMAT, remains->dead_letters));
	error_detail_raw(&detail, "unread", remains->unread ? "true" : "false");
	error_detail_end(&detail);
	error_raise(FAILSAFE_SUBSCRIPTION_BUSY, NULL, detail.data);
}

static char *
remains_detail(const Definition *definition, const Remains *remains)
{
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoChar(&out, '{');
	json_member_text(&out, "sink", definition->sink);
	json_member_int64(&out, "deliveries", remains->deliveries);
	json_member_int64(&out, "dead_letters", remains->dead_letters);
	json_member_bool(&out, "unread", remains->unread);
	appendStringInfoChar(&out, '}');
	return out.data;
}

/* In the lock order of the room. */
static Statement remove_statements[] = {
	{"DELETE FROM failsafe.subscription WHERE id = $1 "
	"RETURNING pg_catalog.nextval('failsafe.subscription_generation_seq')", 1, {INT8OID}},
	{"DELETE FROM failsafe.position WHERE subscription_id = $1", 1, {INT8OID}},
	{"UPDATE failsafe.replay SET state = 'canceled', ended_at = pg_catalog.clock_timestamp() "
	"WHERE subscription_id = $1 AND state IN ('running', 'paused')", 1, {INT8OID}},
	{"UPDATE failsafe.dead_letter SET state = 'dead', replay_id = NULL "
	"WHERE subscription_id = $1 AND state = 'replaying'", 1, {INT8OID}},
	{"DELETE FROM failsafe.delivery WHERE subscription_id = $1", 1, {INT8OID}}
};

static void
subscription_remove(int64 id)
{
	Arguments	arguments = {0};

	argument_int64(&arguments, id);
	for (int i = 0; i < lengthof(remove_statements); i++)
		(void) statement_write(&remove_statements[i], &arguments);
}

/* subscription_drop(name, force, reason, options) -> name, deliveries, dead_letters, unread */
Datum
failsafe_subscription_drop(PG_FUNCTION_ARGS)
{
	char	   *name = required_text(fcinfo, 0, "name");
	bool		force = !PG_ARGISNULL(1) && PG_GETARG_BOOL(1);
	char	   *reason = required_reason(fcinfo, 2);
	Datum		values[DROP_COLUMNS];
	bool		nulls[DROP_COLUMNS] = {false};
	TupleDesc	descriptor;
	StatementScope scope;
	Definition	definition;
	Remains		remains;
	int64		actor_id;

	surface_begin("subscription_drop()");
	require_read_committed("subscription_drop()");
	options_read(jsonb_or_null(fcinfo, 3), NULL, 0, NULL);
	if (get_call_result_type(fcinfo, NULL, &descriptor) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	actor_id = actor_current();
	scope = statement_begin(true);
	definition_lock(name, &definition);
	positions_lock(definition.id);
	remains_count(definition.id, &remains);
	if (!force && (remains.deliveries > 0 || remains.dead_letters > 0 || remains.unread))
		remains_refuse(name, &remains);
	subscription_remove(definition.id);
	change_insert(definition.id, tenant_current(), name, actor_id, "dropped",
				  remains_detail(&definition, &remains), reason);
	statement_end(scope);

	values[0] = CStringGetTextDatum(name);
	values[1] = Int64GetDatum(remains.deliveries);
	values[2] = Int64GetDatum(remains.dead_letters);
	values[3] = BoolGetDatum(remains.unread);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(descriptor),
													  values, nulls)));
}

/* ---------- rewind ---------- */

static Statement forget_statement = {
	"DELETE FROM failsafe.delivery "
	"WHERE subscription_id = $1 AND lane = $2 AND seq > $3 AND dead_letter_id IS NULL",
	3, {INT8OID, INT4OID, INT8OID}
};

/* Move every lane back, none forward [U3]; how many rows of delivery went [U4]. */
static int64
positions_move_back(int64 id, const char *start, TimestampTz start_at)
{
	Position	before[OUTBOX_LANES];
	Position	after[OUTBOX_LANES];
	int64		forgotten = 0;

	positions_lock(id);
	positions_read(id, before);
	positions_start(id, start, start_at);
	positions_read(id, after);
	for (int lane = 0; lane < OUTBOX_LANES; lane++)
	{
		Arguments	arguments = {0};

		if (after[lane].high >= before[lane].high)
		{
			position_write(&before[lane]);
			continue;
		}
		argument_int64(&arguments, id);
		argument_int32(&arguments, lane);
		argument_int64(&arguments, after[lane].high);
		forgotten += (int64) statement_write(&forget_statement, &arguments);
	}
	return forgotten;
}

static char *
rewind_detail(const char *start, TimestampTz start_at, int64 forgotten)
{
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoChar(&out, '{');
	if (start_at != 0)
		json_member_time(&out, "start", start_at);
	else
		json_member_text(&out, "start", start);
	json_member_int64(&out, "deliveries", forgotten);
	appendStringInfoChar(&out, '}');
	return out.data;
}

static Datum
subscription_rewind(FunctionCallInfo fcinfo, const char *start, TimestampTz start_at)
{
	char	   *name = required_text(fcinfo, 0, "name");
	char	   *reason = required_reason(fcinfo, 2);
	int64		actor_id = actor_current();
	Arguments	arguments = {0};
	StatementScope scope;
	Definition	definition;
	int64		forgotten;

	options_read(jsonb_or_null(fcinfo, 3), NULL, 0, NULL);
	instance_require_adopted();
	scope = statement_begin(true);
	definition_lock(name, &definition);
	forgotten = positions_move_back(definition.id, start, start_at);
	argument_int64(&arguments, definition.id);
	(void) statement_write(&generation_statement, &arguments);
	change_insert(definition.id, tenant_current(), name, actor_id, "rewound",
				  rewind_detail(start, start_at, forgotten), reason);
	statement_end(scope);
	return subscription_info(fcinfo, definition.id, false);
}

Datum
failsafe_subscription_rewind(PG_FUNCTION_ARGS)
{
	TimestampTz start_at;

	surface_begin("subscription_rewind()");
	require_read_committed("subscription_rewind()");
	if (PG_ARGISNULL(1))
		error_raise_field(FAILSAFE_VALUE_REQUIRED, "start", "the argument is NULL");
	start_at = PG_GETARG_TIMESTAMPTZ(1);
	if (start_at > GetCurrentTimestamp())
		option_refuse("start", "the time is in the future");
	if (TIMESTAMP_NOT_FINITE(start_at))
		PG_RETURN_DATUM(subscription_rewind(fcinfo, "beginning", 0));
	PG_RETURN_DATUM(subscription_rewind(fcinfo, "time", start_at));
}

/* ---------- the worker's own change ---------- */

/* what: paused, disabled, breaker_opened, lag_exceeded; it ends the event's type. */
static void
state_event(int32 tenant_id, const char *name, const char *sink, const char *what,
			const char *reason)
{
	OutboxEvent event = {.priority = OUTBOX_PRIORITY_APPLICATION};
	StringInfoData payload;

	event.event_type = psprintf("failsafe.subscription.%s", what);
	if (!settings_event_type_enabled(event.event_type))
		return;
	initStringInfo(&payload);
	appendStringInfoChar(&payload, '{');
	json_member_text(&payload, "subscription", name);
	json_member_text(&payload, "sink", sink);
	json_member_text(&payload, "state", what);
	json_member_text(&payload, "reason", reason);
	appendStringInfoChar(&payload, '}');
	event.tenant_id = tenant_id;
	event.order_key = name;
	event.payload = payload.data;
	event.payload_length = payload.len;
	event.occurred_at = GetCurrentTimestamp();
	outbox_append(&event, 1);
}

void
subscription_set_state(int64 id, SubscriptionState state, const char *reason)
{
	int64		actor_id = actor_current();
	StatementScope scope;

	Assert(id > 0 && reason != NULL);
	Assert(state == SUBSCRIPTION_PAUSED || state == SUBSCRIPTION_DISABLED);
	scope = statement_begin(true);
	if (state_write(id, state, reason))
	{
		int32		tenant_id = column_int32(0, 0);
		char	   *name = column_text(0, 1);
		char	   *sink = column_text(0, 2);

		change_insert(id, tenant_id, name, actor_id, subscription_state_names[state], NULL, reason);
		state_event(tenant_id, name, sink, subscription_state_names[state], reason);
	}
	statement_end(scope);
}

static void
subscription_emit(const Subscription *subscription, const char *what, const char *reason)
{
	StatementScope scope = statement_begin(true);

	Assert(subscription->id > 0);
	state_event(subscription->tenant_id, subscription->name, subscription->sink, what, reason);
	statement_end(scope);
}

void
subscription_emit_breaker(const Subscription *subscription, const char *reason)
{
	subscription_emit(subscription, "breaker_opened", reason);
}

void
subscription_emit_lag(const Subscription *subscription, const char *reason)
{
	subscription_emit(subscription, "lag_exceeded", reason);
}
