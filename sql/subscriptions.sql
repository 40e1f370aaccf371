-- Subscriptions: what they may say, who may change and see them, failure rules, adoption.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_failsafe;
RESET client_min_messages;
SET search_path = failsafe, public;

-- Run a statement that must fail: SQLSTATE, message and detail.
CREATE FUNCTION pg_temp.refuse(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text;
	detail text;
BEGIN
	EXECUTE statement;
	RETURN 'NOT REFUSED';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
	RETURN concat_ws(' | ', SQLSTATE, message, detail);
END
$$;
-- A call of subscription_create() with one thing that is wrong.
CREATE FUNCTION pg_temp.create_refused(config text DEFAULT '{"url": "https://a.example"}',
	options text DEFAULT NULL, event_types text DEFAULT '{*}', sink text DEFAULT 'http',
	name text DEFAULT 'bad', ordering text DEFAULT 'key')
RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.refuse(format('SELECT failsafe.subscription_create(%L, %L, %L, %L, %L, %L)',
								 name, sink, config, event_types, ordering, options))
$$;

-- Before the first subscription nothing is adopted, and nothing is wrong with that
SELECT adopted OR reason = 'no subscription yet' AS fine FROM _instance_state();
SELECT check_name, status FROM doctor() WHERE check_name IN ('delivery', 'delivery_setting');

-- Create: the defaults, written down
\x on
SELECT name, sink, state, created, tenant, event_types, ordering, on_blocked, tenants, regions,
	config, policy, created_at <= clock_timestamp() AS made_now
FROM subscription_create('billing', 'http',
	'{"url": "https://billing.example:8443/hook?token=abc", "secret": "file:/etc/billing.key",
	  "headers": {"X-Team": "billing", "Authorization": "env:BILLING_TOKEN"}}',
	'{wallet.*,!wallet.hold.*}');
-- The same again; another definition; everything that can be said
SELECT name, created FROM subscription_create('billing', 'http',
	'{"secret": "file:/etc/billing.key", "url": "https://billing.example:8443/hook?token=abc",
	  "headers": {"Authorization": "env:BILLING_TOKEN", "X-Team": "billing"}}',
	'{wallet.*,!wallet.hold.*}', options => '{"start": "beginning"}');
SELECT name, sink, state, created, tenant, event_types, ordering, on_blocked, tenants, regions, config, policy
FROM subscription_create('all', 'http', '{
	"url": "http://[fd00::7]:8080/", "secrets": ["env:NEW_KEY", "file:/etc/old.key"], "mode": "structured",
	"ca_file": "/etc/ca.pem", "client_certificate": "/etc/client.pem", "client_key": "file:/etc/client.key",
	"oauth2": {"token_url": "https://login.example/token?x=1", "client_id": "me", "client_secret": "env:SECRET", "scope": "events"},
	"allow_addresses": ["10.0.0.0/8", "fd00::/8", "192.0.2.7"], "http2": false,
	"proxy": "http://proxy.example:3128", "insecure_skip_verify": false}',
	'{*,!failsafe.*}', 'none', '{
	"regions": ["us", "eu", "eu"], "on_blocked": "skip", "start": "2026-01-31T00:00:00Z", "rate": 12.5, "in_flight": 4,
	"timeout_ms": 2000, "schema_version": "1.0.0", "retry": {"base_ms": 50, "cap_ms": 60000, "attempts": 3,
	"age_s": 7200, "budget_percent": 0}, "breaker": {"failures": 0, "open_ms": 500},
	"max_lag": {"events": 1000, "age_s": 3600}}');
\x off
SELECT created, state, config FROM subscription_create('puller', 'pull', options => '{"start": "now"}');
SELECT (c).created FROM (SELECT subscription_create('puller', 'pull', '{}', '{*}', 'key', NULL) AS c) AS s;

-- Conflicts name the first thing that differs
SELECT pg_temp.create_refused(name => 'puller');
SELECT pg_temp.create_refused(name => 'puller', sink => 'pull', config => '{}', event_types => '{a.*}');
SELECT pg_temp.create_refused(name => 'puller', sink => 'pull', config => '{}', ordering => 'none');
SELECT pg_temp.create_refused(name => 'puller', sink => 'pull', config => '{}', options => o)
FROM unnest('{"{\"on_blocked\": \"skip\"}","{\"regions\": [\"eu\"]}","{\"tenants\": [\"default\"]}","{\"rate\": 5}"}'::text[]) AS o;
SELECT pg_temp.create_refused(name => 'billing', event_types => '{wallet.*,!wallet.hold.*}');

-- Names, sinks, ordering
SELECT pg_temp.create_refused(name => n) FROM unnest(ARRAY['', 'a b', 'ä', repeat('n', 64), NULL]) AS n;
SELECT pg_temp.create_refused(sink => s) FROM unnest(ARRAY['kafka', 'HTTP', '', NULL]) AS s;
SELECT pg_temp.create_refused(ordering => o) FROM unnest(ARRAY['keys', '', NULL]) AS o;

-- Patterns
SELECT pg_temp.create_refused(event_types => p)
FROM unnest(ARRAY['{}', '{wallet}', '{wallet.}', '{.wallet}', '{Wallet.*}', '{wall*.debit}', '{a..b}', '{!}', '{!a.*}',
	'{a.b,NULL}', '{""}', '{a.b c}', '{**}', '{*.b*}', '{!!a.b}', NULL, '{' || repeat('a', 130) || '.b}',
	'{' || repeat('a.b,', 100) || 'a.b}']) AS p;
-- one that fits nothing that is known is told
SELECT name FROM subscription_create('notice', 'pull',
	event_types => '{wallet.debit.*,*.hold.held,wallet.refund.*,boutique.*,!nothing.here,*}');
SELECT outbox_emit('boutique.order.created', 'o-1', '{}') IS NOT NULL AS emitted;
SELECT name FROM subscription_alter('notice', event_types => '{boutique.*,boutique.*.created,*.*.created,boutique.order,boutique.order.created.late}', reason => 'orders');

-- The config: every member of the wrong kind, and no value of it in an error
SELECT c, pg_temp.create_refused(c) FROM unnest(ARRAY[
	'[]', '{}', '{"url": null}', '{"url": 5}', '{"url": ""}', '{"url": "ftp://a.example"}', '{"url": "https://"}',
	'{"url": "https:///path"}', '{"url": "https://user:SECRET@a.example/"}', '{"url": "https://SECRET@a.example"}',
	'{"url": "https://a.example:0"}', '{"url": "https://a.example:65536"}', '{"url": "https://a.example:x"}',
	'{"url": "https://a b.example"}', '{"url": "https://a.example/#f"}', '{"url": "https://[fd00::1"}',
	'{"url": "https://[]:80"}', '{"url": "https://ä.example"}',
	'{"url": "https://a.example", "uri": 1}',
	'{"url": "https://a.example", "secret": "whsec_SECRET"}', '{"url": "https://a.example", "secret": 5}',
	'{"url": "https://a.example", "secret": "file:relative"}', '{"url": "https://a.example", "secret": "env:1A"}',
	'{"url": "https://a.example", "secret": "env:"}', '{"url": "https://a.example", "secret": "env:A-B"}',
	'{"url": "https://a.example", "secrets": []}', '{"url": "https://a.example", "secrets": "env:A"}',
	'{"url": "https://a.example", "secrets": ["env:A", "SECRET"]}',
	'{"url": "https://a.example", "secret": "env:A", "secrets": ["env:B"]}',
	'{"url": "https://a.example", "mode": "batch"}', '{"url": "https://a.example", "headers": []}',
	'{"url": "https://a.example", "headers": {"a b": "c"}}', '{"url": "https://a.example", "headers": {"A": 1}}',
	'{"url": "https://a.example", "headers": {"A": "SECRET\nB: c"}}', '{"url": "https://a.example", "headers": {"Host": "h"}}',
	'{"url": "https://a.example", "headers": {"Webhook-Id": "h"}}', '{"url": "https://a.example", "headers": {"ce-id": "h"}}',
	'{"url": "https://a.example", "headers": {"authorization": "Bearer SECRET"}}',
	'{"url": "https://a.example", "ca_file": "ca.pem"}', '{"url": "https://a.example", "client_certificate": "/c.pem"}',
	'{"url": "https://a.example", "client_certificate": "/c.pem", "client_key": "/k.pem"}',
	'{"url": "https://a.example", "oauth2": true}', '{"url": "https://a.example", "oauth2": {}}',
	'{"url": "https://a.example", "oauth2": {"token_url": "https://a.example", "client_id": "c", "client_secret": "SECRET"}}',
	'{"url": "https://a.example", "oauth2": {"token_url": "https://a.example", "client_id": "c", "client_secret": "env:A", "x": 1}}',
	'{"url": "https://a.example", "allow_addresses": ["10.0.0.0/33"]}', '{"url": "https://a.example", "allow_addresses": ["a.example"]}',
	'{"url": "https://a.example", "allow_addresses": [5]}', '{"url": "https://a.example", "http2": "yes"}',
	'{"url": "https://a.example", "proxy": "proxy:3128"}', '{"url": "https://a.example", "insecure_skip_verify": 1}']) AS c;
SELECT pg_temp.create_refused(sink => 'pull', config => '{"url": "https://a.example"}');
SELECT left(pg_temp.create_refused(jsonb_build_object('url', 'https://a.example/' || repeat('x', 2048))::text), 120);
SELECT count(*) FILTER (WHERE r LIKE '%SECRET%') AS secrets_told, count(*) FILTER (WHERE r LIKE 'SF072%') AS refused
FROM (SELECT pg_temp.create_refused(format('{"url": "https://a.example", "%s": "SECRET"}', m)) AS r
	  FROM unnest('{secret,secrets,mode,headers,ca_file,client_key,oauth2,allow_addresses,http2,proxy,insecure_skip_verify,other}'::text[]) AS m) AS s;

-- Options: unknown ones, wrong types, and both sides of every range
SELECT o, pg_temp.create_refused(options => o) FROM unnest(ARRAY[
	'[]', '{"retries": 5}', '{"retry": 5}', '{"retry": {"base": 5}}', '{"retry": {"base_ms": "5"}}', '{"retry": {"base_ms": 10.5}}',
	'{"retry": {"base_ms": 9}}', '{"retry": {"base_ms": 86400001}}', '{"retry": {"cap_ms": 86400001}}',
	'{"retry": {"cap_ms": 999}}', '{"retry": {"base_ms": 3600001}}', '{"retry": {"attempts": 0}}', '{"retry": {"attempts": 1001}}',
	'{"retry": {"age_s": 0}}', '{"retry": {"age_s": 2592001}}', '{"retry": {"budget_percent": -1}}', '{"retry": {"budget_percent": 101}}',
	'{"retry": {"attempts": 99999999999999999999}}',
	'{"rate": -1}', '{"rate": 1000001}', '{"rate": 0.0001}', '{"rate": "5"}', '{"rate": 1e400}', '{"in_flight": 0}', '{"in_flight": 1001}',
	'{"timeout_ms": 99}', '{"timeout_ms": 300001}', '{"breaker": []}', '{"breaker": {"failures": -1}}', '{"breaker": {"failures": 1001}}',
	'{"breaker": {"open_ms": 9}}', '{"breaker": {"open_ms": 3600001}}', '{"max_lag": {"events": 0}}', '{"max_lag": {"events": 1000000000001}}',
	'{"max_lag": {"age_s": 59}}', '{"max_lag": {"age_s": 34560001}}', '{"max_lag": {"rows": 1}}', '{"schema_version": 1}',
	'{"schema_version": "2"}', '{"schema_version": "1x"}', '{"schema_version": "10"}', '{"on_blocked": "wait"}', '{"on_blocked": true}',
	'{"start": "yesterday"}', '{"start": 5}', '{"start": "2100-01-01T00:00:00Z"}', '{"regions": "eu"}', '{"regions": [5]}', '{"regions": [""]}',
	'{"tenants": ["nobody"]}', '{"tenants": {}}']) AS o;
-- null counts as not given, the bounds themselves are taken
SELECT policy FROM subscription_create('edges', 'pull', event_types => '{wallet.edges.*}', options => '{"retry": {"base_ms": 10, "cap_ms": 10, "attempts": 1000, "age_s": null,
	"budget_percent": 100}, "rate": 1000000, "in_flight": 1000, "timeout_ms": 300000, "breaker": null, "max_lag": {"events": 1000000000000},
	"schema_version": null, "start": null, "tenants": null, "regions": null, "on_blocked": null}');

-- Alter: what is not given stays; nothing new writes nothing
SELECT generation AS before FROM subscription WHERE name = 'billing' \gset
SELECT state, event_types, policy->'retry' AS retry, policy->'rate' AS rate
FROM subscription_alter('billing', options => '{"retry": {"attempts": 7}, "rate": 2.5, "regions": ["eu"]}', reason => 'slower');
SELECT generation > :before AS newer, generation AS before FROM subscription WHERE name = 'billing' \gset
SELECT regions, on_blocked, policy->'retry'->'attempts' AS attempts
FROM subscription_alter('billing', options => '{"regions": [], "on_blocked": "skip"}', reason => 'all regions');
SELECT config FROM subscription_alter('billing', '{"url": "https://new.example/?k=v", "headers": {"A": "b"}}', reason => 'moved');
SELECT generation AS before FROM subscription WHERE name = 'billing' \gset
SELECT name FROM subscription_alter('billing', '{"headers": {"A": "b"}, "url": "https://new.example/?k=v"}', '{wallet.*,!wallet.hold.*}',
	'nothing new', '{"rate": 2.5}');
SELECT generation = :before AS same FROM subscription WHERE name = 'billing';
SELECT pg_temp.refuse($$SELECT subscription_alter('billing', '{"url": "x"}', reason => 'r')$$);
SELECT pg_temp.refuse($$SELECT subscription_alter('billing', event_types => '{}', reason => 'r')$$);
SELECT pg_temp.refuse($$SELECT subscription_alter('billing', options => '{"start": "now"}', reason => 'r')$$);
SELECT pg_temp.refuse($$SELECT subscription_alter('billing', options => '{"retry": {"cap_ms": 500}}', reason => 'r')$$);
SELECT pg_temp.refuse($$SELECT subscription_alter('billing', options => '{"rate": 1}')$$);
SELECT pg_temp.refuse($$SELECT subscription_alter('billing', options => '{"rate": 1}', reason => E'a\nb')$$);
SELECT pg_temp.refuse($$SELECT subscription_alter('none', reason => 'r')$$);
SELECT pg_temp.refuse($$SELECT subscription_alter(NULL, reason => 'r')$$);

-- Pause and resume
SELECT state FROM subscription_pause('billing', 'they move house');
SELECT state, state_reason FROM subscriptions WHERE name = 'billing';
SELECT state FROM subscription_pause('billing', 'again');
SELECT state FROM subscription_resume('billing', 'they moved');
SELECT state FROM subscription_resume('billing', 'again');
SELECT state, state_reason FROM subscriptions WHERE name = 'billing';
SELECT pg_temp.refuse($$SELECT subscription_pause('none', 'r')$$);
SELECT pg_temp.refuse($$SELECT subscription_resume('none', 'r')$$);
SELECT pg_temp.refuse($$SELECT subscription_pause('billing', NULL)$$);
SELECT pg_temp.refuse($$SELECT subscription_pause('billing', 'r', '{"x": 1}')$$);
SELECT check_name, detail ~ '^[0-9]+ subscriptions, [0-9]+ paused, 0 disabled' AS counted FROM doctor() WHERE check_name = 'subscriptions';

-- Who, what and why
SELECT tenant, subscription, action, reason, detail, session_user_name = session_user AS by_us
FROM subscription_changes WHERE subscription = 'billing' ORDER BY changed_at;
UPDATE subscription SET state = 'paused';
DELETE FROM subscription_change;

-- Rewind moves back only
-- No worker may move the position meanwhile: it passes over events that nobody wants
ALTER SYSTEM SET failsafe.delivery = off;
DO $$
BEGIN
	PERFORM pg_reload_conf();
	WHILE EXISTS (SELECT FROM failsafe.stat_workers
				  WHERE database = current_database() AND state = 'running') LOOP
		PERFORM pg_sleep(0.01);
	END LOOP;
END
$$;
SELECT name FROM subscription_create('rewound', 'pull', event_types => '{rewind.*}');
SELECT count(outbox_emit('rewind.test', 'k', '{}')) FROM generate_series(1, 3);
SELECT id AS rewound FROM subscription WHERE name = 'rewound' \gset
SELECT high AS start_high FROM position WHERE subscription_id = :rewound AND lane = 2 \gset
SELECT name FROM subscription_rewind('rewound', '-infinity', 'from the start');
SELECT bool_and(high = 0) AS at_zero FROM position WHERE subscription_id = :rewound;
SELECT name FROM subscription_rewind('rewound', clock_timestamp(), 'not forward');
SELECT bool_and(high = 0) AS at_zero FROM position WHERE subscription_id = :rewound;
SELECT name FROM subscription_rewind('rewound', '2026-01-31T12:00:00+01', 'a time');
SELECT pg_temp.refuse($$SELECT subscription_rewind('rewound', 'infinity'::timestamptz, 'r')$$);
SELECT pg_temp.refuse($$SELECT subscription_rewind('rewound', clock_timestamp() + '1 hour', 'r')$$);
SELECT pg_temp.refuse($$SELECT subscription_rewind('rewound', NULL::timestamptz, 'r')$$);
SELECT pg_temp.refuse($$SELECT subscription_rewind('none', '-infinity', 'r')$$);
SELECT action, reason, CASE WHEN detail->>'start' ~ '^2026-01-31T11:00' OR detail->>'start' !~ '^2' THEN detail ELSE detail - 'start' END AS detail
FROM subscription_changes WHERE subscription = 'rewound' ORDER BY changed_at;
-- what waits behind the new position is read anew, and so is no delivery any more
INSERT INTO delivery (id, subscription_id, seq, created_at, due_at, event_id, attempts, lane, state, event_type, order_key)
SELECT -n, :rewound, o.seq, now(), now(), o.event_id, 1, 2, 'waiting', 'rewind.test', 'k'
FROM (SELECT row_number() OVER (ORDER BY seq) AS n, seq, event_id FROM outbox WHERE event_type = 'rewind.test') AS o;
INSERT INTO delivery (id, subscription_id, seq, created_at, due_at, dead_letter_id, event_id, attempts, lane, state, event_type, order_key)
VALUES (-9, :rewound, 1000000, now(), now(), 1, gen_random_uuid(), 1, 2, 'waiting', 'rewind.test', 'k');
BEGIN;
SET LOCAL failsafe.allow_drop = on;
ALTER TABLE position DISABLE TRIGGER failsafe_guard;
UPDATE position SET high = (SELECT max(seq) FROM outbox WHERE event_type = 'rewind.test')
WHERE subscription_id = :rewound AND lane = 2;
ALTER TABLE position ENABLE ALWAYS TRIGGER failsafe_guard;
COMMIT;
SELECT name FROM subscription_rewind('rewound', (SELECT occurred_at FROM outbox WHERE event_type = 'rewind.test'
												 ORDER BY seq OFFSET 1 LIMIT 1), 'all but the first');
SELECT id FROM delivery WHERE subscription_id = :rewound ORDER BY id;
SELECT high = (SELECT min(seq) FROM outbox WHERE event_type = 'rewind.test') AS after_the_first
FROM position WHERE subscription_id = :rewound AND lane = 2;
SELECT action, detail - 'start' AS detail FROM subscription_changes WHERE subscription = 'rewound' ORDER BY changed_at DESC LIMIT 1;

ALTER SYSTEM RESET failsafe.delivery;
SELECT pg_reload_conf();

-- Drop: refused while something would be lost
SELECT pg_temp.refuse($$SELECT subscription_drop('rewound', reason => 'r')$$);
SELECT pg_temp.refuse($$SELECT subscription_drop('rewound', true)$$);
SELECT pg_temp.refuse($$SELECT subscription_drop('none', reason => 'r')$$);
INSERT INTO dead_letter (id, subscription_id, died_at, occurred_at, seq, event_id, attempts, tenant_id, lane, priority, state, class, reason, event_type, order_key)
VALUES (-1, :rewound, now(), now(), 1, gen_random_uuid(), 3, 1, 2, 5, 'replaying', 'permanent', 'r', 'rewind.test', 'k'),
	   (-2, :rewound, now(), now(), 2, gen_random_uuid(), 3, 1, 2, 5, 'discarded', 'permanent', 'r', 'rewind.test', 'k');
SELECT * FROM subscription_drop('rewound', true, 'not needed');
SELECT (SELECT count(*) FROM subscription WHERE id = :rewound) AS subscriptions, (SELECT count(*) FROM position WHERE subscription_id = :rewound) AS positions,
	(SELECT count(*) FROM delivery WHERE subscription_id = :rewound) AS deliveries,
	(SELECT string_agg(state, ',' ORDER BY id) FROM dead_letter WHERE subscription_id = :rewound) AS dead_letters;
SELECT action, reason, detail FROM subscription_changes WHERE subscription = 'rewound' ORDER BY changed_at DESC LIMIT 1;
SELECT * FROM subscription_drop('edges', reason => 'nothing to lose');
SELECT created FROM subscription_create('edges', 'pull');

-- Tenants: another one does not see it, and names no other
BEGIN;
CREATE ROLE subs_a; CREATE ROLE subs_op; CREATE ROLE subs_reader; CREATE ROLE subs_app;
GRANT failsafe_admin TO subs_a; GRANT failsafe_operator TO subs_op;
GRANT failsafe_reader TO subs_reader; GRANT failsafe_app TO subs_app;
SELECT created FROM tenant_add('subs_other');
SET LOCAL failsafe.tenant = 'subs_other';
SET LOCAL ROLE subs_a;
SELECT count(*) FROM failsafe.subscriptions;
SELECT created, tenant FROM failsafe.subscription_create('billing', 'pull', '{}', '{*}', 'key', '{"tenants": ["subs_other"]}');
SELECT pg_temp.create_refused(options => '{"tenants": ["default"]}');
SELECT pg_temp.create_refused(options => '{"tenants": ["*"]}');
SELECT pg_temp.refuse($$SELECT failsafe.subscription_pause('puller', 'not ours')$$);
SELECT name, tenant FROM failsafe.subscriptions;
SELECT DISTINCT tenant FROM failsafe.subscription_changes;
RESET ROLE;
SET LOCAL ROLE subs_op;
SELECT tenants FROM failsafe.subscription_create('everybody', 'pull', options => '{"tenants": ["default", "*"]}');
SELECT tenants FROM failsafe.subscription_create('two', 'pull', options => '{"tenants": ["subs_other", "default", "default"]}');
SELECT tenant, name FROM failsafe.subscriptions WHERE name IN ('billing', 'everybody') ORDER BY 1, 2;
RESET ROLE;
SET LOCAL ROLE subs_a;
SELECT pg_temp.refuse($$SELECT failsafe.subscription_alter('everybody', event_types => '{a.b}', reason => 'r')$$);
SELECT pg_temp.refuse($$SELECT failsafe.subscription_drop('two', true, 'r')$$);
RESET ROLE;
SET LOCAL ROLE subs_op;
SELECT tenants FROM failsafe.subscription_alter('two', options => '{"tenants": []}', reason => 'our own');
RESET ROLE;
SET LOCAL ROLE subs_reader;
SELECT name, config FROM failsafe.subscriptions ORDER BY name;
SELECT count(*) > 0 AS rules FROM failsafe.failure_rules;
SELECT pg_temp.refuse($$SELECT failsafe.subscription_create('x', 'pull')$$);
SELECT pg_temp.refuse($$SELECT * FROM failsafe.subscription$$);
RESET ROLE;
SET LOCAL ROLE subs_app;
SELECT pg_temp.refuse($$SELECT failsafe.subscription_create('x', 'pull')$$);
SELECT pg_temp.refuse($$SELECT * FROM failsafe.subscriptions$$);
RESET ROLE;
SELECT count(*) AS gone FROM (SELECT subscription_drop(n, true, 'end') FROM unnest('{billing,everybody,two}'::text[]) AS n) AS d;
ROLLBACK;

-- Failure rules
SELECT rule, sink, status_from, status_to, pattern, class, builtin FROM failure_rules ORDER BY rule;
SELECT sink, status, code, _failure_class(sink, status, code)
FROM (VALUES ('http', 500, 'status'), ('http', 503, 'status'), ('http', 429, 'status'), ('http', 408, 'status'), ('http', 425, 'status'),
	('http', 410, 'status'), ('http', 404, 'status'), ('http', 302, 'status'), ('http', 600, 'status'), ('http', 0, 'timeout'), ('http', 0, 'dns'),
	('http', 0, 'blocked_address'), ('http', 0, 'too_large'), ('http', 0, 'unknown'), ('pull', 0, 'other'), ('pull', 410, 'status')) AS f (sink, status, code);
SELECT failure_rule_set(10, 'http', 404, 404, NULL, 'temporary', 'their deployments take a minute');
SELECT failure_rule_set(2000, '*', NULL, NULL, 'dn_', 'permanent', 'names are right or wrong');
SELECT _failure_class('http', 404, 'status'), _failure_class('http', 403, 'status'), _failure_class('http', 0, 'dns');
SELECT failure_rule_set(10, 'http', 400, 404, NULL, 'throttled', 'more of them');
SELECT _failure_class('http', 404, 'status'), _failure_class('http', 403, 'status');
SELECT rule, sink, status_from, status_to, pattern, class, note, builtin, changed_at IS NOT NULL AS dated, session_user_name = session_user AS by_us
FROM failure_rules WHERE NOT builtin ORDER BY rule;
BEGIN;
SELECT failure_rule_remove(10), _failure_class('http', 404, 'status');
SAVEPOINT s;
SELECT failure_rule_set(10, 'http', 404, 404, NULL, 'gone', 'no');
SELECT _failure_class('http', 404, 'status');
ROLLBACK TO s;
SELECT _failure_class('http', 404, 'status');
ROLLBACK;
SELECT _failure_class('http', 404, 'status');
SELECT failure_rule_remove(10), failure_rule_remove(10), failure_rule_remove(2000);
SELECT _failure_class('http', 404, 'status'), _failure_class('http', 0, 'dns');
SELECT c, pg_temp.refuse('SELECT failsafe.failure_rule_set(' || c || ')') FROM unnest(ARRAY[
	$$0, 'http', NULL, NULL, NULL, 'gone', 'n'$$, $$1000, 'http', NULL, NULL, NULL, 'gone', 'n'$$, $$9000, 'http', NULL, NULL, NULL, 'gone', 'n'$$,
	$$NULL, 'http', NULL, NULL, NULL, 'gone', 'n'$$, $$5, 'kafka', NULL, NULL, NULL, 'gone', 'n'$$, $$5, NULL, NULL, NULL, NULL, 'gone', 'n'$$,
	$$5, 'http', 400, NULL, NULL, 'gone', 'n'$$, $$5, 'http', 500, 400, NULL, 'gone', 'n'$$, $$5, 'http', -1, 400, NULL, 'gone', 'n'$$,
	$$5, 'http', 1, 1000, NULL, 'gone', 'n'$$, $$5, 'http', NULL, NULL, '', 'gone', 'n'$$, $$5, 'http', NULL, NULL, 'a\', 'gone', 'n'$$,
	$$5, 'http', NULL, NULL, NULL, 'delivered', 'n'$$, $$5, 'http', NULL, NULL, NULL, NULL, 'n'$$, $$5, 'http', NULL, NULL, NULL, 'gone', NULL$$,
	$$5, 'http', NULL, NULL, NULL, 'gone', 'n', '{"x": 1}'$$]) AS c;
SELECT pg_temp.refuse('SELECT failsafe.failure_rule_remove(1050)');
SELECT pg_temp.refuse('SELECT failsafe.failure_rule_remove(NULL)');

-- Adoption: a copy does not deliver until it is told to
SELECT adopted, reason FROM _instance_state();
SELECT * FROM adopt('was so already');
SELECT pg_temp.refuse('SELECT failsafe.adopt(NULL)');
SELECT pg_temp.refuse($$SELECT failsafe.adopt('r', '{"force": true}')$$);
INSERT INTO instance SELECT nextval('instance_id_seq'), system_identifier + 1, database_id, outbox_id, now(), actor_id, 'a copy' FROM instance ORDER BY id DESC LIMIT 1;
SELECT adopted, reason FROM _instance_state();
SELECT check_name, status, detail, hint FROM doctor() WHERE check_name = 'delivery';
SELECT pg_temp.refuse($$SELECT failsafe.subscription_create('copied', 'pull')$$);
SELECT pg_temp.refuse($$SELECT failsafe.subscription_resume('puller', 'r')$$);
SELECT pg_temp.refuse($$SELECT failsafe.subscription_rewind('puller', '-infinity', 'r')$$);
SELECT state FROM subscription_pause('puller', 'a copy can be paused');
INSERT INTO instance SELECT nextval('instance_id_seq'), system_identifier - 1, 1, outbox_id, now(), actor_id, 'a copy' FROM instance ORDER BY id DESC LIMIT 1;
SELECT adopted, reason FROM _instance_state();
INSERT INTO instance SELECT nextval('instance_id_seq'), system_identifier, (SELECT oid FROM pg_database WHERE datname = current_database()), 1, now(), actor_id, 'a copy'
FROM instance ORDER BY id DESC LIMIT 1;
SELECT adopted, reason FROM _instance_state();
SELECT * FROM adopt('the other one is gone');
SELECT adopted, reason FROM _instance_state();
-- a sequence that the restore left behind is raised
INSERT INTO instance SELECT nextval('instance_id_seq'), 0, database_id, outbox_id, now(), actor_id, 'a copy' FROM instance ORDER BY id DESC LIMIT 1;
SELECT max(seq) AS highest FROM outbox WHERE slot BETWEEN 32 AND 47 \gset
SELECT setval('outbox_seq_2', 1) AS set_back;
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SELECT * FROM adopt('restored');
RESET client_min_messages;
SELECT last_value = :highest AS raised FROM outbox_seq_2;
SELECT reason FROM instance ORDER BY id DESC LIMIT 1;
BEGIN;
CREATE ROLE subs_op;
GRANT failsafe_operator TO subs_op;
SET LOCAL ROLE subs_op;
SELECT pg_temp.refuse($$SELECT failsafe.adopt('not an admin')$$);
ROLLBACK;

-- Read-only
BEGIN READ ONLY;
SELECT name FROM subscriptions WHERE name = 'puller';
SELECT adopted FROM _instance_state();
SELECT subscription_pause('puller', 'r');
ROLLBACK;
-- A snapshot that may be too old
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT pg_temp.refuse($$SELECT failsafe.subscription_drop('puller', true, 'r')$$);
SELECT pg_temp.refuse($$SELECT failsafe.subscription_rewind('puller', '-infinity', 'r')$$);
SELECT pg_temp.refuse($$SELECT failsafe.subscription_rewind('puller', '-infinity'::timestamptz, 'r')$$);
SELECT pg_temp.refuse($$SELECT failsafe.adopt('r')$$);
SELECT state FROM subscription_resume('puller', 'this one can');
ROLLBACK;

-- What the others expect to find
SELECT count(*) AS gone FROM (SELECT subscription_drop(name, true, 'end') FROM subscription
							  WHERE name IN ('billing', 'all', 'puller', 'notice', 'edges')) AS d;
