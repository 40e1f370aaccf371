-- From 0.1.0 to 0.2.0.

-- Replaced in every update: running sessions look at the version again.
CREATE OR REPLACE FUNCTION failsafe._library_version() RETURNS text
LANGUAGE C STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'failsafe_library_version';

COMMENT ON FUNCTION failsafe.outbox_retain(int, jsonb) IS
'Empties leaves of the outbox whose events are all older than failsafe.event_retention, at most max_leaves (1 to 64) a call. One row for each leaf that is not empty, current or next. action: emptied; kept (it has a younger event, or one that a subscription may still need); busy (somebody reads or writes it: try again). events is counted only where a leaf looked old enough; oldest and newest of a kept leaf are those of its first and last number. Never waits for a lock. Call it in a READ COMMITTED transaction of its own: an emptied leaf stays locked until the transaction ends. Another transaction with an older snapshot no longer sees the events that went.';

-- include ledger/waits.sql
-- include delivery/tables.sql
-- include delivery/instance.sql
-- include delivery/subscription.sql
-- include delivery/failure.sql
-- include delivery/dead_letter.sql
-- include delivery/replay.sql
-- include delivery/pull.sql
-- include delivery/delivery_view.sql
-- include delivery/delivery_stats.sql
-- include delivery/worker.sql

-- As in src/maintain.sql.
CREATE OR REPLACE FUNCTION failsafe.maintain(options jsonb DEFAULT NULL)
RETURNS TABLE (task text, done int8, note text)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
#variable_conflict use_column
DECLARE
	step record;
BEGIN
	PERFORM failsafe._options_check(options);

	-- Checkpoints come first: a transaction that has written holds their horizon back.
	FOR step IN
		SELECT * FROM (VALUES
			('checkpoint', 'SELECT c.accounts, c.note FROM failsafe.ledger_checkpoint() AS c'),
			('holds', 'SELECT failsafe.holds_sweep(1000), NULL::text'),
			('application_keys', 'SELECT failsafe.idempotency_prune(10000), NULL::text'),
			('deliveries', 'SELECT p.attempts + p.dead_letters, NULL::text FROM failsafe.delivery_prune() AS p'),
			('outbox', 'SELECT count(*) FILTER (WHERE r.action = ''emptied''), '
					   'string_agg(r.leaf || '': '' || r.action, '', '') FILTER (WHERE r.action = ''busy'') '
					   'FROM failsafe.outbox_retain() AS r')
		) AS s (name, command)
	LOOP
		BEGIN
			task := step.name;
			EXECUTE step.command INTO done, note;
		EXCEPTION WHEN OTHERS THEN
			done := 0;
			note := format('failed: %s (%s)', SQLERRM, SQLSTATE);
		END;
		RETURN NEXT;
	END LOOP;
END
$body$;
COMMENT ON FUNCTION failsafe.maintain(jsonb) IS
'Does the upkeep, a bounded part of each task a call: checkpoints of system accounts, expiry of holds, old application keys, old events, old attempts and resolved dead letters. A task that fails does not stop the others; its note tells why. Call it every minute, as a statement of its own under READ COMMITTED. Errors: OPTION_INVALID.';

-- grants 0.2.0
