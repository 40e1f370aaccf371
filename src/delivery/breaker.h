/*
 * delivery/breaker.h
 *	  Whether a destination may be sent something now: breaker, throttle, rate and
 *	  retry budget.  Pure: the caller keeps the state and tells the time.
 *
 * All times are microseconds of one clock, as TimestampTz, and never 0.  A state
 * that is all zero is that of a destination that nothing is known about.  The state
 * lives in the worker's memory: a crash loses it, and it is learned again [I8].
 */
#ifndef FAILSAFE_DELIVERY_BREAKER_H
#define FAILSAFE_DELIVERY_BREAKER_H

#include "delivery/delivery.h"

#define BREAKER_PROBE_US	(TIMEOUT_MS_MAX * INT64CONST(1000))	/* for a probe's answer */
#define RETRY_BUDGET_SECONDS	60

typedef enum BreakerState
{
	BREAKER_CLOSED,				/* everything may go */
	BREAKER_OPEN,				/* nothing, until open_until */
	BREAKER_HALF_OPEN			/* one probe is on its way */
} BreakerState;

typedef struct Breaker
{
	BreakerState state;
	int			failures;		/* in a row, while closed */
	int64		open_us;		/* how long it is open this time */
	int64		open_until;		/* of the open state, and of the probe's answer */
} Breaker;

typedef struct RateLimit
{
	double		tokens;
	int64		counted_at;		/* 0: never asked */
} RateLimit;

/* First tries and retries of the last seconds, in a ring. */
typedef struct RetryBudget
{
	int64		second;			/* the newest one in the ring */
	int32		firsts[RETRY_BUDGET_SECONDS];
	int32		retries[RETRY_BUDGET_SECONDS];
} RetryBudget;

typedef struct Destination
{
	Breaker		breaker;
	RateLimit	rate;
	RetryBudget budget;
	int64		throttled_until;	/* the receiver asked for a pause; 0: it did not */
} Destination;

typedef enum DestinationRefusal
{
	DESTINATION_ALLOWED,
	DESTINATION_THROTTLED,
	DESTINATION_BREAKER,
	DESTINATION_RATE,
	DESTINATION_BUDGET
} DestinationRefusal;

extern const char *const breaker_state_names[];
extern const char *const destination_refusal_names[];

/*
 * May one event leave now?  If so it counts as sent: a token and a piece of the budget
 * are used, and an open breaker whose time is over is half open with this one as its
 * probe.  If not, nothing changes, and *until says when to ask again.  A refusal is no
 * attempt [D7].
 */
extern DestinationRefusal destination_allows(Destination *destination, const Policy *policy,
											 bool is_retry, int64 now, int64 *until);

/*
 * What came of an attempt.  retry_after_ms: -1 where the receiver did not say.  True
 * when the breaker opened, or stays open after a failed probe.
 */
extern bool destination_note(Destination *destination, const Policy *policy,
							 FailureClass class, int64 retry_after_ms, int64 now);

/* The parts.  Each returns 0, or the time until when it refuses. */
extern int64 breaker_allows(Breaker *breaker, const BreakerPolicy *policy, int64 now);
extern bool breaker_note(Breaker *breaker, const BreakerPolicy *policy, FailureClass class,
						 int64 now);
extern int64 rate_allows(RateLimit *limit, double rate, int64 now);
extern void rate_take(RateLimit *limit, double rate, int64 now);
extern int64 retry_budget_allows(RetryBudget *budget, int percent, int64 now);
extern void retry_budget_take(RetryBudget *budget, bool is_retry, int64 now);

#endif							/* FAILSAFE_DELIVERY_BREAKER_H */
