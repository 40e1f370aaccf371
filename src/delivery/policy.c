/*
 * delivery/policy.c
 *	  How a subscription is delivered: the members of a policy, their bounds, and
 *	  what follows from them when an attempt failed.
 *
 * Everything here is a pure function of its arguments; what a policy cannot be is
 * raised as OPTION_INVALID.
 *
 * Invariants:
 *	Y1	A policy that policy_read() or policy_change() filled in is complete and inside
 *		its bounds.
 *	Y2	Each member is in one table, with its bounds and default: what is read is what
 *		is written.
 *	Y3	A delay is never above cap_ms: nobody outside, by Retry-After, can park an event
 *		for longer than the policy allows.
 *
 * Takes no locks.
 */
#include "postgres.h"

#include "common/shortest_dec.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "base/json.h"
#include "base/options.h"
#include "base/settings.h"
#include "delivery/delivery.h"

#define NAME_SHOWN_BYTES		64
#define DOUBLINGS_MAX			31	/* of base_ms; any more are beyond every cap */

/* A whole number in the policy; group is the object that holds it, NULL: the outermost. */
typedef struct PolicyNumber
{
	const char *group;
	const char *name;
	size_t		offset;
	bool		is_wide;		/* int64, else int */
	int64		low;
	int64		high;
	int64		standard;
} PolicyNumber;

static const PolicyNumber numbers[] = {
	{"retry", "base_ms", offsetof(Policy, retry.base_ms), false,
	RETRY_BASE_MS_MIN, RETRY_CAP_MS_MAX, RETRY_BASE_MS_DEFAULT},
	{"retry", "cap_ms", offsetof(Policy, retry.cap_ms), false,
	RETRY_BASE_MS_MIN, RETRY_CAP_MS_MAX, RETRY_CAP_MS_DEFAULT},
	{"retry", "attempts", offsetof(Policy, retry.attempts), false,
	RETRY_ATTEMPTS_MIN, RETRY_ATTEMPTS_MAX, RETRY_ATTEMPTS_DEFAULT},
	{"retry", "age_s", offsetof(Policy, retry.age_s), false,
	RETRY_AGE_S_MIN, RETRY_AGE_S_MAX, RETRY_AGE_S_DEFAULT},
	{"retry", "budget_percent", offsetof(Policy, retry.budget_percent), false,
	0, RETRY_BUDGET_PERCENT_MAX, RETRY_BUDGET_PERCENT_DEFAULT},
	{"breaker", "failures", offsetof(Policy, breaker.failures), false,
	0, BREAKER_FAILURES_MAX, BREAKER_FAILURES_DEFAULT},
	{"breaker", "open_ms", offsetof(Policy, breaker.open_ms), false,
	BREAKER_OPEN_MS_MIN, BREAKER_OPEN_MS_MAX, BREAKER_OPEN_MS_DEFAULT},
	{NULL, "in_flight", offsetof(Policy, in_flight), false,
	IN_FLIGHT_MIN, IN_FLIGHT_MAX, IN_FLIGHT_DEFAULT},
	{NULL, "timeout_ms", offsetof(Policy, timeout_ms), false,
	TIMEOUT_MS_MIN, TIMEOUT_MS_MAX, TIMEOUT_MS_DEFAULT},
	{"max_lag", "events", offsetof(Policy, max_lag_events), true,
	MAX_LAG_EVENTS_MIN, MAX_LAG_EVENTS_MAX, MAX_LAG_EVENTS_DEFAULT},
	{"max_lag", "age_s", offsetof(Policy, max_lag_s), false,
	MAX_LAG_S_MIN, MAX_LAG_S_MAX, MAX_LAG_S_DEFAULT}
};

static const char *const groups[] = {"retry", "breaker", "max_lag"};

/* ---------- reading ---------- */

static int64
number_get(const Policy *policy, const PolicyNumber *number)
{
	const char *place = (const char *) policy + number->offset;

	return number->is_wide ? *(const int64 *) place : *(const int *) place;
}

static void
number_set(Policy *policy, const PolicyNumber *number, int64 value)
{
	char	   *place = (char *) policy + number->offset;

	Assert(value >= number->low && value <= number->high);
	Assert(number->is_wide || value <= PG_INT32_MAX);
	if (number->is_wide)
		*(int64 *) place = value;
	else
		*(int *) place = (int) value;
}

static const PolicyNumber *
number_find(const char *group, const char *name)
{
	for (int i = 0; i < lengthof(numbers); i++)
	{
		bool		same_group = group == NULL ? numbers[i].group == NULL :
			numbers[i].group != NULL && strcmp(numbers[i].group, group) == 0;

		if (same_group && strcmp(numbers[i].name, name) == 0)
			return &numbers[i];
	}
	return NULL;
}

static void
number_read(const PolicyNumber *number, const char *path, const JsonbValue *json, Policy *policy)
{
	char	   *text;
	char	   *end;
	int64		value;

	if (json->type != jbvNumeric)
		option_refuse(path, "a whole number is expected");
	text = DatumGetCString(DirectFunctionCall1(numeric_out,
											   NumericGetDatum(json->val.numeric)));
	errno = 0;
	value = strtoll(text, &end, 10);
	if (end == text || *end != '\0')
		option_refuse(path, "a whole number is expected");
	if (errno != 0 || value < number->low || value > number->high)
		option_refuse(path, psprintf("%lld to %lld is expected", (long long) number->low,
									 (long long) number->high));
	number_set(policy, number, value);
}

static void
rate_read(const JsonbValue *json, Policy *policy)
{
	double		rate;

	if (json->type != jbvNumeric)
		option_refuse("rate", "a number is expected");
	rate = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow,
											  NumericGetDatum(json->val.numeric)));
	if (rate != 0 && !(rate >= RATE_MIN && rate <= RATE_MAX))
		option_refuse("rate", psprintf("events a second: 0 (no limit), or %g to %.0f",
									   RATE_MIN, RATE_MAX));
	policy->rate = rate;
}

/* "1", "1.0" or "1.0.0": only the first number counts, and there is one so far. */
static void
schema_version_read(const JsonbValue *json, Policy *policy)
{
	const char *major_end = strchr(OUTBOX_SCHEMA_VERSION, '.');
	int			major_length = (int) (major_end - OUTBOX_SCHEMA_VERSION);
	char	   *text;

	if (json->type != jbvString)
		option_refuse("schema_version", "a string is expected");
	text = pnstrdup(json->val.string.val, json->val.string.len);
	if (strspn(text, "0123456789.") != strlen(text) ||
		strncmp(text, OUTBOX_SCHEMA_VERSION, major_length) != 0 ||
		(text[major_length] != '.' && text[major_length] != '\0'))
		option_refuse("schema_version",
					  "this release writes version " OUTBOX_SCHEMA_VERSION);
	strlcpy(policy->schema_version, pnstrdup(text, major_length),
			sizeof(policy->schema_version));
}

static bool
is_group(const char *name)
{
	for (int i = 0; i < lengthof(groups); i++)
		if (strcmp(groups[i], name) == 0)
			return true;
	return false;
}

static void members_read(JsonbContainer *object, const char *group, Policy *policy);

static void
member_read(const char *group, const char *name, JsonbValue *json, Policy *policy)
{
	const char *path = group == NULL ? name : psprintf("%s.%s", group, name);
	const PolicyNumber *number = number_find(group, name);

	if (number != NULL)
	{
		if (json->type != jbvNull)
			number_read(number, path, json, policy);
	}
	else if (group == NULL && is_group(name))
	{
		if (json->type == jbvNull)
			return;
		if (json->type != jbvBinary || !JsonContainerIsObject(json->val.binary.data))
			option_refuse(path, "an object is expected");
		members_read(json->val.binary.data, name, policy);
	}
	else if (group == NULL && strcmp(name, "rate") == 0)
	{
		if (json->type != jbvNull)
			rate_read(json, policy);
	}
	else if (group == NULL && strcmp(name, "schema_version") == 0)
	{
		if (json->type != jbvNull)
			schema_version_read(json, policy);
	}
	else
		option_refuse(path, "the option is not known");
}

/* A JSON null counts as not given. */
static void
members_read(JsonbContainer *object, const char *group, Policy *policy)
{
	JsonbIterator *iterator = JsonbIteratorInit(object);
	JsonbIteratorToken token;
	JsonbValue	json;
	char	   *name = NULL;

	Assert(JsonContainerIsObject(object));
	while ((token = JsonbIteratorNext(&iterator, &json, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			name = pnstrdup(json.val.string.val,
							pg_mbcliplen(json.val.string.val, json.val.string.len,
										 NAME_SHOWN_BYTES));
		else if (token == WJB_VALUE)
		{
			Assert(name != NULL);
			member_read(group, name, &json, policy);
		}
	}
}

void
policy_change(Jsonb *given, Policy *policy)
{
	Assert(policy != NULL);
	if (given == NULL)
		return;
	if (!JB_ROOT_IS_OBJECT(given))
		option_refuse("options", "an object is expected");
	members_read(&given->root, NULL, policy);
	if (policy->retry.cap_ms < policy->retry.base_ms)
		option_refuse("retry.cap_ms", "the cap is not below retry.base_ms");
}

void
policy_read(Jsonb *given, Policy *policy)
{
	memset(policy, 0, sizeof(*policy));
	for (int i = 0; i < lengthof(numbers); i++)
		number_set(policy, &numbers[i], numbers[i].standard);
	policy->rate = 0;
	strlcpy(policy->schema_version,
			pnstrdup(OUTBOX_SCHEMA_VERSION, strcspn(OUTBOX_SCHEMA_VERSION, ".")),
			sizeof(policy->schema_version));
	policy_change(given, policy);
	Assert(policy->retry.attempts >= RETRY_ATTEMPTS_MIN);
	Assert(policy->retry.base_ms <= policy->retry.cap_ms);
}

Jsonb *
policy_to_jsonb(const Policy *policy)
{
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoChar(&out, '{');
	for (int g = 0; g < lengthof(groups); g++)
	{
		StringInfoData group;

		initStringInfo(&group);
		appendStringInfoChar(&group, '{');
		for (int i = 0; i < lengthof(numbers); i++)
			if (numbers[i].group != NULL && strcmp(numbers[i].group, groups[g]) == 0)
				json_member_int64(&group, numbers[i].name, number_get(policy, &numbers[i]));
		appendStringInfoChar(&group, '}');
		json_member_raw(&out, groups[g], group.data);
	}
	for (int i = 0; i < lengthof(numbers); i++)
		if (numbers[i].group == NULL)
			json_member_int64(&out, numbers[i].name, number_get(policy, &numbers[i]));
	json_member_raw(&out, "rate", double_to_shortest_decimal(policy->rate));
	json_member_text(&out, "schema_version", policy->schema_version);
	appendStringInfoChar(&out, '}');
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(out.data)));
}

/* ---------- after a failure ---------- */

int64
retry_delay_ms(const RetryPolicy *policy, int attempt, int64 retry_after_ms, double random)
{
	int64		ceiling_ms = policy->cap_ms;
	int64		delay_ms;

	Assert(attempt >= 1);
	Assert(random >= 0.0 && random < 1.0);
	Assert(policy->base_ms > 0 && policy->base_ms <= policy->cap_ms);
	if (attempt <= DOUBLINGS_MAX)
		ceiling_ms = Min(ceiling_ms, (int64) policy->base_ms << (attempt - 1));
	delay_ms = (int64) (random * (double) ceiling_ms);
	return Max(delay_ms, Min(retry_after_ms, policy->cap_ms));
}

/*
 * due_at is when the next attempt would be.  The limits of the policy and the event
 * are judged by that moment: an attempt that would come too late is not waited for.
 */
RetryVerdict
retry_judge(const RetryPolicy *policy, FailureClass class, int attempt,
			TimestampTz first_attempt_at, TimestampTz due_at, TimestampTz expires_at,
			TimestampTz now)
{
	TimestampTz next = Max(due_at, now);

	Assert(class > CLASS_DELIVERED && class < CLASS_COUNT);
	Assert(attempt >= 1);
	if (class == CLASS_PERMANENT || class == CLASS_GONE)
		return RETRY_NEVER;
	if (attempt >= policy->attempts)
		return RETRY_ATTEMPTS_USED;
	if (expires_at != 0 && next >= expires_at)
		return RETRY_EXPIRED;
	if (next - first_attempt_at > policy->age_s * USECS_PER_SEC)
		return RETRY_TOO_OLD;
	return RETRY_LATER;
}
