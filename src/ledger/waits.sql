-- ledger: who waits for whom, now.
--
-- A session that waits for a row holds, or waits for, a lock on the row's place, and
-- pg_locks shows it; the row there tells the account or the key.  One wait cannot be
-- told so: for the newer version of a balance that changed while the session queued.

CREATE FUNCTION failsafe._column_at(relation regclass, page int8, tuple int4, column_name text)
RETURNS text
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'failsafe_column_at';
COMMENT ON FUNCTION failsafe._column_at(regclass, int8, int4, text) IS
'A column of the row version at that place of a table of the extension, committed or not; NULL when it is gone.';

-- The waiting sessions of this database and the place that each of them waits for.
CREATE FUNCTION failsafe._wait_places()
RETURNS TABLE (pid int4, kind text, relation regclass, page int8, tuple int4, since timestamptz)
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
WITH lock AS MATERIALIZED (
	SELECT l.*, c.relnamespace = 'failsafe'::regnamespace AS is_ours
	FROM pg_locks AS l
	LEFT JOIN pg_class AS c ON c.oid = l.relation AND l.database = (
		SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
), place AS (
	SELECT w.pid, w.waitstart, w.locktype, w.objsubid,
		   CASE w.locktype WHEN 'relation' THEN w.is_ours END AS is_our_table,
		   w.relation AS table_id, row_lock.is_ours AS is_our_row,
		   row_lock.relation, row_lock.page, row_lock.tuple, written.ours, written.others
	FROM lock AS w
	JOIN pg_stat_activity AS a ON a.pid = w.pid AND a.datname = current_database()
	LEFT JOIN LATERAL (
		SELECT t.relation, t.page, t.tuple, t.is_ours FROM lock AS t
		WHERE t.pid = w.pid AND t.locktype = 'tuple'
		ORDER BY t.granted LIMIT 1) AS row_lock ON true
	LEFT JOIN LATERAL (
		SELECT bool_or(t.is_ours AND t.relation = 'failsafe.balance'::regclass) AS ours,
			   bool_or(NOT t.is_ours) AS others
		FROM lock AS t
		WHERE t.pid = w.pid AND t.locktype = 'relation' AND t.granted
		  AND t.mode IN ('RowShareLock', 'RowExclusiveLock')) AS written ON true
	WHERE NOT w.granted
)
SELECT p.pid,
	   CASE WHEN p.is_our_row THEN
				CASE p.relation::regclass
					WHEN 'failsafe.balance'::regclass THEN 'account'
					WHEN 'failsafe.idempotency_key'::regclass THEN 'key'
					WHEN 'failsafe.application_key'::regclass THEN 'application_key'
					WHEN 'failsafe.account'::regclass THEN 'account_code'
					WHEN 'failsafe.journal'::regclass THEN 'transaction'
					WHEN 'failsafe.reversible'::regclass THEN 'transaction'
					ELSE 'other' END
			WHEN p.is_our_table THEN 'table'
			WHEN p.locktype = 'advisory' AND p.objsubid = 3 THEN 'key'
			WHEN p.locktype = 'advisory' AND p.objsubid = 4 THEN 'order_key'
			WHEN p.others THEN 'other'
			ELSE 'account' END,
	   coalesce(p.relation, CASE WHEN p.is_our_table THEN p.table_id END)::regclass,
	   p.page::int8, p.tuple::int4, p.waitstart
FROM place AS p
WHERE p.is_our_row OR p.is_our_table
   OR (p.locktype = 'advisory' AND p.objsubid IN (3, 4))
   OR (p.locktype = 'transactionid' AND p.is_our_row IS NULL AND p.ours)
$body$;
COMMENT ON FUNCTION failsafe._wait_places() IS
'The sessions of this database that wait for something of the extension, and the place in the table where that is.';

-- Which session must end so that the waiter can go on: who blocks it, or who blocks that
-- one, and so on.  0: a prepared transaction.  No row: they wait in a circle, or it is over.
CREATE FUNCTION failsafe._wait_holders()
RETURNS TABLE (pid int4, holder_pids int4[], holder_pid int4)
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
WITH RECURSIVE blocked AS MATERIALIZED (
	SELECT a.pid, pg_blocking_pids(a.pid) AS pids, a.state_change
	FROM pg_stat_activity AS a
	WHERE a.wait_event_type = 'Lock'
), next AS (
	SELECT b.pid, b.pids, (
		SELECT p.pid FROM unnest(b.pids) AS p (pid) LEFT JOIN blocked AS other ON other.pid = p.pid
		ORDER BY other.pid IS NOT NULL, other.state_change LIMIT 1) AS next_pid
	FROM blocked AS b
	WHERE cardinality(b.pids) > 0
), walk AS (
	SELECT n.pid, n.next_pid, 1 AS steps FROM next AS n
	UNION ALL
	SELECT w.pid, n.next_pid, w.steps + 1
	FROM walk AS w JOIN next AS n ON n.pid = w.next_pid
	WHERE w.steps < 100
)
SELECT n.pid, n.pids, w.next_pid
FROM next AS n
LEFT JOIN walk AS w ON w.pid = n.pid AND NOT EXISTS (SELECT FROM next AS more WHERE more.pid = w.next_pid)
$body$;
COMMENT ON FUNCTION failsafe._wait_holders() IS
'For each session that waits for a lock: who blocks it, and the session at the end of the queue, which does not wait itself.';

-- The account, key or other thing at a place, and whose it is.
CREATE FUNCTION failsafe._wait_object(relation regclass, page int8, tuple int4,
									  OUT tenant_id int4, OUT object text)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
	IF relation = 'failsafe.balance'::regclass THEN
		SELECT a.tenant_id, a.code INTO tenant_id, object
		FROM failsafe.account AS a
		WHERE a.id = failsafe._column_at(relation, page, tuple, 'account_id')::int8;
	ELSIF relation IN ('failsafe.idempotency_key'::regclass, 'failsafe.application_key'::regclass) THEN
		tenant_id := failsafe._column_at(relation, page, tuple, 'tenant_id')::int4;
		object := failsafe._column_at(relation, page, tuple, 'key');
	ELSIF relation = 'failsafe.account'::regclass AND page IS NOT NULL THEN
		tenant_id := failsafe._column_at(relation, page, tuple, 'tenant_id')::int4;
		object := failsafe._column_at(relation, page, tuple, 'code');
	ELSIF relation IN ('failsafe.journal'::regclass, 'failsafe.reversible'::regclass) AND page IS NOT NULL THEN
		SELECT j.tenant_id, 't_' || j.id INTO tenant_id, object
		FROM failsafe.journal AS j
		WHERE j.id = failsafe._column_at(relation, page, tuple, CASE relation
			WHEN 'failsafe.journal'::regclass THEN 'id' ELSE 'journal_id' END)::int8;
	END IF;
	IF page IS NULL THEN
		SELECT c.relname INTO object FROM pg_class AS c WHERE c.oid = relation;
	END IF;
END
$body$;
COMMENT ON FUNCTION failsafe._wait_object(regclass, int8, int4) IS
'What the row at a place stands for: an account''s code, a key, a transaction; the name of a table where there is no row.';

CREATE FUNCTION failsafe._wait_hint(holder_pid int4, holder_state text, holder_wait_event text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT CASE
	WHEN holder_pid IS NULL THEN
		'The wait is over, or the sessions wait for each other: after deadlock_timeout one of them fails with 40P01 and can be repeated.'
	WHEN holder_pid = 0 THEN
		'A prepared transaction holds it: find it in pg_prepared_xacts, then COMMIT PREPARED or ROLLBACK PREPARED.'
	WHEN starts_with(holder_state, 'idle in transaction') THEN
		format('Session %1$s left a transaction open: end it in the application, or with SELECT pg_terminate_backend(%1$s). What it did not commit is undone, and its keys are free again.', holder_pid)
	WHEN holder_wait_event = 'SyncRep' THEN
		format('Session %s waits for a synchronous standby: look at pg_stat_replication.', holder_pid)
	ELSE
		format('Session %1$s is at work: wait for it, or cancel its statement with SELECT pg_cancel_backend(%1$s).', holder_pid)
	END
$body$;
COMMENT ON FUNCTION failsafe._wait_hint(int4, text, text) IS
'What can be done about a wait, from the state of the session that holds things up.';

CREATE FUNCTION failsafe._waits()
RETURNS TABLE (kind text, tenant text, object text, waiting interval,
			   waiter_pid int4, waiter_role text, waiter_application text, waiter_query text,
			   holder_pids int4[], holder_pid int4, holder_role text, holder_application text,
			   holder_state text, holder_query text, holder_transaction_age interval, hint text)
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT p.kind, t.name, o.object, clock_timestamp() - p.since,
	   p.pid, w.usename::text, w.application_name,
	   CASE WHEN caller.is_operator THEN left(w.query, 200) END,
	   coalesce(h.holder_pids, '{}'), h.holder_pid, s.usename::text, s.application_name, s.state,
	   CASE WHEN caller.is_operator THEN left(s.query, 200) END,
	   clock_timestamp() - s.xact_start,
	   failsafe._wait_hint(h.holder_pid, s.state, s.wait_event)
FROM (SELECT failsafe._is_operator() AS is_operator, failsafe._report_tenants() AS tenants) AS caller
CROSS JOIN failsafe._wait_places() AS p
JOIN pg_stat_activity AS w ON w.pid = p.pid
CROSS JOIN LATERAL failsafe._wait_object(p.relation, p.page, p.tuple) AS o
LEFT JOIN failsafe.tenant AS t ON t.id = o.tenant_id
LEFT JOIN failsafe._wait_holders() AS h ON h.pid = p.pid
LEFT JOIN pg_stat_activity AS s ON s.pid = h.holder_pid
WHERE o.tenant_id = ANY (caller.tenants) OR caller.is_operator
$body$;
COMMENT ON FUNCTION failsafe._waits() IS
'The rows of failsafe.waits.';

CREATE VIEW failsafe.waits WITH (security_barrier) AS SELECT * FROM failsafe._waits();
COMMENT ON VIEW failsafe.waits IS
'Which sessions wait now for an account, a key or anything else of the extension, who holds it, and what to do. Operators see all; others see waits for accounts and keys of their tenant, without the texts of queries.';
COMMENT ON COLUMN failsafe.waits.kind IS
'account, key, application_key, account_code (the account is being opened), transaction (it is being reversed), order_key (ordered events), table, or other: a transaction that also wrote elsewhere';
COMMENT ON COLUMN failsafe.waits.object IS
'the account''s code, the key, the transaction or the table; NULL where it cannot be told';
COMMENT ON COLUMN failsafe.waits.waiting IS 'how long it has been waiting';
COMMENT ON COLUMN failsafe.waits.holder_pids IS 'the sessions that stand directly before it; 0 is a prepared transaction';
COMMENT ON COLUMN failsafe.waits.holder_pid IS
'the session at the head of the queue, which waits for nobody: the one to look at; NULL when there is none';
COMMENT ON COLUMN failsafe.waits.holder_query IS 'its running or last statement, the first 200 characters';
COMMENT ON COLUMN failsafe.waits.holder_transaction_age IS 'how long its transaction has been open';
COMMENT ON COLUMN failsafe.waits.hint IS 'what can be done';
