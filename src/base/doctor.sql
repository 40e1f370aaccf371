-- base: doctor(), one row for each thing that an operator should know.
--
-- Each _doctor_...() looks at one subject.  doctor() calls them one by one and turns a
-- failure into a row, so that one broken thing does not hide the others.  All of them
-- only read, and work on a standby too.

-- What the tables look like now: columns and indexes.
CREATE FUNCTION failsafe._schema_shape() RETURNS TABLE (relation text, shape text)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT c.relname::text,
	   (SELECT string_agg(concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod),
									CASE WHEN a.attnotnull THEN 'NOT NULL' END), ', '
						  ORDER BY a.attnum)
		FROM pg_attribute AS a
		WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
	   || coalesce((SELECT '; ' || string_agg(i.relname || CASE WHEN x.indisvalid THEN '' ELSE ' (invalid)' END,
											  ', ' ORDER BY i.relname)
					FROM pg_index AS x JOIN pg_class AS i ON i.oid = x.indexrelid
					WHERE x.indrelid = c.oid), '')
FROM pg_class AS c
WHERE c.relnamespace = 'failsafe'::regnamespace AND c.relkind IN ('r', 'p')
$body$;
COMMENT ON FUNCTION failsafe._schema_shape() IS
'The tables with their columns and indexes.';

CREATE FUNCTION failsafe._doctor_library()
RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT 'library_version',
	   CASE WHEN v.library = e.extversion THEN 'ok' ELSE 'error' END,
	   format('library %s, SQL objects %s', v.library, e.extversion),
	   CASE WHEN v.library <> e.extversion THEN
		'Run ALTER EXTENSION pg_failsafe UPDATE; if the library is preloaded, restart the server.' END
FROM (SELECT failsafe._library_version() AS library) AS v, pg_extension AS e
WHERE e.extname = 'pg_failsafe'
UNION ALL
SELECT 'library_preloaded', CASE WHEN p.preloaded THEN 'ok' ELSE 'info' END,
	   CASE WHEN p.preloaded THEN 'yes' ELSE 'no: each session loads the library at its first call' END,
	   CASE WHEN NOT p.preloaded THEN
		'Add pg_failsafe to shared_preload_libraries and restart, for complete counters.' END
FROM (SELECT current_setting('shared_preload_libraries') ~ '(^|[,/ "])pg_failsafe("| *,| *$)' AS preloaded) AS p
UNION ALL
SELECT 'stat_commands', CASE WHEN s.available THEN 'ok' ELSE 'warning' END,
	   CASE WHEN s.available THEN 'commands are counted' ELSE 'no shared memory: commands are not counted' END,
	   CASE WHEN NOT s.available THEN 'Preload the library and restart.' END
FROM (SELECT failsafe._stat_commands_available() AS available) AS s
UNION ALL
SELECT 'server', CASE WHEN pg_is_in_recovery() THEN 'info' ELSE 'ok' END,
	   CASE WHEN pg_is_in_recovery() THEN 'a standby: reports work, commands are refused'
			ELSE 'a primary' END, NULL
$body$;
COMMENT ON FUNCTION failsafe._doctor_library() IS 'doctor(): library and server.';

CREATE FUNCTION failsafe._doctor_settings()
RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT 'setting ' || s.name,
	   CASE WHEN s.value = ANY (s.safe) THEN 'ok' ELSE s.otherwise END,
	   coalesce(s.value, 'not set'), CASE WHEN s.value <> ALL (s.safe) THEN s.hint END
FROM (VALUES
	('fsync', current_setting('fsync'), '{on}'::text[], 'error',
	 'A crash of the machine loses and corrupts data. Set it on.'),
	('full_page_writes', current_setting('full_page_writes'), '{on}', 'error',
	 'A crash in the middle of a page write corrupts data. Set it on.'),
	('synchronous_commit', current_setting('synchronous_commit'), '{on,local,remote_write,remote_apply}',
	 'warning', 'Committed money can be lost in a crash. Set it on for sessions that move money.'),
	('autovacuum', current_setting('autovacuum'), '{on}', 'warning',
	 'Balance rows grow without vacuum. Set it on.'),
	('wal_level', current_setting('wal_level'), '{logical}', 'info',
	 'Reading the outbox by logical decoding (CDC) needs logical.'),
	('failsafe.early_lock_release', current_setting('failsafe.early_lock_release', true),
	 '{off,own}', 'warning',
	 'With all, changes of other tables can be seen before they are flushed. Prefer own.'),
	('failsafe.allow_prepare', current_setting('failsafe.allow_prepare', true), '{off}', 'warning',
	 'A forgotten prepared transaction keeps keys and accounts locked. Set it off unless it is needed.'),
	('failsafe.allow_drop', current_setting('failsafe.allow_drop', true), '{off}', 'warning',
	 'DROP EXTENSION would destroy the books. Set it on only in the session that needs it.'),
	('failsafe.log_refusals', current_setting('failsafe.log_refusals', true), '{on}', 'info',
	 'Refusals are not in the server log.'),
	('failsafe.event_types', current_setting('failsafe.event_types', true), '{*}', 'info',
	 'Some types of events are switched off.')
) AS s (name, value, safe, otherwise, hint)
UNION ALL
SELECT 'setting of a role or database', 'warning',
	   concat_ws(' ', 'role ' || quote_ident(r.rolname), 'database ' || quote_ident(d.datname),
				 'has', assigned.text),
	   'Use ALTER ROLE or ALTER DATABASE ... RESET unless it is meant.'
FROM pg_db_role_setting AS k
LEFT JOIN pg_roles AS r ON r.oid = k.setrole
LEFT JOIN pg_database AS d ON d.oid = k.setdatabase
CROSS JOIN LATERAL unnest(k.setconfig) AS assigned (text)
WHERE lower(assigned.text) = ANY ('{failsafe.allow_drop=on,failsafe.allow_drop=true,failsafe.allow_drop=1,
	failsafe.allow_prepare=on,failsafe.allow_prepare=true,failsafe.allow_prepare=1,
	failsafe.early_lock_release=all,synchronous_commit=off}'::text[])
$body$;
COMMENT ON FUNCTION failsafe._doctor_settings() IS
'doctor(): settings that switch a safety off.';

CREATE FUNCTION failsafe._doctor_guards()
RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
WITH tables AS (
	SELECT c.oid, c.relname, t.tgenabled
	FROM pg_class AS c
	LEFT JOIN pg_trigger AS t ON t.tgrelid = c.oid AND t.tgname = 'failsafe_guard'
		AND t.tgfoid = 'failsafe._guard()'::regprocedure
		AND t.tgtype & 58 = 58 AND t.tgtype & 1 = 0		-- BEFORE UPDATE, DELETE, TRUNCATE, by statement
		AND t.tgqual IS NULL AND t.tgattr::text = ''
	WHERE c.relnamespace = 'failsafe'::regnamespace AND c.relkind IN ('r', 'p')
)
SELECT 'guards', CASE WHEN bad.names IS NULL THEN 'ok' ELSE 'error' END,
	   CASE WHEN bad.names IS NULL THEN format('all %s tables refuse UPDATE, DELETE and TRUNCATE',
											   (SELECT count(*) FROM tables))
			ELSE 'missing or not enabled always on: ' || bad.names END,
	   CASE WHEN bad.names IS NOT NULL THEN
		'ALTER TABLE ... ENABLE ALWAYS TRIGGER failsafe_guard; a restore with --disable-triggers leaves it off.' END
FROM (SELECT string_agg(t.relname, ', ' ORDER BY t.relname) AS names
	  FROM tables AS t WHERE t.tgenabled IS DISTINCT FROM 'A') AS bad
UNION ALL
SELECT 'drop_guard', CASE WHEN e.evtenabled = 'A' THEN 'ok' ELSE 'error' END,
	   CASE WHEN e.evtenabled = 'A' THEN 'DROP EXTENSION is refused while the ledger holds rows'
			ELSE 'the event trigger failsafe_drop_guard is missing or not enabled always' END,
	   CASE WHEN e.evtenabled IS DISTINCT FROM 'A' THEN
		'ALTER EVENT TRIGGER failsafe_drop_guard ENABLE ALWAYS.' END
FROM (VALUES (1)) AS one
LEFT JOIN pg_event_trigger AS e ON e.evtname = 'failsafe_drop_guard'
$body$;
COMMENT ON FUNCTION failsafe._doctor_guards() IS 'doctor(): guards of the tables and of the extension.';

CREATE FUNCTION failsafe._doctor_tables()
RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
WITH fault AS (
	SELECT format('%s is [%s], expected [%s]', coalesce(now.relation, made.relation),
				  coalesce(now.shape, 'missing'), coalesce(made.shape, 'no such table')) AS text
	FROM failsafe._schema_shape() AS now
	FULL JOIN failsafe._schema_shape_made() AS made ON made.relation = now.relation
	WHERE now.shape IS DISTINCT FROM made.shape
	UNION ALL
	SELECT format('%s has trigger %s', c.relname, t.tgname)
	FROM pg_class AS c JOIN pg_trigger AS t ON t.tgrelid = c.oid
	WHERE c.relnamespace = 'failsafe'::regnamespace AND t.tgname <> 'failsafe_guard'
	UNION ALL
	SELECT format('%s has constraint %s', c.relname, k.conname)
	FROM pg_class AS c JOIN pg_constraint AS k ON k.conrelid = c.oid
	WHERE c.relnamespace = 'failsafe'::regnamespace AND c.relkind IN ('r', 'p')
	  AND k.contype <> 'n'			-- since 18 NOT NULL is a constraint of its own
	UNION ALL
	SELECT format('%s has rule %s', c.relname, r.rulename)
	FROM pg_class AS c JOIN pg_rewrite AS r ON r.ev_class = c.oid
	WHERE c.relnamespace = 'failsafe'::regnamespace AND c.relkind IN ('r', 'p')
	UNION ALL
	SELECT format('%s has row security', c.relname)
	FROM pg_class AS c
	WHERE c.relnamespace = 'failsafe'::regnamespace AND (c.relrowsecurity OR c.relforcerowsecurity)
	UNION ALL
	SELECT format('%s is not logged', c.relname)
	FROM pg_class AS c
	WHERE c.relnamespace = 'failsafe'::regnamespace AND c.relkind = 'r' AND c.relpersistence <> 'p'
)
SELECT 'tables', 'ok', 'all tables are as the extension made them', NULL::text
WHERE NOT EXISTS (SELECT FROM fault)
UNION ALL
SELECT 'tables', 'error', fault.text,
	   'Undo the change: commands refuse to work on a table that was altered by hand.'
FROM fault
$body$;
COMMENT ON FUNCTION failsafe._doctor_tables() IS
'doctor(): tables that were altered by hand.';

CREATE FUNCTION failsafe._doctor_privileges()
RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
WITH fault (text, hint) AS (
	SELECT format('%s is open to PUBLIC', object.name), 'REVOKE ALL ON it FROM PUBLIC.'
	FROM (
		SELECT c.relname AS name, c.relacl AS acl FROM pg_class AS c
		WHERE c.relnamespace = 'failsafe'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'S')
		UNION ALL
		SELECT p.oid::regprocedure::text, coalesce(p.proacl, acldefault('f', p.proowner))
		FROM pg_proc AS p WHERE p.pronamespace = 'failsafe'::regnamespace
	) AS object
	CROSS JOIN LATERAL aclexplode(object.acl) AS granted
	WHERE granted.grantee = 0
	UNION ALL
	SELECT format('role %s can write the table %s', granted.grantee::regrole, c.relname),
		   'Only the functions may write: REVOKE it.'
	FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS granted
	WHERE c.relnamespace = 'failsafe'::regnamespace AND c.relkind IN ('r', 'p')
	  AND granted.grantee NOT IN (0, c.relowner)
	  AND granted.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER')
	UNION ALL
	SELECT format('role %s can log in or administer the server', r.rolname),
		   'Grant the role to login roles instead: ALTER ROLE ... NOLOGIN.'
	FROM pg_roles AS r
	WHERE r.rolname IN ('failsafe_reader', 'failsafe_app', 'failsafe_operator', 'failsafe_admin')
	  AND (r.rolcanlogin OR r.rolsuper OR r.rolcreaterole OR r.rolbypassrls OR r.rolreplication)
	UNION ALL
	SELECT format('role %s is missing', wanted.name), 'Create it, or restore its dump with the roles.'
	FROM (VALUES ('failsafe_reader'), ('failsafe_app'), ('failsafe_operator'), ('failsafe_admin')) AS wanted (name)
	WHERE to_regrole(wanted.name) IS NULL
)
SELECT 'privileges', 'ok', 'nothing is open to PUBLIC, and only the functions can write', NULL
WHERE NOT EXISTS (SELECT FROM fault)
UNION ALL
SELECT 'privileges', 'warning', fault.text, fault.hint FROM fault
UNION ALL
SELECT 'members of ' || r.rolname, 'info', string_agg(m.member::regrole::text, ', ' ORDER BY m.member), NULL
FROM pg_roles AS r JOIN pg_auth_members AS m ON m.roleid = r.oid
WHERE r.rolname IN ('failsafe_reader', 'failsafe_app', 'failsafe_operator', 'failsafe_admin')
GROUP BY r.rolname
$body$;
COMMENT ON FUNCTION failsafe._doctor_privileges() IS 'doctor(): roles and grants.';

CREATE FUNCTION failsafe._doctor_tenants()
RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
WITH tenants AS (SELECT count(*) AS number FROM failsafe.tenant),
without AS (
	SELECT string_agg(quote_ident(r.rolname), ', ' ORDER BY r.rolname) AS names
	FROM pg_roles AS r
	WHERE r.rolcanlogin AND NOT r.rolsuper AND to_regrole('failsafe_app') IS NOT NULL
	  AND pg_has_role(r.oid, to_regrole('failsafe_app')::oid, 'MEMBER')
	  AND NOT EXISTS (SELECT FROM pg_db_role_setting AS s CROSS JOIN LATERAL unnest(s.setconfig) AS c (text)
					  WHERE s.setrole IN (0, r.oid) AND starts_with(lower(c.text), 'failsafe.tenant='))
)
SELECT 'tenants', CASE WHEN t.number > 1 AND w.names IS NOT NULL THEN 'warning' ELSE 'ok' END,
	   format('%s tenants', t.number)
	   || CASE WHEN t.number > 1 THEN coalesce('; no tenant is set for: ' || w.names, '') ELSE '' END,
	   CASE WHEN t.number > 1 AND w.names IS NOT NULL THEN
		'ALTER ROLE ... SET failsafe.tenant = ''...''; until then their calls are refused.' END
FROM tenants AS t, without AS w
$body$;
COMMENT ON FUNCTION failsafe._doctor_tenants() IS 'doctor(): tenants and the roles that name none.';

CREATE FUNCTION failsafe._doctor_outbox()
RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
WITH leaf AS (
	SELECT first.occurred_at
	FROM generate_series(0, 63) AS number
	CROSS JOIN LATERAL (
		SELECT o.occurred_at FROM failsafe.outbox AS o
		WHERE o.slot = number ORDER BY o.seq LIMIT 1) AS first
), total AS (
	SELECT count(*) AS leaves, min(leaf.occurred_at) AS oldest,
		   (SELECT sum(pg_total_relation_size(i.inhrelid)) FROM pg_inherits AS i
			WHERE i.inhparent = 'failsafe.outbox'::regclass) AS bytes
	FROM leaf
)
SELECT 'outbox',
	   CASE WHEN t.oldest < clock_timestamp() - 2 * failsafe._event_retention() THEN 'warning' ELSE 'ok' END,
	   format('%s of 64 leaves in use, %s, oldest event %s, retention %s', t.leaves,
			  pg_size_pretty(t.bytes), coalesce(t.oldest::text, 'none'), failsafe._event_retention()),
	   CASE WHEN t.oldest < clock_timestamp() - 2 * failsafe._event_retention() THEN
		'Call failsafe.maintain() regularly; see what outbox_retain() answers.' END
FROM total AS t
$body$;
COMMENT ON FUNCTION failsafe._doctor_outbox() IS 'doctor(): size and age of the outbox.';

CREATE FUNCTION failsafe._doctor_upkeep()
RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
WITH uncounted AS (
	SELECT a.code, c.taken_at,
		   (SELECT count(*) FROM (SELECT FROM failsafe.entry AS e
								  WHERE e.account_id = a.id
									AND coalesce(e.version, e.id) > coalesce(c.entry_id, 0)
								  LIMIT 100000) AS sample) AS entries
	FROM failsafe.account AS a
	LEFT JOIN LATERAL (SELECT k.entry_id, k.taken_at FROM failsafe.checkpoint AS k
					   WHERE k.account_id = a.id ORDER BY k.entry_id DESC LIMIT 1) AS c ON true
	WHERE a.kind = 'system'
	ORDER BY entries DESC LIMIT 1
), due AS (
	SELECT count(*) AS holds, min(h.expires_at) AS oldest
	FROM (SELECT k.expires_at FROM failsafe.hold AS k
		  WHERE k.status = 'open' AND k.expires_at < clock_timestamp() - interval '5 minutes'
		  LIMIT 10000) AS h
), unfinished AS (
	SELECT count(*) AS keys, min(k.claimed_at) AS oldest
	FROM failsafe.application_key AS k
	WHERE k.state = 'unfinished' AND k.claimed_at < clock_timestamp() - interval '1 day'
)
SELECT 'checkpoints', CASE WHEN u.entries >= 100000 THEN 'warning' ELSE 'ok' END,
	   format('%s has %s entries since its checkpoint of %s', u.code,
			  CASE WHEN u.entries >= 100000 THEN '100000 or more' ELSE u.entries::text END,
			  coalesce(u.taken_at::text, 'never')),
	   CASE WHEN u.entries >= 100000 THEN
		'Call failsafe.maintain() regularly; a long transaction holds checkpoints back.' END
FROM uncounted AS u
UNION ALL
SELECT 'holds', CASE WHEN d.holds > 0 THEN 'warning' ELSE 'ok' END,
	   format('%s holds expired more than 5 minutes ago and are not swept', d.holds)
	   || coalesce(', the oldest at ' || d.oldest, ''),
	   CASE WHEN d.holds > 0 THEN
		'Their money is free already; call failsafe.maintain() for the events and the records.' END
FROM due AS d
UNION ALL
SELECT 'application_keys', CASE WHEN k.keys > 0 THEN 'warning' ELSE 'ok' END,
	   format('%s keys were claimed more than a day ago and never completed', k.keys)
	   || coalesce(', the oldest at ' || k.oldest, ''),
	   CASE WHEN k.keys > 0 THEN
		'Find out whether the work was done; then idempotency_complete() or idempotency_release().' END
FROM unfinished AS k
$body$;
COMMENT ON FUNCTION failsafe._doctor_upkeep() IS
'doctor(): checkpoints, expired holds and unfinished keys.';

CREATE FUNCTION failsafe._doctor_transactions()
RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
WITH fault (detail, hint) AS (
	SELECT format('process %s (%s, %s) is in a transaction since %s', a.pid, a.usename,
				  a.application_name, a.xact_start),
		   'It keeps dead rows and holds checkpoints back: end it, or pg_terminate_backend().'
	FROM pg_stat_activity AS a
	WHERE a.xact_start < clock_timestamp() - interval '10 minutes'
	  AND (a.backend_xid IS NOT NULL OR a.backend_xmin IS NOT NULL)
	UNION ALL
	SELECT format('transaction %L is prepared since %s', p.gid, p.prepared),
		   'It keeps its locks until COMMIT PREPARED or ROLLBACK PREPARED.'
	FROM pg_prepared_xacts AS p
	WHERE p.prepared < clock_timestamp() - interval '5 minutes'
	UNION ALL
	SELECT format('replication slot %s is not in use and keeps %s of WAL', s.slot_name,
				  pg_size_pretty(pg_wal_lsn_diff(
					CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
						 ELSE pg_current_wal_lsn() END, s.restart_lsn))),
		   'Drop it if nobody will come back for it.'
	FROM pg_replication_slots AS s
	WHERE NOT s.active AND s.restart_lsn IS NOT NULL
)
SELECT 'transactions', 'ok', 'none is old', NULL::text WHERE NOT EXISTS (SELECT FROM fault)
UNION ALL
SELECT 'transactions', 'warning', fault.detail, fault.hint FROM fault
$body$;
COMMENT ON FUNCTION failsafe._doctor_transactions() IS
'doctor(): transactions and slots that hold everything back.';

-- A sequence behind its table would give a number twice: a sign of a bad restore.
CREATE FUNCTION failsafe._doctor_sequences()
RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
WITH behind AS (
	SELECT s.name, s.highest, pg_sequence_last_value(('failsafe.' || s.name)::regclass) AS last
	FROM (VALUES
		('tenant_id_seq', (SELECT max(t.id)::int8 FROM failsafe.tenant AS t WHERE NOT t.builtin)),
		('actor_id_seq', (SELECT max(a.id) FROM failsafe.actor AS a)),
		('account_id_seq', (SELECT max(a.id) FROM failsafe.account AS a)),
		('account_change_id_seq', (SELECT max(c.id) FROM failsafe.account_change AS c)),
		('application_key_id_seq', (SELECT max(k.id) FROM failsafe.application_key AS k)),
		('journal_id_seq', (SELECT max(j.id) FROM failsafe.journal AS j)),
		('outbox_seq_0', (SELECT max(o.seq) FROM failsafe.outbox AS o WHERE o.slot BETWEEN 0 AND 15)),
		('outbox_seq_1', (SELECT max(o.seq) FROM failsafe.outbox AS o WHERE o.slot BETWEEN 16 AND 31)),
		('outbox_seq_2', (SELECT max(o.seq) FROM failsafe.outbox AS o WHERE o.slot BETWEEN 32 AND 47)),
		('outbox_seq_3', (SELECT max(o.seq) FROM failsafe.outbox AS o WHERE o.slot BETWEEN 48 AND 63))
	) AS s (name, highest)
)
SELECT 'sequences', 'ok', 'none is behind its table', NULL::text
WHERE NOT EXISTS (SELECT FROM behind WHERE highest > coalesce(last, 0))
UNION ALL
SELECT 'sequences', 'error',
	   format('%s is at %s, its table at %s', b.name, coalesce(b.last::text, 'its start'), b.highest),
	   format('SELECT setval(''failsafe.%s'', %s), before any command runs; then find out what the restore left out.',
			  b.name, b.highest)
FROM behind AS b WHERE b.highest > coalesce(b.last, 0)
$body$;
COMMENT ON FUNCTION failsafe._doctor_sequences() IS 'doctor(): sequences behind their tables.';

CREATE FUNCTION failsafe.doctor()
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

-- What the tables looked like when the extension was made.  An update script that
-- changes a table makes this function anew, by the same block.
DO $shape$
BEGIN
	EXECUTE pg_catalog.format(
		'CREATE FUNCTION failsafe._schema_shape_made() RETURNS TABLE (relation text, shape text) '
		'LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp '
		'AS %L',
		(SELECT E'VALUES\n' || pg_catalog.string_agg(
					pg_catalog.format('(%L::text, %L::text)', s.relation, s.shape), E',\n'
					ORDER BY s.relation COLLATE "C")
		 FROM failsafe._schema_shape() AS s));
END
$shape$;
COMMENT ON FUNCTION failsafe._schema_shape_made() IS
'The tables with their columns and indexes, as the extension made them.';
