-- ledger: everything that happened around one id, in time order.

-- Events are numbered almost in the order of time, so the first one of a time is found
-- by bisection over the leaves' indexes on seq.
CREATE FUNCTION failsafe._event_seq_at(at timestamptz) RETURNS int8
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
	low int8;					-- nothing up to here is as late as the time
	high int8;					-- found: this one is
	middle int8;
	probe record;
BEGIN
	SELECT min(o.seq) - 1, max(o.seq) + 1 INTO low, high
	FROM failsafe.outbox AS o WHERE o.slot BETWEEN 0 AND 15;
	WHILE high - low > 1 LOOP
		middle := low + (high - low) / 2;
		SELECT o.seq, o.occurred_at INTO probe
		FROM failsafe.outbox AS o
		WHERE o.slot BETWEEN 0 AND 15 AND o.seq >= middle AND o.seq < high
		ORDER BY o.seq LIMIT 1;
		IF NOT FOUND THEN
			high := middle;
		ELSIF probe.occurred_at < at THEN
			low := probe.seq;
		ELSE
			high := middle;
		END IF;
	END LOOP;
	RETURN high;
END
$body$;
COMMENT ON FUNCTION failsafe._event_seq_at(timestamptz) IS
'About the first event of the money lane that occurred at or after the time; NULL when the outbox is empty.';

-- The events that these transactions wrote.  An event has no index on its transaction:
-- that would cost every command.  Its place is found by time, with some slack for
-- transactions that ran at once, and the neighbourhood is read by the index on seq.
CREATE FUNCTION failsafe._transaction_events(journal_ids int8[])
RETURNS TABLE (journal_id int8, event_id uuid, event_type text, occurred_at timestamptz, seq int8)
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
#variable_conflict use_column
DECLARE
	slack_before CONSTANT interval := '1 second';
	slack_after CONSTANT interval := '5 seconds';
	period tstzrange;
BEGIN
	FOR period IN
		SELECT unnest(range_agg(tstzrange(j.recorded_at - slack_before, j.recorded_at + slack_after)))
		FROM failsafe.journal AS j WHERE j.id = ANY (journal_ids)
	LOOP
		RETURN QUERY
			SELECT o.journal_id, o.event_id, o.event_type, o.occurred_at, o.seq
			FROM failsafe.outbox AS o
			WHERE o.slot BETWEEN 0 AND 15
			  AND o.seq >= (SELECT failsafe._event_seq_at(lower(period)))
			  AND o.seq < (SELECT failsafe._event_seq_at(upper(period)))
			  AND o.journal_id = ANY (journal_ids);
	END LOOP;
END
$body$;
COMMENT ON FUNCTION failsafe._transaction_events(int8[]) IS
'The events of these transactions that the outbox still holds.';

-- The transactions that an id names.  h_7 and t_7 name the same one: the hold.
CREATE FUNCTION failsafe._trace_start(id text, tenants int4[], max_rows int4)
RETURNS SETOF int8
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT failsafe._transaction_find(_trace_start.id, tenants)
UNION
SELECT h.id FROM failsafe.hold AS h
WHERE h.id = failsafe._id_number('h', _trace_start.id) AND h.tenant_id = ANY (tenants)
UNION
SELECT k.journal_id FROM failsafe.idempotency_key AS k
WHERE k.tenant_id = ANY (tenants) AND k.key = _trace_start.id
UNION
(SELECT j.id FROM failsafe.journal AS j
 WHERE j.reference = _trace_start.id AND j.tenant_id = ANY (tenants) LIMIT max_rows)
UNION
(SELECT j.id FROM failsafe.journal AS j
 WHERE j.trace_id = _trace_start.id AND j.tenant_id = ANY (tenants) LIMIT max_rows)
$body$;
COMMENT ON FUNCTION failsafe._trace_start(text, int4[], int4) IS
'The journal ids that a designator, key, reference or trace id names.';

-- Holds and reversals lead from one transaction to the next.
CREATE FUNCTION failsafe._trace_spread(journal_ids int8[], max_rows int4) RETURNS int8[]
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
	known int8[] := journal_ids;
	latest int8[] := journal_ids;
BEGIN
	LOOP
		SELECT array_agg(found.id) INTO latest
		FROM (
			SELECT j.hold_id AS id FROM failsafe.journal AS j WHERE j.id = ANY (latest)
			UNION
			SELECT j.reverses FROM failsafe.journal AS j WHERE j.id = ANY (latest)
			UNION
			SELECT j.id FROM failsafe.journal AS j WHERE j.hold_id = ANY (latest)
			UNION
			SELECT j.id FROM failsafe.journal AS j WHERE j.reverses = ANY (latest)
		) AS found
		WHERE found.id <> ALL (known);
		EXIT WHEN latest IS NULL OR cardinality(known) >= max_rows;
		known := known || latest;
	END LOOP;
	RETURN known[1:max_rows];
END
$body$;
COMMENT ON FUNCTION failsafe._trace_spread(int8[], int4) IS
'These transactions and all that they touch through holds and reversals.';

CREATE FUNCTION failsafe._trace_transactions(journal_ids int8[])
RETURNS TABLE (at timestamptz, kind text, object text, summary text, actor text)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT j.recorded_at, 'transaction', 't_' || j.id,
	   concat_ws(' ', j.command,
				 CASE WHEN j.status <> j.command THEN j.status END, j.code,
				 j.amount || coalesce(' ' || coalesce(a.currency, other.currency), ''),
				 a.code || coalesce(CASE j.command WHEN 'credit' THEN ' <- '
													  WHEN 'reverse' THEN ' / ' ELSE ' -> ' END
									|| other.code, ''),
				 'of h_' || j.hold_id, 'reverses t_' || j.reverses,
				 'key=' || j.key, 'reference=' || j.reference, 'reason=' || j.reason,
				 'effective=' || j.effective_at, 'trace=' || j.trace_id),
	   failsafe._actor_label(j.actor_id)
FROM failsafe.journal AS j
LEFT JOIN failsafe.account AS a ON a.id = j.account_id
LEFT JOIN failsafe.account AS other ON other.id = j.counterparty_id
WHERE j.id = ANY (journal_ids)
$body$;
COMMENT ON FUNCTION failsafe._trace_transactions(int8[]) IS 'The transactions of a trace.';

CREATE FUNCTION failsafe._trace_entries(journal_ids int8[])
RETURNS TABLE (at timestamptz, kind text, object text, summary text, actor text)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT j.recorded_at, 'entry', 'e_' || e.id,
	   concat_ws(' ', a.code, CASE WHEN e.amount > 0 THEN '+' ELSE '' END || e.amount, a.currency,
				 'posted=' || e.posted, 'version=' || e.version),
	   NULL
FROM failsafe.journal AS j
CROSS JOIN LATERAL failsafe._transaction_legs(j.id, j.status, j.account_id, j.version,
			j.counterparty_id, j.counterparty_version, j.leg_account_ids, j.leg_versions) AS leg
JOIN failsafe.entry AS e ON e.account_id = leg.leg_account_id
	AND coalesce(e.version, e.id) = leg.leg_place
JOIN failsafe.account AS a ON a.id = e.account_id
WHERE j.id = ANY (journal_ids)
$body$;
COMMENT ON FUNCTION failsafe._trace_entries(int8[]) IS 'The entries of a trace.';

CREATE FUNCTION failsafe._trace_holds(journal_ids int8[])
RETURNS TABLE (at timestamptz, kind text, object text, summary text, actor text)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT r.placed_at, 'hold', r.hold_id,
	   format('%s now %s: %s %s reserved, %s captured, %s released, %s left, expires %s',
			  r.account, r.status, r.amount, r.currency, r.captured, r.released, r.remaining,
			  r.expires_at),
	   NULL
FROM failsafe._hold_rows(ARRAY(
		SELECT DISTINCT j.hold_id FROM failsafe.journal AS j
		WHERE j.id = ANY (journal_ids) AND j.hold_id IS NOT NULL)) AS r
$body$;
COMMENT ON FUNCTION failsafe._trace_holds(int8[]) IS 'The holds of a trace, as they are now.';

-- Freezes and limits of the accounts explain declines: from the last change before the
-- first transaction to an hour after the last one.
CREATE FUNCTION failsafe._trace_changes(account_ids int8[], since timestamptz, until timestamptz)
RETURNS TABLE (at timestamptz, kind text, object text, summary text, actor text)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT c.changed_at, 'account', a.code,
	   concat_ws(' ', c.change, 'status=' || c.status, 'floor=' || c.floor,
				 'ceiling=' || c.ceiling, 'reason=' || c.reason),
	   failsafe._actor_label(c.actor_id)
FROM failsafe.account AS a
JOIN failsafe.account_change AS c ON c.account_id = a.id
WHERE a.id = ANY (account_ids) AND c.changed_at <= until + interval '1 hour'
  AND c.id >= coalesce((SELECT max(k.id) FROM failsafe.account_change AS k
						WHERE k.account_id = a.id AND k.changed_at <= since), 0)
$body$;
COMMENT ON FUNCTION failsafe._trace_changes(int8[], timestamptz, timestamptz) IS
'The status and limit changes of accounts around a time.';

-- An event id carries its lane and number: 2 and 46 bits after the variant of the uuid.
CREATE FUNCTION failsafe._trace_event(id uuid, tenants int4[])
RETURNS TABLE (at timestamptz, kind text, object text, summary text, actor text, journal_id int8)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT o.occurred_at, 'event', o.event_id::text,
	   concat_ws(' ', o.event_type, 'key=' || o.order_key, 'seq=' || o.seq,
				 'trace=' || o.trace_id),
	   NULL, o.journal_id
FROM (SELECT ('x' || right(replace(_trace_event.id::text, '-', ''), 16))::bit(64) AS tail) AS given
JOIN failsafe.outbox AS o
	ON o.seq = substring(given.tail FROM 5 FOR 46)::bit(46)::int8
	AND o.slot BETWEEN 16 * substring(given.tail FROM 3 FOR 2)::int4
		AND 16 * substring(given.tail FROM 3 FOR 2)::int4 + 15
WHERE o.event_id = _trace_event.id AND o.tenant_id = ANY (tenants)
$body$;
COMMENT ON FUNCTION failsafe._trace_event(uuid, int4[]) IS 'The event with this id.';

CREATE FUNCTION failsafe._trace_accounts(journal_ids int8[])
RETURNS TABLE (at timestamptz, kind text, object text, summary text, actor text)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT c.*
FROM (SELECT min(j.recorded_at) AS since, max(j.recorded_at) AS until
	  FROM failsafe.journal AS j WHERE j.id = ANY (journal_ids)) AS span
CROSS JOIN LATERAL failsafe._trace_changes(ARRAY(
		SELECT unnest(ARRAY[j.account_id, j.counterparty_id] || j.leg_account_ids)
		FROM failsafe.journal AS j WHERE j.id = ANY (journal_ids)), span.since, span.until) AS c
$body$;
COMMENT ON FUNCTION failsafe._trace_accounts(int8[]) IS
'The status and limit changes around a trace.';

CREATE FUNCTION failsafe._trace_application_keys(key text, tenants int4[])
RETURNS TABLE (at timestamptz, kind text, object text, summary text, actor text)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT k.claimed_at, 'application_key', k.scope || '/' || k.key,
	   concat_ws(' ', k.state, 'completed=' || k.completed_at),
	   failsafe._actor_label(k.actor_id)
FROM failsafe.application_key AS k
WHERE k.tenant_id = ANY (tenants) AND k.scope = 'app'
  AND k.key = _trace_application_keys.key
$body$;
COMMENT ON FUNCTION failsafe._trace_application_keys(text, int4[]) IS
'The application''s key with this text, of the default scope.';

CREATE FUNCTION failsafe._trace_rows(id text, event_id uuid, tenants int4[], max_rows int4)
RETURNS TABLE (rank int4, at timestamptz, kind text, object text, summary text, actor text)
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
#variable_conflict use_column
DECLARE
	journal_ids int8[];
BEGIN
	SELECT array_agg(DISTINCT found.id) INTO journal_ids
	FROM (SELECT start.id FROM failsafe._trace_start(_trace_rows.id, tenants, max_rows) AS start (id)
		  UNION ALL
		  SELECT e.journal_id FROM failsafe._trace_event(event_id, tenants) AS e) AS found
	WHERE found.id IS NOT NULL;
	journal_ids := failsafe._trace_spread(coalesce(journal_ids, '{}'), max_rows);

	RETURN QUERY
		SELECT 1, t.* FROM failsafe._trace_accounts(journal_ids) AS t
		UNION ALL
		SELECT 2, t.* FROM failsafe._trace_application_keys(_trace_rows.id, tenants) AS t
		UNION ALL
		SELECT 3, t.* FROM failsafe._trace_transactions(journal_ids) AS t
		UNION ALL
		SELECT 4, t.* FROM failsafe._trace_entries(journal_ids) AS t
		UNION ALL
		SELECT 5, t.* FROM failsafe._trace_holds(journal_ids) AS t
		UNION ALL
		SELECT 6, o.occurred_at, 'event', o.event_id::text,
			   concat_ws(' ', o.event_type, 'of t_' || o.journal_id, 'seq=' || o.seq), NULL
		FROM failsafe._transaction_events(journal_ids) AS o
		UNION ALL
		SELECT 6, e.at, e.kind, e.object, e.summary, e.actor
		FROM failsafe._trace_event(event_id, tenants) AS e
		WHERE e.journal_id IS NULL;
END
$body$;
COMMENT ON FUNCTION failsafe._trace_rows(text, uuid, int4[], int4) IS
'The rows of a trace; rank orders those of one time.';

CREATE FUNCTION failsafe.trace(id text, options jsonb DEFAULT NULL)
RETURNS TABLE (at timestamptz, kind text, object text, summary text, actor text)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
#variable_conflict use_column
DECLARE
	max_rows int8;
	event_id uuid;
BEGIN
	PERFORM failsafe._options_check(options, 'max_rows');
	max_rows := failsafe._option_int8(options, 'max_rows', 1, 10000, 1000);
	PERFORM failsafe._require('id', trace.id);
	IF trace.id ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN
		event_id := trace.id::uuid;
	END IF;

	RETURN QUERY
		SELECT t.at, t.kind, t.object, t.summary, t.actor
		FROM failsafe._trace_rows(trace.id, event_id, failsafe._report_tenants(),
								  max_rows::int4) AS t
		ORDER BY t.at, t.rank, length(t.object), t.object;
	PERFORM failsafe._wait_durable_all();
END
$body$;
COMMENT ON FUNCTION failsafe.trace(text, jsonb) IS
'Everything that happened around one id, in time order: transactions (declines, expiries and reversals too), their entries, holds, events, and the status and limit changes of the accounts around that time. Transactions that belong together by a hold or a reversal are followed.
id: t_..., e_..., h_..., an idempotency key (with or without key:), a reference, a trace id, or an event id. Several kinds may fit one text: all of them are shown. No row: nothing is known of it.
kind: transaction, entry, hold (as it is now), event (while the outbox holds it), account, application_key.
options: max_rows (1 to 10000, default 1000), the number of transactions.
Errors: VALUE_REQUIRED, OPTION_INVALID.';
