-- The outbox: emit, read, lanes, limits, retention.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_failsafe;
RESET client_min_messages;
SET search_path = failsafe, public;

-- An event as it is read: ids and times are blotted out.
CREATE FUNCTION pg_temp.blot(envelope json) RETURNS text LANGUAGE sql AS $$
	SELECT regexp_replace(regexp_replace(envelope::text,
		'"event_id":"[0-9a-f-]{36}"', '"event_id":"ID"'),
		'"occurred_at":"[0-9-]{10}T[0-9:]{8}\.[0-9]{6}Z"', '"occurred_at":"TIME"')
$$;

-- Emit, and see it at once
BEGIN;
SELECT outbox_emit('order.created', 'order-1', '{"total": 12.50, "lines": [1, 2]}',
				   '{"content-language": "en"}') AS event_id \gset
SELECT lane, seq > 0 AS numbered, event_type, order_key, tenant, priority, headers,
	subject, deliver_after, expires_at, occurred_at <= clock_timestamp() AS occurred
FROM events WHERE event_id = :'event_id';
SELECT pg_temp.blot(envelope) FROM outbox_get(:'event_id');
SELECT envelope->>'event_id' = :'event_id' AS same_id,
	(envelope->>'occurred_at')::timestamptz = occurred_at AS same_time
FROM outbox_get(:'event_id');
ROLLBACK;
SELECT count(*) FROM outbox_get(:'event_id');

-- A savepoint takes its events with it
BEGIN;
SELECT outbox_emit('t.keep', 'savepoint', '{"n": 1}') IS NOT NULL AS written;
SAVEPOINT s;
SELECT outbox_emit('t.gone', 'savepoint', '{"n": 2}') IS NOT NULL AS written;
ROLLBACK TO s;
SELECT outbox_emit('t.keep', 'savepoint', '{"n": 3}') IS NOT NULL AS written;
COMMIT;
SELECT event_type, envelope->'n' AS n FROM events WHERE order_key = 'savepoint' ORDER BY seq;

-- Several in one statement; numbers follow the order of the calls
SELECT count(outbox_emit('t.many', 'many', jsonb_build_object('n', n)))
FROM generate_series(1, 50) AS n;
SELECT bool_and((envelope->>'n')::int = n) AS in_order
FROM (SELECT seq, envelope, row_number() OVER (ORDER BY seq) AS n
	  FROM events WHERE order_key = 'many') AS e;

-- The envelope: every member, an empty payload, nothing set
SELECT outbox_emit('t.envelope', 'envelope', '{}', '{}',
	'{"region": "eu", "trace_id": "tr-1", "subject": "acc \"7\"",
	  "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}') AS event_id \gset
SELECT pg_temp.blot(envelope) AS envelope, subject, traceparent FROM outbox_get(:'event_id');
SET failsafe.trace_id = 'from the session';
SET failsafe.traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00';
SET failsafe.region = 'us-east';
SELECT outbox_emit('t.envelope', 'envelope', '{"a": null}') AS event_id \gset
SELECT pg_temp.blot(envelope) AS envelope, traceparent FROM outbox_get(:'event_id');
RESET failsafe.trace_id;
RESET failsafe.traceparent;
RESET failsafe.region;
SELECT _event_envelope('00000000-0000-7000-8000-000000004001', 'a.b', '2026-01-31 12:00:00+00',
					   'x"y', NULL, NULL, E' \n{ \t}');
SELECT _event_envelope('00000000-0000-7000-8000-000000004001', 'a.b', '2026-01-31 12:00:00+00',
					   'x', NULL, NULL, '{  "a":1 , "a":2}');
SELECT _event_envelope('00000000-0000-7000-8000-000000004001', 'a.b', '2026-01-31 12:00:00+00',
					   'x', NULL, NULL, NULL);
SELECT _event_envelope('00000000-0000-7000-8000-000000004001', 'a.b', '2026-01-31 12:00:00+00',
					   'x', NULL, NULL, '[1]');

-- Lanes by priority; the id carries lane and number
SELECT outbox_emit('t.lane', 'lanes', '{}', '{}', jsonb_build_object('priority', p)) IS NOT NULL
	AS written, p FROM generate_series(0, 9) AS p;
SELECT priority, lane FROM events WHERE order_key = 'lanes' ORDER BY priority;
SELECT count(*) AS wrong FROM events AS e, _event_position(e.event_id) AS p
WHERE p.lane <> e.lane OR p.seq <> e.seq OR p.seq IS NULL;
SELECT * FROM _event_position('5e8a0c5e-5c4e-4a9e-8f59-0d2d2f6a3b11');
SELECT count(*) FROM outbox_get('5e8a0c5e-5c4e-4a9e-8f59-0d2d2f6a3b11');
SELECT count(*) AS same_leaf FROM (
	SELECT tableoid, slot FROM failsafe.outbox WHERE order_key = 'lanes' AND priority = 9) AS o
WHERE tableoid = format('failsafe.outbox_3_%s', lpad((slot - 48)::text, 2, '0'))::regclass;

-- What is refused
SELECT outbox_emit(NULL, 'k', '{}');
SELECT outbox_emit('a.b', NULL, '{}');
SELECT outbox_emit('a.b', 'k', NULL);
\set VERBOSITY terse
SELECT outbox_emit('', 'k', '{}');
SELECT outbox_emit('oneword', 'k', '{}');
SELECT outbox_emit('a.', 'k', '{}');
SELECT outbox_emit('.a', 'k', '{}');
SELECT outbox_emit('a..b', 'k', '{}');
SELECT outbox_emit('A.b', 'k', '{}');
SELECT outbox_emit('a b.c', 'k', '{}');
SELECT outbox_emit('a.' || repeat('b', 127), 'k', '{}');
SELECT outbox_emit('wallet.debit.committed', 'k', '{}');
SELECT outbox_emit('account.opened', 'k', '{}');
SELECT outbox_emit('failsafe.x', 'k', '{}');
SELECT outbox_emit('a.b', '', '{}');
SELECT outbox_emit('a.b', repeat('k', 256), '{}');
SELECT outbox_emit('a.b', E'k\n', '{}');
SELECT outbox_emit('a.b', 'k', '[]');
SELECT outbox_emit('a.b', 'k', '7');
SELECT outbox_emit('a.b', 'k', '{"event_id": 1}');
SELECT outbox_emit('a.b', 'k', '{"x": {"event_id": 1}, "tenant": 1}');
SELECT outbox_emit('a.b', 'k', '{}', '[]');
SELECT outbox_emit('a.b', 'k', '{}', '{"n": 1}');
SELECT outbox_emit('a.b', 'k', '{}', jsonb_build_object('h', repeat('x', 16384)));
SELECT outbox_emit('a.b', 'k', '{}', '{}', '[]');
SELECT outbox_emit('a.b', 'k', '{}', '{}', '{"prio": 1}');
SELECT outbox_emit('a.b', 'k', '{}', '{}', '{"priority": 10}');
SELECT outbox_emit('a.b', 'k', '{}', '{}', '{"priority": -1}');
SELECT outbox_emit('a.b', 'k', '{}', '{}', '{"priority": 1.5}');
SELECT outbox_emit('a.b', 'k', '{}', '{}', '{"priority": "1"}');
SELECT outbox_emit('a.b', 'k', '{}', '{}', '{"priority": 99999999999}');
SELECT outbox_emit('a.b', 'k', '{}', '{}', '{"ordered": 1}');
SELECT outbox_emit('a.b', 'k', '{}', '{}', '{"deliver_after": "soon"}');
SELECT outbox_emit('a.b', 'k', '{}', '{}', '{"deliver_after": "infinity"}');
SELECT outbox_emit('a.b', 'k', '{}', '{}', '{"expires_at": "2020-01-01T00:00:00Z"}');
SELECT outbox_emit('a.b', 'k', '{}', '{}',
	'{"deliver_after": "2099-01-02T00:00:00Z", "expires_at": "2099-01-01T00:00:00Z"}');
SELECT outbox_emit('a.b', 'k', '{}', '{}', '{"subject": ""}');
SELECT outbox_emit('a.b', 'k', '{}', '{}', '{"region": ""}');
SELECT outbox_emit('a.b', 'k', '{}', '{}', jsonb_build_object('trace_id', repeat('t', 129)));
SELECT outbox_emit('a.b', 'k', '{}', '{}', '{"traceparent": "00-0-0-0"}');
SELECT outbox_get('00000000-0000-7000-8000-000000004001', '{"x": 1}');
\set VERBOSITY default
-- and what just fits
BEGIN;
SELECT outbox_emit('a.' || repeat('b', 126), repeat('k', 255), '{"x": {"event_id": 1}}', NULL,
	'{"deliver_after": "2099-01-01T00:00:00Z", "expires_at": "2099-01-01 00:00:01+00",
	  "ordered": true, "subject": null}') AS event_id \gset
SELECT length(event_type), length(order_key), deliver_after = '2099-01-01 00:00:00+00' AS after,
	expires_at = '2099-01-01 00:00:01+00' AS expires, subject
FROM outbox_get(:'event_id');
ROLLBACK;

-- The size limit, to the byte
SET failsafe.event_max_bytes = 1024;
SELECT outbox_emit('t.size', 'size', jsonb_build_object('a', repeat('x', 1015))) IS NOT NULL AS fits;
SELECT outbox_emit('t.size', 'size', jsonb_build_object('a', repeat('x', 1016)));
RESET failsafe.event_max_bytes;
SELECT octet_length(payload::text) FROM outbox WHERE order_key = 'size';

-- Types that are switched off: NULL, and nothing is written
SET failsafe.event_types = '*, !t.off*, t.offline';
BEGIN;
SELECT outbox_emit('t.off', 'types', '{}') IS NULL AS switched_off;
SELECT pg_current_xact_id_if_assigned() IS NULL AS wrote_nothing;
SELECT outbox_emit('t.offline', 'types', '{}') IS NULL AS switched_off;
COMMIT;
SELECT outbox_emit('t.off', 'types', '[]');
RESET failsafe.event_types;
SELECT event_type FROM events WHERE order_key = 'types';

-- Read-only transactions
BEGIN READ ONLY;
SELECT outbox_emit('a.b', 'k', '{}');
ROLLBACK;
BEGIN READ ONLY;
SELECT * FROM outbox_retain();
ROLLBACK;

-- A tenant sees its own events, an operator all
BEGIN;
CREATE ROLE regress_failsafe_app IN ROLE failsafe_app;
CREATE ROLE regress_failsafe_operator IN ROLE failsafe_operator;
SELECT created FROM tenant_add('regress_tenant');
SET LOCAL failsafe.tenant = 'regress_tenant';
SELECT outbox_emit('t.tenant', 'tenant', '{}') AS event_id \gset
SET LOCAL ROLE regress_failsafe_app;
SELECT tenant, event_type FROM events;
SELECT count(*) FROM outbox_get(:'event_id');
RESET ROLE;
SET LOCAL failsafe.tenant = 'default';
SET LOCAL ROLE regress_failsafe_app;
SELECT DISTINCT tenant FROM events;
SELECT count(*) FROM outbox_get(:'event_id');
RESET ROLE;
SET LOCAL ROLE regress_failsafe_operator;
SELECT DISTINCT tenant FROM events ORDER BY 1;
ROLLBACK;

-- Retention.  The age of events cannot be waited for, so old ones are put in by hand,
-- into two leaves of lane 2 that no period used below makes current soon.
SELECT 32 + min(leaf) AS old_slot, 32 + max(leaf) AS mixed_slot
FROM generate_series(0, 15) AS leaf
WHERE leaf NOT IN (SELECT (extract(epoch FROM clock_timestamp())::int8 / period + ahead) % 16
				   FROM unnest('{75600, 64800, 4320000}'::int[]) AS period,
						generate_series(0, 2) AS ahead) \gset
CREATE FUNCTION pg_temp.put(slot int, VARIADIC ages interval[]) RETURNS void LANGUAGE sql AS $$
	INSERT INTO failsafe.outbox (seq, occurred_at, event_id, tenant_id, slot, priority,
								 event_type, order_key, payload)
	SELECT nextval('failsafe.outbox_seq_2'), clock_timestamp() - age, gen_random_uuid(), 1,
		   put.slot, 5, 't.old', 'retention', '{}'
	FROM unnest(ages) AS age
$$;
CREATE FUNCTION pg_temp.retain(old_slot int, mixed_slot int, max_leaves int DEFAULT 64)
RETURNS TABLE (which text, events int8, is_old bool, action text) LANGUAGE sql AS $$
	SELECT CASE substr(r.leaf, 10)::int + 32 WHEN old_slot THEN 'old' ELSE 'mixed' END,
		   r.events, r.newest < clock_timestamp() - interval '7 days', r.action
	FROM failsafe.outbox_retain(max_leaves) AS r
	WHERE r.leaf LIKE 'outbox_2%' AND substr(r.leaf, 10)::int + 32 IN (old_slot, mixed_slot)
	ORDER BY 1 DESC
$$;
SELECT pg_temp.put(:old_slot, '8 days', '8 days', '9 days');
-- its youngest event is neither the first nor the last by number
SELECT pg_temp.put(:mixed_slot, '9 days', '6 days 23 hours', '9 days');
SELECT * FROM pg_temp.retain(:old_slot, :mixed_slot);
SELECT count(*) AS left_over FROM outbox WHERE order_key = 'retention';
-- an empty leaf is not reported; the youngest event is the last, so nothing is counted
SELECT pg_temp.put(:mixed_slot, '6 days 23 hours');
SELECT * FROM pg_temp.retain(:old_slot, :mixed_slot);
-- a shorter retention, and one leaf a call
SET failsafe.event_retention = '6d';
SELECT pg_temp.put(:old_slot, '8 days');
SELECT * FROM pg_temp.retain(:old_slot, :mixed_slot, 1);
SELECT * FROM pg_temp.retain(:old_slot, :mixed_slot, 1);
RESET failsafe.event_retention;
SELECT count(*) AS left_over FROM outbox WHERE order_key = 'retention';
SELECT count(*) > 0 AS others_stay FROM events WHERE order_key = 'many';
-- a rolled back retention changes nothing
SELECT pg_temp.put(:old_slot, '8 days');
BEGIN;
SELECT * FROM pg_temp.retain(:old_slot, :mixed_slot);
SELECT count(*) FROM outbox WHERE order_key = 'retention';
ROLLBACK;
SELECT count(*) FROM outbox WHERE order_key = 'retention';
-- events of this transaction count
BEGIN;
SELECT pg_temp.put(:old_slot, '1 hour', '8 days');
SELECT * FROM pg_temp.retain(:old_slot, :mixed_slot);
ROLLBACK;
SELECT * FROM pg_temp.retain(:old_slot, :mixed_slot);
-- a leaf with rolled back events only
BEGIN;
SELECT pg_temp.put(:old_slot, '8 days');
ROLLBACK;
SELECT * FROM pg_temp.retain(:old_slot, :mixed_slot);
SELECT pg_relation_size(format('failsafe.outbox_2_%s', lpad((:old_slot - 32)::text, 2, '0')));
-- with a long retention the ring is longer still, and nothing goes early
SET failsafe.event_retention = '400d';
SELECT pg_temp.put(:old_slot, '399 days');
SELECT * FROM pg_temp.retain(:old_slot, :mixed_slot);
RESET failsafe.event_retention;
SELECT * FROM pg_temp.retain(:old_slot, :mixed_slot);
SELECT * FROM outbox_retain(0);
SELECT * FROM outbox_retain(65);
SELECT * FROM outbox_retain(NULL);
SELECT * FROM outbox_retain(options => '{"dry_run": true}');
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT * FROM outbox_retain();
ROLLBACK;


-- Retention does not open the table for anybody
SELECT pg_temp.put(:old_slot, '8 days');
SELECT * FROM pg_temp.retain(:old_slot, :mixed_slot);
\set VERBOSITY terse
TRUNCATE failsafe.outbox_2_00;
DELETE FROM failsafe.outbox;
