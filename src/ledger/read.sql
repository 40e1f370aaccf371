-- ledger: balances at a time, statements, holds, the state of a key.

-- Everything recorded before the returned time is visible to a snapshot that is taken
-- from now on.  A writer reads the clock only after it has locked its key and its
-- balances, and it holds RowExclusiveLock on these tables until its transaction ends.
-- So a writer that is not listed here reads the clock after us, and one that is listed
-- did not read it before its transaction began.  A prepared transaction does not tell
-- when it began, a fixed snapshot may be older than the list, and a standby does not
-- know the writers of the primary: then nothing is certain [F32].
CREATE FUNCTION failsafe._recorded_horizon() RETURNS timestamptz
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
	asked_at timestamptz := clock_timestamp();
	oldest timestamptz;
BEGIN
	IF pg_is_in_recovery() OR current_setting('transaction_isolation') <> 'read committed' THEN
		RETURN '-infinity';
	END IF;

	-- the list of sessions is kept for a whole transaction unless it is dropped
	PERFORM pg_stat_clear_snapshot();
	SELECT min(coalesce(session.xact_start, '-infinity')) INTO oldest
	FROM pg_locks AS writer
	LEFT JOIN pg_stat_activity AS session ON session.pid = writer.pid
	WHERE writer.locktype = 'relation' AND writer.mode = 'RowExclusiveLock' AND writer.granted
	  AND writer.database = (SELECT d.oid FROM pg_database AS d
							 WHERE d.datname = current_database())
	  AND writer.relation IN ('failsafe.idempotency_key'::regclass, 'failsafe.journal'::regclass,
							  'failsafe.balance'::regclass, 'failsafe.entry'::regclass)
	  AND writer.pid IS DISTINCT FROM pg_backend_pid();
	RETURN least(asked_at, oldest);
END
$body$;
COMMENT ON FUNCTION failsafe._recorded_horizon() IS
'No entry that a later snapshot does not see can be recorded before this time; -infinity where that is not known.';

-- Within a wallet versions and recording times have the same order, so the last entry of
-- a time is found by bisection: about as many probes as the version has bits.
CREATE FUNCTION failsafe._wallet_version_at(account_id int8, at timestamptz) RETURNS int8
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
	found_version int8 := 0;	-- recorded at or before the time
	low int8 := 0;				-- nothing above it up to here is later than the time
	high int8;					-- everything from here on is later than the time
	middle int8;
	probe record;
BEGIN
	SELECT e.version INTO high
	FROM failsafe.entry AS e
	WHERE e.account_id = _wallet_version_at.account_id
	ORDER BY coalesce(e.version, e.id) DESC LIMIT 1;
	high := coalesce(high, 0) + 1;
	middle := high - 1;

	WHILE high - low > 1 LOOP
		SELECT e.version, j.recorded_at INTO probe
		FROM failsafe.entry AS e
		JOIN failsafe.journal AS j ON j.id = e.journal_id
		WHERE e.account_id = _wallet_version_at.account_id
		  AND coalesce(e.version, e.id) > low AND coalesce(e.version, e.id) <= middle
		ORDER BY coalesce(e.version, e.id) DESC LIMIT 1;

		IF NOT FOUND THEN
			low := middle;
		ELSIF probe.recorded_at <= at THEN
			found_version := probe.version;
			low := middle;
		ELSE
			high := probe.version;
		END IF;
		middle := low + (high - low) / 2;
	END LOOP;
	RETURN found_version;
END
$body$;
COMMENT ON FUNCTION failsafe._wallet_version_at(int8, timestamptz) IS
'The version of the wallet''s last entry recorded at or before the time, 0 when there is none.';

CREATE FUNCTION failsafe._wallet_balance_at(account_id int8, at timestamptz, effective bool,
											OUT posted numeric, OUT version int8)
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
	last_version int8 := failsafe._wallet_version_at(account_id, at);
BEGIN
	SELECT e.posted INTO posted
	FROM failsafe.entry AS e
	WHERE e.account_id = _wallet_balance_at.account_id
	  AND coalesce(e.version, e.id) = last_version;
	posted := coalesce(posted, 0);
	version := last_version;

	-- An entry is never effective later than recorded, so the entries recorded by then
	-- all count, and those recorded later count where they were back-dated far enough.
	IF effective THEN
		version := NULL;
		posted := posted + coalesce(
			(SELECT sum(e.amount) FROM failsafe.entry AS e
			 WHERE e.account_id = _wallet_balance_at.account_id
			   AND e.effective_at <= at AND e.version > last_version), 0);
	END IF;
END
$body$;
COMMENT ON FUNCTION failsafe._wallet_balance_at(int8, timestamptz, bool) IS
'The posted balance of a wallet at a time, and its version then.';

-- The entry ids of a system account that may lie in [since, until], in windows between
-- checkpoints.  Ids and times of a system account do not have the same order, so a
-- window says what it may hold, and the last one, after all checkpoints, always counts.
CREATE FUNCTION failsafe._system_windows(account_id int8, since timestamptz, until timestamptz)
RETURNS TABLE (after_id int8, last_id int8)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
WITH checkpoints AS (
	SELECT coalesce(lag(c.entry_id) OVER (ORDER BY c.entry_id), 0) AS after_id,
		   c.entry_id AS last_id, c.recorded_from, c.recorded_until
	FROM failsafe.checkpoint AS c
	WHERE c.account_id = _system_windows.account_id
)
SELECT c.after_id, c.last_id
FROM checkpoints AS c
WHERE c.recorded_until >= since AND c.recorded_from <= until
UNION ALL
SELECT coalesce(max(c.last_id), 0), 9223372036854775807
FROM checkpoints AS c
$body$;
COMMENT ON FUNCTION failsafe._system_windows(int8, timestamptz, timestamptz) IS
'Ranges of entry ids (after_id, last_id] that hold every entry of the system account recorded between the two times.';

CREATE FUNCTION failsafe._system_balance_at(account_id int8, at timestamptz, effective bool)
RETURNS numeric
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
	base_id int8;
	base_posted numeric;
	later numeric;
	back_dated numeric := 0;
BEGIN
	SELECT c.entry_id, c.posted INTO base_id, base_posted
	FROM failsafe.checkpoint AS c
	WHERE c.account_id = _system_balance_at.account_id AND c.recorded_until <= at
	ORDER BY c.entry_id DESC LIMIT 1;
	base_id := coalesce(base_id, 0);

	SELECT sum(e.amount) INTO later
	FROM failsafe._system_windows(account_id, '-infinity', at) AS w
	JOIN failsafe.entry AS e ON e.account_id = _system_balance_at.account_id
		AND coalesce(e.version, e.id) > w.after_id AND coalesce(e.version, e.id) <= w.last_id
	JOIN failsafe.journal AS j ON j.id = e.journal_id
	WHERE w.last_id > base_id AND j.recorded_at <= at;

	IF effective THEN
		SELECT sum(e.amount) INTO back_dated
		FROM failsafe.entry AS e
		JOIN failsafe.journal AS j ON j.id = e.journal_id
		WHERE e.account_id = _system_balance_at.account_id
		  AND e.effective_at <= at AND j.recorded_at > at;
	END IF;
	RETURN coalesce(base_posted, 0) + coalesce(later, 0) + coalesce(back_dated, 0);
END
$body$;
COMMENT ON FUNCTION failsafe._system_balance_at(int8, timestamptz, bool) IS
'The posted balance of a system account at a time: a checkpoint and the entries after it.';

CREATE FUNCTION failsafe.account_balance_at(
	code text, at timestamptz, by text DEFAULT 'recorded', options jsonb DEFAULT NULL)
RETURNS TABLE (currency text, posted numeric, version int8, final bool)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
#variable_conflict use_column
DECLARE
	effective bool := account_balance_at.by = 'effective';
	horizon timestamptz;
	asked failsafe.account;
BEGIN
	PERFORM failsafe._options_check(options);
	PERFORM failsafe._require('at', account_balance_at.at::text);
	IF account_balance_at.by IS NULL OR account_balance_at.by NOT IN ('recorded', 'effective') THEN
		PERFORM failsafe._raise('OPTION_INVALID', 'by', 'field', 'by');
	END IF;
	asked := failsafe._account_find(account_balance_at.code);

	-- first the horizon, then the snapshot that must see everything before it
	horizon := failsafe._recorded_horizon();
	currency := asked.currency;
	IF asked.kind = 'system' THEN
		SELECT failsafe._system_balance_at(asked.id, account_balance_at.at, effective)
		INTO posted;
	ELSE
		SELECT b.posted, b.version
		FROM failsafe._wallet_balance_at(asked.id, account_balance_at.at, effective) AS b
		INTO posted, version;
	END IF;
	final := NOT effective AND account_balance_at.at < horizon;
	PERFORM failsafe._wait_durable_all();
	RETURN NEXT;
END
$body$;
COMMENT ON FUNCTION failsafe.account_balance_at(text, timestamptz, text, jsonb) IS
'The posted balance of an account at a time, in minor units.
by: recorded (what the books said then) or effective (with entries that were back-dated to then later on).
version: number of the account''s entries then; NULL for system accounts and by effective time.
final: no command can change the answer any more. False while a transaction that began at or before the time may still write; always false by effective time, on a standby, under REPEATABLE READ, SERIALIZABLE and while a prepared transaction of the ledger waits.
Errors: ACCOUNT_UNKNOWN, VALUE_REQUIRED, OPTION_INVALID.';

CREATE FUNCTION failsafe._statement_windows(account_id int8, kind text, since timestamptz,
											until timestamptz)
RETURNS TABLE (after_place int8, last_place int8)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT w.after_id, w.last_id
FROM failsafe._system_windows(account_id, since, until) AS w
WHERE kind = 'system'
UNION ALL
SELECT failsafe._wallet_version_at(account_id, since - interval '1 microsecond'),
	   failsafe._wallet_version_at(account_id, until - interval '1 microsecond')
WHERE kind <> 'system'
$body$;
COMMENT ON FUNCTION failsafe._statement_windows(int8, text, timestamptz, timestamptz) IS
'Ranges of places (after_place, last_place] that hold every entry of the account recorded between the two times. The place of an entry is its version in a wallet, its id in a system account.';

-- The places of one page, in its order, at most max_rows of them.
CREATE FUNCTION failsafe._statement_page(account_id int8, kind text, since timestamptz,
										 until timestamptz, max_rows int4, after_place int8,
										 descending bool)
RETURNS SETOF int8
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
	above int8 := CASE WHEN descending THEN 0 ELSE coalesce(after_place, 0) END;
	below int8 := CASE WHEN descending THEN coalesce(after_place, 9223372036854775807)
					   ELSE 9223372036854775807 END;
	part record;
	row_count int8;
	missing int8 := max_rows;
BEGIN
	FOR part IN
		SELECT greatest(w.after_place, above) AS low, w.last_place AS high
		FROM failsafe._statement_windows(account_id, kind, since, until) AS w
		WHERE w.last_place > above AND w.after_place < below
		ORDER BY CASE WHEN descending THEN - w.after_place ELSE w.after_place END
	LOOP
		IF descending THEN
			RETURN QUERY
				SELECT coalesce(e.version, e.id)
				FROM failsafe.entry AS e JOIN failsafe.journal AS j ON j.id = e.journal_id
				WHERE e.account_id = _statement_page.account_id
				  AND coalesce(e.version, e.id) > part.low
				  AND coalesce(e.version, e.id) <= part.high AND coalesce(e.version, e.id) < below
				  AND j.recorded_at >= since AND j.recorded_at < until
				ORDER BY coalesce(e.version, e.id) DESC LIMIT missing;
		ELSE
			RETURN QUERY
				SELECT coalesce(e.version, e.id)
				FROM failsafe.entry AS e JOIN failsafe.journal AS j ON j.id = e.journal_id
				WHERE e.account_id = _statement_page.account_id
				  AND coalesce(e.version, e.id) > part.low
				  AND coalesce(e.version, e.id) <= part.high
				  AND j.recorded_at >= since AND j.recorded_at < until
				ORDER BY coalesce(e.version, e.id) LIMIT missing;
		END IF;
		GET DIAGNOSTICS row_count = ROW_COUNT;
		missing := missing - row_count;
		EXIT WHEN missing = 0;
	END LOOP;
END
$body$;
COMMENT ON FUNCTION failsafe._statement_page(int8, text, timestamptz, timestamptz, int4, int8, bool) IS
'The places of the entries of one page of a statement.';

CREATE FUNCTION failsafe._entry_place(account_id int8, entry_id int8) RETURNS int8
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT leg.leg_place
FROM failsafe.journal AS j
CROSS JOIN LATERAL failsafe._transaction_legs(j.id, j.status, j.account_id, j.version,
			j.counterparty_id, j.counterparty_version, j.leg_account_ids, j.leg_versions) AS leg
WHERE j.id = _entry_place.entry_id / 1024 AND leg.leg_entry_id = _entry_place.entry_id
  AND leg.leg_account_id = _entry_place.account_id
$body$;
COMMENT ON FUNCTION failsafe._entry_place(int8, int8) IS
'The place of an entry in this account; NULL when it is none of its entries.';

CREATE FUNCTION failsafe.account_statement(
	code text, since timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL,
	max_rows int4 DEFAULT 100, after text DEFAULT NULL, options jsonb DEFAULT NULL)
RETURNS TABLE (entry_id text, transaction_id text, recorded_at timestamptz,
			   effective_at timestamptz, command text, amount numeric, posted numeric,
			   version int8, counterparty text, reference text, reason text,
			   idempotency_key text, hold_id text, reverses text, trace_id text, metadata jsonb)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
#variable_conflict use_column
DECLARE
	row_order text := coalesce(options ->> 'order', 'asc');
	after_place int8;
	asked failsafe.account;
BEGIN
	PERFORM failsafe._options_check(options, 'order');
	IF row_order NOT IN ('asc', 'desc') THEN
		PERFORM failsafe._raise('OPTION_INVALID', 'order', 'field', 'order');
	END IF;
	PERFORM failsafe._require('max_rows', max_rows::text);
	IF max_rows NOT BETWEEN 1 AND 10000 THEN
		PERFORM failsafe._raise('OPTION_INVALID', 'max_rows', 'field', 'max_rows');
	END IF;
	asked := failsafe._account_find(account_statement.code);
	after_place := failsafe._entry_place(asked.id, failsafe._id_number('e', account_statement.after));
	IF account_statement.after IS NOT NULL AND after_place IS NULL THEN
		PERFORM failsafe._raise('OPTION_INVALID', 'after', 'field', 'after');
	END IF;

	RETURN QUERY
		SELECT 'e_' || e.id, 't_' || j.id, j.recorded_at,
			   coalesce(e.effective_at, j.recorded_at), j.command, e.amount, e.posted,
			   e.version, other.code, j.reference, j.reason, j.key, 'h_' || j.hold_id,
			   't_' || j.reverses, j.trace_id, j.metadata
		FROM failsafe._statement_page(asked.id, asked.kind,
				coalesce(account_statement.since, '-infinity'),
				coalesce(account_statement.until, 'infinity'),
				max_rows, after_place, row_order = 'desc') WITH ORDINALITY AS page (place, number)
		JOIN failsafe.entry AS e ON e.account_id = asked.id
			AND coalesce(e.version, e.id) = page.place
		JOIN failsafe.journal AS j ON j.id = e.journal_id
		LEFT JOIN failsafe.account AS other
			ON other.id = CASE j.account_id WHEN asked.id THEN j.counterparty_id
							ELSE j.account_id END
		ORDER BY page.number;
	PERFORM failsafe._wait_durable_all();
END
$body$;
COMMENT ON FUNCTION failsafe.account_statement(text, timestamptz, timestamptz, int4, text, jsonb) IS
'The entries of an account, recorded at or after since and before until (NULL: no bound). A wallet''s are in the order of their versions, a system account''s in that of their ids: about the order in which their transactions began. Holds move nothing and are not listed.
max_rows: 1 to 10000. after: the entry_id of the last row of the page before; another account''s is refused.
options: order (asc or desc).
amount and posted are minor units, + raises posted. posted and version are NULL for system accounts. counterparty is NULL where a posting has more than two legs.
Errors: ACCOUNT_UNKNOWN, VALUE_REQUIRED, OPTION_INVALID.';

-- A hold as its holder sees it: an open hold whose time is over counts as expired,
-- whether or not its expiry has been written yet.
CREATE FUNCTION failsafe._hold_rows(hold_ids int8[])
RETURNS TABLE (hold_id text, account text, currency text, status text, amount numeric,
			   captured numeric, released numeric, remaining numeric, counterparty text,
			   placed_at timestamptz, expires_at timestamptz, reference text, reason text,
			   idempotency_key text, metadata jsonb)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT 'h_' || h.id, a.code, a.currency,
	   CASE WHEN over.is_over THEN 'expired' ELSE h.status END,
	   h.amount, h.captured,
	   CASE WHEN over.is_over THEN h.amount - h.captured ELSE h.released END,
	   CASE WHEN h.status = 'open' AND NOT over.is_over
			THEN h.amount - h.captured - h.released ELSE 0 END,
	   destination.code, h.placed_at, h.expires_at, j.reference, j.reason, j.key, j.metadata
FROM unnest(hold_ids) AS wanted (id)
JOIN failsafe.hold AS h ON h.id = wanted.id
JOIN failsafe.account AS a ON a.id = h.account_id
JOIN failsafe.journal AS j ON j.id = h.id
LEFT JOIN failsafe.account AS destination ON destination.id = h.counterparty_id
CROSS JOIN LATERAL (SELECT h.status = 'open' AND h.expires_at <= clock_timestamp()) AS over (is_over)
ORDER BY h.id
$body$;
COMMENT ON FUNCTION failsafe._hold_rows(int8[]) IS
'The holds with these numbers, as they are at this moment.';

CREATE FUNCTION failsafe.holds(account text, options jsonb DEFAULT NULL)
RETURNS TABLE (hold_id text, currency text, status text, amount numeric, captured numeric,
			   released numeric, remaining numeric, counterparty text, placed_at timestamptz,
			   expires_at timestamptz, reference text, reason text, idempotency_key text,
			   metadata jsonb)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
#variable_conflict use_column
DECLARE
	row_limit int8;
	after_id int8;
	asked failsafe.account;
BEGIN
	PERFORM failsafe._options_check(options, 'max_rows', 'after');
	row_limit := failsafe._option_int8(options, 'max_rows', 1, 10000, 1000);
	after_id := failsafe._id_number('h', options ->> 'after');
	IF options ->> 'after' IS NOT NULL AND after_id IS NULL THEN
		PERFORM failsafe._raise('OPTION_INVALID', 'after', 'field', 'after');
	END IF;
	PERFORM failsafe._require('account', holds.account);
	asked := failsafe._account_find(holds.account);

	RETURN QUERY
		SELECT r.hold_id, r.currency, r.status, r.amount, r.captured, r.released, r.remaining,
			   r.counterparty, r.placed_at, r.expires_at, r.reference, r.reason,
			   r.idempotency_key, r.metadata
		FROM failsafe._hold_rows(ARRAY(
				SELECT h.id FROM failsafe.hold AS h
				WHERE h.account_id = asked.id AND h.status = 'open'
				  AND h.expires_at > clock_timestamp() AND h.id > coalesce(after_id, 0)
				ORDER BY h.id LIMIT row_limit)) AS r
		WHERE r.status = 'open';
	PERFORM failsafe._wait_durable_all();
END
$body$;
COMMENT ON FUNCTION failsafe.holds(text, jsonb) IS
'The holds of an account that are open and not expired, in the order in which they were placed. Amounts are minor units; remaining is what still counts as held.
options: max_rows (1 to 10000, default 1000), after (the hold_id of the last row of the page before).
Errors: ACCOUNT_UNKNOWN, VALUE_REQUIRED, OPTION_INVALID.';

-- h_12 names a hold; every other designator names a command, and through it the hold
-- that it placed or touched.
CREATE FUNCTION failsafe._hold_find(designator text) RETURNS int8
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
	tenants int4[] := failsafe._report_tenants();
	found_id int8;
BEGIN
	PERFORM failsafe._require('hold', designator);
	SELECT h.id INTO found_id
	FROM failsafe.hold AS h
	WHERE h.tenant_id = ANY (tenants)
	  AND h.id = CASE WHEN starts_with(designator, 'h_') THEN failsafe._id_number('h', designator)
					  ELSE (SELECT j.hold_id FROM failsafe.journal AS j
							WHERE j.id = failsafe._transaction_find(designator, tenants)) END;
	IF found_id IS NULL THEN
		PERFORM failsafe._raise('HOLD_UNKNOWN', NULL, 'hold', designator);
	END IF;
	RETURN found_id;
END
$body$;
COMMENT ON FUNCTION failsafe._hold_find(text) IS
'The number of the hold behind a designator. Raises HOLD_UNKNOWN.';

CREATE FUNCTION failsafe.hold_get(hold text, options jsonb DEFAULT NULL)
RETURNS TABLE (hold_id text, account text, currency text, status text, amount numeric,
			   captured numeric, released numeric, remaining numeric, counterparty text,
			   placed_at timestamptz, expires_at timestamptz, reference text, reason text,
			   idempotency_key text, metadata jsonb)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
	PERFORM failsafe._options_check(options);
	RETURN QUERY
		SELECT r.*
		FROM failsafe._hold_rows(ARRAY[failsafe._hold_find(hold_get.hold)]) AS r;
	PERFORM failsafe._wait_durable_all();
END
$body$;
COMMENT ON FUNCTION failsafe.hold_get(text, jsonb) IS
'One hold as it is now, whatever became of it. hold: h_..., key: and the key of a command on it, or the t_... or e_... of one.
status: open, committed, rolled_back, expired. Amounts are minor units.
Errors: HOLD_UNKNOWN, VALUE_REQUIRED, OPTION_INVALID.';

CREATE FUNCTION failsafe.hold_history(hold text, options jsonb DEFAULT NULL)
RETURNS TABLE (recorded_at timestamptz, transaction_id text, command text, status text,
			   code text, amount numeric, released numeric, remaining numeric,
			   expires_at timestamptz, idempotency_key text, reference text, reason text,
			   actor text)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
#variable_conflict use_column
BEGIN
	PERFORM failsafe._options_check(options);
	RETURN QUERY
		SELECT j.recorded_at, 't_' || j.id, j.command, j.status, j.code, j.amount,
			   j.released, j.hold_remaining, j.expires_at, j.key, j.reference, j.reason,
			   failsafe._actor_label(j.actor_id)
		FROM failsafe._hold_find(hold_history.hold) AS found (id)
		JOIN failsafe.journal AS j ON j.hold_id = found.id
		-- a command that finds the hold expired writes the expiry before itself
		ORDER BY j.recorded_at, j.command <> 'expire', j.id;
	PERFORM failsafe._wait_durable_all();
END
$body$;
COMMENT ON FUNCTION failsafe.hold_history(text, jsonb) IS
'Everything that was asked of a hold, in order: placed, extended, captured, rolled back, expired, and the declines that were recorded. hold: as in hold_get(). Amounts are minor units; released is what became free without moving.
Errors: HOLD_UNKNOWN, VALUE_REQUIRED, OPTION_INVALID.';

CREATE FUNCTION failsafe._key_check(key text, scope text) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
	IF key IS NULL THEN
		PERFORM failsafe._raise('IDEMPOTENCY_KEY_REQUIRED', NULL, 'field', 'key');
	END IF;
	IF octet_length(key) NOT BETWEEN 1 AND 255 OR key ~ '^ | $|[\u0001-\u001f\u007f]' THEN
		PERFORM failsafe._raise('IDEMPOTENCY_KEY_INVALID', NULL, 'field', 'key');
	END IF;
	IF scope IS NULL OR scope !~ '^[A-Za-z0-9_.:-]{1,63}$' THEN
		PERFORM failsafe._raise('SCOPE_INVALID', scope, 'field', 'scope');
	END IF;
END
$body$;
COMMENT ON FUNCTION failsafe._key_check(text, text) IS
'Refuses a text that cannot be a key, or a scope that cannot be one.';

CREATE FUNCTION failsafe.idempotency_status(
	key text, scope text DEFAULT 'wallet', options jsonb DEFAULT NULL)
RETURNS TABLE (state text, first_seen_at timestamptz, transaction_id text)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
#variable_conflict use_column
DECLARE
	tenant int4 := failsafe._tenant_id();
	in_progress bool;
BEGIN
	PERFORM failsafe._options_check(options);
	PERFORM failsafe._key_check(idempotency_status.key, idempotency_status.scope);

	-- Ask for a running holder first: one that commits in between is found below.
	IF idempotency_status.scope = 'wallet' THEN
		in_progress := failsafe._key_in_progress(idempotency_status.key);
		SELECT j.status, j.recorded_at, 't_' || j.id
		INTO state, first_seen_at, transaction_id
		FROM failsafe.idempotency_key AS k
		JOIN failsafe.journal AS j ON j.id = k.journal_id
		WHERE k.tenant_id = tenant AND k.key = idempotency_status.key;
	ELSE
		in_progress := failsafe._application_key_in_progress(idempotency_status.scope,
															 idempotency_status.key);
		SELECT CASE k.state WHEN 'completed' THEN 'committed' ELSE 'in_progress' END,
			   k.claimed_at
		INTO state, first_seen_at
		FROM failsafe.application_key AS k
		WHERE k.tenant_id = tenant AND k.scope = idempotency_status.scope
		  AND k.key = idempotency_status.key;
	END IF;
	state := coalesce(state, CASE WHEN in_progress THEN 'in_progress' ELSE 'none' END);
	PERFORM failsafe._wait_durable_all();
	RETURN NEXT;
END
$body$;
COMMENT ON FUNCTION failsafe.idempotency_status(text, text, jsonb) IS
'What became of a key, without waiting.
state: none (never used, or its transaction was rolled back), in_progress (a running transaction holds it; for an application''s key also: claimed and not completed), committed, held, rolled_back, declined. first_seen_at and transaction_id are NULL where no committed row exists.
scope: wallet (the default) or the scope of an application''s key.
Errors: IDEMPOTENCY_KEY_REQUIRED, IDEMPOTENCY_KEY_INVALID, SCOPE_INVALID, OPTION_INVALID.';
