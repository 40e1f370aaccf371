-- Installs the extension and what the other tests share.
CREATE EXTENSION pg_failsafe;
CREATE EXTENSION pg_failsafe;
SELECT extname, extrelocatable, n.nspname AS schema,
	extversion = failsafe._library_version() AS library_fits
FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace
WHERE extname = 'pg_failsafe';

-- Every object says what it is for.
SELECT pg_describe_object(d.classid, d.objid, d.objsubid) AS without_comment
FROM pg_depend AS d
WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
	AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_failsafe')
	AND NOT EXISTS (SELECT FROM pg_description AS c
					WHERE c.classoid = d.classid AND c.objoid = d.objid AND c.objsubid = 0)
	-- a table's or view's row type, array types and sequences behind columns go with it
	AND NOT (d.classid = 'pg_type'::regclass AND EXISTS (
		SELECT FROM pg_type AS t LEFT JOIN pg_class AS c ON c.oid = t.typrelid
		WHERE t.oid = d.objid AND (t.typcategory = 'A' OR c.relkind IN ('r', 'p', 'v'))))
ORDER BY 1;

-- Nothing is granted to PUBLIC, and functions in SQL pin their search path.
SELECT p.oid::regprocedure AS public_can_call
FROM pg_proc AS p
WHERE p.pronamespace = 'failsafe'::regnamespace
	AND has_function_privilege('pg_monitor', p.oid, 'EXECUTE')
ORDER BY 1;
SELECT c.oid::regclass AS public_can_read
FROM pg_class AS c
WHERE c.relnamespace = 'failsafe'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'S')
	AND has_table_privilege('pg_monitor', c.oid, 'SELECT')
ORDER BY 1;
SELECT p.oid::regprocedure AS search_path_not_pinned
FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang
WHERE p.pronamespace = 'failsafe'::regnamespace AND l.lanname <> 'c'
	AND NOT coalesce(p.proconfig, '{}') && '{"search_path=pg_catalog, pg_temp"}'
	-- inlined into functions that pin theirs
	AND NOT (p.proname LIKE '\_%' AND p.provolatile = 'i' AND NOT p.prosecdef)
ORDER BY 1;

-- What the tests share.
CREATE SCHEMA testing;

-- An outcome without what differs from run to run: ids become their letter.
CREATE FUNCTION testing.show(r failsafe.wallet_result,
	OUT status text, OUT ids text, OUT posted numeric, OUT held numeric, OUT available numeric,
	OUT code text, OUT replayed bool, OUT amount numeric, OUT rest numeric, OUT expires bool,
	OUT version int8)
LANGUAGE sql AS $$
	SELECT r.status,
		concat_ws(' ', substring(r.transaction_id FROM '^(t)_[1-9][0-9]*$'),
				  substring(r.entry_id FROM '^(e)_[1-9][0-9]*$'),
				  substring(r.hold_id FROM '^(h)_[1-9][0-9]*$')),
		r.posted, r.held, r.available, r.code, r.replayed, r.amount, r.hold_remaining,
		r.expires_at > r.recorded_at, r.version
$$;

-- A text without what differs from run to run.
CREATE FUNCTION testing.blot(t text) RETURNS text LANGUAGE sql AS $$
	SELECT regexp_replace(regexp_replace(regexp_replace(t,
		'"([teh])_[0-9]+"', '"\1_N"', 'g'),
		'"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f-]{21}"', '"UUID"', 'g'),
		'"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{6}Z"', '"TIME"', 'g')
$$;

-- Everything that a command could have changed, in a few numbers.
CREATE FUNCTION testing.state() RETURNS text LANGUAGE sql AS $$
	SELECT format('%s|%s|%s|%s|%s|%s|%s|%s',
		(SELECT count(*) FROM failsafe.account),
		(SELECT md5(string_agg(b::text, ',' ORDER BY b.account_id)) FROM failsafe.balance AS b),
		(SELECT count(*) FROM failsafe.account_change),
		(SELECT count(*) FROM failsafe.journal),
		(SELECT count(*) FROM failsafe.entry),
		(SELECT md5(string_agg(h::text, ',' ORDER BY h.id)) FROM failsafe.hold AS h),
		(SELECT count(*) FROM failsafe.idempotency_key),
		(SELECT count(*) FROM failsafe.outbox))
$$;

-- Run a statement that must fail: SQLSTATE and detail.
CREATE FUNCTION testing.refuse(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	before text := testing.state();
	state text;
	message text;
	detail text;
BEGIN
	BEGIN
		EXECUTE statement;
		RETURN 'NOT REFUSED';
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
			detail = PG_EXCEPTION_DETAIL;
	END;
	RETURN concat_ws(' ', state, CASE WHEN detail = '' THEN message ELSE testing.blot(detail) END,
					 CASE WHEN before <> testing.state() THEN 'AND SOMETHING CHANGED' END);
END
$$;

-- Send a command through the JSON door, where a refusal is a value: nothing is
-- rolled back for it, so that "nothing changed" says something.
CREATE FUNCTION testing.send(command json) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	before text := testing.state();
	answer record;
BEGIN
	SELECT * INTO answer FROM failsafe.wallet_http(command);
	RETURN concat_ws(' ', answer.http_status, testing.blot(answer.body::text),
					 CASE WHEN answer.replayed THEN 'replayed' END,
					 CASE WHEN before = testing.state() THEN 'unchanged' END);
END
$$;

-- The faults that a full verification finds, and nothing of how much it looked at.
CREATE FUNCTION testing.faults() RETURNS TABLE (rule text, object text, detail text)
LANGUAGE sql SET client_min_messages = warning AS $$
	SELECT * FROM failsafe.ledger_verify()
$$;

-- Wait until a hold is over by the clock.
CREATE FUNCTION testing.wait_until_over(hold_key text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	over_at timestamptz := (SELECT h.expires_at FROM failsafe.hold AS h
							JOIN failsafe.idempotency_key AS k ON k.journal_id = h.id
							WHERE k.key = hold_key);
BEGIN
	WHILE clock_timestamp() < over_at LOOP
		PERFORM pg_sleep(0.01);
	END LOOP;
	RETURN CASE WHEN over_at IS NOT NULL THEN 'over' END;
END
$$;
