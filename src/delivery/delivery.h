/*
 * delivery/delivery.h
 *	  What the files of this room share: events, subscriptions, policies, positions,
 *	  results.  The invariants D1 to D10 are in README.md.
 */
#ifndef FAILSAFE_DELIVERY_DELIVERY_H
#define FAILSAFE_DELIVERY_DELIVERY_H

#include "access/transam.h"
#include "outbox/outbox.h"
#include "utils/jsonb.h"
#include "utils/snapshot.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

/* Limits (MIN / DEFAULT / MAX) of policies; the documentation repeats them. */
#define SUBSCRIPTION_NAME_BYTES_MAX		63
#define SUBSCRIPTIONS_MAX				1000	/* of one database */
#define EVENT_PATTERNS_MAX				100
#define IN_FLIGHT_MIN					1
#define IN_FLIGHT_DEFAULT				32
#define IN_FLIGHT_MAX					1000
#define TIMEOUT_MS_MIN					100
#define TIMEOUT_MS_DEFAULT				15000
#define TIMEOUT_MS_MAX					300000
#define RETRY_BASE_MS_MIN				10
#define RETRY_BASE_MS_DEFAULT			1000
#define RETRY_CAP_MS_DEFAULT			3600000
#define RETRY_CAP_MS_MAX				86400000
#define RETRY_ATTEMPTS_MIN				1
#define RETRY_ATTEMPTS_DEFAULT			25
#define RETRY_ATTEMPTS_MAX				1000
#define RETRY_AGE_S_MIN					1
#define RETRY_AGE_S_DEFAULT				(3 * 86400)
#define RETRY_AGE_S_MAX					(30 * 86400)
#define RETRY_BUDGET_PERCENT_DEFAULT	20	/* retries, of the deliveries of the last minute */
#define RETRY_BUDGET_PERCENT_MAX		100
#define RETRY_BUDGET_MIN				10	/* retries a second that are always allowed */
#define RATE_MIN						0.001
#define RATE_MAX						1000000.0	/* events a second; 0: no limit */
#define BREAKER_FAILURES_DEFAULT		5	/* failures in a row; 0: no breaker */
#define BREAKER_FAILURES_MAX			1000
#define BREAKER_OPEN_MS_MIN				10
#define BREAKER_OPEN_MS_DEFAULT			10000
#define BREAKER_OPEN_MS_MAX				3600000
#define MAX_LAG_EVENTS_MIN				1
#define MAX_LAG_EVENTS_MAX				INT64CONST(1000000000000)
#define MAX_LAG_EVENTS_DEFAULT			INT64CONST(10000000)
#define MAX_LAG_S_MIN					60
#define MAX_LAG_S_DEFAULT				(6 * 86400)
#define MAX_LAG_S_MAX					(400 * 86400)
#define PARKED_MAX						100000	/* rows of one subscription */
#define LEASE_MS_MIN					1000
#define LEASE_MS_DEFAULT				30000
#define LEASE_MS_MAX					(12 * 3600000)
#define CLAIM_EVENTS_MAX				1000
#define READ_EVENTS_MAX					2000	/* of one reader_read() */

typedef enum FailureClass
{
	CLASS_DELIVERED,
	CLASS_TEMPORARY,
	CLASS_THROTTLED,			/* temporary, and the destination asks for less */
	CLASS_UNKNOWN,				/* may have arrived; temporary */
	CLASS_PERMANENT,			/* this event never */
	CLASS_GONE,					/* no event ever: disable the subscription */
	CLASS_COUNT
} FailureClass;

extern const char *const failure_class_names[];

#define CLASS_DELAYED	"delayed"	/* of a row that waits for deliver_after */
#define CLASS_LAG		"lag"	/* of a dead letter: the subscription fell too far behind */
#define CLASS_EXPIRED	"expired"	/* of a dead letter: its expires_at came first */

/* An event as it is read for delivery; texts are in the caller's memory context. */
typedef struct DeliveryEvent
{
	int			lane;
	int64		seq;
	pg_uuid_t	event_id;
	int32		tenant_id;
	int			priority;
	TimestampTz occurred_at;
	TimestampTz deliver_after;	/* 0: at once */
	TimestampTz expires_at;		/* 0: never */
	const char *event_type;
	const char *order_key;
	const char *payload;		/* as stored: without the envelope; NULL: none */
	const char *headers;
	const char *subject;
	const char *region;
	const char *trace_id;
	const char *traceparent;
} DeliveryEvent;

typedef struct RetryPolicy
{
	int			base_ms;
	int			cap_ms;
	int			attempts;		/* tries in all */
	int			age_s;			/* since the first try */
	int			budget_percent;
} RetryPolicy;

typedef struct BreakerPolicy
{
	int			failures;		/* in a row that open it; 0: none */
	int			open_ms;		/* until the first probe; doubles up to BREAKER_OPEN_MS_MAX */
} BreakerPolicy;

typedef struct Policy
{
	RetryPolicy retry;
	BreakerPolicy breaker;
	double		rate;			/* events a second; 0: no limit */
	int			in_flight;
	int			timeout_ms;
	int64		max_lag_events; /* what a paused or dead subscription may pin */
	int			max_lag_s;
	char		schema_version[16]; /* the envelope's major version that it was made for */
} Policy;

typedef enum SubscriptionState
{
	SUBSCRIPTION_ACTIVE,
	SUBSCRIPTION_PAUSED,
	SUBSCRIPTION_DISABLED
} SubscriptionState;

/* A row of failsafe.subscription, read for work; in the caller's memory context. */
typedef struct Subscription
{
	int64		id;
	int64		generation;
	int32		tenant_id;
	SubscriptionState state;
	const char *name;
	const char *sink;			/* http, pull ... */
	const char *config;			/* JSON text */
	bool		ordered;		/* by key */
	bool		block;			/* else skip: later events of a failing key go on */
	int			pattern_count;
	const char **patterns;		/* *, wallet.*, wallet.debit.committed, !wallet.hold.* */
	bool		all_tenants;
	int			tenant_count;	/* 0: its creator's */
	int32	   *tenants;
	int			region_count;	/* 0: all */
	const char **regions;
	Policy		policy;
} Subscription;

/* subscription_read.c */

/* All subscriptions, or the one of that id (0: all); an array in the current context. */
extern Subscription *subscriptions_read(int64 id, int *count);

/* pattern.c: pure */

/* Does the subscription want this event? */
extern bool subscription_wants(const Subscription *subscription, const DeliveryEvent *event);

/* Does a pattern list let the type through?  The last pattern that fits decides. */
extern bool event_patterns_match(const char *const *patterns, int count, const char *event_type);

/* subscription.c */

/*
 * The worker's own change: pauses or disables, with a line in subscription_change and
 * an event failsafe.subscription.disabled.
 */
extern void subscription_set_state(int64 id, SubscriptionState state, const char *reason);

/* The event failsafe.subscription.breaker_opened; reason may be NULL. */
extern void subscription_emit_breaker(const Subscription *subscription, const char *reason);

/* The event failsafe.subscription.lag_exceeded: its events become dead letters. */
extern void subscription_emit_lag(const Subscription *subscription, const char *reason);

/* policy.c: pure but for errors */

/* Fill in defaults, check ranges; raises OPTION_INVALID that names the member. */
extern void policy_read(Jsonb *given, Policy *policy);

/* The same, over a policy that is there: members that are not given stay. */
extern void policy_change(Jsonb *given, Policy *policy);
extern Jsonb *policy_to_jsonb(const Policy *policy);

/*
 * When to try again after attempt number `attempt` failed: full jitter,
 * uniform in [0, min(cap, base * 2^(attempt-1))] (AWS Architecture Blog,
 * "Exponential Backoff And Jitter"), but never before retry_after_ms, which is itself
 * cut to cap_ms.  random is uniform in [0, 1).
 */
extern int64 retry_delay_ms(const RetryPolicy *policy, int attempt, int64 retry_after_ms,
							double random);

typedef enum RetryVerdict
{
	RETRY_LATER,
	RETRY_ATTEMPTS_USED,
	RETRY_TOO_OLD,
	RETRY_EXPIRED,				/* the event's own expires_at */
	RETRY_NEVER					/* permanent, gone */
} RetryVerdict;

extern RetryVerdict retry_judge(const RetryPolicy *policy, FailureClass class, int attempt,
								TimestampTz first_attempt_at, TimestampTz due_at,
								TimestampTz expires_at, TimestampTz now);

/* failure.c */

/* By failsafe.failure_rule; reads the table once a transaction. */
extern FailureClass failure_classify(const char *sink, int status, const char *code);

/* reader.c: see there for the rules [F1 F2 F3 F15] */

/* Numbers that are not decided yet; what horizon holds is reader.c's own business. */
typedef struct OpenNumbers
{
	int64		first;
	int64		last;
	uint64		horizon;		/* 0: not asked yet */
} OpenNumbers;

typedef struct Position
{
	int64		subscription_id;
	int			lane;
	int64		high;
	TimestampTz high_at;		/* 0: nothing read yet */
	int64		done;
	int			open_count;
	int			open_max;		/* room in open[] */
	OpenNumbers *open;			/* sorted, disjoint, all <= high */
} Position;

/*
 * What the subscription has to hear after this position: up to max events, sorted by
 * seq, filtered by subscription_wants(); *position is moved as far as they go.
 * Everything is seen by this one registered snapshot, which the caller has taken
 * with GetLatestSnapshot() semantics in a READ COMMITTED transaction.  A late
 * event of an open number comes in its place of the order of seq.
 */
extern DeliveryEvent *reader_read(Position *position, const Subscription *subscription,
								  Snapshot snapshot, int max, int *count);

/* The last number that was drawn in the lane; no statement, no snapshot. */
extern int64 reader_last_number(int lane);

/* May there be something after the position?  No statement, no snapshot [F22]. */
extern bool reader_has_more(const Position *position);

/* One event by its number, from the outbox; false: no longer kept. */
extern bool reader_fetch(int lane, int64 seq, Snapshot snapshot, DeliveryEvent *event);

/* The complete event as the consumer gets it (the envelope, then the payload). */
extern char *reader_envelope(const DeliveryEvent *event, int *length);

/* The name of a tenant; valid until the next call of another id.  Works without a snapshot
 * for names that were asked for before. */
extern const char *tenant_name(int32 tenant_id);

/* position.c */

/*
 * The open[] of each is in the memory context of this call, also after reader_read()
 * has made it larger.  After an abort what was read before is worth nothing: read again.
 */
extern void positions_read(int64 subscription_id, Position positions[OUTBOX_LANES]);
extern void positions_lock(int64 subscription_id);	/* for pulling: one claimer at a time */

/*
 * Raises 40001 where the row is not what this backend has read or written last, since
 * the last abort: somebody else has moved it.
 */
extern void position_write(const Position *position);

/* The same, but false where somebody else moves it, has moved it, or has dropped it. */
extern bool position_try_write(const Position *position);

/* Set high back, in memory; of the open numbers those stay that are not above it. */
extern void position_set_back(Position *position, int64 high);

/*
 * Begin at "now", "beginning" or "time" (at); an existing position is set back or
 * forth.  Waits failsafe.lock_wait at most for transactions that write events.
 */
extern void positions_start(int64 subscription_id, const char *start, TimestampTz at);
extern void positions_init(void);	/* from _PG_init */

/* failsafe.delivery, .attempt, .dead_letter: record.c is their only writer */

typedef enum DeliveryState
{
	DELIVERY_WAITING,
	DELIVERY_PARKED,
	DELIVERY_LEASED
} DeliveryState;

typedef struct Delivery
{
	int64		id;				/* 0: no row yet */
	int64		subscription_id;
	int			lane;
	int64		seq;
	int			attempts;		/* tries so far */
	DeliveryState state;
	TimestampTz created_at;
	TimestampTz due_at;
	int64		dead_letter_id; /* 0: from the outbox */
	int64		replay_id;
	int64		fence;
	pg_uuid_t	event_id;
	const char *event_type;
	const char *order_key;
} Delivery;

/* The outcome of one attempt. */
typedef struct AttemptResult
{
	TimestampTz started_at;
	int64		duration_us;
	FailureClass class;
	int			status;			/* 0: no answer */
	const char *code;			/* RELAY_CODE_...; "" where delivered */
	const char *reason;			/* a sentence, or NULL */
	const char *response;		/* or NULL */
	int64		retry_after_ms; /* -1: not said */
} AttemptResult;

/*
 * A new row: waiting or parked (leased by pull.c); sets delivery->id.  class is that of
 * the failure that made it, CLASS_DELAYED for an event whose time has not come (it does
 * not hold back its key), or NULL.
 */
extern void delivery_insert(Delivery *delivery, const char *class, const char *reason);
extern void delivery_update(const Delivery *delivery, const char *class, const char *reason);

/*
 * Done: the row goes, an attempt is noted where it was not the first; a dead letter that
 * was sent again becomes replayed, and its replay counts it.
 */
extern void delivery_done(const Delivery *delivery, const AttemptResult *result);
extern void attempt_insert(const Delivery *delivery, const AttemptResult *result);

/*
 * Give up: a copy of the event goes to dead_letter (or back to it), the row goes, the
 * event failsafe.delivery.dead is emitted.
 */
extern void delivery_die(const Delivery *delivery, const DeliveryEvent *event, const char *class,
						 const char *reason);

/*
 * After a key became free: unless another row of it still waits or is leased, its next
 * parked row becomes waiting, due now.  Keys are per lane.
 */
extern bool delivery_release_next(int64 subscription_id, int lane, const char *order_key);

/* instance.c */

/* Was this database, and no other, told to deliver?  reason: what is wrong, or NULL. */
extern bool instance_is_adopted(const char **reason);
extern void instance_adopt_first(void); /* by the first subscription */

/* Raise NOT_ADOPTED, with the reason, where instance_is_adopted() says no. */
extern void instance_require_adopted(void);

/* launcher.c: hints in shared memory; all do nothing without preload */

/* Set the worker's latch of this database, if there is one. */
extern void worker_wake(void);

/* This transaction wrote events, or changed a subscription: wake at commit. */
extern void worker_wake_at_commit(void);

/* _PG_init of the room */
extern void delivery_init(void);

#endif							/* FAILSAFE_DELIVERY_DELIVERY_H */
