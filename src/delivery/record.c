/*
 * delivery/record.c
 *	  Writes deliveries, attempts and dead letters, and counts for replays.
 *
 * Invariants:
 *	R1	Every function is one step of D1: the row of delivery goes in the same
 *		transaction in which the event is done or becomes a dead letter.
 *	R2	Nothing here decides: who calls has judged the answer.
 *	R3	A row that is gone (its subscription was dropped meanwhile) is no error: the
 *		answers of other events must be recorded.
 *	R4	The end of an event of the extension itself (failsafe.*) is not told about by
 *		another event: one that cannot be delivered would beget the next.  Nor is that
 *		of events that are shed for lag: theirs would lengthen the lag.
 *	R5	A replay is done with its last answer, by the statement that counts it.
 *
 * Runs in the caller's transaction, by statements (statement.h).
 *
 * Lock order: replay, dead letter, delivery, outbox.  A replay's row stays locked until
 * the transaction ends: pull consumers that acknowledge events of one replay queue
 * there.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/json.h"
#include "base/settings.h"
#include "delivery/record.h"
#include "delivery/reason.h"
#include "delivery/statement.h"

#define DEAD_EVENT_TYPE		"failsafe.delivery.dead"
#define OWN_EVENT_PREFIX	"failsafe."

static const char *const delivery_state_names[] = {"waiting", "parked", "leased"};

/* ---------- statements ---------- */

static Statement insert_delivery = {
	"INSERT INTO failsafe.delivery (id, subscription_id, seq, created_at, due_at, "
	"dead_letter_id, replay_id, fence, event_id, attempts, lane, state, event_type, "
	"order_key, class, reason) "
	"VALUES (pg_catalog.nextval('failsafe.delivery_id_seq'), $1, $2, $3, $4, $5, $6, $7, $8, "
	"$9, $10::int2, $11, $12, $13, $14, $15) RETURNING id",
	15, {INT8OID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, INT8OID, INT8OID, UUIDOID,
	INT4OID, INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID}
};

/* An event that is parked has had its time: from then on it holds its key like others. */
static Statement update_delivery = {
	"UPDATE failsafe.delivery SET due_at = $2, fence = $3, attempts = $4, state = $5, "
	"class = CASE WHEN $5 = 'parked' AND class = '" CLASS_DELAYED "' THEN NULL "
	"ELSE coalesce($6, class) END, reason = coalesce($7, reason) WHERE id = $1",
	7, {INT8OID, TIMESTAMPTZOID, INT8OID, INT4OID, TEXTOID, TEXTOID, TEXTOID}
};

static Statement delete_delivery = {
	"DELETE FROM failsafe.delivery WHERE id = $1", 1, {INT8OID}
};

/*
 * Where another row of the key holds it, the end of that one comes here again.  An event
 * whose time has not come holds nothing back.
 */
static Statement release_next = {
	"UPDATE failsafe.delivery SET state = 'waiting', due_at = pg_catalog.clock_timestamp() "
	"WHERE state = 'parked' AND id = (SELECT d.id FROM failsafe.delivery AS d "
	"WHERE d.subscription_id = $1 AND d.order_key = $2 AND d.lane = $3::int2 "
	"AND d.state = 'parked' ORDER BY d.seq, d.id LIMIT 1) "
	"AND NOT EXISTS (SELECT FROM failsafe.delivery AS d "
	"WHERE d.subscription_id = $1 AND d.order_key = $2 AND d.lane = $3::int2 "
	"AND (d.state = 'leased' OR d.state = 'waiting' AND d.class IS DISTINCT FROM '"
	CLASS_DELAYED "'))",
	3, {INT8OID, TEXTOID, INT4OID}
};

/* The number goes on where the attempts of a dead letter's earlier rounds ended. */
static Statement insert_attempt = {
	"INSERT INTO failsafe.attempt (id, subscription_id, delivery_id, dead_letter_id, "
	"started_at, duration_us, event_id, number, status, class, code, reason, response) "
	"VALUES (pg_catalog.nextval('failsafe.attempt_id_seq'), $1, $2, $3, $4, $5, $6, "
	"$7 + coalesce((SELECT l.attempts FROM failsafe.dead_letter AS l WHERE l.id = $3), 0), "
	"nullif($8, 0), $9, $10, $11, $12)",
	12, {INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID, INT8OID, UUIDOID, INT4OID, INT4OID,
	TEXTOID, TEXTOID, TEXTOID, TEXTOID}
};

static Statement insert_dead_letter = {
	"INSERT INTO failsafe.dead_letter (id, subscription_id, replay_id, died_at, "
	"first_attempt_at, occurred_at, expires_at, seq, event_id, attempts, tenant_id, lane, "
	"priority, state, class, reason, event_type, order_key, payload, headers, subject, "
	"region, trace_id, traceparent) "
	"VALUES (pg_catalog.nextval('failsafe.dead_letter_id_seq'), $1, $2, "
	"pg_catalog.clock_timestamp(), (SELECT pg_catalog.min(a.started_at) "
	"FROM failsafe.attempt AS a WHERE a.event_id = $6 AND a.subscription_id = $1), "
	"$3, $4, $5, $6, $7, $8, $9::int2, $10::int2, $11, $12, $13, $14, $15, $16::json, "
	"$17::json, $18, $19, $20, $21) RETURNING id",
	21, {INT8OID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, UUIDOID, INT4OID, INT4OID,
	INT4OID, INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID,
	TEXTOID, TEXTOID, TEXTOID}
};

static Statement dead_letter_failed = {
	"UPDATE failsafe.dead_letter AS l SET state = 'dead', "
	"died_at = pg_catalog.clock_timestamp(), attempts = l.attempts + $2, class = $3, "
	"reason = $4, first_attempt_at = coalesce(l.first_attempt_at, "
	"(SELECT pg_catalog.min(a.started_at) FROM failsafe.attempt AS a "
	"WHERE a.event_id = l.event_id AND a.subscription_id = l.subscription_id)) "
	"WHERE l.id = $1 AND l.state = 'replaying' RETURNING l.id, l.attempts",
	4, {INT8OID, INT4OID, TEXTOID, TEXTOID}
};

static Statement dead_letter_replayed = {
	"UPDATE failsafe.dead_letter AS l SET state = 'replayed', attempts = l.attempts + $2, "
	"resolved_at = pg_catalog.clock_timestamp(), "
	"resolved_by = (SELECT r.actor_id FROM failsafe.replay AS r WHERE r.id = l.replay_id), "
	"resolution = 'replayed', first_attempt_at = coalesce(l.first_attempt_at, $3) "
	"WHERE l.id = $1 AND l.state = 'replaying'",
	3, {INT8OID, INT4OID, TIMESTAMPTZOID}
};

/* Is this the last answer that the replay waits for [R5]? */
#define REPLAY_ENDS_NOW \
	"state IN ('running', 'paused') AND taken >= total AND done + failed + $2 + $3 >= taken"

static Statement count_for_replay = {
	"UPDATE failsafe.replay SET done = done + $2, failed = failed + $3, "
	"state = CASE WHEN " REPLAY_ENDS_NOW " THEN 'done' ELSE state END, "
	"ended_at = CASE WHEN " REPLAY_ENDS_NOW " THEN pg_catalog.clock_timestamp() "
	"ELSE ended_at END WHERE id = $1",
	3, {INT8OID, INT8OID, INT8OID}
};

static Statement read_first_attempt = {
	"SELECT pg_catalog.min(a.started_at) FROM failsafe.attempt AS a "
	"WHERE a.event_id = $1 AND a.delivery_id = $2",
	2, {UUIDOID, INT8OID}
};

static Statement read_subscription = {
	"SELECT s.name, s.tenant_id FROM failsafe.subscription AS s WHERE s.id = $1",
	1, {INT8OID}
};

/* ---------- deliveries ---------- */

void
delivery_insert(Delivery *delivery, const char *class, const char *reason)
{
	Arguments	arguments = {0};
	StatementScope scope = statement_begin(true);

	Assert(delivery->id == 0 && delivery->subscription_id > 0);
	Assert(delivery->seq > 0 && delivery->event_type != NULL && delivery->order_key != NULL);
	if (delivery->created_at == 0)
		delivery->created_at = GetCurrentTimestamp();
	if (delivery->state == DELIVERY_PARKED)
		delivery->due_at = DT_NOEND;
	Assert(delivery->due_at != 0);
	argument_int64(&arguments, delivery->subscription_id);
	argument_int64(&arguments, delivery->seq);
	argument_time(&arguments, delivery->created_at);
	argument_time(&arguments, delivery->due_at);
	argument_int64_or_null(&arguments, delivery->dead_letter_id);
	argument_int64_or_null(&arguments, delivery->replay_id);
	argument_int64_or_null(&arguments, delivery->fence);
	argument_datum(&arguments, UUIDPGetDatum(&delivery->event_id), false);
	argument_int32(&arguments, delivery->attempts);
	argument_int32(&arguments, delivery->lane);
	argument_cstring(&arguments, delivery_state_names[delivery->state]);
	argument_cstring(&arguments, delivery->event_type);
	argument_cstring(&arguments, delivery->order_key);
	argument_cstring(&arguments, class);
	argument_cstring(&arguments, reason);
	(void) statement_write(&insert_delivery, &arguments);
	delivery->id = column_int64(0, 0);
	statement_end(scope);
}

void
delivery_update(const Delivery *delivery, const char *class, const char *reason)
{
	Arguments	arguments = {0};
	StatementScope scope = statement_begin(true);

	Assert(delivery->id > 0);
	Assert(delivery->due_at != 0 && delivery->attempts >= 0);
	argument_int64(&arguments, delivery->id);
	argument_time(&arguments, delivery->state == DELIVERY_PARKED ? DT_NOEND : delivery->due_at);
	argument_int64_or_null(&arguments, delivery->fence);
	argument_int32(&arguments, delivery->attempts);
	argument_cstring(&arguments, delivery_state_names[delivery->state]);
	argument_cstring(&arguments, class);
	argument_cstring(&arguments, reason);
	(void) statement_write(&update_delivery, &arguments);
	statement_end(scope);
}

static void
delivery_delete(const Delivery *delivery)
{
	Arguments	arguments = {0};

	if (delivery->id == 0)
		return;
	argument_int64(&arguments, delivery->id);
	(void) statement_write(&delete_delivery, &arguments);
}

bool
delivery_release_next(int64 subscription_id, int lane, const char *order_key)
{
	Arguments	arguments = {0};
	StatementScope scope = statement_begin(true);
	uint64		released;

	Assert(subscription_id > 0 && order_key != NULL);
	Assert(lane >= 0 && lane < OUTBOX_LANES);
	argument_int64(&arguments, subscription_id);
	argument_cstring(&arguments, order_key);
	argument_int32(&arguments, lane);
	released = statement_write(&release_next, &arguments);
	Assert(released <= 1);
	statement_end(scope);
	return released > 0;
}

/* ---------- attempts ---------- */

static void
attempt_write(const Delivery *delivery, int number, const AttemptResult *result)
{
	Arguments	arguments = {0};

	Assert(number > 0);
	Assert(result->started_at != 0 && result->duration_us >= 0);
	Assert(result->class < CLASS_COUNT);
	argument_int64(&arguments, delivery->subscription_id);
	argument_int64_or_null(&arguments, delivery->id);
	argument_int64_or_null(&arguments, delivery->dead_letter_id);
	argument_time(&arguments, result->started_at);
	argument_int64(&arguments, result->duration_us);
	argument_datum(&arguments, UUIDPGetDatum(&delivery->event_id), false);
	argument_int32(&arguments, number);
	argument_int32(&arguments, result->status);
	argument_cstring(&arguments, failure_class_names[result->class]);
	argument_cstring(&arguments, result->code != NULL ? result->code : "");
	argument_cstring(&arguments, result->reason);
	argument_cstring(&arguments, result->response);
	(void) statement_write(&insert_attempt, &arguments);
}

void
attempt_insert(const Delivery *delivery, const AttemptResult *result)
{
	StatementScope scope = statement_begin(true);

	Assert(delivery->attempts > 0);
	Assert(result->class != CLASS_DELIVERED);
	attempt_write(delivery, delivery->attempts, result);
	statement_end(scope);
}

TimestampTz
delivery_first_attempt_at(const Delivery *delivery)
{
	Arguments	arguments = {0};
	StatementScope scope = statement_begin(false);
	TimestampTz at;

	Assert(delivery->id > 0);
	argument_datum(&arguments, UUIDPGetDatum(&delivery->event_id), false);
	argument_int64(&arguments, delivery->id);
	(void) statement_read(&read_first_attempt, &arguments);
	at = column_time(0, 0);
	statement_end(scope);
	return at;
}

/* ---------- the end of a delivery ---------- */

static void
replay_count(int64 replay_id, int done, int failed)
{
	Arguments	arguments = {0};

	Assert(done + failed == 1);
	if (replay_id == 0)
		return;
	argument_int64(&arguments, replay_id);
	argument_int64(&arguments, done);
	argument_int64(&arguments, failed);
	(void) statement_write(&count_for_replay, &arguments);
}

static void
dead_letter_set_replayed(const Delivery *delivery, const AttemptResult *result)
{
	Arguments	arguments = {0};

	Assert(delivery->dead_letter_id > 0);
	argument_int64(&arguments, delivery->dead_letter_id);
	argument_int32(&arguments, delivery->attempts + 1);
	argument_time(&arguments, result->started_at);
	(void) statement_write(&dead_letter_replayed, &arguments);
}

void
delivery_done(const Delivery *delivery, const AttemptResult *result)
{
	bool		is_replayed = delivery->dead_letter_id != 0;
	StatementScope scope;

	Assert(delivery->subscription_id > 0);
	Assert(result->class == CLASS_DELIVERED);
	if (delivery->id == 0 && delivery->attempts == 0)
		return;					/* nothing was ever written about it */
	scope = statement_begin(true);
	if (delivery->attempts > 0 || is_replayed)
		attempt_write(delivery, delivery->attempts + 1, result);
	if (is_replayed)
	{
		replay_count(delivery->replay_id, 1, 0);
		dead_letter_set_replayed(delivery, result);
	}
	delivery_delete(delivery);
	statement_end(scope);
}

int64
dead_letter_insert(const DeadLetter *letter, const DeliveryEvent *event)
{
	Arguments	arguments = {0};

	Assert(letter->subscription_id > 0 && letter->class != NULL && letter->reason != NULL);
	Assert(event->seq > 0 && event->tenant_id > 0 && event->occurred_at != 0);
	argument_int64(&arguments, letter->subscription_id);
	argument_int64_or_null(&arguments, letter->replay_id);
	argument_time(&arguments, event->occurred_at);
	argument_time(&arguments, event->expires_at);
	argument_int64(&arguments, event->seq);
	argument_datum(&arguments, UUIDPGetDatum(&event->event_id), false);
	argument_int32(&arguments, letter->attempts);
	argument_int32(&arguments, event->tenant_id);
	argument_int32(&arguments, event->lane);
	argument_int32(&arguments, event->priority);
	argument_cstring(&arguments, letter->state);
	argument_cstring(&arguments, letter->class);
	argument_cstring(&arguments, letter->reason);
	argument_cstring(&arguments, event->event_type);
	argument_cstring(&arguments, event->order_key);
	argument_cstring(&arguments, event->payload);
	argument_cstring(&arguments, event->headers);
	argument_cstring(&arguments, event->subject);
	argument_cstring(&arguments, event->region);
	argument_cstring(&arguments, event->trace_id);
	argument_cstring(&arguments, event->traceparent);
	(void) statement_write(&insert_dead_letter, &arguments);
	return column_int64(0, 0);
}

/* Back to the dead; *attempts becomes those of all rounds.  0: it is gone [R3]. */
static int64
dead_letter_set_failed(const Delivery *delivery, const char *class, const char *reason,
					   int *attempts)
{
	Arguments	arguments = {0};

	Assert(delivery->dead_letter_id > 0);
	argument_int64(&arguments, delivery->dead_letter_id);
	argument_int32(&arguments, delivery->attempts);
	argument_cstring(&arguments, class);
	argument_cstring(&arguments, reason);
	if (statement_write(&dead_letter_failed, &arguments) == 0)
		return 0;
	*attempts = column_int32(0, 1);
	return column_int64(0, 0);
}

static char *
dead_event_payload(const DeadLetter *letter, int64 dead_letter_id, const char *subscription,
				   const DeliveryEvent *event)
{
	StringInfoData payload;

	Assert(dead_letter_id > 0);
	initStringInfo(&payload);
	appendStringInfoChar(&payload, '{');
	json_member_text(&payload, "subscription", subscription);
	json_member_int64(&payload, "dead_letter_id", dead_letter_id);
	json_member_text(&payload, "dead_event_id", DatumGetCString(
		DirectFunctionCall1(uuid_out, UUIDPGetDatum(&event->event_id))));
	json_member_text(&payload, "dead_event_type", event->event_type);
	json_member_text(&payload, "dead_order_key", event->order_key);
	json_member_text(&payload, "class", letter->class);
	json_member_text(&payload, "reason", letter->reason);
	json_member_int64(&payload, "attempts", letter->attempts);
	appendStringInfoChar(&payload, '}');
	return payload.data;
}

/* Tell by an event, in the tenant of the subscription, that one has died [R4]. */
static void
dead_event_emit(const DeadLetter *letter, int64 dead_letter_id, const DeliveryEvent *event)
{
	OutboxEvent dead = {0};
	Arguments	arguments = {0};
	char	   *subscription;

	if (strncmp(event->event_type, OWN_EVENT_PREFIX, strlen(OWN_EVENT_PREFIX)) == 0 ||
		!settings_event_type_enabled(DEAD_EVENT_TYPE))
		return;
	argument_int64(&arguments, letter->subscription_id);
	if (statement_read(&read_subscription, &arguments) == 0)
		return;
	subscription = column_text(0, 0);
	dead.tenant_id = column_int32(0, 1);
	dead.priority = OUTBOX_PRIORITY_APPLICATION;
	dead.event_type = DEAD_EVENT_TYPE;
	dead.order_key = subscription;
	dead.payload = dead_event_payload(letter, dead_letter_id, subscription, event);
	dead.payload_length = (int) strlen(dead.payload);
	dead.trace_id = event->trace_id;
	dead.traceparent = event->traceparent;
	dead.occurred_at = GetCurrentTimestamp();
	Assert(dead.tenant_id > 0);
	outbox_append(&dead, 1);
}

static void
delivery_end(const Delivery *delivery, const DeliveryEvent *event, const char *class,
			 const char *reason, bool is_told)
{
	DeadLetter	letter = {0};
	StatementScope scope = statement_begin(true);
	int64		id;

	Assert(delivery->subscription_id > 0 && event != NULL);
	Assert(class != NULL && reason != NULL);
	letter.subscription_id = delivery->subscription_id;
	letter.state = "dead";
	letter.attempts = delivery->attempts;
	letter.class = class;
	letter.reason = reason;
	replay_count(delivery->replay_id, 0, 1);
	if (delivery->dead_letter_id != 0)
		id = dead_letter_set_failed(delivery, class, reason, &letter.attempts);
	else
		id = dead_letter_insert(&letter, event);
	delivery_delete(delivery);
	if (id != 0 && is_told)
		dead_event_emit(&letter, id, event);
	statement_end(scope);
}

void
delivery_die(const Delivery *delivery, const DeliveryEvent *event, const char *class,
			 const char *reason)
{
	delivery_end(delivery, event, class, reason, true);
}

void
delivery_shed(const Delivery *delivery, const DeliveryEvent *event, const char *reason)
{
	delivery_end(delivery, event, CLASS_LAG, reason, false);
}
