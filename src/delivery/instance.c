/*
 * delivery/instance.c
 *	  Is this the database that was told to deliver?  Owns failsafe.instance.
 *
 * A dump, a file copy, a template or a clone carries the subscriptions of the database
 * that it was made from.  If it sent, receivers would get everything twice.  So the row in
 * failsafe.instance names the cluster, the database and the outbox, and where they are
 * not the ones at hand nothing is sent until a person calls adopt() [I10].
 *
 * A physical copy of the whole cluster (a promoted standby, a restored base backup) has
 * the same names; the promoted standby must deliver, and of a copy that must not,
 * failsafe.delivery = off says so.
 *
 * Invariants:
 *	A1	The newest row of failsafe.instance counts; rows are only added.
 *	A2	Only the first subscription, and adopt(), add one.
 *	A3	After adopt() no number below one that was used is drawn again, and what the
 *		positions knew about running transactions is asked anew: the numbers stay open,
 *		the transaction ids, which mean nothing here, go.
 *
 * Lock order: instance -> position rows -> sequences of the outbox.  A sequence is locked
 * only to be raised, and never waited for.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"

#include "base/actor.h"
#include "base/errors.h"
#include "base/options.h"
#include "base/row.h"
#include "base/settings.h"
#include "base/text.h"
#include "base/version.h"
#include "delivery/statement.h"
#include "delivery/subscription.h"

#define ADOPT_COLUMNS	2
#define STATE_COLUMNS	2

static const char *const lane_sequences[OUTBOX_LANES] = {
	"outbox_seq_0", "outbox_seq_1", "outbox_seq_2", "outbox_seq_3"
};

typedef struct Instance
{
	int64		system_identifier;
	Oid			database_id;
	Oid			outbox_id;
} Instance;

static void
instance_here(Instance *instance)
{
	instance->system_identifier = (int64) GetSystemIdentifier();
	instance->database_id = MyDatabaseId;
	instance->outbox_id = row_relation_id("outbox");
	Assert(OidIsValid(instance->database_id) && OidIsValid(instance->outbox_id));
}

/* ---------- reading ---------- */

static Statement newest_statement = {
	"SELECT i.system_identifier, i.database_id, i.outbox_id FROM failsafe.instance AS i "
	"ORDER BY i.id DESC LIMIT 1", 0, {0}
};
static Statement subscribed_statement = {
	"SELECT EXISTS (SELECT FROM failsafe.subscription)", 0, {0}
};

/* The newest row; false: there is none. */
static bool
instance_read(Instance *instance)
{
	Arguments	arguments = {0};
	StatementScope scope = statement_begin(false);
	bool		found = statement_read(&newest_statement, &arguments) > 0;
	bool		isnull;

	if (found)
	{
		instance->system_identifier = column_int64(0, 0);
		instance->database_id = DatumGetObjectId(column_datum(0, 1, &isnull));
		instance->outbox_id = DatumGetObjectId(column_datum(0, 2, &isnull));
	}
	statement_end(scope);
	return found;
}

static bool
has_subscriptions(void)
{
	Arguments	arguments = {0};
	StatementScope scope = statement_begin(false);
	bool		result;

	(void) statement_read(&subscribed_statement, &arguments);
	result = column_bool(0, 0);
	statement_end(scope);
	return result;
}

bool
instance_is_adopted(const char **reason)
{
	Instance	here;
	Instance	adopted;

	Assert(reason != NULL);
	*reason = NULL;
	instance_here(&here);
	if (!instance_read(&adopted))
		*reason = has_subscriptions() ? "nothing says which database was told to deliver" :
			"no subscription yet";
	else if (adopted.system_identifier != here.system_identifier)
		*reason = "another database cluster was told to deliver: this one was restored or copied";
	else if (adopted.database_id != here.database_id)
		*reason = "another database of this cluster was told to deliver: this one is its copy";
	else if (adopted.outbox_id != here.outbox_id)
		*reason = "another outbox was told to deliver: the tables of this one were restored";
	return *reason == NULL;
}

void
instance_require_adopted(void)
{
	StringInfoData detail;
	const char *reason;

	if (instance_is_adopted(&reason))
		return;
	error_detail_begin(&detail, FAILSAFE_NOT_ADOPTED);
	error_detail_text(&detail, "reason", reason);
	error_detail_end(&detail);
	error_raise(FAILSAFE_NOT_ADOPTED, NULL, detail.data);
}

/* ---------- writing ---------- */

static Statement insert_statement = {
	"INSERT INTO failsafe.instance "
	"(id, system_identifier, database_id, outbox_id, adopted_at, actor_id, reason) "
	"VALUES (pg_catalog.nextval('failsafe.instance_id_seq'), $1, $2, $3, "
	"pg_catalog.clock_timestamp(), $4, $5)",
	5, {INT8OID, OIDOID, OIDOID, INT8OID, TEXTOID}
};

static void
instance_insert(const char *reason)
{
	int64		actor_id = actor_current();
	Arguments	arguments = {0};
	StatementScope scope;
	Instance	here;

	Assert(reason != NULL);
	instance_here(&here);
	argument_int64(&arguments, here.system_identifier);
	argument_datum(&arguments, ObjectIdGetDatum(here.database_id), false);
	argument_datum(&arguments, ObjectIdGetDatum(here.outbox_id), false);
	argument_int64(&arguments, actor_id);
	argument_cstring(&arguments, reason);
	scope = statement_begin(true);
	(void) statement_write(&insert_statement, &arguments);
	statement_end(scope);
}

/* Two first subscriptions at once may add two rows that say the same. */
void
instance_adopt_first(void)
{
	Instance	adopted;

	if (!instance_read(&adopted) && !has_subscriptions())
		instance_insert("first subscription");
}

/* ---------- adopt() ---------- */

static Statement highest_statement = {
	"SELECT GREATEST("
	"(SELECT max(o.seq) FROM failsafe.outbox AS o WHERE o.slot BETWEEN $1 * 16 AND $1 * 16 + 15), "
	"(SELECT max(p.high) FROM failsafe.position AS p WHERE p.lane = $1))",
	1, {INT4OID}
};
static Statement raise_statement = {
	"SELECT pg_catalog.setval($1::pg_catalog.oid::pg_catalog.regclass, $2)", 2, {OIDOID, INT8OID}
};

/* The highest number of a lane that was drawn, as far as the tables know. */
static int64
lane_highest(int lane)
{
	Arguments	arguments = {0};

	argument_int32(&arguments, lane);
	(void) statement_read(&highest_statement, &arguments);
	return column_int64(0, 0);
}

/* Make sure that the lane's sequence is not behind its numbers; true: it was raised [A3]. */
static bool
sequence_raise(int lane)
{
	int64		highest = lane_highest(lane);
	Oid			sequence_id = row_relation_id(lane_sequences[lane]);
	Arguments	arguments = {0};

	if (reader_last_number(lane) >= highest)
		return false;
	/* whoever has drawn from it holds a weaker lock until its transaction ends */
	if (!ConditionalLockRelationOid(sequence_id, ShareRowExclusiveLock))
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("the outbox is in use while its numbers must be raised"),
				 errhint("Keep applications from writing, then call adopt() again.")));
	if (reader_last_number(lane) >= highest)
		return false;
	argument_datum(&arguments, ObjectIdGetDatum(sequence_id), false);
	argument_int64(&arguments, highest);
	(void) statement_read(&raise_statement, &arguments);
	ereport(NOTICE,
			(errmsg("sequence \"failsafe.%s\" was behind its events and is now at " INT64_FORMAT,
					lane_sequences[lane], highest)));
	return true;
}

/* Transaction ids of another cluster mean nothing: ask again for each open number. */
static void
open_numbers_ask_again(void)
{
	int			count;
	Subscription *subscriptions = subscriptions_read(0, &count);

	for (int i = 0; i < count; i++)
	{
		Position	positions[OUTBOX_LANES];

		positions_lock(subscriptions[i].id);
		positions_read(subscriptions[i].id, positions);
		for (int lane = 0; lane < OUTBOX_LANES; lane++)
		{
			for (int k = 0; k < positions[lane].open_count; k++)
				positions[lane].open[k].horizon = 0;
			if (positions[lane].open_count > 0)
				position_write(&positions[lane]);
		}
	}
}

static char *
adopt_reason(FunctionCallInfo fcinfo)
{
	char	   *reason;

	if (PG_ARGISNULL(0))
		error_raise_field(FAILSAFE_VALUE_REQUIRED, "reason", "the argument is NULL");
	reason = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (!text_is_clean(reason, 1, REASON_BYTES_MAX))
		error_raise_field(FAILSAFE_TEXT_INVALID, "reason", NULL);
	return reason;
}

/* Make this the database that delivers; the sequences that had to be raised. */
static void
instance_adopt(const char *reason, TextList *raised)
{
	StatementScope scope;

	raised->count = 0;
	raised->items = palloc(OUTBOX_LANES * sizeof(char *));
	scope = statement_begin(true);
	instance_insert(reason);
	open_numbers_ask_again();
	for (int lane = 0; lane < OUTBOX_LANES; lane++)
		if (sequence_raise(lane))
			raised->items[raised->count++] = lane_sequences[lane];
	worker_wake_at_commit();
	statement_end(scope);
}

PG_FUNCTION_INFO_V1(failsafe_adopt);

/* adopt(reason text, options jsonb) -> changed bool, raised text[] */
Datum
failsafe_adopt(PG_FUNCTION_ARGS)
{
	char	   *reason = adopt_reason(fcinfo);
	const char *problem;
	Datum		values[ADOPT_COLUMNS];
	bool		nulls[ADOPT_COLUMNS] = {false};
	TupleDesc	descriptor;
	TextList	raised = {0};
	bool		changed;

	version_check();
	PreventCommandIfReadOnly("adopt()");
	PreventCommandDuringRecovery("adopt()");
	PreventCommandIfParallelMode("adopt()");
	options_read(PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1), NULL, 0, NULL);
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("adopt() cannot run in a REPEATABLE READ or SERIALIZABLE transaction"),
				 errhint("Call it in a READ COMMITTED transaction.")));
	if (get_call_result_type(fcinfo, NULL, &descriptor) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	/* in the database that delivers, positions and sequences are right as they are */
	changed = !instance_is_adopted(&problem);
	if (changed)
		instance_adopt(reason, &raised);
	values[0] = BoolGetDatum(changed);
	values[1] = PointerGetDatum(text_list_to_array(&raised));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(descriptor),
													  values, nulls)));
}

PG_FUNCTION_INFO_V1(failsafe_instance_state);

/* _instance_state() -> adopted bool, reason text */
Datum
failsafe_instance_state(PG_FUNCTION_ARGS)
{
	Datum		values[STATE_COLUMNS] = {0};
	bool		nulls[STATE_COLUMNS] = {false};
	TupleDesc	descriptor;
	const char *reason;

	if (get_call_result_type(fcinfo, NULL, &descriptor) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	Assert(descriptor->natts == STATE_COLUMNS);
	values[0] = BoolGetDatum(instance_is_adopted(&reason));
	nulls[1] = reason == NULL;
	if (reason != NULL)
		values[1] = CStringGetTextDatum(reason);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(descriptor),
													  values, nulls)));
}
