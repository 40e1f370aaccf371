-- delivery: the workers, as people see them.

CREATE FUNCTION failsafe.worker_start(options jsonb DEFAULT NULL) RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'failsafe_worker_start';
COMMENT ON FUNCTION failsafe.worker_start(jsonb) IS
'Starts the worker of this database: after worker_stop(), or in a server that does not preload the library, where it ends with the server. Answers started, starting (it has not been seen yet) or running (it was there before). Errors: 53400 where no background worker, slot or shared memory is to be had, OPTION_INVALID, 25006.';

CREATE FUNCTION failsafe.worker_stop(options jsonb DEFAULT NULL) RETURNS text
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'failsafe_worker_stop';
COMMENT ON FUNCTION failsafe.worker_stop(jsonb) IS
'Stops the worker of this database until worker_start() or a restart of the server. Answers stopped, stopping (it is still at work) or not_running. Events stay where they are. Errors: 53400, OPTION_INVALID, 25006.';

CREATE FUNCTION failsafe._stat_workers()
RETURNS TABLE (database_id oid, pid int4, state text, note text, started_at timestamptz,
			   starts int8, rounds int8, last_round_at timestamptz, maintained_at timestamptz,
			   errors int8, last_error text, last_error_at timestamptz,
			   relay_pid int4, relay_started_at timestamptz, relay_restarts int8)
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'failsafe_stat_workers';
COMMENT ON FUNCTION failsafe._stat_workers() IS
'The workers of this server, by database.';

CREATE VIEW failsafe.stat_workers WITH (security_barrier) AS
SELECT d.datname::text AS database, w.pid, w.state, w.note, w.started_at, w.starts, w.rounds,
	   w.last_round_at, w.maintained_at, w.errors, w.last_error, w.last_error_at,
	   w.relay_pid, w.relay_started_at, w.relay_restarts
FROM failsafe._stat_workers() AS w
JOIN pg_catalog.pg_database AS d ON d.oid = w.database_id;
COMMENT ON VIEW failsafe.stat_workers IS
'The workers of this server: what they do, since when, what went wrong. A crash of the server forgets the numbers. Notes and errors are shown for this database only.';
COMMENT ON COLUMN failsafe.stat_workers.pid IS 'its process; NULL when none runs';
COMMENT ON COLUMN failsafe.stat_workers.state IS
'starting, running, waiting as off (failsafe.delivery), not_adopted or version_skew; not there as no_extension, yielded (somebody needs the database empty), stopped (worker_stop()) or ended (it comes back)';
COMMENT ON COLUMN failsafe.stat_workers.note IS 'why it waits';
COMMENT ON COLUMN failsafe.stat_workers.started_at IS 'when it was started the last time';
COMMENT ON COLUMN failsafe.stat_workers.starts IS 'how often it was started';
COMMENT ON COLUMN failsafe.stat_workers.rounds IS 'how often it had something to deliver or to record';
COMMENT ON COLUMN failsafe.stat_workers.maintained_at IS 'when it finished the upkeep the last time';
COMMENT ON COLUMN failsafe.stat_workers.errors IS 'errors that it survived; each is in the server''s log';
COMMENT ON COLUMN failsafe.stat_workers.relay_pid IS 'the relay''s process; NULL when none runs';
COMMENT ON COLUMN failsafe.stat_workers.relay_restarts IS 'how often the relay was lost';

CREATE FUNCTION failsafe._worker_status(OUT launcher_pid int4, OUT starved_at timestamptz,
										OUT full_at timestamptz, OUT relay_path text,
										OUT relay_problem text)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'failsafe_worker_status';
COMMENT ON FUNCTION failsafe._worker_status() IS
'What the server has for workers: the launcher, since when background workers or slots are short, the relay''s program and what is wrong with it.';

CREATE FUNCTION failsafe._doctor_delivery_worker()
RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
WITH server AS (
	SELECT s.*, pg_is_in_recovery() AS is_standby,
		   current_setting('shared_preload_libraries') ~ '(^|[,/ "])pg_failsafe("| *,| *$)' AS preloaded
	FROM failsafe._worker_status() AS s
), worker AS (
	SELECT w.* FROM failsafe._stat_workers() AS w
	WHERE w.database_id = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
)
SELECT 'worker_launcher',
	   CASE WHEN s.is_standby OR NOT s.preloaded THEN 'info'
			WHEN s.launcher_pid IS NULL THEN 'error' ELSE 'ok' END,
	   CASE WHEN s.is_standby THEN 'a standby: no worker runs before it is promoted'
			WHEN NOT s.preloaded THEN 'the library is not preloaded: no worker starts by itself'
			WHEN s.launcher_pid IS NULL THEN 'it does not run'
			ELSE format('process %s', s.launcher_pid) END,
	   CASE WHEN s.is_standby THEN NULL
			WHEN NOT s.preloaded THEN
				'Add pg_failsafe to shared_preload_libraries and restart; until then worker_start() helps.'
			WHEN s.launcher_pid IS NULL THEN
				'It is started again after 5 seconds; if not, look at max_worker_processes and the server''s log.' END
FROM server AS s
UNION ALL
SELECT 'worker',
	   CASE WHEN s.is_standby THEN 'ok'
			WHEN w.state IN ('running', 'starting', 'yielded') THEN 'ok'
			WHEN w.state IN ('off', 'not_adopted', 'stopped') OR NOT s.preloaded AND w.pid IS NULL THEN 'info'
			ELSE 'error' END,
	   CASE WHEN s.is_standby THEN 'none, as it must be'
			WHEN w.state IS NULL THEN 'none in this database'
			ELSE concat_ws(', ', w.state, 'process ' || w.pid, w.note,
						   CASE WHEN w.pid IS NULL THEN 'last error: ' || w.last_error END) END,
	   CASE WHEN s.is_standby OR w.state IN ('running', 'starting', 'yielded', 'off', 'not_adopted') THEN NULL
			WHEN w.state = 'version_skew' THEN
				'Run ALTER EXTENSION pg_failsafe UPDATE; if the library is preloaded, restart the server.'
			WHEN w.state = 'stopped' OR NOT s.preloaded THEN 'Call worker_start() to have events delivered.'
			ELSE 'Look at the server''s log for lines that begin with pg_failsafe worker.' END
FROM server AS s LEFT JOIN worker AS w ON true
UNION ALL
SELECT 'worker_errors', 'warning', format('%s, the last at %s: %s', w.errors, w.last_error_at, w.last_error), NULL
FROM worker AS w
WHERE w.last_error_at > clock_timestamp() - interval '10 minutes'
UNION ALL
SELECT 'worker_processes', CASE WHEN s.starved_at IS NULL AND s.full_at IS NULL THEN 'ok' ELSE 'error' END,
	   CASE WHEN s.starved_at IS NOT NULL THEN
				format('no background worker is to be had since %s; max_worker_processes is %s', s.starved_at,
					   current_setting('max_worker_processes'))
			WHEN s.full_at IS NOT NULL THEN format('all slots for workers are taken since %s', s.full_at)
			ELSE format('max_worker_processes is %s', current_setting('max_worker_processes')) END,
	   CASE WHEN s.starved_at IS NOT NULL THEN
				'Increase max_worker_processes by one for each database with the extension, and one more, and restart.'
			WHEN s.full_at IS NOT NULL THEN 'Drop the extension from databases that do not need it.' END
FROM server AS s
UNION ALL
SELECT 'relay_program', CASE WHEN s.relay_problem = '' THEN 'ok' ELSE 'warning' END,
	   s.relay_path || CASE WHEN s.relay_problem = '' THEN '' ELSE ': ' || s.relay_problem END,
	   CASE WHEN s.relay_problem <> '' THEN
		'Without it only pull consumers are served: install the program, or correct failsafe.relay_path.' END
FROM server AS s
$body$;
COMMENT ON FUNCTION failsafe._doctor_delivery_worker() IS
'doctor(): launcher, worker, processes and the relay''s program.';
