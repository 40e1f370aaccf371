/*
 * delivery/replay.c
 *	  Runs replays: feeds their dead letters into failsafe.delivery, pauses, resumes
 *	  and cancels them.
 *
 * States: running -> paused -> running; running or paused -> done (all answers are in)
 * or canceled (by hand, or because its window ended).  The answers of what a canceled
 * replay had taken are still counted.
 *
 * Invariants:
 *	Y1	A replay takes its dead letters in the order of their ids, each once: those
 *		below next_id have been taken.
 *	Y2	What is taken gets its row of delivery in the same transaction; the dead letter
 *		stays "replaying" until the answer (record.c).
 *	Y3	No order of a key is turned round: behind an earlier row of its key a letter is
 *		parked.  That row is locked against its end meanwhile, so its end finds the
 *		parked one; a row that is ending just now is waited for by asking again.
 *	Y4	The rate counts from the first event; time that was not used, in a pause or
 *		while the receiver was down, is not caught up.
 *	Y5	At most REPLAY_OUTSTANDING_MAX of a replay are without an answer [D8].
 *	Y6	Feeding waits for no lock [D10]: a replay whose row somebody has locked, for
 *		counting an answer, is fed the next time.
 *
 * Lock order: replay, dead letters by id, deliveries (shared, without waiting).
 *
 * A crash leaves what was committed: taken letters have their rows, the others are
 * not below next_id and are taken later.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/actor.h"
#include "base/errors.h"
#include "base/json.h"
#include "base/options.h"
#include "delivery/dead_letter.h"
#include "delivery/replay.h"
#include "delivery/statement.h"

#define STEP_US			10000	/* between two feedings: fewer, larger ones at high rates */
#define FULL_PAUSE_US	USECS_PER_SEC	/* until a replay that waits for answers is looked at */

typedef struct Replay
{
	int64		id;
	int64		subscription_id;
	int64		actor_id;
	TimestampTz not_before;		/* 0: now */
	TimestampTz not_after;		/* 0: no end */
	TimestampTz paced_from;		/* 0: not begun, or resumed */
	int64		next_id;
	int64		total;
	int64		taken;
	int64		answered;		/* done and failed */
	double		rate;
	bool		blocks;			/* keys of its subscription wait for earlier rows */
} Replay;

/* What is before a letter in its key. */
typedef enum KeyState
{
	KEY_FREE,
	KEY_TAKEN,					/* an earlier row, locked against its end */
	KEY_BUSY					/* an earlier row that is ending just now */
} KeyState;

/* ---------- statements ---------- */

#define REPLAY_COLUMNS \
	"r.id, r.subscription_id, r.actor_id, r.not_before, r.not_after, r.paced_from, " \
	"r.next_id, r.total, r.taken, r.done + r.failed, r.rate, " \
	"s.ordering = 'key' AND s.on_blocked = 'block' " \
	"FROM failsafe.replay AS r JOIN failsafe.subscription AS s ON s.id = r.subscription_id "

static Statement read_running = {
	"SELECT " REPLAY_COLUMNS
	"WHERE r.subscription_id = $1 AND r.state = 'running' AND s.state = 'active' "
	"ORDER BY r.id",
	1, {INT8OID}
};

static Statement lock_running = {
	"SELECT " REPLAY_COLUMNS
	"WHERE r.id = $1 AND r.state = 'running' FOR UPDATE OF r SKIP LOCKED",
	1, {INT8OID}
};

static Statement lock_any = {
	"SELECT " REPLAY_COLUMNS
	"WHERE r.id = $1 AND s.tenant_id = ANY ((SELECT failsafe._report_tenants())::int4[]) "
	"FOR UPDATE OF r",
	1, {INT8OID}
};

static Statement read_state = {
	"SELECT r.state FROM failsafe.replay AS r WHERE r.id = $1", 1, {INT8OID}
};

static Statement read_letters = {
	"SELECT l.id, l.seq, l.event_id, l.lane::int4, l.event_type, l.order_key "
	"FROM failsafe.dead_letter AS l "
	"WHERE l.subscription_id = $1 AND l.state = 'replaying' AND l.id >= $3 "
	"AND l.replay_id = $2 ORDER BY l.id LIMIT $4",
	4, {INT8OID, INT8OID, INT8OID, INT8OID}
};

#define EARLIER_ROW \
	"SELECT d.id FROM failsafe.delivery AS d WHERE d.subscription_id = $1 " \
	"AND d.order_key = $2 AND d.lane = $3::int2 AND d.seq < $4 " \
	"AND (d.state <> 'waiting' OR d.class IS DISTINCT FROM '" CLASS_DELAYED "') " \
	"ORDER BY d.seq LIMIT 1 "

static Statement lock_earlier_row = {
	EARLIER_ROW "FOR KEY SHARE SKIP LOCKED", 4, {INT8OID, TEXTOID, INT4OID, INT8OID}
};

static Statement read_earlier_row = {
	EARLIER_ROW, 4, {INT8OID, TEXTOID, INT4OID, INT8OID}
};

static Statement update_fed = {
	"UPDATE failsafe.replay SET started_at = coalesce(started_at, $2), paced_from = $3, "
	"next_id = $4, taken = $5, total = $6, "
	"state = CASE WHEN $5 >= $6 AND done + failed >= $5 THEN 'done' ELSE state END, "
	"ended_at = CASE WHEN $5 >= $6 AND done + failed >= $5 "
	"THEN pg_catalog.clock_timestamp() END WHERE id = $1",
	6, {INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, INT8OID, INT8OID}
};

/* A copy that was made to be sent again is no dead letter: it was never refused. */
static Statement put_back = {
	"UPDATE failsafe.dead_letter SET "
	"state = CASE class WHEN '" CLASS_RESEND "' THEN 'discarded' ELSE 'dead' END, "
	"resolved_at = CASE class WHEN '" CLASS_RESEND "' THEN pg_catalog.clock_timestamp() END, "
	"resolved_by = CASE class WHEN '" CLASS_RESEND "' THEN $4 END, "
	"resolution = CASE class WHEN '" CLASS_RESEND "' THEN 'not sent: the replay was canceled' END "
	"WHERE subscription_id = $1 AND state = 'replaying' AND replay_id = $2 AND id >= $3",
	4, {INT8OID, INT8OID, INT8OID, INT8OID}
};

static Statement update_state = {
	"UPDATE failsafe.replay SET state = $2, paced_from = NULL, "
	"generation = pg_catalog.nextval('failsafe.subscription_generation_seq'), "
	"ended_at = CASE $2 WHEN 'canceled' THEN pg_catalog.clock_timestamp() END "
	"WHERE id = $1",
	2, {INT8OID, TEXTOID}
};

static Statement draw_id = {
	"SELECT pg_catalog.nextval('failsafe.replay_id_seq')", 0
};

static Statement insert_replay = {
	"INSERT INTO failsafe.replay (id, subscription_id, generation, created_at, actor_id, "
	"not_before, not_after, next_id, total, taken, done, failed, rate, state, filter, reason) "
	"VALUES ($1, $2, pg_catalog.nextval('failsafe.subscription_generation_seq'), "
	"pg_catalog.clock_timestamp(), $3, $4, $5, 0, $6, 0, 0, 0, $7, 'running', $8::jsonb, $9)",
	9, {INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, FLOAT8OID,
	TEXTOID, TEXTOID}
};

static Statement insert_change = {
	"INSERT INTO failsafe.subscription_change (id, subscription_id, changed_at, actor_id, "
	"tenant_id, name, action, detail, reason) "
	"SELECT pg_catalog.nextval('failsafe.subscription_change_id_seq'), s.id, "
	"pg_catalog.clock_timestamp(), $2, s.tenant_id, s.name, $3, "
	"pg_catalog.jsonb_build_object('replay_id', $4, 'count', $5), $6 "
	"FROM failsafe.subscription AS s WHERE s.id = $1",
	6, {INT8OID, INT8OID, TEXTOID, INT8OID, INT8OID, TEXTOID}
};

/* ---------- rows ---------- */

static void
replay_fill(Replay *replay, uint64 row)
{
	replay->id = column_int64(row, 0);
	replay->subscription_id = column_int64(row, 1);
	replay->actor_id = column_int64(row, 2);
	replay->not_before = column_time(row, 3);
	replay->not_after = column_time(row, 4);
	replay->paced_from = column_time(row, 5);
	replay->next_id = column_int64(row, 6);
	replay->total = column_int64(row, 7);
	replay->taken = column_int64(row, 8);
	replay->answered = column_int64(row, 9);
	replay->rate = column_float8(row, 10);
	replay->blocks = column_bool(row, 11);
	Assert(replay->id > 0 && replay->rate > 0);
	Assert(replay->taken <= replay->total && replay->answered <= replay->taken);
}

/* The running replays of an active subscription, oldest first; in the caller's context. */
static Replay *
replays_read(int64 subscription_id, int *count)
{
	MemoryContext caller = CurrentMemoryContext;
	StatementScope scope = statement_begin(false);
	Arguments	arguments = {0};
	Replay	   *replays;

	argument_int64(&arguments, subscription_id);
	*count = (int) statement_read(&read_running, &arguments);
	replays = MemoryContextAlloc(caller, Max(*count, 1) * sizeof(Replay));
	for (int i = 0; i < *count; i++)
		replay_fill(&replays[i], i);
	statement_end(scope);
	return replays;
}

static bool
replay_lock(Replay *replay, Statement *statement, int64 id)
{
	Arguments	arguments = {0};

	Assert(id > 0);
	argument_int64(&arguments, id);
	if (statement_read(statement, &arguments) == 0)
		return false;
	replay_fill(replay, 0);
	return true;
}

int64
replay_draw_id(void)
{
	Arguments	arguments = {0};

	(void) statement_read(&draw_id, &arguments);
	return column_int64(0, 0);
}

/* Who did what to a replay, and why. */
static void
replay_note_change(int64 id, int64 subscription_id, int64 actor_id, const char *action,
				   int64 count, const char *reason)
{
	Arguments	arguments = {0};

	Assert(id > 0 && subscription_id > 0 && actor_id > 0);
	argument_int64(&arguments, subscription_id);
	argument_int64(&arguments, actor_id);
	argument_cstring(&arguments, action);
	argument_int64(&arguments, id);
	argument_int64(&arguments, count);
	argument_cstring(&arguments, reason);
	(void) statement_write(&insert_change, &arguments);
}

void
replay_insert(int64 id, int64 subscription_id, const ReplayOrder *order, int64 total)
{
	Arguments	arguments = {0};

	Assert(id > 0 && total > 0 && total <= DLQ_REPLAY_MAX);
	Assert(order->rate >= REPLAY_RATE_MIN && order->rate <= RATE_MAX);
	argument_int64(&arguments, id);
	argument_int64(&arguments, subscription_id);
	argument_int64(&arguments, order->actor_id);
	argument_time(&arguments, order->not_before);
	argument_time(&arguments, order->not_after);
	argument_int64(&arguments, total);
	argument_datum(&arguments, Float8GetDatum(order->rate), false);
	argument_cstring(&arguments, order->filter);
	argument_cstring(&arguments, order->reason);
	(void) statement_write(&insert_replay, &arguments);
	replay_note_change(id, subscription_id, order->actor_id, "replay_started", total,
					   order->reason);
	worker_wake_at_commit();
}

static void
replay_set_state(const Replay *replay, const char *state)
{
	Arguments	arguments = {0};

	argument_int64(&arguments, replay->id);
	argument_cstring(&arguments, state);
	(void) statement_write(&update_state, &arguments);
	worker_wake_at_commit();
}

/* Give the letters back that were not taken; returns how many. */
static int64
replay_cancel(const Replay *replay, int64 actor_id, const char *reason)
{
	Arguments	arguments = {0};
	int64		count;

	Assert(actor_id > 0 && reason != NULL);
	argument_int64(&arguments, replay->subscription_id);
	argument_int64(&arguments, replay->id);
	argument_int64(&arguments, replay->next_id);
	argument_int64(&arguments, actor_id);
	count = (int64) statement_write(&put_back, &arguments);
	replay_set_state(replay, "canceled");
	replay_note_change(replay->id, replay->subscription_id, actor_id, "replay_canceled",
					   count, reason);
	return count;
}

/* ---------- feeding ---------- */

static bool
window_ended(const Replay *replay, TimestampTz now)
{
	return replay->not_after != 0 && now >= replay->not_after;
}

/* How many it may take now; *paced_from as in replay_allowance().  Pure. */
static int
replay_share(const Replay *replay, TimestampTz now, int room, TimestampTz *paced_from)
{
	int64		share;

	Assert(room >= 0);
	*paced_from = replay->paced_from;
	if (now < replay->not_before || replay->taken >= replay->total)
		return 0;
	share = replay_allowance(replay->rate, replay->taken, now, paced_from);
	share = Min(share, replay->total - replay->taken);
	share = Min(share, REPLAY_OUTSTANDING_MAX - (replay->taken - replay->answered));
	return (int) Max(Min(share, room), 0);
}

static KeyState
key_state(const Replay *replay, const Delivery *delivery)
{
	Arguments	arguments = {0};
	KeyState	state = KEY_FREE;
	StatementScope scope;

	Assert(delivery->order_key != NULL);
	if (!replay->blocks)
		return KEY_FREE;
	scope = statement_begin(false);
	argument_int64(&arguments, replay->subscription_id);
	argument_cstring(&arguments, delivery->order_key);
	argument_int32(&arguments, delivery->lane);
	argument_int64(&arguments, delivery->seq);
	if (statement_read(&lock_earlier_row, &arguments) > 0)
		state = KEY_TAKEN;
	else if (statement_read(&read_earlier_row, &arguments) > 0)
		state = KEY_BUSY;
	statement_end(scope);
	return state;
}

/* Give the letter of that row its row of delivery; false: its key is busy [Y3]. */
static bool
letter_feed(const Replay *replay, uint64 row, TimestampTz now)
{
	Delivery	delivery = {0};
	KeyState	state;
	bool		is_null;

	delivery.subscription_id = replay->subscription_id;
	delivery.replay_id = replay->id;
	delivery.dead_letter_id = column_int64(row, 0);
	delivery.seq = column_int64(row, 1);
	delivery.event_id = *DatumGetUUIDP(column_datum(row, 2, &is_null));
	delivery.lane = column_int32(row, 3);
	delivery.event_type = column_text(row, 4);
	delivery.order_key = column_text(row, 5);
	delivery.created_at = now;
	delivery.due_at = now;
	state = key_state(replay, &delivery);
	if (state == KEY_BUSY)
		return false;
	delivery.state = state == KEY_TAKEN ? DELIVERY_PARKED : DELIVERY_WAITING;
	delivery_insert(&delivery, NULL, NULL);
	Assert(delivery.id > 0);
	return true;
}

static void
replay_write_fed(const Replay *replay, TimestampTz now)
{
	Arguments	arguments = {0};

	Assert(replay->taken <= replay->total);
	argument_int64(&arguments, replay->id);
	argument_time(&arguments, now);
	argument_time(&arguments, replay->paced_from);
	argument_int64(&arguments, replay->next_id);
	argument_int64(&arguments, replay->taken);
	argument_int64(&arguments, replay->total);
	(void) statement_write(&update_fed, &arguments);
}

/* Take up to share letters; returns how many. */
static int
letters_take(Replay *replay, TimestampTz now, int share)
{
	Arguments	arguments = {0};
	int			found;
	int			fed = 0;

	Assert(share > 0);
	argument_int64(&arguments, replay->subscription_id);
	argument_int64(&arguments, replay->id);
	argument_int64(&arguments, replay->next_id);
	argument_int64(&arguments, share);
	found = (int) statement_read(&read_letters, &arguments);
	while (fed < found && letter_feed(replay, fed, now))
	{
		replay->next_id = column_int64(fed, 0) + 1;
		fed++;
	}
	replay->taken += fed;
	/* none are left, whatever was counted at the start: it must end */
	if (found < share && fed == found)
		replay->total = replay->taken;
	return fed;
}

/* One replay, locked; returns how many it took. */
static int
replay_feed_one(int64 id, TimestampTz now, int room)
{
	StatementScope scope = statement_begin(true);
	Replay		replay;
	TimestampTz paced_from;
	int			fed = 0;

	if (replay_lock(&replay, &lock_running, id))
	{
		if (window_ended(&replay, now) && replay.taken < replay.total)
			(void) replay_cancel(&replay, replay.actor_id, "its window has ended");
		else
		{
			int			share = replay_share(&replay, now, room, &paced_from);

			replay.paced_from = paced_from;
			if (share > 0)
			{
				fed = letters_take(&replay, now, share);
				replay_write_fed(&replay, now);
			}
		}
	}
	statement_end(scope);
	Assert(fed <= room);
	return fed;
}

/* Is there something to take, or to give back?  Pure. */
static bool
replay_has_share(const Replay *replay, TimestampTz now, int room)
{
	TimestampTz paced_from;

	if (replay->taken >= replay->total)
		return false;
	return window_ended(replay, now) || replay_share(replay, now, room, &paced_from) > 0;
}

int
replay_feed(int64 subscription_id, TimestampTz now, int room)
{
	int			count;
	int			fed = 0;
	Replay	   *replays = replays_read(subscription_id, &count);

	Assert(subscription_id > 0 && room >= 0);
	for (int i = 0; i < count; i++)
	{
		if (replay_has_share(&replays[i], now, room - fed))
			fed += replay_feed_one(replays[i].id, now, room - fed);
	}
	pfree(replays);
	Assert(fed <= room);
	return fed;
}

bool
replay_is_due(int64 subscription_id, TimestampTz now)
{
	bool		is_due = false;
	int			count;
	Replay	   *replays = replays_read(subscription_id, &count);

	Assert(subscription_id > 0);
	for (int i = 0; i < count && !is_due; i++)
		is_due = replay_has_share(&replays[i], now, 1);
	pfree(replays);
	return is_due;
}

/* When it is to be looked at next; pure. */
static TimestampTz
replay_due_at(const Replay *replay, TimestampTz now)
{
	TimestampTz due = now;

	Assert(replay->rate > 0);
	if (replay->taken >= replay->total)
		return DT_NOEND;
	if (replay->taken - replay->answered >= REPLAY_OUTSTANDING_MAX)
		due = now + FULL_PAUSE_US;
	else if (replay->paced_from != 0)
		due = replay->paced_from +
			(int64) ceil((double) (replay->taken + 1) / replay->rate * USECS_PER_SEC);
	due = Max(due, Max(now + STEP_US, replay->not_before));
	return replay->not_after != 0 ? Min(due, replay->not_after) : due;
}

TimestampTz
replay_next_due(int64 subscription_id, TimestampTz now)
{
	TimestampTz next = DT_NOEND;
	int			count;
	Replay	   *replays = replays_read(subscription_id, &count);

	Assert(subscription_id > 0);
	for (int i = 0; i < count; i++)
		next = Min(next, replay_due_at(&replays[i], now));
	pfree(replays);
	return next;
}

/* ---------- pause, resume, cancel ---------- */

/* Lock the replay that the caller names; its state is returned.  Raises where it has none. */
static char *
replay_lock_for_change(FunctionCallInfo fcinfo, Replay *replay)
{
	Arguments	arguments = {0};
	char	   *state;

	if (!replay_lock(replay, &lock_any, PG_GETARG_INT64(0)))
		error_raise_field(FAILSAFE_REPLAY_UNKNOWN, "id",
						  psprintf("%lld", (long long) PG_GETARG_INT64(0)));
	argument_int64(&arguments, replay->id);
	(void) statement_read(&read_state, &arguments);
	state = column_text(0, 0);
	if (strcmp(state, "running") != 0 && strcmp(state, "paused") != 0)
		error_raise_field(FAILSAFE_REPLAY_ENDED, "state", state);
	return state;
}

static char *
check_change(FunctionCallInfo fcinfo, const char *function)
{
	dead_letter_check_call(function);
	if (PG_ARGISNULL(0) || PG_GETARG_INT64(0) <= 0)
		error_raise_field(FAILSAFE_REPLAY_UNKNOWN, "id",
						  PG_ARGISNULL(0) ? "the argument is NULL" :
						  psprintf("%lld", (long long) PG_GETARG_INT64(0)));
	options_read(PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2), NULL, 0, NULL);
	return dead_letter_required_reason(fcinfo, 1);
}

/* From one state to the other; false where it is there already. */
static bool
replay_change(FunctionCallInfo fcinfo, const char *function, const char *state,
			  const char *action)
{
	char	   *reason = check_change(fcinfo, function);
	int64		actor_id = actor_current();
	StatementScope scope = statement_begin(true);
	Replay		replay;
	bool		changed;

	Assert(strcmp(state, "running") == 0 || strcmp(state, "paused") == 0);
	changed = strcmp(replay_lock_for_change(fcinfo, &replay), state) != 0;
	if (changed)
	{
		replay_set_state(&replay, state);
		replay_note_change(replay.id, replay.subscription_id, actor_id, action,
						   replay.total - replay.taken, reason);
	}
	statement_end(scope);
	return changed;
}

PG_FUNCTION_INFO_V1(failsafe_replay_pause);

/* replay_pause(id int8, reason text, options jsonb) -> bool */
Datum
failsafe_replay_pause(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(replay_change(fcinfo, "replay_pause()", "paused", "replay_paused"));
}

PG_FUNCTION_INFO_V1(failsafe_replay_resume);

/* replay_resume(id int8, reason text, options jsonb) -> bool */
Datum
failsafe_replay_resume(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(replay_change(fcinfo, "replay_resume()", "running", "replay_resumed"));
}

PG_FUNCTION_INFO_V1(failsafe_replay_cancel);

/* replay_cancel(id int8, reason text, options jsonb) -> int8 */
Datum
failsafe_replay_cancel(PG_FUNCTION_ARGS)
{
	char	   *reason = check_change(fcinfo, "replay_cancel()");
	int64		actor_id = actor_current();
	StatementScope scope = statement_begin(true);
	Replay		replay;
	int64		count;

	(void) replay_lock_for_change(fcinfo, &replay);
	count = replay_cancel(&replay, actor_id, reason);
	statement_end(scope);
	Assert(count >= 0);
	PG_RETURN_INT64(count);
}
