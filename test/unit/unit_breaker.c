/*
 * test/unit/unit_breaker.c
 *	  The pure parts of the delivery: breaker, rate, retry budget, a replay's pace, and
 *	  the reason of a dead letter.  unit_breaker.sql has the expectations.
 */
#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"

#include "delivery/breaker.h"
#include "delivery/reason.h"
#include "delivery/replay.h"

PG_FUNCTION_INFO_V1(unit_destination);
PG_FUNCTION_INFO_V1(unit_replay_pace);
PG_FUNCTION_INFO_V1(unit_dead_reason);
PG_FUNCTION_INFO_V1(unit_fuzz_destination);

#define BEGINNING		(INT64CONST(1000000) * USECS_PER_SEC)	/* a full second */

static FailureClass
class_of(const char *name)
{
	for (int i = 0; i < CLASS_COUNT; i++)
		if (strcmp(failure_class_names[i], name) == 0)
			return (FailureClass) i;
	elog(ERROR, "no class \"%s\"", name);
}

/* Ask count times; "N", or "N until MS why" where the last one was refused. */
static void
step_ask(StringInfo out, Destination *destination, const Policy *policy, bool is_retry,
		 int count, int64 now)
{
	DestinationRefusal refusal = DESTINATION_ALLOWED;
	int64		until = 0;
	int			allowed = 0;

	for (int i = 0; i < count && refusal == DESTINATION_ALLOWED; i++)
	{
		refusal = destination_allows(destination, policy, is_retry, now, &until);
		if (refusal == DESTINATION_ALLOWED)
			allowed++;
	}
	appendStringInfo(out, "%d", allowed);
	if (refusal != DESTINATION_ALLOWED)
		appendStringInfo(out, " %s %lld", destination_refusal_names[refusal],
						 (long long) (until - BEGINNING + 999) / 1000);
}

/*
 * A destination's story: steps "MS first COUNT", "MS retry COUNT" and
 * "MS note CLASS RETRY_AFTER_MS"; the answers of the asking steps, with the breaker's
 * state after a note, separated by commas.
 */
Datum
unit_destination(PG_FUNCTION_ARGS)
{
	Policy		policy = {0};
	Destination destination = {0};
	char	   *rest = text_to_cstring(PG_GETARG_TEXT_PP(4));
	StringInfoData out;
	char	   *step;

	policy.breaker.failures = PG_GETARG_INT32(0);
	policy.breaker.open_ms = PG_GETARG_INT32(1);
	policy.rate = PG_GETARG_FLOAT8(2);
	policy.retry.budget_percent = PG_GETARG_INT32(3);
	policy.retry.cap_ms = 60000;
	initStringInfo(&out);
	while ((step = strsep(&rest, ",")) != NULL)
	{
		long long	at_ms;
		char		what[16];
		char		argument[16];
		int			number = 0;
		int64		now;

		if (sscanf(step, "%lld %15s %15s %d", &at_ms, what, argument, &number) < 3)
			elog(ERROR, "no step: %s", step);
		now = BEGINNING + at_ms * 1000;
		if (out.len > 0)
			appendStringInfoString(&out, ", ");
		if (strcmp(what, "note") == 0)
		{
			bool		opened = destination_note(&destination, &policy, class_of(argument),
												  number == 0 ? -1 : number, now);

			appendStringInfo(&out, "%s%s", breaker_state_names[destination.breaker.state],
							 opened ? "!" : "");
		}
		else
			step_ask(&out, &destination, &policy, strcmp(what, "retry") == 0,
					 atoi(argument), now);
	}
	PG_RETURN_TEXT_P(cstring_to_text(out.data));
}

/* Take at each of the times (ms) what is allowed: how many, each time. */
Datum
unit_replay_pace(PG_FUNCTION_ARGS)
{
	double		rate = PG_GETARG_FLOAT8(0);
	char	   *rest = text_to_cstring(PG_GETARG_TEXT_PP(1));
	TimestampTz paced_from = 0;
	int64		taken = 0;
	StringInfoData out;
	char	   *time;

	initStringInfo(&out);
	while ((time = strsep(&rest, " ")) != NULL)
	{
		int64		allowed = replay_allowance(rate, taken, BEGINNING + atoll(time) * 1000,
											   &paced_from);

		taken += allowed;
		appendStringInfo(&out, "%s%lld", out.len > 0 ? " " : "", (long long) allowed);
	}
	PG_RETURN_TEXT_P(cstring_to_text(out.data));
}

/* (verdict, sink, attempts, elapsed_s, class, status, code, reason, response) */
Datum
unit_dead_reason(PG_FUNCTION_ARGS)
{
	AttemptResult last = {0};
	RetryVerdict verdict = (RetryVerdict) PG_GETARG_INT32(0);
	const char *class;
	char	   *reason;

	last.class = PG_ARGISNULL(4) ? CLASS_TEMPORARY : class_of(text_to_cstring(PG_GETARG_TEXT_PP(4)));
	last.status = PG_GETARG_INT32(5);
	last.code = text_to_cstring(PG_GETARG_TEXT_PP(6));
	last.reason = PG_ARGISNULL(7) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(7));
	last.response = PG_ARGISNULL(8) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(8));
	class = dead_letter_class(verdict, PG_ARGISNULL(4) ? NULL : &last);
	reason = dead_letter_reason(verdict, text_to_cstring(PG_GETARG_TEXT_PP(1)),
								PG_GETARG_INT32(2), PG_GETARG_INT32(3) * USECS_PER_SEC,
								PG_ARGISNULL(4) ? NULL : &last);
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%s: %s", class, reason)));
}

/*
 * Random stories: no refusal reaches further than the policy, no second has more than
 * rate and burst, and a breaker that is open lets one through per time.  Returns how
 * often that failed.
 */
Datum
unit_fuzz_destination(PG_FUNCTION_ARGS)
{
	int			steps = PG_GETARG_INT32(0);
	uint64		random = (uint64) PG_GETARG_INT64(1);
	Policy		policy = {0};
	Destination destination = {0};
	int64		now = BEGINNING;
	int64		sent = 0;
	int64		bad = 0;

	policy.breaker.failures = 3;
	policy.breaker.open_ms = 100;
	policy.rate = 50;
	policy.retry.budget_percent = 20;
	policy.retry.cap_ms = 1000;
	for (int i = 0; i < steps; i++)
	{
		int64		until = 0;
		DestinationRefusal refusal;

		random = random * UINT64CONST(6364136223846793005) + UINT64CONST(1442695040888963407);
		now += (int64) (random >> 33) % 20000;
		refusal = destination_allows(&destination, &policy, (random >> 60) & 1, now, &until);
		if (refusal == DESTINATION_ALLOWED)
		{
			sent++;
			(void) destination_note(&destination, &policy,
									(FailureClass) ((random >> 40) % CLASS_COUNT),
									(random >> 50) % 2000, now);
		}
		else if (until <= now || until - now > (int64) BREAKER_OPEN_MS_MAX * 1000)
			bad++;
	}
	if (sent == 0 || (double) sent > (double) (now - BEGINNING) / USECS_PER_SEC * policy.rate + 6)
		bad++;
	PG_RETURN_INT64(bad);
}
