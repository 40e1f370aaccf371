-- Programs that fetch their events: claim, ack, nack, extend.  Interleavings are in
-- test/isolation/specs/delivery_claim.spec.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_failsafe;
SET search_path = failsafe, public;

CREATE TEMP TABLE got (delivery_id int8, fence int8, n int, attempt int, event_id uuid);
CREATE FUNCTION pg_temp.emit(key text, first int, last int, options jsonb DEFAULT NULL) RETURNS int8 LANGUAGE sql AS
	$$ SELECT count(failsafe.outbox_emit('shop.order', key, jsonb_build_object('n', i), '{"h": "1"}', options)) FROM generate_series(first, last) AS i $$;
CREATE FUNCTION pg_temp.claim(name text, max_events int DEFAULT 100) RETURNS text LANGUAGE sql AS $$
	WITH c AS (SELECT * FROM failsafe.outbox_claim(name, max_events)),
		i AS (INSERT INTO got SELECT delivery_id, fence, (envelope->>'n')::int, attempt, event_id FROM c)
	SELECT coalesce(string_agg(order_key || (envelope->>'n') || '/' || attempt, ' '), 'nothing') FROM c $$;
CREATE FUNCTION pg_temp.ack(name text, VARIADIC numbers int[]) RETURNS text LANGUAGE sql AS $$
	WITH g AS (SELECT array_agg(delivery_id ORDER BY n) AS ids, array_agg(fence ORDER BY n) AS fences
			   FROM (SELECT DISTINCT ON (n) * FROM got WHERE n = ANY (numbers) ORDER BY n, fence DESC) AS l)
	SELECT string_agg(a.status, ' ') FROM g, failsafe.outbox_ack(name, ids, fences) AS a $$;
CREATE FUNCTION pg_temp.nack(name text, number int, options jsonb DEFAULT '{"retry_after_ms": 0}') RETURNS text LANGUAGE sql AS $$
	SELECT a.status || CASE WHEN a.due_at IS NULL THEN '' WHEN a.due_at > now() + interval '30 s' THEN ' later' ELSE ' soon' END
	FROM (SELECT * FROM got WHERE n = number ORDER BY fence DESC LIMIT 1) AS g, failsafe.outbox_nack(name, delivery_id, fence, 'out of stock', options) AS a $$;
CREATE VIEW pg_temp.rows AS
	SELECT s.name, d.order_key, d.state, d.attempts, d.class, d.reason
	FROM failsafe.delivery AS d JOIN failsafe.subscription AS s ON s.id = d.subscription_id ORDER BY s.name, d.lane, d.seq;
\set retry '{"retry": {"attempts": 2, "base_ms": 10, "cap_ms": 60000}}'

-- what a claim returns
SELECT name FROM subscription_create('pull_block', 'pull', '{}', '{shop.*}', 'key', :'retry');
SELECT pg_temp.emit('a', 1, 2), pg_temp.emit('b', 3, 3);
SELECT delivery_id > 0 AS delivery_id, fence > 0 AS fence, event_id::text = envelope->>'event_id' AS event_id, event_type,
	order_key, attempt, lease_until - now() BETWEEN interval '20 s' AND interval '40 s' AS lease, occurred_at <= now() AS occurred_at,
	envelope->>'n' AS n, envelope->>'schema_version' AS version, headers
FROM outbox_claim('pull_block', 1);

-- one event of a key at a time; the next ones follow the answers
SELECT pg_temp.claim('pull_block');
SELECT * FROM pg_temp.rows;
INSERT INTO got SELECT d.id, d.fence, 1, 1 FROM delivery AS d WHERE d.order_key = 'a' AND d.state = 'leased';
SELECT pg_temp.ack('pull_block', 1, 3);
SELECT pg_temp.ack('pull_block', 1, 3);
SELECT pg_temp.claim('pull_block');

-- a failure waits for its next try and holds back its key
SELECT pg_temp.emit('a', 4, 5);
SELECT pg_temp.nack('pull_block', 2, '{"retry_after_ms": 40000}');
SELECT pg_temp.claim('pull_block');
SELECT * FROM pg_temp.rows;
SELECT pg_temp.nack('pull_block', 2);

-- attempts used up, and permanent: dead letters, and the key goes on
SELECT pg_temp.emit('c', 6, 8);
SELECT pg_temp.claim('pull_block');
SELECT pg_temp.nack('pull_block', 6), pg_sleep(0.1);
SELECT pg_temp.claim('pull_block');
SELECT pg_temp.nack('pull_block', 6);
SELECT pg_temp.claim('pull_block');
SELECT pg_temp.nack('pull_block', 7, '{"permanent": true}');
SELECT pg_temp.claim('pull_block');
SELECT order_key, attempts, class, reason FROM dead_letter AS l JOIN subscription AS s ON s.id = l.subscription_id WHERE s.name = 'pull_block' ORDER BY l.id;
SELECT number, class, code, reason FROM attempt AS a JOIN subscription AS s ON s.id = a.subscription_id WHERE s.name = 'pull_block' ORDER BY a.id;
SELECT pg_temp.ack('pull_block', 8);

-- skip: a failure holds nothing back
SELECT name FROM subscription_create('pull_skip', 'pull', '{}', '{shop.*}', 'key', '{"on_blocked": "skip"}');
SELECT pg_temp.emit('d', 11, 13);
SELECT pg_temp.claim('pull_skip');
SELECT pg_temp.nack('pull_skip', 11, '{"retry_after_ms": 40000}');
SELECT pg_temp.claim('pull_skip');
SELECT pg_temp.ack('pull_skip', 12);
SELECT pg_temp.claim('pull_skip');
SELECT pg_temp.ack('pull_skip', 13);
SELECT order_key, state, attempts, class, reason FROM pg_temp.rows WHERE name = 'pull_skip';

-- no order: all at once; filters; delayed and expired events
SELECT name FROM subscription_create('pull_none', 'pull', '{}', '{*,!shop.refund}', 'none');
SELECT pg_temp.emit('e', 21, 22), outbox_emit('shop.refund', 'e', '{"n": 0}') IS NOT NULL AS refund;
SELECT pg_temp.emit('e', 23, 23, jsonb_build_object('deliver_after', now() + interval '1 hour'));
SELECT pg_temp.emit('e', 24, 24, jsonb_build_object('expires_at', clock_timestamp() + interval '50 ms')), pg_sleep(0.1);
SELECT pg_temp.claim('pull_none');
SELECT order_key, state, attempts, class, reason FROM pg_temp.rows WHERE name = 'pull_none';
SELECT class, reason FROM dead_letter AS l JOIN subscription AS s ON s.id = l.subscription_id WHERE s.name = 'pull_none' ORDER BY l.id;
SELECT pg_temp.ack('pull_none', 21, 22);

-- priorities: money first
SELECT pg_temp.emit('f', 31, 31, '{"priority": 9}'), pg_temp.emit('f', 32, 32, '{"priority": 5}'), pg_temp.emit('f', 33, 33, '{"priority": 0}');
SELECT pg_temp.claim('pull_none');
SELECT pg_temp.ack('pull_none', 31, 32, 33);

-- leases
SELECT pg_temp.emit('g', 41, 41);
SELECT pg_temp.claim('pull_none');
SELECT outbox_extend('pull_none', delivery_id, fence, '1 hour') > now() + interval '59 min' AS extended,
	outbox_extend('pull_none', delivery_id, fence + 1, '1 hour') AS stale, outbox_extend('pull_none', 0, 0) AS unknown
FROM got WHERE n = 41;
SELECT status, due_at FROM got, outbox_nack('pull_none', delivery_id, fence + 1, 'no') WHERE n = 41;
SELECT status, due_at FROM outbox_nack('pull_none', 0, 0, 'no');
SELECT pg_temp.ack('pull_none', 41);

-- paused and disabled
SELECT state FROM subscription_pause('pull_none', 'for the test');
SELECT pg_temp.emit('h', 51, 51);
SELECT pg_temp.claim('pull_none');
SELECT state FROM subscription_resume('pull_none', 'for the test');
SELECT pg_temp.claim('pull_none');
SELECT pg_temp.ack('pull_none', 51);

-- bad input
SELECT * FROM outbox_claim(NULL);
SELECT * FROM outbox_claim('no such');
SELECT * FROM outbox_claim('pull_none', 0);
SELECT * FROM outbox_claim('pull_none', 1001);
SELECT * FROM outbox_claim('pull_none', 1, '500 ms');
SELECT * FROM outbox_claim('pull_none', 1, '13 hours');
SELECT * FROM outbox_claim('pull_none', 1, '1 month');
SELECT * FROM outbox_claim('pull_none', 1, NULL);
SELECT * FROM outbox_claim('pull_none', options => '{"wait": 1}');
SELECT * FROM outbox_ack('pull_none', '{1}', '{1,2}');
SELECT * FROM outbox_ack('pull_none', '{NULL}', '{1}');
SELECT * FROM outbox_ack('pull_none', '{}', '{}');
SELECT * FROM outbox_nack('pull_none', 1, 1, NULL);
SELECT * FROM outbox_nack('pull_none', 1, 1, E'two\nlines');
SELECT * FROM outbox_nack('pull_none', 1, 1, 'no', '{"retry_after_ms": -1}');
SELECT * FROM outbox_nack('pull_none', 1, 1, 'no', '{"later": true}');
SELECT * FROM outbox_extend('pull_none', 1, 1, '0 s');
BEGIN TRANSACTION READ ONLY;
SELECT * FROM outbox_claim('pull_none');
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT * FROM outbox_ack('pull_none', '{1}', '{1}');
ROLLBACK;
SELECT name FROM subscription_create('pull_not', 'http', '{"url": "https://example.com/"}', '{shop.*}');
SELECT * FROM outbox_claim('pull_not');

SELECT count(*) FROM (VALUES ('pull_block'), ('pull_skip'), ('pull_none'), ('pull_not')) AS v(name), subscription_drop(v.name, true, 'end of the test');
