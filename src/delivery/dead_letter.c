/*
 * delivery/dead_letter.c
 *	  Dead letters: reads one for sending, discards, and removes what is old.
 *
 * States: dead -> replaying -> replayed, or back to dead; dead -> discarded (README.md).
 *
 * Invariants:
 *	L1	Only age removes a dead letter, and only one that was replayed or discarded.
 *	L2	Only a dead one is discarded: what a replay has is the replay's until it ends.
 *	L3	Who discards, and why, is on the row and in subscription_change.
 *
 * Lock order: dead letters by id.  Two calls that discard the same ones wait for each
 * other; the second finds nothing left to do.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/actor.h"
#include "base/errors.h"
#include "base/options.h"
#include "base/settings.h"
#include "base/text.h"
#include "base/version.h"
#include "delivery/dead_letter.h"
#include "delivery/statement.h"

#define DISCARD_IDS_MAX		100000
#define PRUNE_ROWS_MAX		100000

/* ---------- statements ---------- */

static Statement fetch_event = {
	"SELECT l.lane::int4, l.seq, l.event_id, l.tenant_id, l.priority::int4, l.occurred_at, "
	"l.expires_at, l.event_type, l.order_key, l.payload::text, l.headers::text, l.subject, "
	"l.region, l.trace_id, l.traceparent "
	"FROM failsafe.dead_letter AS l WHERE l.id = $1",
	1, {INT8OID}
};

/* One line in subscription_change for each subscription that is concerned. */
static Statement discard = {
	"WITH chosen AS MATERIALIZED ("
	"SELECT l.id FROM failsafe.dead_letter AS l "
	"WHERE l.id = ANY ($1) AND l.state = 'dead' "
	"AND l.tenant_id = ANY ((SELECT failsafe._report_tenants())::int4[]) "
	"ORDER BY l.id FOR UPDATE), "
	"gone AS ("
	"UPDATE failsafe.dead_letter AS l SET state = 'discarded', resolution = $2, "
	"resolved_by = $3, resolved_at = pg_catalog.clock_timestamp() "
	"FROM chosen WHERE l.id = chosen.id RETURNING l.subscription_id), "
	"noted AS ("
	"INSERT INTO failsafe.subscription_change (id, subscription_id, changed_at, actor_id, "
	"tenant_id, name, action, detail, reason) "
	"SELECT pg_catalog.nextval('failsafe.subscription_change_id_seq'), s.id, "
	"pg_catalog.clock_timestamp(), $3, s.tenant_id, s.name, 'dead_letters_discarded', "
	"pg_catalog.jsonb_build_object('count', g.count), $2 "
	"FROM (SELECT subscription_id, pg_catalog.count(*) FROM gone GROUP BY subscription_id) AS g "
	"JOIN failsafe.subscription AS s ON s.id = g.subscription_id) "
	"SELECT pg_catalog.count(*) FROM gone",
	3, {INT8ARRAYOID, TEXTOID, INT8OID}
};

static Statement prune_attempts = {
	"DELETE FROM failsafe.attempt WHERE ctid = ANY (ARRAY("
	"SELECT a.ctid FROM failsafe.attempt AS a WHERE a.started_at < $1 "
	"ORDER BY a.started_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
	2, {TIMESTAMPTZOID, INT8OID}
};

static Statement prune_dead_letters = {
	"DELETE FROM failsafe.dead_letter WHERE ctid = ANY (ARRAY("
	"SELECT l.ctid FROM failsafe.dead_letter AS l "
	"WHERE l.resolved_at < $1 AND l.state IN ('replayed', 'discarded') "
	"ORDER BY l.resolved_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
	2, {TIMESTAMPTZOID, INT8OID}
};

/* The worker may have written a row while the subscription was being dropped. */
static Statement prune_orphans = {
	"DELETE FROM failsafe.delivery AS d WHERE NOT EXISTS "
	"(SELECT FROM failsafe.subscription AS s WHERE s.id = d.subscription_id)", 0
};

/* ---------- reading ---------- */

static const char *
copy_text(MemoryContext context, int column)
{
	char	   *text = column_text(0, column);

	return text != NULL ? MemoryContextStrdup(context, text) : NULL;
}

bool
dead_letter_fetch(int64 id, DeliveryEvent *event)
{
	MemoryContext caller = CurrentMemoryContext;
	Arguments	arguments = {0};
	StatementScope scope = statement_begin(false);
	bool		found;
	bool		is_null;

	Assert(id > 0);
	argument_int64(&arguments, id);
	found = statement_read(&fetch_event, &arguments) > 0;
	if (found)
	{
		memset(event, 0, sizeof(*event));
		event->lane = column_int32(0, 0);
		event->seq = column_int64(0, 1);
		event->event_id = *DatumGetUUIDP(column_datum(0, 2, &is_null));
		event->tenant_id = column_int32(0, 3);
		event->priority = column_int32(0, 4);
		event->occurred_at = column_time(0, 5);
		event->expires_at = column_time(0, 6);
		event->event_type = copy_text(caller, 7);
		event->order_key = copy_text(caller, 8);
		event->payload = copy_text(caller, 9);
		event->headers = copy_text(caller, 10);
		event->subject = copy_text(caller, 11);
		event->region = copy_text(caller, 12);
		event->trace_id = copy_text(caller, 13);
		event->traceparent = copy_text(caller, 14);
		Assert(event->event_type != NULL && event->order_key != NULL);
	}
	statement_end(scope);
	return found;
}

/* ---------- discarding ---------- */

void
dead_letter_check_call(const char *function)
{
	version_check();
	PreventCommandIfReadOnly(function);
	PreventCommandIfParallelMode(function);
}

char *
dead_letter_required_reason(FunctionCallInfo fcinfo, int argument)
{
	char	   *reason;

	if (PG_ARGISNULL(argument))
		error_raise_field(FAILSAFE_VALUE_REQUIRED, "reason", "the argument is NULL");
	reason = text_to_cstring(PG_GETARG_TEXT_PP(argument));
	if (!text_is_clean(reason, 1, REASON_BYTES_MAX))
		error_raise_field(FAILSAFE_TEXT_INVALID, "reason",
						  "expected are 1 to 1000 bytes without control characters");
	return reason;
}

static Datum
required_ids(FunctionCallInfo fcinfo, int argument)
{
	ArrayType  *ids;
	int			count;

	if (PG_ARGISNULL(argument))
		error_raise_field(FAILSAFE_VALUE_REQUIRED, "ids", "the argument is NULL");
	ids = PG_GETARG_ARRAYTYPE_P(argument);
	count = ArrayGetNItems(ARR_NDIM(ids), ARR_DIMS(ids));
	if (count < 1 || count > DISCARD_IDS_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("ids must have between 1 and %d elements", DISCARD_IDS_MAX)));
	return PointerGetDatum(ids);
}

PG_FUNCTION_INFO_V1(failsafe_dlq_discard);

/* dlq_discard(ids int8[], reason text, options jsonb) -> int8 */
Datum
failsafe_dlq_discard(PG_FUNCTION_ARGS)
{
	Arguments	arguments = {0};
	StatementScope scope;
	Datum		ids;
	char	   *reason;
	int64		actor_id;
	int64		count;

	dead_letter_check_call("dlq_discard()");
	ids = required_ids(fcinfo, 0);
	reason = dead_letter_required_reason(fcinfo, 1);
	options_read(PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2), NULL, 0, NULL);
	actor_id = actor_current(); /* may write a row, in a bracket of its own */
	scope = statement_begin(true);
	argument_datum(&arguments, ids, false);
	argument_cstring(&arguments, reason);
	argument_int64(&arguments, actor_id);
	(void) statement_write(&discard, &arguments);
	count = column_int64(0, 0);
	statement_end(scope);
	Assert(count >= 0 && count <= DISCARD_IDS_MAX);
	PG_RETURN_INT64(count);
}

/* ---------- retention ---------- */

static int64
prune(Statement *statement, int retention_s, int max_rows)
{
	Arguments	arguments = {0};

	Assert(retention_s > 0);
	Assert(max_rows > 0 && max_rows <= PRUNE_ROWS_MAX);
	argument_time(&arguments, GetCurrentTimestamp() - retention_s * USECS_PER_SEC);
	argument_int64(&arguments, max_rows);
	return (int64) statement_write(statement, &arguments);
}

PG_FUNCTION_INFO_V1(failsafe_delivery_prune);

/* delivery_prune(max_rows int, options jsonb) -> attempts, dead_letters */
Datum
failsafe_delivery_prune(PG_FUNCTION_ARGS)
{
	int			max_rows = PG_ARGISNULL(0) ? 0 : PG_GETARG_INT32(0);
	Arguments	none = {0};
	StatementScope scope;
	TupleDesc	descriptor;
	Datum		values[2];
	bool		nulls[2] = {false, false};

	dead_letter_check_call("delivery_prune()");
	options_read(PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1), NULL, 0, NULL);
	if (max_rows < 1 || max_rows > PRUNE_ROWS_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_rows must be between 1 and %d", PRUNE_ROWS_MAX)));
	if (get_call_result_type(fcinfo, NULL, &descriptor) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	scope = statement_begin(true);
	values[0] = Int64GetDatum(prune(&prune_attempts, setting_attempt_retention_s, max_rows));
	values[1] = Int64GetDatum(prune(&prune_dead_letters, setting_dead_letter_retention_s,
									max_rows));
	(void) statement_write(&prune_orphans, &none);
	statement_end(scope);
	Assert(descriptor->natts == lengthof(values));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(descriptor), values,
													  nulls)));
}
