-- Balances at a time, statements, holds, key states, views, trace: what they answer, what
-- they refuse, who sees what, and that a look-up by id never scans a big table.
\set ON_ERROR_STOP on
\set QUIET on
SET client_min_messages = warning;
BEGIN;
SELECT plan(86);

DO $setup$
BEGIN
	PERFORM failsafe.account_open('a', 'EUR'), failsafe.account_open('b', 'EUR'),
			failsafe.account_open('empty', 'EUR'), failsafe.account_open('fees', 'EUR', 'system');
	FOR i IN 1 .. 60 LOOP
		PERFORM failsafe.wallet_credit('a', 100, 'EUR', 'c' || i, reference => 'batch' || i % 3);
		PERFORM failsafe.wallet_debit('a', 10, 'EUR', 'd' || i, counterparty => 'fees');
	END LOOP;
	PERFORM failsafe.wallet_transfer('a', 'b', 500, 'EUR', 'move', reference => 'move_ref',
			options => '{"trace_id": "trace_1"}');
	PERFORM failsafe.wallet_hold('a', 300, 'EUR', 'hold', reference => 'order_1');
	PERFORM failsafe.wallet_commit('key:hold', 'capture', 120, false, counterparty => 'fees');
	PERFORM failsafe.wallet_hold('b', 50, 'EUR', 'hold_b');
	PERFORM failsafe.wallet_rollback('key:hold_b', 'rollback_b');
	PERFORM failsafe.wallet_hold('b', 20, 'EUR', 'short', '1 second');
	PERFORM failsafe.wallet_reverse('key:move', 'back', 200);
	PERFORM failsafe.ledger_post(ARRAY[('a', -30, 'EUR'), ('b', 20, 'EUR'), ('fees', 10, 'EUR')]::failsafe.leg[], 'split');
	PERFORM failsafe.wallet_debit('b', 999999, 'EUR', 'too_much', on_decline => 'record');
	PERFORM pg_sleep(1.1);
	PERFORM failsafe.wallet_credit('b', 7, 'EUR', 'late',
			options => jsonb_build_object('effective_at', now() - interval '1 day'));
END
$setup$;
-- No savepoints, no subtransactions: times of single commands, in order.
CREATE TEMP TABLE step AS
SELECT j.id, j.key, j.recorded_at, j.posted FROM failsafe.journal AS j;

CREATE FUNCTION pg_temp.t(key text) RETURNS text LANGUAGE sql
RETURN (SELECT 't_' || j.id FROM failsafe.journal AS j WHERE j.key = t.key);

-- ---- account_balance_at ---------------------------------------------------------------

SELECT is((SELECT count(*) FROM step AS s
		   CROSS JOIN LATERAL failsafe.account_balance_at('a', s.recorded_at) AS b
		   WHERE s.key ~ '^[cd][0-9]' AND b.posted = s.posted),
		  120::int8, 'a wallet''s balance at the time of each of its entries');
SELECT is((SELECT count(*) FROM step AS s
		   CROSS JOIN LATERAL failsafe.account_balance_at('a', s.recorded_at - interval '1 microsecond') AS b
		   WHERE s.key ~ '^c[0-9]' AND b.posted = s.posted - 100),
		  60::int8, 'and just before it');
SELECT results_eq($$SELECT currency, posted, version FROM failsafe.account_balance_at('a', now() - interval '1 day')$$,
	$$VALUES ('EUR', 0::numeric, 0::int8)$$, 'nothing before the first entry');
SELECT results_eq($$SELECT posted, version FROM failsafe.account_balance_at('empty', clock_timestamp())$$,
	$$VALUES (0::numeric, 0::int8)$$, 'an account without entries');
SELECT results_eq($$SELECT posted, version FROM failsafe.account_balance_at('a', 'infinity')$$,
	$$SELECT posted, version FROM failsafe.account_balance('a')$$, 'at the end of time the balance of now');
SELECT is((SELECT count(*) FROM step AS s
		   CROSS JOIN LATERAL failsafe.account_balance_at('fees', s.recorded_at) AS b
		   WHERE s.key ~ '^d[0-9]' AND b.posted = 10 * substr(s.key, 2)::int AND b.version IS NULL),
		  60::int8, 'a system account''s balance at a time');
SELECT is((SELECT posted FROM failsafe.account_balance_at('b', now() - interval '1 hour')),
		  0::numeric, 'a back-dated entry was not recorded then');
SELECT results_eq($$SELECT posted, version, final FROM failsafe.account_balance_at('b', now() - interval '1 hour', 'effective')$$,
		  $$VALUES (7::numeric, NULL::int8, false)$$, 'but is effective then, which is never final');
SELECT is((SELECT posted FROM failsafe.account_balance_at('b', now() - interval '25 hours', 'effective')),
		  0::numeric, 'and not before');
SELECT is((SELECT posted FROM failsafe.account_balance_at('world:EUR', now() - interval '1 hour', 'effective')),
		  -7::numeric, 'its other leg too, on a system account');
SELECT is((SELECT posted FROM failsafe.account_balance_at('b', 'infinity', 'effective')),
		  (SELECT posted FROM failsafe.account_balance('b')), 'recorded and effective meet at the end');
SELECT is((SELECT final FROM failsafe.account_balance_at('a', now() - interval '1 hour')), true, 'the past is final');
SELECT is((SELECT final FROM failsafe.account_balance_at('a', now() + interval '1 hour')), false, 'the future is not');
SELECT throws_ok($$SELECT * FROM failsafe.account_balance_at('nobody', now())$$, 'SF016', NULL, 'unknown account');
SELECT throws_ok($$SELECT * FROM failsafe.account_balance_at('a', NULL)$$, 'SF038', NULL, 'no time');
SELECT throws_ok($$SELECT * FROM failsafe.account_balance_at(NULL, now())$$, 'SF038', NULL, 'no account');
SELECT throws_ok($$SELECT * FROM failsafe.account_balance_at('a', now(), 'valued')$$, 'SF041', NULL, 'unknown kind of time');
SELECT throws_ok($$SELECT * FROM failsafe.account_balance_at('a', now(), options => '{"x": 1}')$$, 'SF041', NULL, 'unknown option');

-- ---- the same with checkpoints in the way ---------------------------------------------

INSERT INTO failsafe.checkpoint (account_id, entry_id, entry_count, recorded_from, recorded_until, taken_at, posted)
SELECT a.id, cut.id, s.n, min(j.recorded_at) FILTER (WHERE e.id > cut.before),
	   max(j.recorded_at), now(), sum(e.amount)
FROM failsafe.account AS a
CROSS JOIN (VALUES (41983, 0), (82943, 41983), (103423, 82943)) AS cut (id, before)	-- 1023 behind 1024 * 40, 80, 100
JOIN failsafe.entry AS e ON e.account_id = a.id AND e.id <= cut.id
JOIN failsafe.journal AS j ON j.id = e.journal_id
CROSS JOIN LATERAL (SELECT count(*) AS n FROM failsafe.entry AS k WHERE k.account_id = a.id AND k.id <= cut.id) AS s
WHERE a.kind = 'system' GROUP BY a.id, cut.id, cut.before, s.n;
SELECT is_empty($$SELECT * FROM failsafe.ledger_verify()$$, 'the checkpoints are right');
SELECT is((SELECT count(*) FROM step AS s
		   CROSS JOIN LATERAL failsafe.account_balance_at('fees', s.recorded_at) AS b
		   WHERE s.key ~ '^d[0-9]' AND b.posted = 10 * substr(s.key, 2)::int),
		  60::int8, 'balances at a time do not change');
SELECT is((SELECT posted FROM failsafe.account_balance('fees')), 730::numeric, 'nor does the balance of now');
SELECT is((SELECT count(*) FROM failsafe.account_statement('fees', max_rows => 1000)), 62::int8, 'nor does the statement');
SELECT is((SELECT array_agg(idempotency_key ORDER BY n) FROM failsafe.account_statement('fees',
			(SELECT recorded_at FROM step WHERE key = 'd18'), (SELECT recorded_at FROM step WHERE key = 'd43'),
			1000) WITH ORDINALITY AS s (a, b, c, d, e, f, g, h, i, j, k, idempotency_key, m, o, p, q, n)),
		  (SELECT array_agg('d' || i ORDER BY i) FROM generate_series(18, 42) AS i),
		  'since is included, until is not, across checkpoints');

-- ---- account_statement ----------------------------------------------------------------

SELECT is((SELECT count(*) FROM failsafe.account_statement('a')), 100::int8, 'a page has 100 rows unless told');
SELECT results_eq(
	$$SELECT entry_id, transaction_id, command, amount, posted, version, counterparty, reference, idempotency_key
	  FROM failsafe.account_statement('a', max_rows => 2)$$,
	$$VALUES ('e_1024', pg_temp.t('c1'), 'credit', 100::numeric, 100::numeric, 1::int8, 'world:EUR', 'batch1', 'c1'),
			 ('e_2048', pg_temp.t('d1'), 'debit', -10::numeric, 90::numeric, 2::int8, 'fees', NULL, 'd1')$$,
	'what a row tells');
SELECT results_eq(
	$$SELECT idempotency_key FROM failsafe.account_statement('a', max_rows => 2, options => '{"order": "desc"}')$$,
	$$VALUES ('split'), ('back')$$, 'newest first');
SELECT is((WITH RECURSIVE page AS (
			SELECT array_agg(s.version) AS versions, max(s.version) AS last,
				   (array_agg(s.entry_id ORDER BY s.version DESC))[1] AS entry_id
			FROM failsafe.account_statement('a', max_rows => 7) AS s
			UNION ALL
			SELECT page.versions || more.versions, more.last, more.entry_id
			FROM page CROSS JOIN LATERAL (
				SELECT array_agg(s.version) AS versions, max(s.version) AS last,
					   (array_agg(s.entry_id ORDER BY s.version DESC))[1] AS entry_id
				FROM failsafe.account_statement('a', max_rows => 7, after => page.entry_id) AS s) AS more
			WHERE more.versions IS NOT NULL)
		   SELECT versions FROM page ORDER BY last DESC LIMIT 1),
		  (SELECT array_agg(i::int8 ORDER BY i) FROM generate_series(1, 124) AS i),
		  'pages follow each other without gap or repeat');
SELECT results_eq(
	$$SELECT version FROM failsafe.account_statement('a', max_rows => 3, after => 'e_5120', options => '{"order": "desc"}')$$,
	$$VALUES (4::int8), (3), (2)$$, 'backwards too');
SELECT is((SELECT count(*) FROM failsafe.account_statement('a',
			(SELECT recorded_at FROM step WHERE key = 'c10'), (SELECT recorded_at FROM step WHERE key = 'c20'))),
		  20::int8, 'a time span of a wallet');
SELECT is_empty($$SELECT * FROM failsafe.account_statement('a', now() + interval '1 day')$$, 'nothing in the future');
SELECT is_empty($$SELECT * FROM failsafe.account_statement('empty')$$, 'nothing on an account without entries');
SELECT results_eq(
	$$SELECT counterparty, amount FROM failsafe.account_statement('b') WHERE idempotency_key = 'split'$$,
	$$VALUES (NULL::text, 20::numeric)$$, 'a posting has no single counterparty');
SELECT results_eq(
	$$SELECT counterparty, amount, reverses FROM failsafe.account_statement('b') WHERE idempotency_key = 'back'$$,
	$$VALUES ('a', -200::numeric, pg_temp.t('move'))$$, 'a reversal names what it reverses');
SELECT throws_ok($$SELECT * FROM failsafe.account_statement('a', max_rows => 0)$$, 'SF041', NULL, 'no row is refused');
SELECT throws_ok($$SELECT * FROM failsafe.account_statement('a', max_rows => 10001)$$, 'SF041', NULL, 'too many rows are refused');
SELECT throws_ok($$SELECT * FROM failsafe.account_statement('a', max_rows => NULL)$$, 'SF038', NULL, 'a number of rows is needed');
SELECT throws_ok($$SELECT * FROM failsafe.account_statement('b', after => 'e_1024')$$, 'SF041', NULL, 'an entry of this account');
SELECT throws_ok($$SELECT * FROM failsafe.account_statement('a', after => 'e_3')$$, 'SF041', NULL, 'that exists');
SELECT results_eq(
	$$SELECT idempotency_key FROM failsafe.account_statement('fees', max_rows => 2, after => 'e_2049')$$,
	$$VALUES ('d2'), ('d3')$$, 'pages of a system account');
SELECT throws_ok($$SELECT * FROM failsafe.account_statement('a', after => 't_1')$$, 'SF041', NULL, 'after takes an entry');
SELECT throws_ok($$SELECT * FROM failsafe.account_statement('a', options => '{"order": "up"}')$$, 'SF041', NULL, 'unknown order');
SELECT lives_ok($$SELECT * FROM failsafe.account_statement('a', max_rows => 10000)$$, 'the largest page');

-- ---- holds ----------------------------------------------------------------------------

SELECT results_eq(
	$$SELECT status, amount, captured, released, remaining, reference, idempotency_key FROM failsafe.holds('a')$$,
	$$VALUES ('open', 300::numeric, 120::numeric, 0::numeric, 180::numeric, 'order_1', 'hold')$$, 'open holds');
SELECT is_empty($$SELECT * FROM failsafe.holds('b')$$, 'rolled back and expired holds are not open');
SELECT results_eq($$SELECT account, status, released, remaining FROM failsafe.hold_get('key:short')$$,
	$$VALUES ('b', 'expired', 20::numeric, 0::numeric)$$, 'an expired hold');
SELECT results_eq($$SELECT status FROM failsafe.hold_get('key:rollback_b')$$, $$VALUES ('rolled_back')$$,
	'a hold by the key of a command on it');
SELECT results_eq($$SELECT hold_id FROM failsafe.hold_get((SELECT entry_id FROM failsafe.transactions WHERE idempotency_key = 'capture'))$$,
	$$SELECT hold_id FROM failsafe.hold_get('key:hold')$$, 'a hold by an entry of its capture');
SELECT results_eq($$SELECT command, status, amount, remaining FROM failsafe.hold_history('key:hold')$$,
	$$VALUES ('hold', 'held', 300::numeric, 300::numeric), ('commit', 'committed', 120, 180)$$, 'the history of a hold');
SELECT results_eq($$SELECT command, status, released FROM failsafe.hold_history('key:short')$$,
	$$VALUES ('hold', 'held', NULL::numeric), ('expire', 'expired', 20)$$, 'its expiry is part of it');
SELECT throws_ok($$SELECT * FROM failsafe.hold_get('h_1')$$, 'SF030', NULL, 'no such hold');
SELECT throws_ok($$SELECT * FROM failsafe.hold_get('key:c1')$$, 'SF030', NULL, 'a credit is no hold');
SELECT throws_ok($$SELECT * FROM failsafe.hold_get('')$$, 'SF030', NULL, 'nonsense is no hold');
SELECT throws_ok($$SELECT * FROM failsafe.hold_get('h_99999999999999999999')$$, 'SF030', NULL, 'a number too large is no hold');
SELECT throws_ok($$SELECT * FROM failsafe.hold_history(NULL)$$, 'SF038', NULL, 'a hold is needed');

-- ---- idempotency_status ---------------------------------------------------------------

SELECT results_eq($$SELECT state, transaction_id FROM failsafe.idempotency_status('c1')$$,
	$$VALUES ('committed', pg_temp.t('c1'))$$, 'committed');
SELECT results_eq($$SELECT state FROM failsafe.idempotency_status('hold')$$, $$VALUES ('held')$$, 'held');
SELECT results_eq($$SELECT state FROM failsafe.idempotency_status('rollback_b')$$, $$VALUES ('rolled_back')$$, 'rolled back');
SELECT results_eq($$SELECT state FROM failsafe.idempotency_status('too_much')$$, $$VALUES ('declined')$$, 'declined');
SELECT results_eq($$SELECT state, first_seen_at, transaction_id FROM failsafe.idempotency_status('never')$$,
	$$VALUES ('none', NULL::timestamptz, NULL::text)$$, 'never used');
SELECT results_eq($$SELECT state FROM failsafe.idempotency_status('c1', 'app')$$, $$VALUES ('none')$$, 'scopes are apart');
DO $$ BEGIN PERFORM failsafe.idempotency_claim('job', '{}'); END $$;
SELECT results_eq($$SELECT state, transaction_id FROM failsafe.idempotency_status('job', 'app')$$,
	$$VALUES ('in_progress', NULL::text)$$, 'claimed and not completed');
DO $$ BEGIN PERFORM failsafe.idempotency_complete('job', '{"ok": true}'); END $$;
SELECT results_eq($$SELECT state FROM failsafe.idempotency_status('job', 'app')$$, $$VALUES ('committed')$$, 'completed');
SELECT throws_ok($$SELECT * FROM failsafe.idempotency_status(NULL)$$, 'SF003', NULL, 'a key is needed');
SELECT throws_ok($$SELECT * FROM failsafe.idempotency_status(' x')$$, 'SF002', NULL, 'a key has no outer blanks');
SELECT throws_ok($$SELECT * FROM failsafe.idempotency_status(repeat('x', 256))$$, 'SF002', NULL, 'a key has at most 255 bytes');
SELECT lives_ok($$SELECT * FROM failsafe.idempotency_status(repeat('x', 255))$$, 'and may have as many');
SELECT throws_ok($$SELECT * FROM failsafe.idempotency_status('x', 'no scope')$$, 'SF004', NULL, 'a scope has no blanks');

-- ---- trace ----------------------------------------------------------------------------

SELECT is((SELECT array_agg(object ORDER BY object) FROM failsafe.trace('move_ref') WHERE kind = 'transaction'),
	ARRAY[pg_temp.t('move'), pg_temp.t('back')], 'a reference leads to the transaction and its reversal');
CREATE FUNCTION pg_temp.trace_rows(id text) RETURNS text LANGUAGE sql
RETURN (SELECT string_agg(concat_ws(' ', t.at, t.kind, t.object, t.summary, t.actor), E'\n') FROM failsafe.trace(id) AS t);
SELECT is(pg_temp.trace_rows(other.id), pg_temp.trace_rows('move_ref'), 'the same by ' || other.kind)
FROM (VALUES ('key', 'move'), ('key:', 'key:back'), ('trace id', 'trace_1'), ('transaction', pg_temp.t('back'))) AS other (kind, id);
SELECT is(pg_temp.trace_rows((SELECT entry_id FROM failsafe.transactions WHERE idempotency_key = 'move')),
		  pg_temp.trace_rows('move_ref'), 'the same by entry');
SELECT is(pg_temp.trace_rows((SELECT o.event_id::text FROM failsafe.outbox AS o JOIN failsafe.journal AS j ON j.id = o.journal_id
							  WHERE j.key = 'back')), pg_temp.trace_rows('move_ref'), 'the same by event');
SELECT is((SELECT array_agg(kind || ' ' || n ORDER BY kind) FROM (
			SELECT kind, count(*) AS n FROM failsafe.trace('order_1') GROUP BY kind) AS k),
	'{account 2,entry 2,event 2,hold 1,transaction 2}'::text[], 'a hold with its capture');
SELECT is_empty($$SELECT * FROM failsafe.trace('nothing of the kind')$$, 'nothing known, nothing shown');
SELECT is_empty($$SELECT * FROM failsafe.trace(gen_random_uuid()::text)$$, 'nor of an unknown event');
SELECT throws_ok($$SELECT * FROM failsafe.trace(NULL)$$, 'SF038', NULL, 'an id is needed');

-- ---- views ----------------------------------------------------------------------------

SELECT results_eq($$SELECT posted, held, available, version FROM failsafe.accounts WHERE code = 'a'$$,
	$$SELECT posted, held, available, version FROM failsafe.account_balance('a')$$, 'view accounts');
SELECT results_eq($$SELECT held FROM failsafe.accounts WHERE code = 'b'$$,
	$$SELECT held FROM failsafe.account_balance('b')$$, 'and without what has expired');
SELECT is((SELECT count(*) FROM failsafe.transactions), (SELECT count(*) FROM failsafe.journal), 'view transactions');
SELECT is((SELECT count(*) FROM failsafe.entries), (SELECT count(*) FROM failsafe.entry), 'view entries');
SELECT is((SELECT array_agg(status ORDER BY hold_id) FROM failsafe.hold_list), '{open,rolled_back,expired}'::text[], 'view hold_list');

-- ---- the last refusals ------------------------------------------------------------------

SELECT throws_ok($$SELECT failsafe.wallet_debit('nobody', 1, 'EUR', 'refused_key_1')$$, 'SF016', NULL, 'a refusal');
SELECT is((SELECT code FROM failsafe.last_refusals LIMIT 1), 'ACCOUNT_UNKNOWN', 'is the newest of last_refusals');
SELECT is((SELECT session_user_name || ' ' || (pid = pg_backend_pid()) || ' ' || (detail ~ 'nobody')
				  || ' ' || (detail ~ 'refused_key_1') FROM failsafe.last_refusals LIMIT 1),
	session_user || ' true true false', 'with who it was and its fields, keys masked');

SELECT * FROM finish();
ROLLBACK;
