/*
 * test/unit/unit_subscription.c
 *	  The pure parts of subscriptions as SQL functions, one call each.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "delivery/delivery.h"

PG_FUNCTION_INFO_V1(unit_policy);
PG_FUNCTION_INFO_V1(unit_retry_delay);
PG_FUNCTION_INFO_V1(unit_retry_judge);
PG_FUNCTION_INFO_V1(unit_patterns);
PG_FUNCTION_INFO_V1(unit_wants);

static const char **
texts(ArrayType *array, int *count)
{
	Datum	   *values;
	const char **items;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &values, NULL, count);
	items = palloc(Max(*count, 1) * sizeof(char *));
	for (int i = 0; i < *count; i++)
		items[i] = TextDatumGetCString(values[i]);
	return items;
}

/* policy(before jsonb, change jsonb) -> what is written of it */
Datum
unit_policy(PG_FUNCTION_ARGS)
{
	Policy		policy;

	policy_read(PG_ARGISNULL(0) ? NULL : PG_GETARG_JSONB_P(0), &policy);
	policy_change(PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1), &policy);
	PG_RETURN_JSONB_P(policy_to_jsonb(&policy));
}

/* retry_delay(base_ms, cap_ms, attempt, retry_after_ms, random) */
Datum
unit_retry_delay(PG_FUNCTION_ARGS)
{
	RetryPolicy policy = {.base_ms = PG_GETARG_INT32(0), .cap_ms = PG_GETARG_INT32(1)};

	PG_RETURN_INT64(retry_delay_ms(&policy, PG_GETARG_INT32(2), PG_GETARG_INT64(3),
								   PG_GETARG_FLOAT8(4)));
}

/* retry_judge(attempts, age_s, class, attempt, first_s, due_s, expires_s, now_s) */
Datum
unit_retry_judge(PG_FUNCTION_ARGS)
{
	static const char *const verdicts[] = {
		[RETRY_LATER] = "later",
		[RETRY_ATTEMPTS_USED] = "attempts",
		[RETRY_TOO_OLD] = "old",
		[RETRY_EXPIRED] = "expired",
		[RETRY_NEVER] = "never"
	};
	RetryPolicy policy = {.attempts = PG_GETARG_INT32(0), .age_s = PG_GETARG_INT32(1)};
	RetryVerdict verdict = retry_judge(&policy, (FailureClass) PG_GETARG_INT32(2),
									   PG_GETARG_INT32(3),
									   PG_GETARG_INT32(4) * USECS_PER_SEC,
									   PG_GETARG_INT32(5) * USECS_PER_SEC,
									   PG_GETARG_INT32(6) * USECS_PER_SEC,
									   PG_GETARG_INT32(7) * USECS_PER_SEC);

	PG_RETURN_TEXT_P(cstring_to_text(verdicts[verdict]));
}

/* patterns(text[], event_type) */
Datum
unit_patterns(PG_FUNCTION_ARGS)
{
	int			count;
	const char **patterns = texts(PG_GETARG_ARRAYTYPE_P(0), &count);

	PG_RETURN_BOOL(event_patterns_match(patterns, count,
										text_to_cstring(PG_GETARG_TEXT_PP(1))));
}

/* wants(tenants int[], all_tenants, regions text[], tenant, region): of tenant 1 */
Datum
unit_wants(PG_FUNCTION_ARGS)
{
	static const char *patterns[] = {"*"};
	ArrayType  *tenants = PG_GETARG_ARRAYTYPE_P(0);
	Subscription subscription = {.tenant_id = 1, .pattern_count = 1, .patterns = patterns};
	DeliveryEvent event = {.event_type = "a.b", .tenant_id = PG_GETARG_INT32(3)};

	subscription.tenant_count = ArrayGetNItems(ARR_NDIM(tenants), ARR_DIMS(tenants));
	subscription.tenants = (int32 *) ARR_DATA_PTR(tenants);
	subscription.all_tenants = PG_GETARG_BOOL(1);
	subscription.regions = texts(PG_GETARG_ARRAYTYPE_P(2), &subscription.region_count);
	event.region = PG_ARGISNULL(4) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(4));
	PG_RETURN_BOOL(subscription_wants(&subscription, &event));
}
