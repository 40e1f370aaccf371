/*
 * delivery/replay_order.c
 *	  Starts replays: of dead letters (dlq_replay) and of events that the outbox still
 *	  keeps (outbox_replay).
 *
 * Invariants:
 *	X1	A dry run counts with the same conditions and writes nothing: it works in a READ
 *		ONLY transaction and on a standby too.
 *	X2	Each subscription gets a replay of its own, so that one that is down holds up
 *		nobody else's.
 *	X3	A call marks DLQ_REPLAY_MAX events at most, all in the caller's transaction:
 *		until it commits, nothing is sent; after a rollback, nothing has happened.
 *	X4	An old event is sent again only to a subscription that wants it and that has
 *		passed it, and not while the same event is on its way or dead there.
 *	X5	The caller sees, and so replays, what the views show: its tenant's, or for
 *		operators everybody's.
 *
 * Lock order: subscription row (against its drop), dead letters by id.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/actor.h"
#include "base/errors.h"
#include "base/json.h"
#include "base/options.h"
#include "base/version.h"
#include "delivery/dead_letter.h"
#include "delivery/record.h"
#include "delivery/replay.h"
#include "delivery/statement.h"
#include "delivery/subscription.h"

#define RESEND_BATCH		500		/* events in memory at once */
#define REPLAY_COLUMNS		6

/* Which letters or events; NULL or 0: any. */
typedef struct ReplayFilter
{
	const char *subscription;
	const char *tenant;			/* of the subscription */
	const char *event_type;		/* without its asterisk */
	bool		event_type_is_prefix;
	const char *event_pattern;	/* as it was given */
	TimestampTz since;			/* inclusive */
	TimestampTz until;			/* exclusive */
	Datum		ids;
	bool		has_ids;
	const char *class;
	const char *state;
	const char *order_key;
} ReplayFilter;

typedef struct ReplayRequest
{
	ReplayFilter filter;
	ReplayOrder order;
	bool		dry_run;
} ReplayRequest;

/* A subscription that the filter fits. */
typedef struct ReplayTarget
{
	int64		subscription_id;
	char	   *name;
	char	   *state;
	char	   *sink;
	int64		matching;
} ReplayTarget;

/* ---------- statements ---------- */

#define LETTERS \
	"FROM failsafe.dead_letter AS l " \
	"JOIN failsafe.subscription AS s ON s.id = l.subscription_id " \
	"JOIN failsafe.tenant AS t ON t.id = s.tenant_id " \
	"WHERE l.state = $1 AND ($2 IS NULL OR s.name = $2) AND ($3 IS NULL OR t.name = $3) " \
	"AND ($4 IS NULL OR CASE WHEN $5 THEN pg_catalog.starts_with(l.event_type, $4) " \
	"ELSE l.event_type = $4 END) " \
	"AND ($6 IS NULL OR l.died_at >= $6) AND ($7 IS NULL OR l.died_at < $7) " \
	"AND ($8 IS NULL OR l.id = ANY ($8)) AND ($9 IS NULL OR l.class = $9) " \
	"AND ($10 IS NULL OR l.order_key = $10) " \
	"AND l.tenant_id = ANY ((SELECT failsafe._report_tenants())::int4[]) "

#define LETTER_TYPES \
	TEXTOID, TEXTOID, TEXTOID, TEXTOID, BOOLOID, TIMESTAMPTZOID, TIMESTAMPTZOID, \
	INT8ARRAYOID, TEXTOID, TEXTOID

static Statement count_letters = {
	"SELECT s.id, s.name, s.state, s.sink, pg_catalog.count(*) " LETTERS
	"GROUP BY s.id, s.name, s.state, s.sink ORDER BY s.id",
	10, {LETTER_TYPES}
};

static Statement take_letters = {
	"WITH chosen AS MATERIALIZED (SELECT l.id " LETTERS
	"AND l.subscription_id = $11 ORDER BY l.id FOR UPDATE OF l) "
	"UPDATE failsafe.dead_letter AS l SET state = 'replaying', replay_id = $12, "
	"resolved_at = NULL, resolved_by = NULL, resolution = NULL "
	"FROM chosen WHERE l.id = chosen.id",
	12, {LETTER_TYPES, INT8OID, INT8OID}
};

static Statement find_subscriptions = {
	"SELECT s.id, s.name, s.state, s.sink FROM failsafe.subscription AS s "
	"JOIN failsafe.tenant AS t ON t.id = s.tenant_id "
	"WHERE s.name = $1 AND ($2 IS NULL OR t.name = $2) "
	"AND s.tenant_id = ANY ((SELECT failsafe._report_tenants())::int4[]) ORDER BY s.id",
	2, {TEXTOID, TEXTOID}
};

static Statement lock_subscription = {
	"SELECT s.id FROM failsafe.subscription AS s WHERE s.id = $1 FOR KEY SHARE",
	1, {INT8OID}
};

#define EVENT_ARGUMENTS		7

/* What outbox_replay() reads; subscription_wants() decides the rest. */
static const char *const read_events =
"SELECT p.lane::int4, o.seq, o.event_id, o.tenant_id, o.priority::int4, o.occurred_at, "
"o.expires_at, o.event_type, o.order_key, o.payload::text, o.headers::text, o.subject, "
"o.region, o.trace_id, o.traceparent "
"FROM failsafe.outbox AS o "
"JOIN failsafe.position AS p ON p.subscription_id = $1 AND p.lane = o.slot / 16 "
"AND o.seq <= p.high "
"WHERE ($2 IS NULL OR CASE WHEN $3 THEN pg_catalog.starts_with(o.event_type, $2) "
"ELSE o.event_type = $2 END) "
"AND ($4 IS NULL OR o.occurred_at >= $4) AND ($5 IS NULL OR o.occurred_at < $5) "
"AND ($6 IS NULL OR o.order_key = $6) AND (o.expires_at IS NULL OR o.expires_at > $7) "
"AND NOT EXISTS (SELECT FROM failsafe.delivery AS d WHERE d.subscription_id = $1 "
"AND d.lane = p.lane AND d.seq = o.seq) "
"AND NOT EXISTS (SELECT FROM failsafe.dead_letter AS l WHERE l.subscription_id = $1 "
"AND l.event_id = o.event_id AND l.state IN ('dead', 'replaying')) "
"ORDER BY 1, 2";

static const Oid read_events_types[EVENT_ARGUMENTS] = {
	INT8OID, TEXTOID, BOOLOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, TIMESTAMPTZOID
};

/* ---------- arguments ---------- */

static char *
text_argument(FunctionCallInfo fcinfo, int argument)
{
	return PG_ARGISNULL(argument) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(argument));
}

/* 0: not given.  Infinite times mean the same. */
static TimestampTz
time_argument(FunctionCallInfo fcinfo, int argument)
{
	if (PG_ARGISNULL(argument) || TIMESTAMP_NOT_FINITE(PG_GETARG_TIMESTAMPTZ(argument)))
		return 0;
	return PG_GETARG_TIMESTAMPTZ(argument);
}

static void
argument_refuse(const char *name, const char *problem)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s is not valid: %s", name, problem)));
}

static double
rate_argument(FunctionCallInfo fcinfo, int argument)
{
	double		rate = PG_ARGISNULL(argument) ? 0 : PG_GETARG_FLOAT8(argument);

	/* NaN fails both comparisons */
	if (!(rate >= REPLAY_RATE_MIN && rate <= RATE_MAX))
		argument_refuse("rate", psprintf("expected are %g to %.0f events a second",
										 REPLAY_RATE_MIN, RATE_MAX));
	return rate;
}

/* One pattern as in a subscription: *, wallet.*, or a type. */
static void
filter_set_event_type(ReplayFilter *filter, char *pattern)
{
	size_t		length;

	if (pattern == NULL)
		return;
	length = strlen(pattern);
	if (length < 1 || length > EVENT_TYPE_BYTES_MAX ||
		strspn(pattern, "abcdefghijklmnopqrstuvwxyz0123456789_.*") != length ||
		(strchr(pattern, '*') != NULL && strchr(pattern, '*') != pattern + length - 1))
		argument_refuse("event_type", "expected is a type, or its beginning followed by *");
	filter->event_pattern = pstrdup(pattern);
	filter->event_type = pattern;
	filter->event_type_is_prefix = pattern[length - 1] == '*';
	if (filter->event_type_is_prefix)
		pattern[length - 1] = '\0';
}

static void
filter_set_times(ReplayFilter *filter, TimestampTz since, TimestampTz until)
{
	if (since != 0 && until != 0 && until <= since)
		argument_refuse("until", "it is not after since");
	filter->since = since;
	filter->until = until;
}

static void
order_set_window(ReplayOrder *order, TimestampTz not_before, TimestampTz not_after)
{
	if (not_after != 0 && not_after <= Max(not_before, GetCurrentTimestamp()))
		argument_refuse("not_after", "it has passed, or is not after not_before");
	order->not_before = not_before;
	order->not_after = not_after;
}

static void
member_time(StringInfo out, const char *name, TimestampTz at)
{
	if (at != 0)
		json_member_time(out, name, at);
}

/* The filter as it is kept with the replay, for whoever asks later what was chosen. */
static char *
filter_to_json(const ReplayFilter *filter)
{
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoChar(&out, '{');
	json_member_text(&out, "subscription", filter->subscription);
	json_member_text(&out, "tenant", filter->tenant);
	json_member_text(&out, "event_type", filter->event_pattern);
	member_time(&out, "since", filter->since);
	member_time(&out, "until", filter->until);
	if (filter->has_ids)
	{
		ArrayType  *ids = DatumGetArrayTypeP(filter->ids);

		json_member_int64(&out, "ids", ArrayGetNItems(ARR_NDIM(ids), ARR_DIMS(ids)));
	}
	json_member_text(&out, "class", filter->class);
	json_member_text(&out, "state", filter->state);
	json_member_text(&out, "order_key", filter->order_key);
	appendStringInfoChar(&out, '}');
	return out.data;
}

/* At three in the morning nobody must be kept from it; that none was given is kept, too. */
static const char *
reason_if_given(FunctionCallInfo fcinfo, int argument)
{
	if (PG_ARGISNULL(argument))
		return "no reason given";
	return dead_letter_required_reason(fcinfo, argument);
}

/* ---------- what fits ---------- */

static void
filter_arguments(Arguments *arguments, const ReplayFilter *filter)
{
	Assert(arguments->count == 0);
	argument_cstring(arguments, filter->state);
	argument_cstring(arguments, filter->subscription);
	argument_cstring(arguments, filter->tenant);
	argument_cstring(arguments, filter->event_type);
	argument_datum(arguments, BoolGetDatum(filter->event_type_is_prefix), false);
	argument_time(arguments, filter->since);
	argument_time(arguments, filter->until);
	argument_datum(arguments, filter->ids, !filter->has_ids);
	argument_cstring(arguments, filter->class);
	argument_cstring(arguments, filter->order_key);
	Assert(arguments->count == 10);
}

/* The rows of SPI_tuptable, copied; matching is in the fifth column, if there is one. */
static ReplayTarget *
targets_copy(int count, bool counted)
{
	ReplayTarget *targets = palloc0(Max(count, 1) * sizeof(ReplayTarget));

	for (int i = 0; i < count; i++)
	{
		targets[i].subscription_id = column_int64(i, 0);
		targets[i].name = column_text(i, 1);
		targets[i].state = column_text(i, 2);
		targets[i].sink = column_text(i, 3);
		if (counted)
			targets[i].matching = column_int64(i, 4);
		Assert(targets[i].subscription_id > 0);
	}
	return targets;
}

/* The subscriptions of that name, of the tenants that the caller sees. */
static ReplayTarget *
targets_find(const ReplayFilter *filter, int *count)
{
	Arguments	arguments = {0};

	Assert(filter->subscription != NULL);
	argument_cstring(&arguments, filter->subscription);
	argument_cstring(&arguments, filter->tenant);
	*count = (int) statement_read(&find_subscriptions, &arguments);
	if (*count == 0)
		subscription_refuse(FAILSAFE_SUBSCRIPTION_UNKNOWN, filter->subscription, NULL);
	return targets_copy(*count, false);
}

static ReplayTarget *
targets_count(const ReplayFilter *filter, int *count)
{
	Arguments	arguments = {0};
	ReplayTarget *targets;
	int64		total = 0;

	if (filter->subscription != NULL)
		(void) targets_find(filter, count);
	filter_arguments(&arguments, filter);
	*count = (int) statement_read(&count_letters, &arguments);
	targets = targets_copy(*count, true);
	for (int i = 0; i < *count; i++)
		total += targets[i].matching;
	if (total > DLQ_REPLAY_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("%lld dead letters fit the filter", (long long) total),
				 errdetail("One call replays at most %d.", DLQ_REPLAY_MAX),
				 errhint("Narrow the filter, for example by since and until.")));
	return targets;
}

/* ---------- the answer ---------- */

static char *
target_note(const ReplayTarget *target, const ReplayRequest *request)
{
	const char *does = "is";

	if (target->matching == 0)
		return pstrdup("nothing fits");
	if (request->dry_run)
		return pstrdup("dry run: nothing was changed");
	if (strcmp(target->state, "active") != 0)
		return psprintf("begins when the subscription, which %s %s, is resumed", does,
						target->state);
	if (request->order.not_before > GetCurrentTimestamp())
		return psprintf("begins at %s", timestamptz_to_str(request->order.not_before));
	if (strcmp(target->sink, "pull") == 0)
		return pstrdup("begins after the commit, with the next outbox_claim()");
	return pstrdup("begins after the commit");
}

static void
target_report(ReturnSetInfo *result, const ReplayTarget *target, int64 replay_id,
			  const ReplayRequest *request)
{
	double		rate = request->order.rate;
	Datum		values[REPLAY_COLUMNS];
	bool		nulls[REPLAY_COLUMNS] = {false};

	Assert(result->setDesc->natts == REPLAY_COLUMNS);
	Assert(rate > 0 && target->matching >= 0);
	values[0] = Int64GetDatum(replay_id);
	nulls[0] = replay_id == 0;
	values[1] = target->name != NULL ? CStringGetTextDatum(target->name) : (Datum) 0;
	nulls[1] = target->name == NULL;
	values[2] = Int64GetDatum(target->matching);
	values[3] = Float8GetDatum(rate);
	values[4] = Int64GetDatum((int64) ceil((double) target->matching / rate));
	values[5] = CStringGetTextDatum(target_note(target, request));
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static void
report_nothing(ReturnSetInfo *result, const ReplayRequest *request)
{
	ReplayTarget nothing = {0};

	nothing.name = unconstify(char *, request->filter.subscription);
	target_report(result, &nothing, 0, request);
}

/* ---------- dead letters ---------- */

/* Mark the letters of one subscription; 0: somebody was faster. */
static int64
target_replay(ReplayTarget *target, const ReplayRequest *request)
{
	Arguments	subscription = {0};
	Arguments	arguments = {0};
	int64		replay_id;

	Assert(!request->dry_run && target->subscription_id > 0);
	argument_int64(&subscription, target->subscription_id);
	if (statement_read(&lock_subscription, &subscription) == 0)
		return 0;
	replay_id = replay_draw_id();
	filter_arguments(&arguments, &request->filter);
	argument_int64(&arguments, target->subscription_id);
	argument_int64(&arguments, replay_id);
	target->matching = (int64) statement_write(&take_letters, &arguments);
	if (target->matching == 0)
		return 0;
	replay_insert(replay_id, target->subscription_id, &request->order, target->matching);
	return replay_id;
}

enum
{
	REPLAY_CLASS,
	REPLAY_STATE,
	REPLAY_ORDER_KEY,
	REPLAY_TENANT,
	REPLAY_OPTIONS
};

static const OptionSpec replay_options[REPLAY_OPTIONS] = {
	{"class", OPTION_TEXT},
	{"state", OPTION_TEXT},
	{"order_key", OPTION_TEXT},
	{"tenant", OPTION_TEXT}
};

static void
replay_read_options(Jsonb *json, ReplayFilter *filter)
{
	OptionValue options[REPLAY_OPTIONS];

	options_read(json, replay_options, REPLAY_OPTIONS, options);
	filter->class = options[REPLAY_CLASS].text;
	filter->order_key = options[REPLAY_ORDER_KEY].text;
	filter->tenant = options[REPLAY_TENANT].text;
	filter->state = "dead";
	if (!options[REPLAY_STATE].given)
		return;
	filter->state = options[REPLAY_STATE].text;
	if (strcmp(filter->state, "dead") != 0 && strcmp(filter->state, "replayed") != 0 &&
		strcmp(filter->state, "discarded") != 0)
		option_refuse("state", "expected is dead, replayed or discarded");
}

static void
replay_read_arguments(FunctionCallInfo fcinfo, ReplayRequest *request)
{
	ReplayFilter *filter = &request->filter;

	memset(request, 0, sizeof(*request));
	request->dry_run = !PG_ARGISNULL(8) && PG_GETARG_BOOL(8);
	filter->subscription = text_argument(fcinfo, 0);
	filter_set_event_type(filter, text_argument(fcinfo, 1));
	filter_set_times(filter, time_argument(fcinfo, 2), time_argument(fcinfo, 3));
	filter->has_ids = !PG_ARGISNULL(4);
	if (filter->has_ids)
		filter->ids = PointerGetDatum(PG_GETARG_ARRAYTYPE_P(4));
	request->order.rate = rate_argument(fcinfo, 5);
	order_set_window(&request->order, time_argument(fcinfo, 6), time_argument(fcinfo, 7));
	request->order.reason = reason_if_given(fcinfo, 9);
	replay_read_options(PG_ARGISNULL(10) ? NULL : PG_GETARG_JSONB_P(10), filter);
	request->order.filter = filter_to_json(filter);
}

PG_FUNCTION_INFO_V1(failsafe_dlq_replay);

/*
 * dlq_replay(subscription text, event_type text, since timestamptz, until timestamptz,
 *			  ids int8[], rate float8, not_before timestamptz, not_after timestamptz,
 *			  dry_run bool, reason text, options jsonb)
 *		-> replay_id, subscription, matching, rate, estimated_seconds, note
 */
Datum
failsafe_dlq_replay(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	ReplayRequest request;
	ReplayTarget *targets;
	StatementScope scope;
	int			count;

	version_check();
	replay_read_arguments(fcinfo, &request);
	if (!request.dry_run)
		dead_letter_check_call("dlq_replay()");
	InitMaterializedSRF(fcinfo, 0);
	if (!request.dry_run)
		request.order.actor_id = actor_current();
	scope = statement_begin(!request.dry_run);
	targets = targets_count(&request.filter, &count);
	for (int i = 0; i < count; i++)
	{
		int64		replay_id = request.dry_run ? 0 : target_replay(&targets[i], &request);

		target_report(result, &targets[i], replay_id, &request);
	}
	if (count == 0)
		report_nothing(result, &request);
	statement_end(scope);
	return (Datum) 0;
}

/* ---------- old events ---------- */

static void
event_fill(DeliveryEvent *event, uint64 row)
{
	bool		is_null;

	memset(event, 0, sizeof(*event));
	event->lane = column_int32(row, 0);
	event->seq = column_int64(row, 1);
	event->event_id = *DatumGetUUIDP(column_datum(row, 2, &is_null));
	event->tenant_id = column_int32(row, 3);
	event->priority = column_int32(row, 4);
	event->occurred_at = column_time(row, 5);
	event->expires_at = column_time(row, 6);
	event->event_type = column_text(row, 7);
	event->order_key = column_text(row, 8);
	event->payload = column_text(row, 9);
	event->headers = column_text(row, 10);
	event->subject = column_text(row, 11);
	event->region = column_text(row, 12);
	event->trace_id = column_text(row, 13);
	event->traceparent = column_text(row, 14);
	Assert(event->seq > 0 && event->event_type != NULL);
}

/* A cursor over the events that may be sent again, by lane and number. */
static Portal
events_open(int64 subscription_id, const ReplayFilter *filter)
{
	Arguments	arguments = {0};
	char		nulls[EVENT_ARGUMENTS];

	argument_int64(&arguments, subscription_id);
	argument_cstring(&arguments, filter->event_type);
	argument_datum(&arguments, BoolGetDatum(filter->event_type_is_prefix), false);
	argument_time(&arguments, filter->since);
	argument_time(&arguments, filter->until);
	argument_cstring(&arguments, filter->order_key);
	argument_time(&arguments, GetCurrentTimestamp());
	Assert(arguments.count == EVENT_ARGUMENTS);
	for (int i = 0; i < EVENT_ARGUMENTS; i++)
		nulls[i] = arguments.nulls[i] ? 'n' : ' ';
	return SPI_cursor_open_with_args(NULL, read_events, EVENT_ARGUMENTS,
									 unconstify(Oid *, &read_events_types[0]), arguments.values,
									 nulls, false, 0);
}

/* The next events of the cursor; 0: no more. */
static int
events_fetch(Portal portal, DeliveryEvent *events)
{
	int			count;

	SPI_cursor_fetch(portal, true, RESEND_BATCH);
	count = (int) SPI_processed;
	Assert(count <= RESEND_BATCH);
	for (int i = 0; i < count; i++)
		event_fill(&events[i], i);
	SPI_freetuptable(SPI_tuptable);
	return count;
}

static void
resend_check_count(int64 count)
{
	if (count > DLQ_REPLAY_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("more than %d events fit the filter", DLQ_REPLAY_MAX),
				 errhint("Narrow the filter, for example by since and until.")));
}

/* Copy the events that the subscription wants, or only count them; returns how many. */
static int64
events_resend(const Subscription *subscription, const ReplayRequest *request,
			  const DeadLetter *letter)
{
	MemoryContext batch = AllocSetContextCreate(CurrentMemoryContext, "events sent again",
												ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(batch);
	Portal		portal = events_open(subscription->id, &request->filter);
	int64		wanted = 0;
	int			count;

	do
	{
		DeliveryEvent *events;

		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(batch);
		events = palloc(RESEND_BATCH * sizeof(DeliveryEvent));
		count = events_fetch(portal, events);
		for (int i = 0; i < count; i++)
		{
			if (!subscription_wants(subscription, &events[i]))
				continue;
			resend_check_count(++wanted);
			if (!request->dry_run)
				(void) dead_letter_insert(letter, &events[i]);
		}
	} while (count > 0);
	SPI_cursor_close(portal);
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(batch);
	return wanted;
}

static int64
target_resend(ReplayTarget *target, const ReplayRequest *request)
{
	int			count;
	Subscription *subscription = subscriptions_read(target->subscription_id, &count);
	DeadLetter	letter = {0};

	if (count == 0)
		return 0;
	if (!request->dry_run)
		letter.replay_id = replay_draw_id();
	letter.subscription_id = target->subscription_id;
	letter.state = "replaying";
	letter.class = CLASS_RESEND;
	letter.reason = "sent again on request, it was not refused";
	target->matching = events_resend(subscription, request, &letter);
	if (target->matching > 0 && !request->dry_run)
		replay_insert(letter.replay_id, target->subscription_id, &request->order,
					  target->matching);
	return target->matching > 0 ? letter.replay_id : 0;
}

enum
{
	RESEND_NOT_BEFORE,
	RESEND_NOT_AFTER,
	RESEND_ORDER_KEY,
	RESEND_TENANT,
	RESEND_OPTIONS
};

static const OptionSpec resend_options[RESEND_OPTIONS] = {
	{"not_before", OPTION_TIME},
	{"not_after", OPTION_TIME},
	{"order_key", OPTION_TEXT},
	{"tenant", OPTION_TEXT}
};

static void
resend_read_arguments(FunctionCallInfo fcinfo, ReplayRequest *request)
{
	ReplayFilter *filter = &request->filter;
	OptionValue options[RESEND_OPTIONS];

	memset(request, 0, sizeof(*request));
	filter->subscription = text_argument(fcinfo, 0);
	if (filter->subscription == NULL)
		error_raise_field(FAILSAFE_VALUE_REQUIRED, "subscription", "the argument is NULL");
	filter_set_event_type(filter, text_argument(fcinfo, 1));
	filter_set_times(filter, time_argument(fcinfo, 2), time_argument(fcinfo, 3));
	request->dry_run = !PG_ARGISNULL(4) && PG_GETARG_BOOL(4);
	request->order.rate = rate_argument(fcinfo, 5);
	request->order.reason = reason_if_given(fcinfo, 6);
	options_read(PG_ARGISNULL(7) ? NULL : PG_GETARG_JSONB_P(7), resend_options,
				 RESEND_OPTIONS, options);
	order_set_window(&request->order, options[RESEND_NOT_BEFORE].time,
					 options[RESEND_NOT_AFTER].time);
	filter->order_key = options[RESEND_ORDER_KEY].text;
	filter->tenant = options[RESEND_TENANT].text;
	filter->class = CLASS_RESEND;
	request->order.filter = filter_to_json(filter);
}

/* The one subscription of that name. */
static ReplayTarget *
resend_target(const ReplayFilter *filter)
{
	int			count;
	ReplayTarget *targets = targets_find(filter, &count);

	if (count > 1)
		option_refuse("tenant", "several tenants have a subscription of this name, one of them is expected");
	return targets;
}

PG_FUNCTION_INFO_V1(failsafe_outbox_replay);

/*
 * outbox_replay(subscription text, event_type text, since timestamptz,
 *				 until timestamptz, dry_run bool, rate float8, reason text, options jsonb)
 *		-> replay_id, subscription, matching, rate, estimated_seconds, note
 */
Datum
failsafe_outbox_replay(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	ReplayRequest request;
	ReplayTarget *target;
	StatementScope scope;
	Arguments	subscription = {0};

	version_check();
	resend_read_arguments(fcinfo, &request);
	if (!request.dry_run)
		dead_letter_check_call("outbox_replay()");
	InitMaterializedSRF(fcinfo, 0);
	if (!request.dry_run)
		request.order.actor_id = actor_current();
	scope = statement_begin(!request.dry_run);
	target = resend_target(&request.filter);
	argument_int64(&subscription, target->subscription_id);
	if (!request.dry_run && statement_read(&lock_subscription, &subscription) == 0)
		subscription_refuse(FAILSAFE_SUBSCRIPTION_UNKNOWN, target->name, NULL);
	target_report(result, target, target_resend(target, &request), &request);
	statement_end(scope);
	return (Datum) 0;
}
