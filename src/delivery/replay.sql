-- delivery: replays.

CREATE INDEX replay_running ON failsafe.replay (subscription_id, id)
	WHERE state = 'running';

CREATE FUNCTION failsafe.dlq_replay(
	subscription text DEFAULT NULL, event_type text DEFAULT NULL,
	since timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL,
	ids int8[] DEFAULT NULL, rate float8 DEFAULT 50,
	not_before timestamptz DEFAULT NULL, not_after timestamptz DEFAULT NULL,
	dry_run bool DEFAULT false, reason text DEFAULT NULL, options jsonb DEFAULT NULL,
	OUT replay_id int8, OUT subscription_name text, OUT matching int8, OUT events_per_second float8,
	OUT estimated_seconds int8, OUT note text)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'failsafe_dlq_replay';
COMMENT ON FUNCTION failsafe.dlq_replay(text, text, timestamptz, timestamptz, int8[], float8, timestamptz, timestamptz, bool, text, jsonb) IS
'Sends dead letters again: all that fit every argument given. subscription: its name; event_type: a type, or its beginning followed by *; since and until: when they died; ids; options: class, order_key, tenant (of the subscription), state (dead, the default, replayed or discarded). rate: events a second and subscription, 0.001 to 1000000. not_before, not_after: the window; what was not taken when it ends is dead again. dry_run: counts and changes nothing. reason: kept with the replay. A dry run also works in a READ ONLY transaction. One row for each subscription, with a replay of its own; replay_id is NULL in a dry run and where nothing fits. At most 1000000 a call; begins after the commit. Order per key is kept, against live events too. Progress: the view replays. Errors: SF038, SF039, SF041, SF070, 22023, 54000.';

CREATE FUNCTION failsafe.outbox_replay(
	subscription text, event_type text DEFAULT NULL,
	since timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL,
	dry_run bool DEFAULT false, rate float8 DEFAULT 50, reason text DEFAULT NULL,
	options jsonb DEFAULT NULL,
	OUT replay_id int8, OUT subscription_name text, OUT matching int8, OUT events_per_second float8,
	OUT estimated_seconds int8, OUT note text)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'failsafe_outbox_replay';
COMMENT ON FUNCTION failsafe.outbox_replay(text, text, timestamptz, timestamptz, bool, float8, text, jsonb) IS
'Sends events that the outbox still keeps to a subscription again: those that it wants (its types, tenants, regions), that it has passed, that have not expired, and that are neither on their way nor dead there. event_type: a type, or its beginning followed by *; since and until: when they occurred. They are copied as dead letters of class resend in state replaying, at most 1000000 a call, and sent like those of dlq_replay(): same rate, same answer, same views. A consumer gets the same event_id again. Options: order_key, tenant, not_before, not_after. It reads the whole outbox once. Errors: SF038, SF039, SF041, SF070, 22023, 54000.';

CREATE FUNCTION failsafe.replay_pause(id int8, reason text, options jsonb DEFAULT NULL)
RETURNS bool
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'failsafe_replay_pause';
COMMENT ON FUNCTION failsafe.replay_pause(int8, text, jsonb) IS
'Stops a replay from taking more dead letters; what it has taken goes on. False: it is paused already. Errors: SF078, SF079, SF038, SF039, SF041.';

CREATE FUNCTION failsafe.replay_resume(id int8, reason text, options jsonb DEFAULT NULL)
RETURNS bool
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'failsafe_replay_resume';
COMMENT ON FUNCTION failsafe.replay_resume(int8, text, jsonb) IS
'Lets a paused replay go on at its rate; the pause is not made up for. False: it is running already. Errors: SF078, SF079, SF038, SF039, SF041.';

CREATE FUNCTION failsafe.replay_cancel(id int8, reason text, options jsonb DEFAULT NULL)
RETURNS int8
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'failsafe_replay_cancel';
COMMENT ON FUNCTION failsafe.replay_cancel(int8, text, jsonb) IS
'Ends a replay. The dead letters that it has not taken are dead again (copies of old events: discarded); the answer is how many. What it has taken goes on and is still counted. Errors: SF078, SF079, SF038, SF039, SF041.';
