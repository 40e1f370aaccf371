-- delivery: which database was told to deliver.

CREATE FUNCTION failsafe.adopt(reason text, options jsonb DEFAULT NULL, OUT changed bool, OUT raised text[])
RETURNS record
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'failsafe_adopt';
COMMENT ON FUNCTION failsafe.adopt(text, jsonb) IS
'Tells this database to deliver events, after a restore, a copy or an upgrade; until then it sends nothing, so that receivers do not get everything twice. Raises the sequences of the outbox that are behind their events or positions, and names them in raised. changed = false: it was adopted before, and nothing was done. The reason is required and kept. Errors: VALUE_REQUIRED, TEXT_INVALID, OPTION_INVALID, 25006; 55P03 where applications write while a sequence must be raised.';

CREATE FUNCTION failsafe._instance_state(OUT adopted bool, OUT reason text)
RETURNS record
LANGUAGE C VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'failsafe_instance_state';
COMMENT ON FUNCTION failsafe._instance_state() IS
'Was this database, and no other, told to deliver; if not, why.';

CREATE FUNCTION failsafe._doctor_delivery()
RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
WITH found AS (
	SELECT count(*) AS subscriptions,
		   count(*) FILTER (WHERE s.state = 'paused') AS paused,
		   count(*) FILTER (WHERE s.state = 'disabled') AS disabled,
		   string_agg(s.name || ' (' || s.state || coalesce(': ' || s.state_reason, '') || ')', ', '
					  ORDER BY s.name COLLATE "C") FILTER (WHERE s.state <> 'active') AS stopped
	FROM failsafe.subscription AS s
)
SELECT 'delivery', CASE WHEN i.adopted OR f.subscriptions = 0 THEN 'ok' ELSE 'error' END,
	   CASE WHEN i.adopted THEN 'this database was told to deliver' ELSE 'nothing is sent: ' || i.reason END,
	   CASE WHEN NOT i.adopted AND f.subscriptions > 0 THEN
		'If the other database does not deliver any more, call failsafe.adopt(); else drop the subscriptions here.' END
FROM found AS f, failsafe._instance_state() AS i
UNION ALL
SELECT 'delivery_setting', CASE WHEN v.value THEN 'ok' ELSE 'warning' END,
	   CASE WHEN v.value THEN 'failsafe.delivery is on' ELSE 'failsafe.delivery is off: nothing is sent' END,
	   CASE WHEN NOT v.value THEN 'Set failsafe.delivery = on and reload the configuration, unless it is meant.' END
FROM (SELECT coalesce(current_setting('failsafe.delivery', true), 'on')::bool AS value) AS v
UNION ALL
SELECT 'delivery_library', 'warning', 'there are subscriptions, but the library is not preloaded',
	   'Add pg_failsafe to shared_preload_libraries and restart: only then a worker starts by itself.'
FROM found AS f
WHERE f.subscriptions > 0
  AND current_setting('shared_preload_libraries') !~ '(^|[,/ "])pg_failsafe("| *,| *$)'
UNION ALL
SELECT 'subscriptions', CASE WHEN f.disabled > 0 THEN 'warning' WHEN f.paused > 0 THEN 'info' ELSE 'ok' END,
	   format('%s subscriptions, %s paused, %s disabled', f.subscriptions, f.paused, f.disabled)
	   || coalesce(': ' || left(f.stopped, 1000), ''),
	   CASE WHEN f.disabled + f.paused > 0 THEN
		'subscription_resume() lets them go on; beyond max_lag their events become dead letters.' END
FROM found AS f
$body$;
COMMENT ON FUNCTION failsafe._doctor_delivery() IS
'doctor(): may this database deliver, and which subscriptions stand still.';

COMMENT ON TABLE failsafe.instance IS
'Which database was told to deliver; the newest row counts. A restored or copied database has a row that names another one.';
COMMENT ON COLUMN failsafe.instance.system_identifier IS 'of the database cluster, as pg_control_system() shows it';
COMMENT ON COLUMN failsafe.instance.database_id IS 'oid of the database';
COMMENT ON COLUMN failsafe.instance.outbox_id IS 'oid of failsafe.outbox';
COMMENT ON COLUMN failsafe.instance.actor_id IS 'who adopted it';
COMMENT ON SEQUENCE failsafe.instance_id_seq IS 'order of the adoptions';
