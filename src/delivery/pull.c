/*
 * delivery/pull.c
 *	  outbox_claim(): the way out for programs that fetch their events themselves.  Their
 *	  answers are in pull_answer.c.
 *
 * Invariants:
 *	U1	Every function here holds the lock of the subscription's positions until the
 *		caller's transaction ends: claims, answers and expired leases of one
 *		subscription are one after the other, so no event is parked behind a key that
 *		becomes free in the same moment.
 *	U2	An event that was handed out is a row in the state leased.  Its fence is new with
 *		each claim, and only who knows it can answer: an answer after the lease was
 *		given to somebody else changes nothing.
 *	U3	Ordered by key: an event is handed out only while no other of its key is leased
 *		[D5].  A new one of a key that has a row (block), or a leased or parked one
 *		(skip), is parked; each answer releases the next of its key.  Keys are per lane.
 *		An event whose time has not come holds nothing back.
 *	U4	What is handed out is flushed, and acknowledged by the synchronous standbys [D3].
 *	U5	A claim that can find nothing takes no lock and writes nothing.
 *
 * Lock order: position row of lane 0, rows of delivery, the outbox.  A caller should do
 * its own work first and answer last: others wait behind the lock, failsafe.lock_wait at
 * most (55P03).
 *
 * A REPEATABLE READ or SERIALIZABLE transaction is refused: its snapshot may be older than
 * the lock, and would show what others have taken since.
 *
 * An answer's attempt has no duration: only the consumer knows when it began.
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

#define SINK_PULL			"pull"
#define CODE_LEASE			"lease"
#define READ_AT_ONCE		100 /* events in memory */
#define CLAIM_COLUMNS		10

/* ---------- statements ---------- */

#define DELIVERY_COLUMNS \
	"d.id, d.lane::int4, d.seq, d.attempts, d.state, d.created_at, d.due_at, " \
	"d.dead_letter_id, d.replay_id, d.fence, d.event_id, d.event_type, d.order_key, " \
	"d.class IS NOT DISTINCT FROM '" CLASS_DELAYED "' "

static Statement find_subscription = {
	"SELECT s.id FROM failsafe.subscription AS s WHERE s.tenant_id = $1 AND s.name = $2",
	2, {INT4OID, TEXTOID}
};

static Statement find_due = {
	"SELECT 1 FROM failsafe.delivery AS d WHERE d.subscription_id = $1 AND d.due_at <= $2 LIMIT 1",
	2, {INT8OID, TIMESTAMPTZOID}
};

static Statement read_expired = {
	"SELECT " DELIVERY_COLUMNS "FROM failsafe.delivery AS d WHERE d.subscription_id = $1 "
	"AND d.due_at <= $2 AND d.state = 'leased' ORDER BY d.id LIMIT $3",
	3, {INT8OID, TIMESTAMPTZOID, INT8OID}
};

static Statement read_due = {
	"SELECT " DELIVERY_COLUMNS "FROM failsafe.delivery AS d WHERE d.subscription_id = $1 "
	"AND d.due_at <= $2 AND d.state = 'waiting' ORDER BY d.lane, d.seq, d.id LIMIT $3",
	3, {INT8OID, TIMESTAMPTZOID, INT8OID}
};

static Statement read_by_id = {
	"SELECT " DELIVERY_COLUMNS "FROM failsafe.delivery AS d WHERE d.subscription_id = $1 "
	"AND d.id = $2",
	2, {INT8OID, INT8OID}
};

static Statement read_leased_keys = {
	"SELECT DISTINCT d.order_key, d.lane::int4 FROM failsafe.delivery AS d WHERE d.subscription_id = $1 "
	"AND d.due_at > $2 AND d.due_at < 'infinity' AND d.state = 'leased'",
	2, {INT8OID, TIMESTAMPTZOID}
};

static Statement count_parked = {
	"SELECT pg_catalog.count(*) FROM (SELECT FROM failsafe.delivery AS d "
	"WHERE d.subscription_id = $1 AND d.due_at = 'infinity' LIMIT $2) AS p",
	2, {INT8OID, INT8OID}
};

/* ---------- rows of a key ---------- */

enum
{
	DELIVERY_ID,
	DELIVERY_SUBSCRIPTION_ID,
	DELIVERY_SEQ,
	DELIVERY_CREATED_AT,
	DELIVERY_DUE_AT,
	DELIVERY_DEAD_LETTER_ID,
	DELIVERY_REPLAY_ID,
	DELIVERY_FENCE,
	DELIVERY_EVENT_ID,
	DELIVERY_ATTEMPTS,
	DELIVERY_LANE,
	DELIVERY_STATE,
	DELIVERY_EVENT_TYPE,
	DELIVERY_ORDER_KEY,
	DELIVERY_CLASS,
	DELIVERY_REASON,
	DELIVERY_TABLE_COLUMNS
};

static const RowColumn delivery_columns[DELIVERY_TABLE_COLUMNS] = {
	{"id", INT8OID},
	{"subscription_id", INT8OID},
	{"seq", INT8OID},
	{"created_at", TIMESTAMPTZOID},
	{"due_at", TIMESTAMPTZOID},
	{"dead_letter_id", INT8OID},
	{"replay_id", INT8OID},
	{"fence", INT8OID},
	{"event_id", UUIDOID},
	{"attempts", INT4OID},
	{"lane", INT2OID},
	{"state", TEXTOID},
	{"event_type", TEXTOID},
	{"order_key", TEXTOID},
	{"class", TEXTOID},
	{"reason", TEXTOID}
};

static const char *const delivery_indexes[] = {"delivery_key"};

static const RowTableSpec delivery_spec = {
	"delivery", DELIVERY_TABLE_COLUMNS, delivery_columns, lengthof(delivery_indexes),
	delivery_indexes
};

static bool
column_is(TupleTableSlot *slot, int column, const char *expected)
{
	text	   *value;

	if (slot->tts_isnull[column])
		return false;
	value = DatumGetTextPP(slot->tts_values[column]);
	return VARSIZE_ANY_EXHDR(value) == strlen(expected) &&
		memcmp(VARDATA_ANY(value), expected, strlen(expected)) == 0;
}

/* An event whose time has not come holds nothing back. */
static bool
row_holds_key(TupleTableSlot *slot)
{
	return !column_is(slot, DELIVERY_STATE, "waiting") ||
		!column_is(slot, DELIVERY_CLASS, CLASS_DELAYED);
}

/*
 * The id of the key's first row that holds the key, or that is parked; 0: none.  Asked for
 * every new event and every answer, of keys with many rows, so it goes by the index
 * that fits and ends with the first row, whatever a planner without statistics thinks.
 */
static int64
key_first_row(int64 subscription_id, int lane, const char *order_key, bool parked)
{
	RowTable   *table = row_open_read(&delivery_spec);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	ScanKeyData keys[3];
	TupleTableSlot *slot;
	int64		id = 0;

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(subscription_id));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(order_key));
	ScanKeyInit(&keys[2], 3, BTEqualStrategyNumber, F_INT2EQ, Int16GetDatum((int16) lane));
	row_scan_begin(table, 0, snapshot, lengthof(keys), keys, false);
	while (id == 0 && (slot = row_scan_next(table)) != NULL)
		if (parked ? column_is(slot, DELIVERY_STATE, "parked") : row_holds_key(slot))
			id = DatumGetInt64(slot->tts_values[DELIVERY_ID]);
	row_scan_end(table);
	UnregisterSnapshot(snapshot);
	row_close(table);
	return id;
}

/* ---------- a call ---------- */

#define LANE_KEY_BYTES		(ORDER_KEY_BYTES_MAX + 3)

typedef struct KeyState
{
	char		lane_key[LANE_KEY_BYTES];	/* hash key: "lane:key" */
	bool		is_leased;
	bool		is_asked;		/* is_blocked was looked up */
	bool		is_blocked;		/* for new events */
} KeyState;

char *
pull_text(FunctionCallInfo fcinfo, int argument, const char *name)
{
	if (PG_ARGISNULL(argument))
		error_raise_field(FAILSAFE_VALUE_REQUIRED, name, "the argument is NULL");
	return text_to_cstring(PG_GETARG_TEXT_PP(argument));
}

int64
pull_int64(FunctionCallInfo fcinfo, int argument, const char *name)
{
	if (PG_ARGISNULL(argument))
		error_raise_field(FAILSAFE_VALUE_REQUIRED, name, "the argument is NULL");
	return PG_GETARG_INT64(argument);
}

void
pull_check_call(const char *function)
{
	version_check();
	PreventCommandIfReadOnly(function);
	PreventCommandIfParallelMode(function);
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("%s cannot run in a REPEATABLE READ or SERIALIZABLE transaction", function),
				 errdetail("The transaction's snapshot may show events that others have taken since."),
				 errhint("Call it in a READ COMMITTED transaction.")));
}

/* The id of the tenant's subscription of that name. */
static int64
subscription_find(const char *name)
{
	Arguments	arguments = {0};
	StatementScope scope = statement_begin(false);
	int64		id = 0;

	argument_int32(&arguments, tenant_current());
	argument_cstring(&arguments, name);
	if (statement_read(&find_subscription, &arguments) > 0)
		id = column_int64(0, 0);
	statement_end(scope);
	return id;
}

static const Subscription *
subscription_for_pull(const char *name)
{
	int64		id = subscription_find(name);
	int			count = 0;
	Subscription *subscription = NULL;

	if (id != 0)
		subscription = subscriptions_read(id, &count);
	if (count == 0)
		subscription_refuse(FAILSAFE_SUBSCRIPTION_UNKNOWN, name, NULL);
	Assert(count == 1 && subscription->id == id);
	if (strcmp(subscription->sink, SINK_PULL) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("subscription \"%s\" has the sink \"%s\"", name, subscription->sink),
				 errdetail("Its events are sent by the server; only those of the sink \"pull\" can be claimed."),
				 errhint("Create a subscription with the sink \"pull\" for a program that fetches its events itself.")));
	return subscription;
}

void
pull_begin(PullCall *call, const char *name)
{
	memset(call, 0, sizeof(*call));
	call->context = CurrentMemoryContext;
	call->subscription = subscription_for_pull(name);
	instance_require_adopted(); /* D9 */
	call->now = GetCurrentTimestamp();
}

/* From here on this is the only call for the subscription [U1]. */
void
pull_lock(PullCall *call)
{
	positions_lock(call->subscription->id);
	positions_read(call->subscription->id, call->positions);
	call->now = GetCurrentTimestamp();	/* after the wait */
}

/* ---------- rows of delivery ---------- */

typedef struct PullRow
{
	Delivery	delivery;
	bool		is_delayed;		/* made because its time had not come; nothing failed */
} PullRow;

static DeliveryState
state_from_name(const char *name)
{
	if (strcmp(name, "waiting") == 0)
		return DELIVERY_WAITING;
	if (strcmp(name, "parked") == 0)
		return DELIVERY_PARKED;
	Assert(strcmp(name, "leased") == 0);
	return DELIVERY_LEASED;
}

static void
row_decode(PullCall *call, uint64 row, PullRow *target)
{
	Delivery   *delivery = &target->delivery;
	bool		is_null;

	memset(target, 0, sizeof(*target));
	delivery->subscription_id = call->subscription->id;
	delivery->id = column_int64(row, 0);
	delivery->lane = column_int32(row, 1);
	delivery->seq = column_int64(row, 2);
	delivery->attempts = column_int32(row, 3);
	delivery->state = state_from_name(column_text(row, 4));
	delivery->created_at = column_time(row, 5);
	delivery->due_at = column_time(row, 6);
	delivery->dead_letter_id = column_int64(row, 7);
	delivery->replay_id = column_int64(row, 8);
	delivery->fence = column_int64(row, 9);
	delivery->event_id = *DatumGetUUIDP(column_datum(row, 10, &is_null));
	delivery->event_type = MemoryContextStrdup(call->context, column_text(row, 11));
	delivery->order_key = MemoryContextStrdup(call->context, column_text(row, 12));
	target->is_delayed = column_bool(row, 13);
	Assert(delivery->id > 0 && delivery->seq > 0);
}

/* Run the statement and copy its rows, before the next one takes their place. */
static PullRow *
rows_read(PullCall *call, Statement *statement, const Arguments *arguments, int *count)
{
	StatementScope scope = statement_begin(false);
	PullRow    *rows;

	*count = (int) statement_read(statement, arguments);
	rows = MemoryContextAlloc(call->context, Max(*count, 1) * sizeof(PullRow));
	for (int i = 0; i < *count; i++)
		row_decode(call, i, &rows[i]);
	statement_end(scope);
	return rows;
}

static PullRow *
rows_read_due(PullCall *call, Statement *statement, int *count)
{
	Arguments	arguments = {0};

	argument_int64(&arguments, call->subscription->id);
	argument_time(&arguments, call->now);
	argument_int64(&arguments, CLAIM_EVENTS_MAX);
	return rows_read(call, statement, &arguments, count);
}

bool
pull_delivery(PullCall *call, int64 id, Delivery *delivery)
{
	Arguments	arguments = {0};
	int			count;
	PullRow    *found;

	argument_int64(&arguments, call->subscription->id);
	argument_int64(&arguments, id);
	found = rows_read(call, &read_by_id, &arguments, &count);
	if (count > 0)
		*delivery = found[0].delivery;
	return count > 0;
}

static bool
statement_finds(Statement *statement, const Arguments *arguments)
{
	StatementScope scope = statement_begin(false);
	bool		found = statement_read(statement, arguments) > 0;

	statement_end(scope);
	return found;
}

/* What the row tells about an event that is not in the outbox any more. */
static void
event_from_row(const PullCall *call, const Delivery *delivery, DeliveryEvent *event)
{
	memset(event, 0, sizeof(*event));
	event->lane = delivery->lane;
	event->seq = delivery->seq;
	event->event_id = delivery->event_id;
	event->tenant_id = call->subscription->tenant_id;
	event->occurred_at = delivery->created_at;
	event->event_type = delivery->event_type;
	event->order_key = delivery->order_key;
}

static Snapshot
pull_snapshot(PullCall *call)
{
	if (call->snapshot == NULL)
		call->snapshot = RegisterSnapshot(GetLatestSnapshot());
	return call->snapshot;
}

static bool
event_fetch(PullCall *call, const Delivery *delivery, DeliveryEvent *event)
{
	if (delivery->dead_letter_id != 0)
		return dead_letter_fetch(delivery->dead_letter_id, event);
	return reader_fetch(delivery->lane, delivery->seq, pull_snapshot(call), event);
}

/* ---------- answers ---------- */

/*
 * The row went, or waits for another try: the turn of the next one of its key [U3].  With
 * block that is the first row of the key, if it is parked; with skip the first that is
 * parked, because one that waits for another try does not hold up those behind it.
 */
void
pull_key_release(PullCall *call, const Delivery *delivery)
{
	const Subscription *subscription = call->subscription;
	Delivery	next;
	int64		id;

	if (!subscription->ordered)
		return;
	id = key_first_row(subscription->id, delivery->lane, delivery->order_key,
					   !subscription->block);
	if (id == 0 || !pull_delivery(call, id, &next) || next.state != DELIVERY_PARKED)
		return;
	next.state = DELIVERY_WAITING;
	next.due_at = call->now;
	delivery_update(&next, NULL, NULL);
}

/* Give up; last is NULL where nothing was tried now. */
static void
event_die(PullCall *call, const Delivery *delivery, const DeliveryEvent *event,
		  RetryVerdict verdict, TimestampTz first_at, const AttemptResult *last)
{
	char	   *reason = dead_letter_reason(verdict, SINK_PULL, delivery->attempts,
											call->now - first_at, last);

	Assert(verdict != RETRY_LATER);
	delivery_die(delivery, event, dead_letter_class(verdict, last), reason);
}

/* The row's event is in neither place any more: a dead letter says so. */
static void
event_lost(PullCall *call, const Delivery *delivery)
{
	DeliveryEvent event;

	event_from_row(call, delivery, &event);
	delivery_die(delivery, &event, failure_class_names[CLASS_PERMANENT],
				 "the event was removed from the outbox by hand before it was delivered");
	pull_key_release(call, delivery);
}

/*
 * A try failed: waits for the next one, from due_at on, or gives up.  The state it
 * has then is in delivery; false: it is dead.
 */
bool
pull_failed(PullCall *call, Delivery *delivery, const AttemptResult *result,
				TimestampTz due_at)
{
	TimestampTz first_at;
	DeliveryEvent event;
	RetryVerdict verdict;

	Assert(delivery->state == DELIVERY_LEASED);
	if (!event_fetch(call, delivery, &event))
	{
		event_lost(call, delivery);
		return false;
	}
	delivery->attempts++;
	attempt_insert(delivery, result);
	first_at = delivery_first_attempt_at(delivery);
	Assert(first_at != 0);
	verdict = retry_judge(&call->subscription->policy.retry, result->class, delivery->attempts,
						  first_at, due_at, event.expires_at, call->now);
	if (verdict == RETRY_LATER)
	{
		delivery->state = DELIVERY_WAITING;
		delivery->due_at = due_at;
		delivery->fence = 0;
		delivery_update(delivery, failure_class_names[result->class], result->reason);
	}
	else
		event_die(call, delivery, &event, verdict, first_at, result);
	if (verdict != RETRY_LATER || !call->subscription->block)
		pull_key_release(call, delivery);
	return verdict == RETRY_LATER;
}

void
pull_result(const PullCall *call, FailureClass class, const char *code, const char *reason,
			   AttemptResult *result)
{
	memset(result, 0, sizeof(*result));
	result->started_at = call->now;
	result->class = class;
	result->code = code;
	result->reason = reason;
	result->retry_after_ms = -1;
}

/* Leases that ran out: nobody answered, so the events may have arrived. */
static void
leases_expire(PullCall *call)
{
	int			count;
	PullRow    *expired = rows_read_due(call, &read_expired, &count);
	AttemptResult result;

	pull_result(call, CLASS_UNKNOWN, CODE_LEASE, "the lease ended without an answer", &result);
	for (int i = 0; i < count; i++)
		(void) pull_failed(call, &expired[i].delivery, &result, call->now);
}

/* ---------- keys ---------- */

static KeyState *
key_state(PullCall *call, int lane, const char *order_key)
{
	char		lane_key[LANE_KEY_BYTES];
	KeyState   *state;
	bool		found;

	Assert(call->keys != NULL);
	Assert(strlen(order_key) <= ORDER_KEY_BYTES_MAX);
	snprintf(lane_key, sizeof(lane_key), "%d:%s", lane, order_key);
	state = hash_search(call->keys, lane_key, HASH_ENTER, &found);
	if (!found)
	{
		state->is_leased = false;
		state->is_asked = false;
		state->is_blocked = false;
	}
	return state;
}

static void
keys_read(PullCall *call)
{
	HASHCTL		control;
	Arguments	arguments = {0};
	StatementScope scope;
	uint64		count;

	if (!call->subscription->ordered)
		return;
	control.keysize = LANE_KEY_BYTES;
	control.entrysize = sizeof(KeyState);
	control.hcxt = call->context;
	call->keys = hash_create("keys of a claim", 64, &control,
							 HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	argument_int64(&arguments, call->subscription->id);
	argument_time(&arguments, call->now);
	scope = statement_begin(false);
	count = statement_read(&read_leased_keys, &arguments);
	for (uint64 i = 0; i < count; i++)
		key_state(call, column_int32(i, 1), column_text(i, 0))->is_leased = true;
	statement_end(scope);
}

/* Is another event of the key with a consumer? */
static bool
key_is_leased(PullCall *call, int lane, const char *order_key)
{
	return call->keys != NULL && key_state(call, lane, order_key)->is_leased;
}

/* Must an event that has not been tried stand behind another one of its key [U3]? */
static bool
key_is_blocked(PullCall *call, int lane, const char *order_key)
{
	KeyState   *state;

	if (call->keys == NULL)
		return false;
	state = key_state(call, lane, order_key);
	if (!state->is_leased && !state->is_asked)
	{
		state->is_blocked = key_first_row(call->subscription->id, lane, order_key,
										  !call->subscription->block) != 0;
		state->is_asked = true;
	}
	return state->is_leased || state->is_blocked;
}

/* ---------- handing out ---------- */

static void
claim_return(PullCall *call, const Delivery *delivery, const DeliveryEvent *event)
{
	Datum		values[CLAIM_COLUMNS];
	bool		nulls[CLAIM_COLUMNS] = {false};
	int			length;
	char	   *envelope = reader_envelope(event, &length);

	Assert(call->result->setDesc->natts == CLAIM_COLUMNS);
	Assert(delivery->state == DELIVERY_LEASED && delivery->fence > 0);
	values[0] = Int64GetDatum(delivery->id);
	values[1] = Int64GetDatum(delivery->fence);
	values[2] = UUIDPGetDatum(&delivery->event_id);
	values[3] = CStringGetTextDatum(event->event_type);
	values[4] = CStringGetTextDatum(event->order_key);
	values[5] = Int32GetDatum(delivery->attempts + 1);
	values[6] = TimestampTzGetDatum(delivery->due_at);
	values[7] = TimestampTzGetDatum(event->occurred_at);
	values[8] = PointerGetDatum(cstring_to_text_with_len(envelope, length));
	nulls[9] = event->headers == NULL;
	values[9] = nulls[9] ? (Datum) 0 : CStringGetTextDatum(event->headers);
	tuplestore_putvalues(call->result->setResult, call->result->setDesc, values, nulls);
	call->claimed++;
	if (call->keys != NULL)
		key_state(call, delivery->lane, delivery->order_key)->is_leased = true;
}

static void
delivery_lease(PullCall *call, Delivery *delivery)
{
	delivery->state = DELIVERY_LEASED;
	delivery->due_at = call->lease_until;
	delivery->fence = call->fence;
}

static bool
event_is_expired(const PullCall *call, const DeliveryEvent *event)
{
	return event->expires_at != 0 && event->expires_at <= call->now;
}

static void
claim_due_row(PullCall *call, Delivery *delivery)
{
	DeliveryEvent event;

	if (!event_fetch(call, delivery, &event))
	{
		event_lost(call, delivery);
		return;
	}
	if (event_is_expired(call, &event))
	{
		event_die(call, delivery, &event, RETRY_EXPIRED, delivery->created_at, NULL);
		pull_key_release(call, delivery);
		return;
	}
	delivery_lease(call, delivery);
	delivery_update(delivery, NULL, NULL);
	claim_return(call, delivery, &event);
}

/* Rows whose time has come: they are older than everything that is new. */
static void
claim_due(PullCall *call)
{
	int			count;
	PullRow    *due = rows_read_due(call, &read_due, &count);

	for (int i = 0; i < count && call->claimed < call->wanted; i++)
	{
		Delivery   *delivery = &due[i].delivery;

		if (due[i].is_delayed && key_is_blocked(call, delivery->lane, delivery->order_key))
		{
			delivery->state = DELIVERY_PARKED;
			delivery_update(delivery, NULL, NULL);
		}
		else if (!key_is_leased(call, delivery->lane, delivery->order_key))
			claim_due_row(call, delivery);
	}
}

static void
delivery_from_event(const PullCall *call, const DeliveryEvent *event, Delivery *delivery)
{
	memset(delivery, 0, sizeof(*delivery));
	delivery->subscription_id = call->subscription->id;
	delivery->lane = event->lane;
	delivery->seq = event->seq;
	delivery->created_at = call->now;
	delivery->due_at = call->now;
	delivery->event_id = event->event_id;
	delivery->event_type = event->event_type;
	delivery->order_key = event->order_key;
}

/* A new event: handed out, or a row that waits for its time or its turn [D2]. */
static void
claim_new(PullCall *call, const DeliveryEvent *event)
{
	Delivery	delivery;

	delivery_from_event(call, event, &delivery);
	if (event_is_expired(call, event))
	{
		event_die(call, &delivery, event, RETRY_EXPIRED, call->now, NULL);
		return;
	}
	if (event->deliver_after > call->now)
	{
		delivery.state = DELIVERY_WAITING;
		delivery.due_at = event->deliver_after;
		delivery_insert(&delivery, CLASS_DELAYED, NULL);
		return;
	}
	if (key_is_blocked(call, event->lane, event->order_key))
	{
		delivery.state = DELIVERY_PARKED;
		delivery_insert(&delivery, NULL, NULL);
		call->parked_left--;
		return;
	}
	delivery_lease(call, &delivery);
	delivery_insert(&delivery, NULL, NULL);
	claim_return(call, &delivery, event);
}

static OpenNumbers *
open_numbers_copy(const Position *position)
{
	OpenNumbers *copy = palloc(Max(position->open_count, 1) * sizeof(OpenNumbers));

	if (position->open_count > 0)
		memcpy(copy, position->open, position->open_count * sizeof(OpenNumbers));
	return copy;
}

static bool
open_numbers_equal(const Position *position, const OpenNumbers *open, int count)
{
	return position->open_count == count &&
		(count == 0 || memcmp(position->open, open, count * sizeof(OpenNumbers)) == 0);
}

/* Read on in the lane as long as something is wanted, and there is more. */
static void
claim_lane(PullCall *call, Position *position, int *read_left)
{
	MemoryContext old_context = CurrentMemoryContext;
	MemoryContext context = AllocSetContextCreate(call->context, "events of a claim",
												  ALLOCSET_DEFAULT_SIZES);
	OpenNumbers *open_before = open_numbers_copy(position);
	int			open_count_before = position->open_count;
	int64		high_before = position->high;
	int64		high;

	do
	{
		int			max = Min(Min(call->wanted - call->claimed, call->parked_left),
							  Min(READ_AT_ONCE, *read_left));
		int			count;
		DeliveryEvent *events;

		if (max <= 0)
			break;
		high = position->high;
		MemoryContextSwitchTo(context);
		events = reader_read(position, call->subscription, pull_snapshot(call), max, &count);
		for (int i = 0; i < count; i++)
			claim_new(call, &events[i]);
		*read_left -= Max(count, 1);
		MemoryContextSwitchTo(old_context);
		MemoryContextReset(context);
		if (count == 0 && position->high == high)
			break;
	} while (reader_has_more(position));
	MemoryContextDelete(context);
	if (position->high != high_before ||
		!open_numbers_equal(position, open_before, open_count_before))
		position_write(position);
}

static int
parked_left(PullCall *call)
{
	Arguments	arguments = {0};
	StatementScope scope;
	int64		parked;

	if (!call->subscription->ordered)
		return PARKED_MAX;
	argument_int64(&arguments, call->subscription->id);
	argument_int64(&arguments, PARKED_MAX);
	scope = statement_begin(false);
	(void) statement_read(&count_parked, &arguments);
	parked = column_int64(0, 0);
	statement_end(scope);
	return (int) (PARKED_MAX - parked);
}

static void
claim_events(PullCall *call)
{
	int			read_left = READ_EVENTS_MAX;

	leases_expire(call);
	(void) replay_feed(call->subscription->id, call->now, call->wanted);
	keys_read(call);
	claim_due(call);
	call->parked_left = parked_left(call);
	for (int lane = 0; lane < OUTBOX_LANES; lane++)
		if (reader_has_more(&call->positions[lane]))
			claim_lane(call, &call->positions[lane], &read_left);
}

/* Could a claim find anything?  Asked without the lock, so that polling is cheap [U5]. */
static bool
claim_may_find(PullCall *call)
{
	Arguments	arguments = {0};

	positions_read(call->subscription->id, call->positions);
	for (int lane = 0; lane < OUTBOX_LANES; lane++)
		if (reader_has_more(&call->positions[lane]))
			return true;
	argument_int64(&arguments, call->subscription->id);
	argument_time(&arguments, call->now);
	return statement_finds(&find_due, &arguments) ||
		replay_is_due(call->subscription->id, call->now);
}

/* ---------- outbox_claim() ---------- */

int64
pull_lease(FunctionCallInfo fcinfo, int argument)
{
	Interval   *lease;
	int64		lease_us;

	if (PG_ARGISNULL(argument))
		error_raise_field(FAILSAFE_VALUE_REQUIRED, "lease", "the argument is NULL");
	lease = PG_GETARG_INTERVAL_P(argument);
	lease_us = lease->time + lease->day * USECS_PER_DAY;
	if (lease->month != 0 || lease->day < 0 || lease->day > 1 ||
		lease_us < LEASE_MS_MIN * INT64CONST(1000) || lease_us > LEASE_MS_MAX * INT64CONST(1000))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("lease must be between 1 second and 12 hours")));
	return lease_us;
}

static int
max_events_read(FunctionCallInfo fcinfo, int argument)
{
	int			max_events = PG_ARGISNULL(argument) ? 0 : PG_GETARG_INT32(argument);

	if (max_events < 1 || max_events > CLAIM_EVENTS_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_events must be between 1 and %d", CLAIM_EVENTS_MAX)));
	return max_events;
}

static void
subscription_check_active(const Subscription *subscription)
{
	if (subscription->state == SUBSCRIPTION_DISABLED)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("subscription \"%s\" is disabled", subscription->name),
				 errhint("subscription_resume() makes it active again.")));
}

PG_FUNCTION_INFO_V1(failsafe_outbox_claim);

/*
 * outbox_claim(subscription text, max_events int, lease interval, options jsonb)
 *		-> delivery_id, fence, event_id, event_type, order_key, attempt, lease_until,
 *		   occurred_at, envelope, headers
 */
Datum
failsafe_outbox_claim(PG_FUNCTION_ARGS)
{
	PullCall	call;
	char	   *name = pull_text(fcinfo, 0, "subscription");
	int			wanted = max_events_read(fcinfo, 1);
	int64		lease_us = pull_lease(fcinfo, 2);

	pull_check_call("outbox_claim()");
	options_read(PG_ARGISNULL(3) ? NULL : PG_GETARG_JSONB_P(3), NULL, 0, NULL);
	InitMaterializedSRF(fcinfo, 0);
	pull_begin(&call, name);
	subscription_check_active(call.subscription);
	if (call.subscription->state == SUBSCRIPTION_PAUSED || !claim_may_find(&call))
		return (Datum) 0;

	commit_write_begin();
	pull_lock(&call);
	call.result = (ReturnSetInfo *) fcinfo->resultinfo;
	call.wanted = wanted;
	call.lease_until = call.now + lease_us;
	call.fence = row_sequence_next("delivery_fence_seq");
	claim_events(&call);
	if (call.snapshot != NULL)
		UnregisterSnapshot(call.snapshot);
	commit_write_end();
	if (call.claimed > 0)
		commit_wait_durable_all();	/* U4 */
	return (Datum) 0;
}
