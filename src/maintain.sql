-- One call for cron: everything that has to be done now and then.

CREATE FUNCTION failsafe.maintain(options jsonb DEFAULT NULL)
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
