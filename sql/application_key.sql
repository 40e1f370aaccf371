-- Application keys: claim, complete, release, mismatch, retention.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_failsafe;
RESET client_min_messages;
SET search_path = failsafe, public;

-- In one transaction: claim, work, complete
BEGIN;
SELECT state, response, claimed_at <= clock_timestamp() AS claimed
FROM idempotency_claim('order-1', '{"item": "book", "count": 2}');
SELECT idempotency_complete('order-1', '{"order": 17}');
COMMIT;
SELECT state, response FROM idempotency_claim('order-1', '{"count": 2, "item": "book"}');
SELECT state, response FROM idempotency_claim('order-1', '{"count": 2.0, "item": "book"}');
-- the same answer again is fine, another one is not
SELECT idempotency_complete('order-1', '{"order": 17}');
SELECT idempotency_complete('order-1', '{"order": 18}');
-- another request under the key
SELECT state FROM idempotency_claim('order-1', '{"count": 3, "item": "book", "gift": true}');
SELECT state FROM idempotency_claim('order-1', '{"count": 2}');
SELECT state FROM idempotency_claim('order-1', '{"count": "2", "item": "book"}');
SELECT state FROM idempotency_claim('order-1', '[1]');
SELECT state FROM idempotency_claim('order-1', NULL);
-- a replay and a refused call leave no xid
BEGIN;
SELECT state FROM idempotency_claim('order-1', '{"count": 2, "item": "book"}');
SELECT idempotency_complete('order-1', '{"order": 17}');
SELECT pg_current_xact_id_if_assigned() IS NULL AS wrote_nothing;
COMMIT;

-- Rolled back: the key is free
BEGIN;
SELECT state FROM idempotency_claim('order-2', '{}');
ROLLBACK;
BEGIN;
SELECT state FROM idempotency_claim('order-2', '{}');
SAVEPOINT s;
SELECT idempotency_complete('order-2', '1');
ROLLBACK TO s;
SELECT state FROM idempotency_claim('order-2', '{}');
SELECT idempotency_complete('order-2', '2');
SELECT state, response FROM idempotency_claim('order-2', '{}');
COMMIT;

-- Committed and not completed: unfinished, until completed or released
SELECT state FROM idempotency_claim('order-3', '{"a": 1}');
SELECT state, response FROM idempotency_claim('order-3', '{"a": 1}');
SELECT state FROM idempotency_claim('order-3', '{"a": 2}');
SELECT idempotency_release('order-3', 'the worker was stopped before it began');
SELECT state FROM idempotency_claim('order-3', '{"a": 2}');
SELECT idempotency_complete('order-3', 'null');
SELECT state, response FROM idempotency_claim('order-3', '{"a": 2}');
SELECT idempotency_release('order-3', 'too late');
-- released and claimed again in one transaction
BEGIN;
SELECT state FROM idempotency_claim('order-4', '{}');
SELECT idempotency_release('order-4', 'another try');
SELECT state FROM idempotency_claim('order-4', '{"x": 1}');
SELECT idempotency_complete('order-4', '{}');
COMMIT;
SELECT state FROM idempotency_claim('order-4', '{"x": 1}');
-- claimed and completed in one statement
SELECT state, idempotency_complete('order-5', '5') AS completed
FROM idempotency_claim('order-5', NULL);
SELECT state, response FROM idempotency_claim('order-5', NULL);
-- twice in one statement
SELECT a.state, b.state FROM idempotency_claim('order-6', NULL) AS a,
	LATERAL (SELECT state FROM idempotency_claim('order-6', a.response)) AS b;

-- Scopes apart, tenants apart
SELECT state FROM idempotency_claim('order-1', '{}', 'mail');
SELECT state FROM idempotency_claim('order-1', '{}', scope => 'x:1.y_z-');
BEGIN;
CREATE ROLE regress_failsafe_app IN ROLE failsafe_app;
SELECT created FROM tenant_add('regress_tenant');
SET LOCAL failsafe.tenant = 'regress_tenant';
SET LOCAL ROLE regress_failsafe_app;
SELECT state FROM idempotency_claim('order-1', '{}');
SELECT tenant, scope, key, state FROM application_keys;
RESET ROLE;
SET LOCAL failsafe.tenant = 'default';
SET LOCAL ROLE regress_failsafe_app;
SELECT DISTINCT tenant FROM application_keys;
ROLLBACK;
SELECT scope, key, state, completed_at >= claimed_at AS completed, request, response
FROM application_keys ORDER BY scope, key;

-- Every isolation level, alone
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT state FROM idempotency_claim('order-7', NULL);
SELECT state FROM idempotency_claim('order-7', NULL);
SELECT idempotency_complete('order-7', '7');
SELECT state, response FROM idempotency_claim('order-7', NULL);
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT state, response FROM idempotency_claim('order-7', NULL);
SELECT state FROM idempotency_claim('order-8', NULL);
SELECT idempotency_release('order-8', 'not needed');
SELECT state FROM idempotency_claim('order-8', NULL);
COMMIT;

-- A large request is compared, and not kept
SELECT state FROM idempotency_claim('large', jsonb_build_object('a', repeat('x', 20000)));
SELECT state FROM idempotency_claim('large', jsonb_build_object('a', repeat('x', 20000)));
SELECT request IS NULL AS not_kept FROM application_keys WHERE key = 'large';
SELECT state FROM idempotency_claim('large', jsonb_build_object('a', repeat('x', 20001)));
SET failsafe.event_max_bytes = 1024;
\set VERBOSITY terse
SELECT state FROM idempotency_claim('larger', jsonb_build_object('a', repeat('x', 1024)));
SELECT idempotency_complete('large', jsonb_build_object('a', repeat('x', 1024)));
RESET failsafe.event_max_bytes;

-- What is refused
SELECT idempotency_claim(NULL, '{}');
SELECT idempotency_claim('', '{}');
SELECT idempotency_claim(' k', '{}');
SELECT idempotency_claim('k ', '{}');
SELECT idempotency_claim(E'k\t', '{}');
SELECT idempotency_claim(repeat('k', 256), '{}');
SELECT idempotency_claim('k', '{}', 'wallet');
SELECT idempotency_claim('k', '{}', '');
SELECT idempotency_claim('k', '{}', NULL);
SELECT idempotency_claim('k', '{}', 'a b');
SELECT idempotency_claim('k', '{}', repeat('s', 64));
SELECT idempotency_claim('k', '{}', options => '{"wait": 1}');
SELECT idempotency_claim('k', '{}', options => '1');
SELECT idempotency_complete('never claimed', '{}');
SELECT idempotency_complete('order-8', NULL);
SELECT idempotency_complete('order-8', '{}', 'wallet');
SELECT idempotency_complete('order-8', '{}', options => '{"x": 1}');
SELECT idempotency_release('never claimed', 'why not');
SELECT idempotency_release('order-8', NULL);
SELECT idempotency_release('order-8', '');
SELECT idempotency_release('order-8', E'a\nb');
SELECT idempotency_release('order-8', repeat('r', 1001));
SELECT idempotency_release('order-8', 'r', options => '{"x": 1}');
SELECT idempotency_prune(0);
SELECT idempotency_prune(10001);
SELECT idempotency_prune(NULL);
SELECT idempotency_prune(options => '{"x": 1}');
BEGIN READ ONLY;
SELECT state FROM idempotency_claim('order-1', '{"count": 2, "item": "book"}');
ROLLBACK;
BEGIN READ ONLY;
SELECT idempotency_prune();
ROLLBACK;
DELETE FROM failsafe.application_key;
UPDATE failsafe.application_key SET state = 'unfinished';
\set VERBOSITY default

-- Retention: old completed keys go, in batches; unfinished ones stay
INSERT INTO application_key (id, claimed_at, completed_at, tenant_id, fingerprint_version,
							 state, scope, key, fingerprint, actor_id)
SELECT nextval('application_key_id_seq'), now() - interval '40 days',
	now() - interval '40 days' + n * interval '1 day', 1, 1, 'completed', 'prune', 'k' || n,
	sha256('x'), 1
FROM generate_series(0, 19) AS n;
INSERT INTO application_key (id, claimed_at, tenant_id, fingerprint_version,
							 state, scope, key, fingerprint, actor_id)
VALUES (nextval('application_key_id_seq'), now() - interval '40 days', 1, 1, 'unfinished',
		'prune', 'unfinished', sha256('x'), 1);
SELECT idempotency_prune(4);
SELECT idempotency_prune(4);
BEGIN;
SELECT idempotency_prune();
ROLLBACK;
SELECT idempotency_prune();
SELECT idempotency_prune();
SELECT count(*), min(substr(key, 2)::int) FILTER (WHERE state = 'completed') AS first
FROM application_keys WHERE scope = 'prune';
SET failsafe.application_key_retention = '20d';
SELECT idempotency_prune(10000);
RESET failsafe.application_key_retention;
SELECT key, state FROM application_keys WHERE scope = 'prune';

-- Nobody holds a key now
SELECT _application_key_in_progress('app', 'order-1'), _application_key_in_progress('app', 'none');
