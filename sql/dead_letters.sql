-- Dead letters and replays, by a pull consumer; in a database of its own, because it
-- counts what there is.
\set was :DBNAME
CREATE DATABASE regression_dead_letters TEMPLATE template0;
\c regression_dead_letters
SET client_min_messages = warning;
CREATE EXTENSION pg_failsafe;
RESET client_min_messages;
SET search_path = failsafe, public;
SET timezone = 'UTC';

-- Claims and answers everything there is, until there is no more: what was handed out.
CREATE FUNCTION pg_temp.consume(name text, answer text)
RETURNS TABLE (key text, n int, attempt int, status text) LANGUAGE plpgsql AS $$
DECLARE
	claimed record;
	empty int := 0;
BEGIN
	-- a replay goes by its rate: an empty answer is not the end of it
	WHILE empty < 3 LOOP
		empty := empty + 1;
		FOR claimed IN SELECT * FROM failsafe.outbox_claim(name) ORDER BY delivery_id LOOP
			empty := 0;
			key := claimed.order_key;
			n := (claimed.envelope ->> 'n')::int;
			attempt := claimed.attempt;
			IF answer = 'ack' THEN
				SELECT a.status INTO status
				FROM failsafe.outbox_ack(name, ARRAY[claimed.delivery_id], ARRAY[claimed.fence]) AS a;
			ELSE
				SELECT a.status INTO status
				FROM failsafe.outbox_nack(name, claimed.delivery_id, claimed.fence, answer,
										  '{"permanent": true}') AS a;
			END IF;
			RETURN NEXT;
		END LOOP;
		PERFORM pg_sleep(0.02);
	END LOOP;
END $$;

\set VERBOSITY terse

SET client_min_messages = warning;
SELECT name, created FROM subscription_create('letters', 'pull', event_types => '{letter.*}',
	options => '{"retry": {"attempts": 1}}');
SELECT name, created FROM subscription_create('later', 'pull', event_types => '{letter.*}');
SELECT name, created FROM subscription_create('obituaries', 'pull', event_types => '{failsafe.delivery.dead}');
RESET client_min_messages;
SELECT count(outbox_emit('letter.sent', CASE n % 2 WHEN 0 THEN 'even' ELSE 'odd' END,
						 jsonb_build_object('n', n), '{"h": "x"}')) FROM generate_series(1, 5) AS n;
SELECT outbox_emit('letter.read', 'odd', '{"n": 6}', options => '{"trace_id": "tr-6"}') IS NOT NULL AS emitted;

-- What is refused for good is a dead letter at once, and the next of its key goes on
SELECT * FROM pg_temp.consume('letters', 'no such account');
SELECT subscription, tenant, event_type, order_key, state, class, reason, attempts,
	first_attempt_at <= died_at AS tried, occurred_at <= died_at AS occurred, age >= '0' AS age,
	resolved_at, resolved_by, resolution
FROM dlq ORDER BY id;
SELECT count(*) FROM deliveries;
SELECT * FROM blocked_keys;

-- One of them, with everything
SELECT min(id) AS first, max(id) AS last FROM dlq \gset
SELECT d.state, d.envelope ->> 'trace_id' AS trace, d.envelope ->> 'n' AS n, d.headers,
	d.envelope ->> 'event_id' = d.event_id::text AS same_id, json_array_length(d.attempt_list) AS attempts,
	d.attempt_list -> 0 ->> 'number' AS number, d.attempt_list -> 0 ->> 'class' AS class,
	d.attempt_list -> 0 ->> 'reason' AS reason
FROM dlq_get(:last) AS d;
SELECT count(*) FROM dlq_get(0);
SELECT number, class, status, code, reason, response FROM attempts WHERE subscription = 'letters' ORDER BY id LIMIT 2;

-- Each death is told by an event, but not that of such an event
SELECT order_key, priority, envelope ->> 'subscription' AS subscription,
	(envelope ->> 'dead_letter_id')::int8 = :first AS letter, envelope ->> 'dead_event_type' AS type,
	envelope ->> 'class' AS class, envelope ->> 'reason' AS reason, envelope ->> 'attempts' AS attempts
FROM events WHERE event_type = 'failsafe.delivery.dead' ORDER BY lane, seq LIMIT 1;
SELECT count(*) FROM events WHERE event_type = 'failsafe.delivery.dead';
SELECT count(*), min(status) FROM pg_temp.consume('obituaries', 'unreadable');
SELECT count(*) FROM events WHERE event_type = 'failsafe.delivery.dead';
SELECT subscription, count(*) FROM dlq GROUP BY 1 ORDER BY 1;
SELECT dlq_discard(ARRAY(SELECT id FROM dlq WHERE subscription = 'obituaries'), 'a test');

-- A dry run counts, needs no reason, and works where nothing can be written
BEGIN READ ONLY;
SELECT * FROM dlq_replay(dry_run => true);
SELECT * FROM dlq_replay('letters', dry_run => true, rate => 0.5);
SELECT * FROM dlq_replay('letters', 'letter.*', dry_run => true);
SELECT * FROM dlq_replay('letters', 'letter.read', dry_run => true);
SELECT * FROM dlq_replay('letters', 'letter', dry_run => true);
SELECT * FROM dlq_replay(ids => ARRAY[:first, :last], dry_run => true);
SELECT * FROM dlq_replay(dry_run => true, options => '{"order_key": "even", "class": "permanent"}');
SELECT * FROM dlq_replay(dry_run => true, options => '{"class": "temporary"}');
SELECT * FROM dlq_replay(since => now() + interval '1 hour', dry_run => true);
SELECT * FROM dlq_replay(until => now() - interval '1 hour', dry_run => true);
SELECT * FROM dlq_replay(options => '{"state": "discarded"}', dry_run => true);
SELECT * FROM dlq_replay(options => '{"tenant": "default"}', dry_run => true);
ROLLBACK;

-- What is refused
BEGIN READ ONLY;
SELECT * FROM dlq_replay(reason => 'x');
ROLLBACK;
SELECT * FROM dlq_replay('letters', reason => '');
SELECT * FROM dlq_replay('letters', reason => E'two\nlines');
SELECT * FROM dlq_replay('nobody', reason => 'x');
SELECT * FROM dlq_replay('letters', reason => 'x', options => '{"tenant": "nobody"}');
SELECT * FROM dlq_replay('letters', reason => 'x', rate => 0);
SELECT * FROM dlq_replay('letters', reason => 'x', rate => 'NaN');
SELECT * FROM dlq_replay('letters', reason => 'x', rate => 1000001);
SELECT * FROM dlq_replay('letters', reason => 'x', rate => NULL);
SELECT * FROM dlq_replay('letters', '*.x', reason => 'x');
SELECT * FROM dlq_replay('letters', 'A', reason => 'x');
SELECT * FROM dlq_replay('letters', '', reason => 'x');
SELECT * FROM dlq_replay(since => '2026-01-02', until => '2026-01-02', reason => 'x');
SELECT * FROM dlq_replay(not_after => '2026-01-02', reason => 'x');
SELECT * FROM dlq_replay(not_before => now() + interval '2 h', not_after => now() + interval '1 h', reason => 'x');
SELECT * FROM dlq_replay(reason => 'x', options => '{"state": "replaying"}');
SELECT * FROM dlq_replay(reason => 'x', options => '{"colour": "red"}');
SELECT dlq_discard(NULL, 'x');
SELECT dlq_discard('{}', 'x');
SELECT dlq_discard('{1}', NULL);
SELECT dlq_discard('{1}', 'x', '{"force": true}');
SELECT replay_pause(0, 'x');
SELECT replay_pause(NULL, 'x');
SELECT replay_resume(999999, 'x');
SELECT replay_cancel(999999, NULL);
SELECT delivery_prune(0);
SELECT * FROM dlq_get(1, '{"x": 1}');
UPDATE failsafe.dead_letter SET state = 'replayed';
DELETE FROM failsafe.attempt;
DELETE FROM failsafe.delivery;
DELETE FROM failsafe.replay;

-- A rollback leaves nothing behind
BEGIN;
SELECT replay_id IS NOT NULL AS started, matching FROM dlq_replay('letters', reason => 'not really');
SELECT state, count(*) FROM dlq WHERE subscription = 'letters' GROUP BY 1;
ROLLBACK;
SELECT state, count(*) FROM dlq WHERE subscription = 'letters' GROUP BY 1;
SELECT count(*) FROM replays;

-- Replay: pause, resume, to the end; order of keys is kept
SELECT replay_id, subscription_name, matching, events_per_second, estimated_seconds, note
FROM dlq_replay('letters', rate => 1000, reason => 'the account was opened') \gset replay_
SELECT :'replay_subscription_name' AS subscription, :replay_matching AS matching,
	:replay_events_per_second AS rate, :replay_estimated_seconds AS seconds, :'replay_note' AS note;
SELECT replay_pause(:replay_replay_id, 'wait a moment');
SELECT replay_pause(:replay_replay_id, 'wait a moment');
SELECT * FROM pg_temp.consume('letters', 'ack');
SELECT subscription, state, total, taken, done, failed, remaining, on_the_way, rate, remaining_time,
	started_at, ended_at, reason, filter, note
FROM replays;
SELECT replay_id, matching, note FROM dlq_replay('letters', reason => 'again');
SELECT replay_resume(:replay_replay_id, 'go on');
SELECT replay_resume(:replay_replay_id, 'go on');
SELECT key, array_agg(n) AS in_order, min(attempt) AS attempt, min(status) AS status
FROM (SELECT * FROM pg_temp.consume('letters', 'ack')) AS c GROUP BY key ORDER BY key;
SELECT state, total, taken, done, failed, remaining, on_the_way, started_at <= ended_at AS ended, note
FROM replays;
SELECT state, attempts, resolved_by = session_user AS by_me, resolution, count(*)
FROM dlq WHERE subscription = 'letters' GROUP BY 1, 2, 3, 4;
SELECT a.number, a.class, a.reason FROM attempts AS a JOIN dlq AS l USING (event_id) WHERE l.id = :first ORDER BY a.id;
SELECT replay_pause(:replay_replay_id, 'too late');
SELECT replay_cancel(:replay_replay_id, 'too late');

-- One that fails again is dead again, with a new reason and all its attempts
SELECT matching FROM dlq_replay(ids => ARRAY[:first], reason => 'once more', rate => 1000,
								options => '{"state": "replayed"}');
SELECT * FROM pg_temp.consume('letters', 'closed by now');
SELECT state, class, attempts, reason, resolved_at, resolution FROM dlq WHERE id = :first;
SELECT number, class, reason FROM attempts WHERE dead_letter_id = :first ORDER BY id;
SELECT state, total, done, failed FROM replays ORDER BY id DESC LIMIT 1;

-- Cancel: what was not taken is dead again.  One may go at once, then one each 1000 s
SELECT replay_id, matching, estimated_seconds
FROM dlq_replay('letters', rate => 0.001, reason => 'slowly', options => '{"state": "replayed"}') \gset replay_
SELECT :replay_matching AS matching, :replay_estimated_seconds AS seconds;
SELECT * FROM pg_temp.consume('letters', 'ack');
SELECT replay_cancel(:replay_replay_id, 'changed my mind');
SELECT state, total, taken, done, remaining FROM replays WHERE id = :replay_replay_id;
SELECT state, count(*) FROM dlq WHERE subscription = 'letters' GROUP BY 1 ORDER BY 1;

-- A window that has not begun, and one that ends
SELECT replay_id, note ~ '^begins at ' AS waits FROM dlq_replay('letters', rate => 1000, reason => 'tonight',
	not_before => now() + interval '1 hour') \gset replay_
SELECT note FROM replays WHERE id = :replay_replay_id;
SELECT count(*) FROM pg_temp.consume('letters', 'ack');
SELECT replay_cancel(:replay_replay_id, 'not tonight');
SELECT replay_id FROM dlq_replay('letters', rate => 1000, reason => 'a short window',
	not_before => clock_timestamp() + interval '1 ms', not_after => clock_timestamp() + interval '300 ms') \gset replay_
SELECT pg_sleep(0.4);
SELECT count(*) FROM pg_temp.consume('letters', 'ack');
SELECT state, taken, remaining, note FROM replays WHERE id = :replay_replay_id;

-- A paused subscription waits
SELECT state FROM subscription_pause('letters', 'a test');
SELECT replay_id, note FROM dlq_replay('letters', rate => 1000, reason => 'paused') \gset replay_
SELECT :'replay_note' AS note;
SELECT note FROM replays WHERE id = :replay_replay_id;
SELECT state FROM subscription_resume('letters', 'a test');
SELECT count(*), min(status) FROM pg_temp.consume('letters', 'ack');
SELECT state, total = done AS all_done, failed FROM replays WHERE id = :replay_replay_id;

-- Old events, to a subscription that has passed them
SELECT count(*), min(status) FROM pg_temp.consume('later', 'ack');
SELECT * FROM outbox_replay('later', dry_run => true);
SELECT * FROM outbox_replay('later', 'letter.read', dry_run => true);
SELECT * FROM outbox_replay('later', since => now() + interval '1 h', dry_run => true);
SELECT * FROM outbox_replay('later', dry_run => true, options => '{"order_key": "even"}');
SELECT * FROM outbox_replay('obituaries', 'letter.*', dry_run => true);
SELECT * FROM outbox_replay(NULL, dry_run => true);
SELECT * FROM outbox_replay('nobody', dry_run => true);
SELECT replay_id, matching, note FROM outbox_replay('later', 'letter.sent', rate => 1000, reason => 'the consumer lost its database',
	options => '{"not_after": "2100-01-01T00:00:00Z"}') \gset replay_
SELECT :replay_matching AS matching, :'replay_note' AS note;
SELECT matching, note FROM outbox_replay('later', 'letter.sent', dry_run => true);
SELECT state, class, reason, attempts, count(*) FROM dlq WHERE subscription = 'later' GROUP BY 1, 2, 3, 4;
SELECT key, array_agg(n) AS in_order FROM pg_temp.consume('later', 'ack') GROUP BY key ORDER BY key;
SELECT state, total, done, filter FROM replays WHERE id = :replay_replay_id;
SELECT state, class, resolution, attempts, count(*) FROM dlq WHERE subscription = 'later' GROUP BY 1, 2, 3, 4;
SELECT replay_id FROM outbox_replay('later', rate => 1000, reason => 'and again') \gset replay_
SELECT replay_cancel(:replay_replay_id, 'no need');
SELECT state, class, resolution, count(*) FROM dlq WHERE subscription = 'later' GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;

-- Discard
SELECT matching FROM dlq_replay(ids => ARRAY[:first, :last], reason => 'to fail', rate => 1000, options => '{"state": "replayed"}');
SELECT count(*), min(status) FROM pg_temp.consume('letters', 'still closed');
SELECT dlq_discard(ARRAY[:first, :last, 0], 'nobody needs them');
SELECT dlq_discard(ARRAY[:first, :last, 0], 'nobody needs them');
SELECT state, resolved_by = session_user AS by_me, resolution, reason FROM dlq WHERE id IN (:first, :last) ORDER BY id;
SELECT matching FROM dlq_replay('letters', dry_run => true);

-- Who did what
SELECT subscription, action, detail - 'replay_id' AS detail, reason, session_user_name = session_user AS by_me
FROM subscription_changes
WHERE subscription IN ('letters', 'later', 'obituaries') AND (action LIKE 'replay%' OR action LIKE 'dead%')
ORDER BY changed_at;

-- Retention: by age, but what is dead stays
SELECT * FROM delivery_prune();
INSERT INTO failsafe.attempt
SELECT nextval('failsafe.attempt_id_seq'), a.subscription_id, NULL, NULL, now() - n * interval '20 days', 1,
	a.event_id, 1, NULL, 'temporary', 'timeout', NULL, NULL
FROM (SELECT * FROM failsafe.attempt ORDER BY id LIMIT 1) AS a, generate_series(1, 4) AS n;
INSERT INTO failsafe.dead_letter
SELECT nextval('failsafe.dead_letter_id_seq'), l.subscription_id, NULL, now() - interval '200 days', NULL,
	CASE WHEN v.days IS NOT NULL THEN now() - v.days * interval '1 day' END, NULL, l.occurred_at, NULL, l.seq,
	l.event_id, 0, l.tenant_id, l.lane, l.priority, v.state, 'lag', 'a test of retention', NULL, l.event_type,
	l.order_key
FROM (SELECT * FROM failsafe.dead_letter ORDER BY id LIMIT 1) AS l,
	(VALUES ('dead', NULL), ('replaying', NULL), ('replayed', 91), ('discarded', 91), ('replayed', 89)) AS v (state, days);
SELECT * FROM delivery_prune(1);
SELECT * FROM delivery_prune();
SELECT * FROM delivery_prune();
SELECT state, count(*) FROM dlq WHERE reason = 'a test of retention' GROUP BY state ORDER BY state;
SET failsafe.attempt_retention = '1min';
SET failsafe.dead_letter_retention = '1min';
SELECT * FROM delivery_prune();
SET failsafe.attempt_retention = '59s';
RESET failsafe.attempt_retention;
RESET failsafe.dead_letter_retention;

-- Tenants: a tenant sees its own, an operator all; readers cannot replay
SET client_min_messages = warning;
CREATE ROLE dead_letters_reader IN ROLE failsafe_reader;
CREATE ROLE dead_letters_app IN ROLE failsafe_app;
CREATE ROLE dead_letters_operator IN ROLE failsafe_operator;
RESET client_min_messages;
SET ROLE dead_letters_operator;
SELECT count(*) > 0 AS sees FROM dlq;
SELECT matching >= 0 AS counts FROM dlq_replay('letters', dry_run => true);
SELECT dlq_discard('{0}', 'none');
SET ROLE dead_letters_reader;
SELECT count(*) > 0 AS sees FROM dlq;
SELECT count(*) > 0 AS sees FROM replays;
SELECT count(*) FROM dlq_get(:first);
SELECT dlq_replay(dry_run => true);
SELECT dlq_discard('{0}', 'none');
SELECT replay_cancel(1, 'x');
SELECT count(*) FROM failsafe.dead_letter;
SET ROLE dead_letters_app;
SELECT count(*) FROM dlq;
SELECT outbox_replay('later', dry_run => true);
RESET ROLE;
BEGIN;
SELECT created FROM tenant_add('letters_other');
SET LOCAL failsafe.tenant = 'letters_other';
SET LOCAL ROLE dead_letters_reader;
SELECT (SELECT count(*) FROM dlq) AS dlq, (SELECT count(*) FROM deliveries) AS deliveries,
	(SELECT count(*) FROM attempts) AS attempts, (SELECT count(*) FROM replays) AS replays,
	(SELECT count(*) FROM dlq_get(:first)) AS one;
SET LOCAL ROLE dead_letters_operator;
SELECT (SELECT count(*) FROM dlq) > 0 AS dlq, (SELECT count(*) FROM replays) > 0 AS replays,
	(SELECT count(*) FROM dlq_get(:first)) AS one;
ROLLBACK;
DROP ROLE dead_letters_reader, dead_letters_app, dead_letters_operator;

SELECT subscription_drop('letters', true, 'the test is over') IS NOT NULL AS dropped;
SELECT subscription_drop('later', true, 'the test is over') IS NOT NULL AS dropped;
SELECT subscription_drop('obituaries', true, 'the test is over') IS NOT NULL AS dropped;
SELECT count(*) FROM dlq WHERE subscription IS NULL AND state = 'dead';

\c :was
DROP DATABASE regression_dead_letters WITH (FORCE);
