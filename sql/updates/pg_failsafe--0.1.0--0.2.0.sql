-- From 0.1.0 to 0.2.0.

-- Replaced in every update: running sessions look at the version again.
CREATE OR REPLACE FUNCTION failsafe._library_version() RETURNS text
LANGUAGE C STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'failsafe_library_version';

COMMENT ON FUNCTION failsafe.outbox_retain(int, jsonb) IS
'Empties leaves of the outbox whose events are all older than failsafe.event_retention, at most max_leaves (1 to 64) a call. One row for each leaf that is not empty, current or next. action: emptied; kept (it has a younger event, or one that a subscription may still need); busy (somebody reads or writes it: try again). events is counted only where a leaf looked old enough; oldest and newest of a kept leaf are those of its first and last number. Never waits for a lock. Call it in a READ COMMITTED transaction of its own: an emptied leaf stays locked until the transaction ends. Another transaction with an older snapshot no longer sees the events that went.';

-- include base/refusal.sql
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

-- What doctor() looks at.
CREATE OR REPLACE FUNCTION failsafe.doctor()
RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
	subject text;
BEGIN
	FOREACH subject IN ARRAY ARRAY['library', 'settings', 'guards', 'tables', 'privileges',
			'tenants', 'outbox', 'delivery', 'delivery_worker', 'upkeep', 'transactions', 'sequences']
	LOOP
		BEGIN
			RETURN QUERY EXECUTE format('SELECT * FROM failsafe._doctor_%s()', subject);
		EXCEPTION WHEN OTHERS THEN
			check_name := subject;
			status := 'error';
			detail := format('could not be checked: %s (%s)', SQLERRM, SQLSTATE);
			hint := 'Compare the objects of the extension with a new installation.';
			RETURN NEXT;
		END;
	END LOOP;
END
$body$;
COMMENT ON FUNCTION failsafe.doctor() IS
'What an operator should know: library, settings, guards, altered tables, privileges, tenants, outbox, delivery and its workers, upkeep, old transactions, sequences. status: ok, info, warning, error; hint says what to do. Only reads, works on a standby, and does not fail: what cannot be checked is a row with status error.';

-- The new tables refuse UPDATE, DELETE and TRUNCATE (base/guard.sql), are dumped, and look
-- as they were made (base/doctor.sql).
DO $guard$
DECLARE
	guarded pg_catalog.regclass;
BEGIN
	FOR guarded IN
		SELECT c.oid::pg_catalog.regclass
		FROM pg_catalog.pg_class AS c
		WHERE c.relnamespace = 'failsafe'::pg_catalog.regnamespace
			AND c.relkind IN ('r', 'p')
			AND EXISTS (SELECT FROM pg_catalog.pg_depend AS d
						WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
							AND d.objid = c.oid AND d.deptype = 'e')
			AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger AS t
							WHERE t.tgrelid = c.oid AND t.tgname = 'failsafe_guard')
		ORDER BY c.relname
	LOOP
		EXECUTE pg_catalog.format(
			'CREATE TRIGGER failsafe_guard BEFORE UPDATE OR DELETE OR TRUNCATE ON %s '
			'FOR EACH STATEMENT EXECUTE FUNCTION failsafe._guard()', guarded);
		EXECUTE pg_catalog.format(
			'ALTER TABLE %s ENABLE ALWAYS TRIGGER failsafe_guard', guarded);
		EXECUTE pg_catalog.format(
			'COMMENT ON TRIGGER failsafe_guard ON %s IS %L', guarded,
			'refuses UPDATE, DELETE and TRUNCATE by SQL');
	END LOOP;
END
$guard$;

-- include base/dump.sql
DO $shape$
BEGIN
	EXECUTE pg_catalog.format(
		'CREATE OR REPLACE FUNCTION failsafe._schema_shape_made() RETURNS TABLE (relation text, shape text) '
		'LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp '
		'AS %L',
		(SELECT E'VALUES\n' || pg_catalog.string_agg(
					pg_catalog.format('(%L::text, %L::text)', s.relation, s.shape), E',\n'
					ORDER BY s.relation COLLATE "C")
		 FROM failsafe._schema_shape() AS s));
END
$shape$;

-- grants 0.2.0
