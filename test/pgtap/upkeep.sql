-- Checkpoints, doctor(), maintain(), which tenant sees what, and look-ups on big tables.
\set ON_ERROR_STOP on
\set QUIET on
SET client_min_messages = warning;
SELECT plan(43);

-- ---- checkpoints (outside of a transaction: a writer holds its own horizon back) ------

SELECT count(*) AS n FROM generate_series(1, 20000) AS i,
	LATERAL failsafe.account_open('w' || i % 50, 'EUR') WHERE i <= 50 \gset
SELECT count(*) AS n FROM generate_series(1, 20000) AS i,
	LATERAL failsafe.wallet_credit('w' || i % 50, i, 'EUR', 'k' || i, reference => 'r' || i / 10) \gset
SELECT failsafe._system_posted(a.id) AS before FROM failsafe.account AS a WHERE a.code = 'world:EUR' \gset

SELECT is((SELECT accounts FROM failsafe.ledger_checkpoint(options => '{"min_entries": 1000000}')),
		  0::int8, 'an account with few new entries gets no checkpoint');
SELECT results_eq($$SELECT accounts, note FROM failsafe.ledger_checkpoint()$$, $$VALUES (1::int8, 'up to e_20481023')$$,
		  'one with many gets one');
SELECT results_eq($$SELECT entry_id, entry_count, posted FROM failsafe.checkpoint$$,
		  $$VALUES (20481023::int8, 20000::int8, -200010000::numeric)$$, 'which sums all of its entries');
SELECT results_eq($$SELECT accounts, note FROM failsafe.ledger_checkpoint()$$, $$VALUES (0::int8, 'up to e_20481023')$$,
		  'nothing new, nothing done');
SELECT is(failsafe._system_posted(a.id), :before::numeric, 'the balance stays')
FROM failsafe.account AS a WHERE a.code = 'world:EUR';
SELECT count(*) AS n FROM generate_series(1, 10) AS i,
	LATERAL failsafe.wallet_debit('w' || i, 1, 'EUR', 'd' || i) \gset
SELECT is(failsafe._system_posted(a.id), :before + 10::numeric, 'and goes on from the checkpoint')
FROM failsafe.account AS a WHERE a.code = 'world:EUR';
SELECT is((SELECT accounts FROM failsafe.ledger_checkpoint(options => '{"min_entries": 10}')), 1::int8, 'a second one');
SELECT is(failsafe._system_posted(a.id), :before + 10::numeric, 'and the same balance again')
FROM failsafe.account AS a WHERE a.code = 'world:EUR';
SELECT is_empty($$SELECT * FROM failsafe.ledger_verify()$$, 'the books balance');
SELECT is_empty($$SELECT * FROM failsafe.ledger_verify('{"quick": true}')$$, 'by the quick way too');
SELECT throws_ok($$SELECT * FROM failsafe.ledger_checkpoint(0)$$, 'SF041', NULL, 'no account is refused');
SELECT throws_ok($$SELECT * FROM failsafe.ledger_checkpoint(NULL)$$, 'SF038', NULL, 'a number is needed');
SELECT throws_ok($$SELECT * FROM failsafe.ledger_checkpoint(options => '{"min_entries": 0}')$$, 'SF041', NULL, 'at least one entry');

BEGIN READ ONLY;
SELECT throws_ok($$SELECT * FROM failsafe.ledger_checkpoint()$$, '25006', NULL, 'not in a read-only transaction');
SELECT is_empty($$SELECT * FROM failsafe.ledger_verify('{"account": "w1"}')$$, 'ledger_verify() works there');
SELECT is((SELECT count(*) FROM failsafe.account_statement('w1')), 100::int8, 'and account_statement()');
SELECT is((SELECT final FROM failsafe.account_balance_at('w1', now() - interval '1 hour')), true, 'and account_balance_at()');
SELECT is((SELECT state FROM failsafe.idempotency_status('k1')), 'committed', 'and idempotency_status()');
SELECT isnt_empty($$SELECT * FROM failsafe.trace('k1')$$, 'and trace()');
SELECT isnt_empty($$SELECT * FROM failsafe.doctor()$$, 'and doctor()');
ROLLBACK;

BEGIN;
SELECT failsafe.account_open('writes_first', 'EUR') IS NOT NULL AS done \gset
SELECT results_eq($$SELECT accounts FROM failsafe.ledger_checkpoint()$$, $$VALUES (0::int8)$$,
		  'a transaction that has written holds the horizon back');
ROLLBACK;

-- ---- no sequential scan ---------------------------------------------------------------

ANALYZE failsafe.journal, failsafe.entry, failsafe.idempotency_key, failsafe.account, failsafe.outbox;
BEGIN;
CREATE TEMP TABLE read_before AS
SELECT relid, seq_tup_read FROM pg_stat_xact_all_tables WHERE schemaname = 'failsafe';
SELECT count(*) AS n FROM unnest(ARRAY['k77', 'key:k78', 'r79', 't_80', 'e_82944', 'e_82945', 'h_83', 'none']) AS id,
	LATERAL failsafe.trace(id) \gset
SELECT count(*) AS n FROM failsafe.trace((SELECT e.event_id::text FROM failsafe.events AS e WHERE e.seq = 100 AND e.lane = 0)) \gset
SELECT count(*) AS n FROM failsafe.account_statement('w1', max_rows => 5) \gset
SELECT count(*) AS n FROM failsafe.account_balance_at('w1', now() - interval '1 second') \gset
SELECT count(*) AS n FROM failsafe.account_balance_at('world:EUR', now() + interval '1 second') \gset
SELECT is_empty($$SELECT now.relname, now.seq_tup_read - coalesce(before.seq_tup_read, 0)
	FROM pg_stat_xact_all_tables AS now LEFT JOIN read_before AS before USING (relid)
	WHERE now.schemaname = 'failsafe' AND now.seq_tup_read - coalesce(before.seq_tup_read, 0) > 10000$$,
	'trace(), statements and balances at a time never read a big table from end to end');
ROLLBACK;

-- ---- tenants --------------------------------------------------------------------------

SELECT tenant_add IS NOT NULL AS done FROM failsafe.tenant_add('second') \gset
BEGIN;
CREATE ROLE failsafe_test_reader LOGIN IN ROLE failsafe_reader;
CREATE ROLE failsafe_test_operator LOGIN IN ROLE failsafe_operator;
SET LOCAL failsafe.tenant = 'second';
SELECT code AS done FROM failsafe.account_open('w1', 'EUR') \gset
SELECT status AS done FROM failsafe.wallet_credit('w1', 5, 'EUR', 'k1', reference => 'r1') \gset
SELECT is((SELECT posted FROM failsafe.account_balance_at('w1', 'infinity')), 5::numeric, 'an account of one''s own tenant');
SELECT is((SELECT count(*) FROM failsafe.account_statement('w1')), 1::int8, 'and its statement');

SELECT e.event_id AS foreign_event FROM failsafe.events AS e WHERE e.seq = 100 AND e.lane = 0 \gset

SET LOCAL ROLE failsafe_test_reader;
SELECT is((SELECT count(*) FROM failsafe.accounts), 2::int8, 'a reader sees the accounts of his tenant');
SELECT is((SELECT count(*) FROM failsafe.transactions), 1::int8, 'its transactions');
SELECT is((SELECT count(*) FROM failsafe.entries), 2::int8, 'its entries');
SELECT is((SELECT count(*) FROM failsafe.account_changes), 2::int8, 'its account changes');
SELECT is((SELECT count(*) FROM failsafe.trace('r1') WHERE kind = 'transaction'), 1::int8, 'and traces only them');
SELECT is_empty($$SELECT * FROM failsafe.trace('k2')$$, 'a key of another tenant leads nowhere');
SELECT is_empty($$SELECT * FROM failsafe.trace('t_2')$$, 'nor does a transaction');
SELECT is_empty(format('SELECT * FROM failsafe.trace(%L)', :'foreign_event'), 'nor an event');
SELECT throws_ok($$SELECT count(*) FROM failsafe.journal$$, '42501', NULL, 'tables are closed');
SELECT throws_ok($$SELECT * FROM failsafe.maintain()$$, '42501', NULL, 'upkeep is for operators');
SET LOCAL ROLE failsafe_test_operator;
SELECT ok((SELECT count(*) > 20000 FROM failsafe.transactions), 'an operator sees all tenants');
SELECT is((SELECT count(DISTINCT object) FROM failsafe.trace('r1') WHERE kind = 'transaction'), 11::int8, 'and traces all');
RESET ROLE;

-- ---- doctor ---------------------------------------------------------------------------

SELECT is((SELECT string_agg(check_name || ': ' || detail, '; ') FROM failsafe.doctor()
		   WHERE status = 'error' AND check_name <> 'setting fsync'), NULL, 'doctor() finds no error');
SELECT is((SELECT count(*) FROM failsafe.doctor() WHERE status NOT IN ('ok', 'info', 'warning', 'error')
				OR check_name IS NULL OR detail IS NULL OR (status IN ('warning', 'error') AND hint IS NULL)),
		  0::int8, 'every row is complete');
ALTER EVENT TRIGGER failsafe_drop_guard DISABLE;
ALTER TABLE failsafe.journal DISABLE TRIGGER failsafe_guard;
ALTER TABLE failsafe.outbox_2_03 ENABLE REPLICA TRIGGER failsafe_guard;
ALTER TABLE failsafe.entry ADD COLUMN note text;
GRANT INSERT ON failsafe.hold TO failsafe_app;
GRANT EXECUTE ON FUNCTION failsafe.trace(text, jsonb) TO PUBLIC;
SELECT setval('failsafe.journal_id_seq', 5) AS done \gset
SELECT results_eq(
	$$SELECT check_name, status FROM failsafe.doctor()
	  WHERE status IN ('warning', 'error') AND check_name !~ '^setting' ORDER BY check_name, status$$,
	$$VALUES ('drop_guard', 'error'), ('guards', 'error'), ('privileges', 'warning'), ('privileges', 'warning'),
			 ('sequences', 'error'), ('tables', 'error')$$, 'doctor() finds what was done by hand');
SELECT is((SELECT detail FROM failsafe.doctor() WHERE check_name = 'guards'),
		  'missing or not enabled always on: journal, outbox_2_03', 'and names it');
ALTER TABLE failsafe.checkpoint RENAME TO gone;
SELECT is((SELECT status FROM failsafe.doctor() WHERE check_name = 'upkeep'), 'error',
		  'what it cannot check is a row, not a failure');
ROLLBACK;
SELECT setval('failsafe.journal_id_seq', max(j.id)) AS done FROM failsafe.journal AS j \gset

-- ---- maintain -------------------------------------------------------------------------

SET failsafe.tenant = 'default';
SELECT status AS done FROM failsafe.wallet_hold('w1', 10, 'EUR', 'short', '1 second') \gset
SELECT pg_sleep(1.1) AS done \gset
SELECT results_eq($$SELECT task, done, note LIKE 'failed%' FROM failsafe.maintain()$$,
	$$VALUES ('checkpoint', 0::int8, false), ('holds', 1, NULL), ('application_keys', 0, NULL), ('deliveries', 0, NULL), ('outbox', 0, NULL)$$,
	'maintain() does what is due');
SELECT throws_ok($$SELECT * FROM failsafe.maintain('{"x": 1}')$$, 'SF041', NULL, 'and knows no option');

SELECT * FROM finish();
