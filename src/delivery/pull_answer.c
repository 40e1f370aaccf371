/*
 * delivery/pull_answer.c
 *	  outbox_ack(), outbox_nack(), outbox_extend(): what a program that pulls says about
 *	  the events that it has claimed.  The invariants and the lock order are in pull.c.
 */
#include "postgres.h"

#include "access/skey.h"
#include "access/stratnum.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/commit.h"
#include "base/compat.h"
#include "base/errors.h"
#include "base/options.h"
#include "base/row.h"
#include "base/settings.h"
#include "base/tenant.h"
#include "base/text.h"
#include "base/version.h"
#include "delivery/dead_letter.h"
#include "delivery/pull.h"
#include "delivery/reason.h"
#include "delivery/replay.h"
#include "delivery/record.h"
#include "delivery/statement.h"
#include "delivery/subscription.h"

#define CODE_NACK			"nack"
#define ACK_COLUMNS			2
#define NACK_COLUMNS		2

/* ---------- outbox_ack() ---------- */

static int64 *
int64_array(FunctionCallInfo fcinfo, int argument, const char *name, int *count)
{
	Datum	   *values;
	bool	   *nulls;
	int64	   *numbers;

	if (PG_ARGISNULL(argument))
		error_raise_field(FAILSAFE_VALUE_REQUIRED, name, "the argument is NULL");
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(argument), INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &values, &nulls, count);
	if (*count > CLAIM_EVENTS_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s has more than %d elements", name, CLAIM_EVENTS_MAX)));
	numbers = palloc(Max(*count, 1) * sizeof(int64));
	for (int i = 0; i < *count; i++)
	{
		if (nulls[i])
			error_raise_field(FAILSAFE_VALUE_REQUIRED, name, "an element is NULL");
		numbers[i] = DatumGetInt64(values[i]);
	}
	return numbers;
}

/* Is the caller the one to whom the row is leased?  Else: "stale" or "unknown" [U2]. */
static const char *
lease_refused(PullCall *call, int64 id, int64 fence, Delivery *delivery)
{
	if (!pull_delivery(call, id, delivery))
		return "unknown";
	if (delivery->state != DELIVERY_LEASED || delivery->fence != fence)
		return "stale";
	return NULL;
}

static const char *
delivery_ack(PullCall *call, int64 id, int64 fence)
{
	Delivery	delivery;
	AttemptResult result;
	const char *refused = lease_refused(call, id, fence, &delivery);

	if (refused != NULL)
		return refused;
	pull_result(call, CLASS_DELIVERED, "", NULL, &result);
	delivery_done(&delivery, &result);
	call->positions[delivery.lane].done++;
	pull_key_release(call, &delivery);
	return "acked";
}

static void
status_return(ReturnSetInfo *result, int64 id, const char *status)
{
	Datum		values[ACK_COLUMNS] = {Int64GetDatum(id), CStringGetTextDatum(status)};
	bool		nulls[ACK_COLUMNS] = {false};

	Assert(result->setDesc->natts == ACK_COLUMNS);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

PG_FUNCTION_INFO_V1(failsafe_outbox_ack);

/* outbox_ack(subscription text, delivery_ids int8[], fences int8[]) -> delivery_id, status */
Datum
failsafe_outbox_ack(PG_FUNCTION_ARGS)
{
	PullCall	call;
	char	   *name = pull_text(fcinfo, 0, "subscription");
	int			count;
	int			fence_count;
	int64	   *ids = int64_array(fcinfo, 1, "delivery_ids", &count);
	int64	   *fences = int64_array(fcinfo, 2, "fences", &fence_count);
	int64		done[OUTBOX_LANES];

	pull_check_call("outbox_ack()");
	options_read(PG_ARGISNULL(3) ? NULL : PG_GETARG_JSONB_P(3), NULL, 0, NULL);
	if (count != fence_count)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("delivery_ids has %d elements and fences has %d", count, fence_count)));
	InitMaterializedSRF(fcinfo, 0);
	pull_begin(&call, name);
	commit_write_begin();
	pull_lock(&call);
	for (int lane = 0; lane < OUTBOX_LANES; lane++)
		done[lane] = call.positions[lane].done;
	for (int i = 0; i < count; i++)
		status_return((ReturnSetInfo *) fcinfo->resultinfo, ids[i],
					  delivery_ack(&call, ids[i], fences[i]));
	for (int lane = 0; lane < OUTBOX_LANES; lane++)
		if (call.positions[lane].done != done[lane])
			position_write(&call.positions[lane]);
	commit_write_end();
	return (Datum) 0;
}

/* ---------- outbox_nack() ---------- */

enum
{
	NACK_RETRY_AFTER_MS,
	NACK_PERMANENT,
	NACK_OPTIONS
};

static const OptionSpec nack_options[NACK_OPTIONS] = {
	{"retry_after_ms", OPTION_INT},
	{"permanent", OPTION_BOOL}
};

static void
nack_options_read(Jsonb *json, OptionValue *options)
{
	options_read(json, nack_options, NACK_OPTIONS, options);
	if (options[NACK_RETRY_AFTER_MS].given &&
		(options[NACK_RETRY_AFTER_MS].number < 0 ||
		 options[NACK_RETRY_AFTER_MS].number > RETRY_CAP_MS_MAX))
		option_refuse("retry_after_ms", "0 to 86400000 is expected");
}

static bool
delivery_nack(PullCall *call, Delivery *delivery, const char *reason, const OptionValue *options)
{
	bool		permanent = options[NACK_PERMANENT].boolean;
	int64		retry_after_ms = options[NACK_RETRY_AFTER_MS].given ?
		options[NACK_RETRY_AFTER_MS].number : -1;
	AttemptResult result;
	int64		delay_ms;

	pull_result(call, permanent ? CLASS_PERMANENT : CLASS_TEMPORARY, CODE_NACK, reason,
				   &result);
	result.retry_after_ms = retry_after_ms;
	delay_ms = retry_delay_ms(&call->subscription->policy.retry, delivery->attempts + 1,
							  retry_after_ms, pg_prng_double(&pg_global_prng_state));
	Assert(delay_ms >= 0);
	return pull_failed(call, delivery, &result, call->now + delay_ms * 1000);
}

static char *
reason_read(FunctionCallInfo fcinfo, int argument)
{
	char	   *reason = pull_text(fcinfo, argument, "reason");

	if (!text_is_clean(reason, 1, REASON_BYTES_MAX))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("reason must have 1 to %d bytes without control characters",
						REASON_BYTES_MAX)));
	return reason;
}

static Datum
nack_return(FunctionCallInfo fcinfo, const char *status, TimestampTz due_at)
{
	TupleDesc	descriptor;
	Datum		values[NACK_COLUMNS];
	bool		nulls[NACK_COLUMNS] = {false};

	if (get_call_result_type(fcinfo, NULL, &descriptor) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	Assert(descriptor->natts == NACK_COLUMNS);
	values[0] = CStringGetTextDatum(status);
	values[1] = TimestampTzGetDatum(due_at);
	nulls[1] = due_at == 0;
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(descriptor), values, nulls));
}

PG_FUNCTION_INFO_V1(failsafe_outbox_nack);

/*
 * outbox_nack(subscription text, delivery_id int8, fence int8, reason text, options jsonb)
 *		-> status, due_at
 */
Datum
failsafe_outbox_nack(PG_FUNCTION_ARGS)
{
	PullCall	call;
	char	   *name = pull_text(fcinfo, 0, "subscription");
	int64		id = pull_int64(fcinfo, 1, "delivery_id");
	int64		fence = pull_int64(fcinfo, 2, "fence");
	char	   *reason = reason_read(fcinfo, 3);
	OptionValue options[NACK_OPTIONS];
	Delivery	delivery;
	const char *status;

	pull_check_call("outbox_nack()");
	nack_options_read(PG_ARGISNULL(4) ? NULL : PG_GETARG_JSONB_P(4), options);
	pull_begin(&call, name);
	commit_write_begin();
	pull_lock(&call);
	delivery.due_at = 0;
	status = lease_refused(&call, id, fence, &delivery);
	if (status == NULL)
		status = delivery_nack(&call, &delivery, reason, options) ? "waiting" : "dead";
	if (call.snapshot != NULL)
		UnregisterSnapshot(call.snapshot);
	commit_write_end();
	PG_RETURN_DATUM(nack_return(fcinfo, status,
								strcmp(status, "waiting") == 0 ? delivery.due_at : 0));
}

/* ---------- outbox_extend() ---------- */

PG_FUNCTION_INFO_V1(failsafe_outbox_extend);

/*
 * outbox_extend(subscription text, delivery_id int8, fence int8, lease interval)
 *		-> timestamptz
 */
Datum
failsafe_outbox_extend(PG_FUNCTION_ARGS)
{
	PullCall	call;
	char	   *name = pull_text(fcinfo, 0, "subscription");
	int64		id = pull_int64(fcinfo, 1, "delivery_id");
	int64		fence = pull_int64(fcinfo, 2, "fence");
	int64		lease_us = pull_lease(fcinfo, 3);
	Delivery	delivery;
	bool		refused;

	pull_check_call("outbox_extend()");
	options_read(PG_ARGISNULL(4) ? NULL : PG_GETARG_JSONB_P(4), NULL, 0, NULL);
	pull_begin(&call, name);
	commit_write_begin();
	pull_lock(&call);
	refused = lease_refused(&call, id, fence, &delivery) != NULL;
	if (!refused)
	{
		delivery.due_at = call.now + lease_us;
		delivery_update(&delivery, NULL, NULL);
	}
	commit_write_end();
	if (refused)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(delivery.due_at);
}
