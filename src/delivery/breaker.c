/*
 * delivery/breaker.c
 *	  Whether a destination may be sent something now.
 *
 * States of a breaker:
 *
 *		closed --failures in a row--> open --time is over, one asks--> half open
 *		  ^                            ^                                 |    |
 *		  |                            +------probe failed: doubled------+    |
 *		  +----------------------------probe answered-------------------------+
 *
 * Invariants:
 *	B1	Pure: no clock, no memory, no lock.  Time may stand still or step back; then
 *		nothing is refused for longer than the policy's own bounds.
 *	B2	A failure of the destination is an answer of the classes temporary and
 *		unknown.  A receiver that refuses an event, or asks for a pause, is alive.
 *	B3	While open nothing leaves; while half open one probe is on its way.  Its answer
 *		is awaited for BREAKER_PROBE_US at most, then another one may go.
 *	B4	Answers that come in while open belong to attempts from before: they change
 *		nothing.
 *	B5	A refusal changes no state but the refilling of tokens and of the ring.
 */
#include "postgres.h"

#include "delivery/breaker.h"

#define RATE_BURST_SECONDS	0.1

const char *const breaker_state_names[] = {"closed", "open", "half_open"};

const char *const destination_refusal_names[] = {
	"allowed", "throttled", "breaker", "rate", "retry_budget"
};

/* Is the time still to come?  One that is too far ahead is of a clock that was put back. */
static bool
is_ahead(int64 until, int64 now, int64 bound)
{
	Assert(bound >= 0);
	return now < until && until - now <= bound;
}

/* ---------- breaker ---------- */

int64
breaker_allows(Breaker *breaker, const BreakerPolicy *policy, int64 now)
{
	Assert(breaker->state <= BREAKER_HALF_OPEN);
	Assert(now > 0);
	if (policy->failures == 0 || breaker->state == BREAKER_CLOSED)
		return 0;
	if (is_ahead(breaker->open_until, now, breaker->state == BREAKER_OPEN ?
				 breaker->open_us : BREAKER_PROBE_US))
		return breaker->open_until;
	breaker->state = BREAKER_HALF_OPEN;
	breaker->open_until = now + BREAKER_PROBE_US;
	return 0;
}

static void
breaker_open(Breaker *breaker, int64 open_us, int64 now)
{
	Assert(open_us > 0 && breaker->state != BREAKER_OPEN);
	breaker->state = BREAKER_OPEN;
	breaker->open_us = Min(open_us, BREAKER_OPEN_MS_MAX * INT64CONST(1000));
	breaker->open_until = now + breaker->open_us;
	breaker->failures = 0;
}

bool
breaker_note(Breaker *breaker, const BreakerPolicy *policy, FailureClass class, int64 now)
{
	bool		failed = class == CLASS_TEMPORARY || class == CLASS_UNKNOWN;

	Assert(class < CLASS_COUNT);
	Assert(now > 0);
	if (policy->failures == 0 || breaker->state == BREAKER_OPEN)
		return false;
	if (!failed)
	{
		memset(breaker, 0, sizeof(*breaker));
		return false;
	}
	if (breaker->state == BREAKER_HALF_OPEN)
		breaker_open(breaker, breaker->open_us * 2, now);
	else if (++breaker->failures >= policy->failures)
		breaker_open(breaker, policy->open_ms * INT64CONST(1000), now);
	return breaker->state == BREAKER_OPEN;
}

/* ---------- rate ---------- */

static double
rate_burst(double rate)
{
	return Max(rate * RATE_BURST_SECONDS, 1.0);
}

/* Tokens flow in by time, up to the burst. */
static void
rate_refill(RateLimit *limit, double rate, int64 now)
{
	Assert(rate > 0 && now > 0);
	if (limit->counted_at == 0)
		limit->tokens = rate_burst(rate);
	else if (now > limit->counted_at)
		limit->tokens += rate * (double) (now - limit->counted_at) / USECS_PER_SEC;
	limit->tokens = Min(limit->tokens, rate_burst(rate));
	limit->counted_at = now;
	Assert(limit->tokens >= 0);
}

int64
rate_allows(RateLimit *limit, double rate, int64 now)
{
	Assert(rate >= 0 && now > 0);
	if (rate == 0)
		return 0;
	rate_refill(limit, rate, now);
	/* a hair below one is one: what was waited for must not fail by rounding */
	if (limit->tokens >= 1.0 - 1e-6)
		return 0;
	return now + Max((int64) ((1.0 - limit->tokens) / rate * USECS_PER_SEC), 1);
}

void
rate_take(RateLimit *limit, double rate, int64 now)
{
	if (rate == 0)
		return;
	rate_refill(limit, rate, now);
	limit->tokens = Max(limit->tokens - 1.0, 0.0);
	Assert(limit->tokens <= rate_burst(rate));
}

/* ---------- retry budget ---------- */

/* Turn the ring to the present second; the seconds that were skipped had nothing. */
static int
budget_turn(RetryBudget *budget, int64 now)
{
	int64		second = now / USECS_PER_SEC;
	int64		steps = second - budget->second;

	Assert(second > 0);
	if (steps < 0 || steps >= RETRY_BUDGET_SECONDS)
		memset(budget, 0, sizeof(*budget));
	else
		for (int64 i = 1; i <= steps; i++)
		{
			int			place = (int) ((budget->second + i) % RETRY_BUDGET_SECONDS);

			budget->firsts[place] = 0;
			budget->retries[place] = 0;
		}
	budget->second = second;
	return (int) (second % RETRY_BUDGET_SECONDS);
}

int64
retry_budget_allows(RetryBudget *budget, int percent, int64 now)
{
	int			place = budget_turn(budget, now);
	int64		firsts = 0;
	int64		retries = 0;

	Assert(percent >= 0);
	Assert(place >= 0 && place < RETRY_BUDGET_SECONDS);
	if (budget->retries[place] < RETRY_BUDGET_MIN)
		return 0;
	for (int i = 0; i < RETRY_BUDGET_SECONDS; i++)
	{
		firsts += budget->firsts[i];
		/* those that are always allowed are no part of the share */
		retries += Max(budget->retries[i] - RETRY_BUDGET_MIN, 0);
	}
	if (retries * 100 < firsts * percent)
		return 0;
	return (now / USECS_PER_SEC + 1) * USECS_PER_SEC;
}

void
retry_budget_take(RetryBudget *budget, bool is_retry, int64 now)
{
	int			place = budget_turn(budget, now);

	Assert(place >= 0 && place < RETRY_BUDGET_SECONDS);
	if (is_retry)
		budget->retries[place]++;
	else
		budget->firsts[place]++;
	Assert(budget->retries[place] >= 0 && budget->firsts[place] >= 0);
}

/* ---------- all together ---------- */

DestinationRefusal
destination_allows(Destination *destination, const Policy *policy, bool is_retry,
				   int64 now, int64 *until)
{
	Assert(now > 0);
	Assert(policy->rate >= 0 && policy->rate <= RATE_MAX);
	if (is_ahead(destination->throttled_until, now, policy->retry.cap_ms * INT64CONST(1000)))
	{
		*until = destination->throttled_until;
		return DESTINATION_THROTTLED;
	}
	if ((*until = rate_allows(&destination->rate, policy->rate, now)) != 0)
		return DESTINATION_RATE;
	if (is_retry && (*until = retry_budget_allows(&destination->budget,
												  policy->retry.budget_percent, now)) != 0)
		return DESTINATION_BUDGET;
	/* last, because it makes this event the probe */
	if ((*until = breaker_allows(&destination->breaker, &policy->breaker, now)) != 0)
		return DESTINATION_BREAKER;
	rate_take(&destination->rate, policy->rate, now);
	retry_budget_take(&destination->budget, is_retry, now);
	return DESTINATION_ALLOWED;
}

bool
destination_note(Destination *destination, const Policy *policy, FailureClass class,
				 int64 retry_after_ms, int64 now)
{
	Assert(class < CLASS_COUNT && now > 0);
	Assert(retry_after_ms >= -1);
	if (class == CLASS_THROTTLED && retry_after_ms > 0)
	{
		int64		pause_ms = Min(retry_after_ms, policy->retry.cap_ms);

		destination->throttled_until = Max(destination->throttled_until,
										   now + pause_ms * INT64CONST(1000));
	}
	return breaker_note(&destination->breaker, &policy->breaker, class, now);
}
