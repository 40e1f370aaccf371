-- Bad input gets a clear error and changes nothing.
SET search_path = failsafe, public;
\pset format unaligned
\pset tuples_only on

SELECT code FROM account_open('bad_a', 'EUR');
SELECT code FROM account_open('bad_b', 'EUR');
SELECT code FROM account_open('bad_usd', 'USD');
SELECT code FROM account_open('bad_closed', 'EUR');
SELECT code FROM account_open('bad_frozen', 'EUR');
SELECT code FROM account_open('bad_free', 'EUR', floor => NULL);
SELECT code FROM account_open('bad_system', 'EUR', 'system');
SELECT status FROM account_close('bad_closed', 'test');
SELECT status FROM account_freeze('bad_frozen', 'test');
SELECT status FROM wallet_credit('bad_a', 1000, 'EUR', 'bad_seed');
SELECT status FROM wallet_transfer('bad_a', 'bad_b', 100, 'EUR', 'bad_move');
SELECT status FROM wallet_reverse('key:bad_move', 'bad_back', 40);
SELECT status FROM wallet_hold('bad_a', 100, 'EUR', 'bad_hold');
SELECT status FROM wallet_hold('bad_a', 10, 'EUR', 'bad_gone');
SELECT status FROM wallet_rollback('key:bad_gone', 'bad_gone_r');
SELECT status FROM wallet_hold('bad_a', 10, 'EUR', 'bad_taken');
SELECT status FROM wallet_commit('key:bad_taken', 'bad_taken_c');
SELECT status FROM wallet_debit('bad_a', 1000000, 'EUR', 'bad_declined', on_decline => 'record');
SELECT status FROM ledger_post(ARRAY[('bad_a', -3, 'EUR'), ('bad_b', 2, 'EUR'), ('bad_system', 1, 'EUR')]::leg[], 'bad_post');
SELECT testing.state() AS before \gset

-- Amounts
SELECT left(v.amount, 20) || ': ' || testing.refuse(format($$SELECT wallet_debit('bad_a', %L, 'EUR', 'bad_1')$$, v.amount))
FROM (VALUES ('NaN'), ('Infinity'), ('-Infinity'), ('0'), ('-1'), ('50.00'), ('0.5'), ('1e36'), ('1e40'),
	('1' || repeat('0', 131071)), ('1e-1000')) AS v (amount);
SELECT 'NULL: ' || testing.refuse($$SELECT wallet_debit('bad_a', NULL, 'EUR', 'bad_1')$$);
SELECT v.amount || ': ' || testing.refuse(format($$SELECT wallet_commit('key:bad_hold', 'bad_1', amount => %L)$$, v.amount))
FROM (VALUES ('NaN'), ('0'), ('-1'), ('1.5')) AS v (amount);
SELECT v.amount || ': ' || testing.refuse(format($$SELECT wallet_reverse('key:bad_move', 'bad_1', amount => %L)$$, v.amount))
FROM (VALUES ('NaN'), ('0'), ('-1'), ('1.5')) AS v (amount);

-- A balance beyond 10^38 - 1
DO $$
BEGIN
	FOR i IN 1 .. 99 LOOP
		PERFORM failsafe.wallet_debit('bad_free', 999999999999999999999999999999999999, 'EUR', 'bad_of_' || i);
	END LOOP;
END
$$;
SELECT testing.refuse($$SELECT wallet_debit('bad_free', 999999999999999999999999999999999999, 'EUR', 'bad_of_100')$$);
SELECT testing.refuse($$SELECT wallet_debit('bad_free', 999999999999999999999999999999999999, 'EUR', 'bad_of_101')$$);
SELECT testing.refuse($$SELECT wallet_hold('bad_free', 999999999999999999999999999999999999, 'EUR', 'bad_of_102')$$);
SELECT posted FROM account_balance('bad_free');
SELECT testing.state() AS before \gset

-- Accounts
SELECT v.what || ': ' || testing.refuse('SELECT ' || v.what)
FROM (VALUES
	($$wallet_debit('bad_none', 1, 'EUR', 'bad_1')$$),
	($$wallet_debit('bad_closed', 1, 'EUR', 'bad_1')$$),
	($$wallet_credit('bad_closed', 1, 'EUR', 'bad_1')$$),
	($$wallet_debit('bad_frozen', 1, 'EUR', 'bad_1')$$),
	($$wallet_debit('bad_a', 1, 'EUR', 'bad_1', counterparty => 'bad_none')$$),
	($$wallet_debit('bad_a', 1, 'EUR', 'bad_1', counterparty => 'bad_a')$$),
	($$wallet_transfer('bad_a', 'bad_a', 1, 'EUR', 'bad_1')$$),
	($$wallet_debit('world:EUR', 1, 'EUR', 'bad_1')$$),
	($$wallet_debit('world:XXX', 1, 'EUR', 'bad_1')$$),
	($$wallet_transfer('bad_a', NULL, 1, 'EUR', 'bad_1')$$),
	($$wallet_debit(NULL, 1, 'EUR', 'bad_1')$$),
	($$wallet_debit('', 1, 'EUR', 'bad_1')$$),
	($$wallet_debit('bad a', 1, 'EUR', 'bad_1')$$),
	($$wallet_debit(E'bad\ta', 1, 'EUR', 'bad_1')$$),
	($$wallet_hold('bad_system', 1, 'EUR', 'bad_1')$$),
	($$wallet_debit('bad_system', 1, 'EUR', 'bad_1', options => '{"expected_version": 1}')$$)) AS v (what);
SELECT testing.refuse(format($$SELECT wallet_debit(%L, 1, 'EUR', 'bad_1')$$, repeat('x', 129)));
SELECT testing.refuse(format($$SELECT wallet_debit(%L, 1, 'EUR', 'bad_1')$$, repeat('x', 128)));

-- Currencies
SELECT v.what || ': ' || testing.refuse('SELECT ' || v.what)
FROM (VALUES
	($$wallet_debit('bad_a', 1, 'XYZ', 'bad_1')$$),
	($$wallet_debit('bad_a', 1, 'eur', 'bad_1')$$),
	($$wallet_debit('bad_a', 1, ' EUR', 'bad_1')$$),
	($$wallet_debit('bad_a', 1, '', 'bad_1')$$),
	($$wallet_debit('bad_a', 1, NULL, 'bad_1')$$),
	($$wallet_debit('bad_a', 1, 'USD', 'bad_1')$$),
	($$wallet_transfer('bad_a', 'bad_usd', 1, 'EUR', 'bad_1')$$),
	($$wallet_commit('key:bad_hold', 'bad_1', counterparty => 'bad_usd')$$),
	($$account_open('bad_x', 'XYZ')$$),
	($$currency_add('bad', 2)$$),
	($$currency_add('BAD', 25)$$),
	($$currency_add('EUR', 3)$$)) AS v (what);

-- Keys: empty, too long, blank at an end, control characters, NULL
SELECT testing.refuse(format($$SELECT wallet_debit('bad_a', 1, 'EUR', %L)$$, v.key))
FROM (VALUES (NULL), (''), (' x'), ('x '), (E'\tx'), (E'x\ny'), (E'x\x7f'), (repeat('k', 256)), (repeat('ä', 128))) AS v (key);
-- the longest one is fine, and bytes decide
SELECT status FROM wallet_credit('bad_b', 1, 'EUR', repeat('k', 255));
SELECT status, replayed FROM wallet_credit('bad_b', 1, 'EUR', repeat('k', 255));
SELECT status, replayed FROM wallet_credit('bad_b', 1, 'EUR', 'bad_Key');
SELECT status, replayed FROM wallet_credit('bad_b', 1, 'EUR', 'bad_key');
SELECT status, replayed FROM wallet_credit('bad_b', 1, 'EUR', U&'bad_\00e4');
SELECT status, replayed FROM wallet_credit('bad_b', 1, 'EUR', U&'bad_a\0308');
-- bytes that are no text never get here
SELECT testing.refuse($$SELECT wallet_debit('bad_a', 1, 'EUR', convert_from('\xff', 'UTF8'))$$);
SELECT testing.refuse($$SELECT wallet_debit('bad_a', 1, 'EUR', E'x\xc3')$$);
SELECT testing.state() AS before \gset

-- Texts and options
SELECT v.what || ': ' || testing.refuse('SELECT ' || v.what)
FROM (VALUES
	($$wallet_debit('bad_a', 1, 'EUR', 'bad_1', reference => E'a\nb')$$),
	($$wallet_debit('bad_a', 1, 'EUR', 'bad_1', reference => '')$$),
	($$wallet_debit('bad_a', 1, 'EUR', 'bad_1', reason => E'\x01')$$),
	($$wallet_debit('bad_a', 1, 'EUR', 'bad_1', on_decline => 'ignore')$$),
	($$wallet_debit('bad_a', 1, 'EUR', 'bad_1', metadata => '[1]')$$),
	($$wallet_debit('bad_a', 1, 'EUR', 'bad_1', options => '[1]')$$),
	($$wallet_debit('bad_a', 1, 'EUR', 'bad_1', options => '{"versoin": 1}')$$),
	($$wallet_debit('bad_a', 1, 'EUR', 'bad_1', options => '{"expected_version": "1"}')$$),
	($$wallet_debit('bad_a', 1, 'EUR', 'bad_1', options => '{"expected_version": 1.5}')$$),
	($$wallet_debit('bad_a', 1, 'EUR', 'bad_1', options => '{"min_available": "many"}')$$),
	($$wallet_debit('bad_a', 1, 'EUR', 'bad_1', options => '{"effective_at": "yesterday"}')$$),
	($$wallet_debit('bad_a', 1, 'EUR', 'bad_1', options => '{"effective_at": "infinity"}')$$),
	($$wallet_debit('bad_a', 1, 'EUR', 'bad_1', options => '{"effective_at": "2999-01-01T00:00:00Z"}')$$),
	($$wallet_debit('bad_a', 1, 'EUR', 'bad_1', options => '{"trace_id": ""}')$$),
	($$wallet_debit('bad_a', 1, 'EUR', 'bad_1', options => '{"traceparent": "00-00000000000000000000000000000000-b7ad6b7169203331-01"}')$$),
	($$wallet_debit('bad_a', 1, 'EUR', 'bad_1', options => '{"traceparent": "00-0af7"}')$$),
	($$wallet_rollback('key:bad_hold', 'bad_1', options => '{"min_available": 1}')$$),
	($$wallet_hold('bad_a', 1, 'EUR', 'bad_1', options => '{"effective_at": "2020-01-01T00:00:00Z"}')$$),
	($$account_open('bad_x', 'EUR', options => '{"x": 1}')$$),
	($$account_open('bad_x', 'EUR', kind => 'purse')$$),
	($$account_open('bad_x', 'EUR', metadata => '1')$$),
	($$account_open('bad x', 'EUR')$$),
	($$account_open('world:EUR', 'EUR')$$),
	($$account_open('world:', 'EUR')$$),
	($$account_open(NULL, 'EUR')$$),
	($$account_open('bad_x', NULL)$$),
	($$account_open('bad_x', 'EUR', floor => 0.5)$$),
	($$account_open('bad_x', 'EUR', floor => 'NaN')$$),
	($$account_open('bad_x', 'EUR', floor => 'Infinity')$$),
	($$account_open('bad_x', 'EUR', ceiling => '-Infinity')$$),
	($$account_open('bad_x', 'EUR', floor => 10, ceiling => 9)$$),
	($$account_open('bad_x', 'EUR', floor => 1e38)$$),
	($$account_open('bad_x', 'EUR', kind => 'system', floor => 5)$$),
	($$account_set_limits('bad_a', 10, 5, 'test')$$),
	($$account_set_limits('bad_a', 10, NULL, NULL)$$),
	($$account_set_limits('bad_system', 10, NULL, 'test')$$),
	($$account_set_limits('bad_none', 10, NULL, 'test')$$),
	($$account_freeze('bad_a', NULL)$$),
	($$account_freeze('bad_a', '')$$),
	($$account_freeze('bad_a', 'test', scope => 'in')$$),
	($$account_freeze('bad_none', 'test')$$),
	($$account_close('bad_a', 'test')$$),
	($$account_unfreeze('bad_closed', 'test')$$),
	($$account_balance('bad_none')$$),
	($$account_balance(NULL)$$),
	($$holds_sweep(0)$$),
	($$holds_sweep(10001)$$)) AS v (what);
SELECT testing.refuse(format($$SELECT wallet_debit('bad_a', 1, 'EUR', 'bad_1', reference => %L)$$, repeat('r', 256)));
SELECT testing.refuse(format($$SELECT wallet_debit('bad_a', 1, 'EUR', 'bad_1', reason => %L)$$, repeat('r', 1001)));
SELECT testing.refuse(format($$SELECT wallet_debit('bad_a', 1, 'EUR', 'bad_1', metadata => %L)$$, json_build_object('x', repeat('m', 20000))));

-- Legs
SELECT v.what || ': ' || testing.refuse(format('SELECT ledger_post(%s, %L)', v.what, 'bad_1'))
FROM (VALUES
	('NULL'),
	($$'{}'$$),
	($$ARRAY[('bad_a', -1, 'EUR')]::leg[]$$),
	($$ARRAY[('bad_a', -1, 'EUR'), ('bad_b', 2, 'EUR')]::leg[]$$),
	($$ARRAY[('bad_a', -1, 'EUR'), ('bad_usd', 1, 'USD')]::leg[]$$),
	($$ARRAY[('bad_a', -1, 'EUR'), NULL]::leg[]$$),
	($$ARRAY[('bad_a', -1, 'EUR'), (NULL, 1, 'EUR')]::leg[]$$),
	($$ARRAY[('bad_a', -1, 'EUR'), ('bad_b', NULL, 'EUR')]::leg[]$$),
	($$ARRAY[('bad_a', -1, 'EUR'), ('bad_b', 1, NULL)]::leg[]$$),
	($$ARRAY[('bad_a', 0, 'EUR'), ('bad_b', 0, 'EUR')]::leg[]$$),
	($$ARRAY[('bad_a', -1.0, 'EUR'), ('bad_b', 1.0, 'EUR')]::leg[]$$),
	($$ARRAY[('bad_a', 'NaN', 'EUR'), ('bad_b', 'NaN', 'EUR')]::leg[]$$),
	($$ARRAY[('bad_a', -1e36, 'EUR'), ('bad_b', 1e36, 'EUR')]::leg[]$$),
	($$ARRAY[('bad_a', -1, 'EUR'), ('bad_none', 1, 'EUR')]::leg[]$$),
	($$ARRAY[('bad_a', -1, 'EUR'), ('bad_usd', 1, 'EUR')]::leg[]$$),
	($$ARRAY[('bad_a', -100000, 'EUR'), ('bad_b', 100000, 'EUR')]::leg[]$$),
	($$array_fill(('bad_a', 1, 'EUR')::leg, '{1001}')$$)) AS v (what);

-- Holds
SELECT v.what || ': ' || testing.refuse('SELECT ' || v.what)
FROM (VALUES
	($$wallet_hold('bad_a', 1, 'EUR', 'bad_1', expires_in => '0')$$),
	($$wallet_hold('bad_a', 1, 'EUR', 'bad_1', expires_in => '-1 day')$$),
	($$wallet_hold('bad_a', 1, 'EUR', 'bad_1', expires_in => '999 ms')$$),
	($$wallet_hold('bad_a', 1, 'EUR', 'bad_1', expires_in => '401 days')$$),
	($$wallet_hold('bad_a', 1, 'EUR', 'bad_1', expires_in => '178000000 years')$$),
	($$wallet_hold('bad_a', 1, 'EUR', 'bad_1', expires_in => '1200 months -800000 hours')$$),
	($$wallet_hold('bad_a', 100000, 'EUR', 'bad_1')$$),
	($$wallet_commit('key:bad_hold', 'bad_1', 101)$$),
	($$wallet_commit('key:bad_gone', 'bad_1')$$),
	($$wallet_commit('key:bad_taken', 'bad_1')$$),
	($$wallet_commit('key:bad_none', 'bad_1')$$),
	($$wallet_commit('h_999999999', 'bad_1')$$),
	($$wallet_commit('h_', 'bad_1')$$),
	($$wallet_commit('h_0', 'bad_1')$$),
	($$wallet_commit('h_-1', 'bad_1')$$),
	($$wallet_commit('h_99999999999999999999', 'bad_1')$$),
	($$wallet_commit('hold', 'bad_1')$$),
	($$wallet_commit('key:', 'bad_1')$$),
	($$wallet_commit('', 'bad_1')$$),
	($$wallet_commit(NULL, 'bad_1')$$),
	($$wallet_commit('key:bad_move', 'bad_1')$$),
	($$wallet_commit('key:bad_hold', 'bad_1', counterparty => 'bad_a')$$),
	($$wallet_commit('key:bad_hold', 'bad_1', counterparty => 'bad_none')$$),
	($$wallet_commit('key:bad_hold', 'bad_1', counterparty => 'bad_closed')$$),
	($$wallet_rollback('key:bad_taken', 'bad_1')$$),
	($$wallet_rollback('key:bad_move', 'bad_1')$$),
	($$wallet_extend('key:bad_gone', 'bad_1')$$),
	($$wallet_extend('key:bad_hold', 'bad_1', '401 days')$$),
	($$wallet_extend('key:bad_none', 'bad_1')$$),
	($$hold_get('key:bad_none')$$),
	($$hold_history('key:bad_move')$$),
	($$holds('bad_none')$$)) AS v (what);

-- Reversals
SELECT v.what || ': ' || testing.refuse(format('SELECT wallet_reverse(%s)', v.what))
FROM (VALUES
	($$'key:bad_back', 'bad_1'$$),
	($$'key:bad_move', 'bad_1', 61$$),
	($$'key:bad_hold', 'bad_1'$$),
	($$'key:bad_gone_r', 'bad_1'$$),
	($$'key:bad_declined', 'bad_1'$$),
	($$'key:bad_none', 'bad_1'$$),
	($$'key:bad_post', 'bad_1', 1$$),
	($$'t_999999999', 'bad_1'$$),
	($$'e_999999999', 'bad_1'$$),
	($$'h_1', 'bad_1'$$),
	($$'x', 'bad_1'$$),
	($$NULL, 'bad_1'$$)) AS v (what);

-- The wrong door: a foreign tenant sees nothing of all this
BEGIN;
SELECT name, created FROM tenant_add('bad_tenant');
SET failsafe.tenant = 'bad_tenant';
SELECT v.what || ': ' || testing.refuse('SELECT ' || v.what)
FROM (VALUES
	($$wallet_debit('bad_a', 1, 'EUR', 'bad_1')$$),
	($$wallet_commit('key:bad_hold', 'bad_1')$$),
	($$wallet_reverse('key:bad_move', 'bad_1')$$),
	($$account_balance('bad_a')$$)) AS v (what);
SET failsafe.tenant = 'default';
SELECT 'h_' || id AS hold FROM hold WHERE id = (SELECT journal_id FROM idempotency_key WHERE key = 'bad_hold') \gset
SELECT 't_' || journal_id AS transaction FROM idempotency_key WHERE key = 'bad_move' \gset
SET failsafe.tenant = 'bad_tenant';
SELECT testing.refuse(format('SELECT wallet_commit(%L, %L)', :'hold', 'bad_1')) ~ 'SF030' AS unknown_hold,
	testing.refuse(format('SELECT wallet_reverse(%L, %L)', :'transaction', 'bad_1')) ~ 'SF031' AS unknown_transaction;
SET failsafe.tenant = 'bad_nobody';
SELECT testing.refuse($$SELECT wallet_debit('bad_a', 1, 'EUR', 'bad_1')$$);
RESET failsafe.tenant;
SELECT testing.refuse($$SELECT wallet_debit('bad_a', 1, 'EUR', 'bad_1')$$);
ROLLBACK;
-- the tenant is gone again
SELECT status, replayed FROM wallet_credit('bad_b', 1, 'EUR', 'bad_key');
SET failsafe.tenant = 'bad_tenant';
SELECT testing.refuse($$SELECT wallet_debit('bad_a', 1, 'EUR', 'bad_1')$$);
RESET failsafe.tenant;

-- A READ ONLY transaction, also where it would replay; reports work there
\set VERBOSITY sqlstate
BEGIN READ ONLY;
SAVEPOINT s;
SELECT status FROM wallet_debit('bad_a', 1, 'EUR', 'bad_1');
ROLLBACK TO s;
SELECT status FROM wallet_credit('bad_a', 1000, 'EUR', 'bad_seed');
ROLLBACK TO s;
SELECT body FROM wallet_http('{"command": "debit"}');
ROLLBACK TO s;
SELECT code FROM account_open('bad_x', 'EUR');
ROLLBACK TO s;
SELECT status FROM account_freeze('bad_a', 'test');
ROLLBACK TO s;
SELECT holds_sweep();
ROLLBACK TO s;
SELECT posted FROM account_balance('bad_b');
SELECT state FROM idempotency_status('bad_seed');
SELECT status FROM hold_get('key:bad_hold');
SELECT count(*) FROM testing.faults();
COMMIT;
\set VERBOSITY default

-- Our objects are not changed by hand
SELECT v.what || ': ' || testing.refuse(v.what)
FROM (VALUES
	('UPDATE balance SET posted = posted + 1'),
	('UPDATE account SET code = code'),
	('UPDATE journal SET reason = NULL'),
	('UPDATE entry SET amount = 0'),
	('UPDATE hold SET status = status'),
	('UPDATE reversible SET reversed = 0'),
	('UPDATE idempotency_key SET key = key'),
	('UPDATE outbox SET payload = payload'),
	('UPDATE account_change SET reason = NULL'),
	('DELETE FROM journal'),
	('DELETE FROM idempotency_key WHERE key = ''bad_seed'''),
	('DELETE FROM balance WHERE false'),
	('TRUNCATE entry'),
	('TRUNCATE outbox'),
	('ALTER TABLE journal ADD COLUMN x int'),
	('ALTER TABLE journal DISABLE TRIGGER ALL'),
	('ALTER TABLE balance ADD CHECK (posted > 0)'),
	('CREATE TRIGGER x BEFORE INSERT ON journal EXECUTE FUNCTION suppress_redundant_updates_trigger()'),
	('CREATE RULE x AS ON INSERT TO journal DO INSTEAD NOTHING'),
	('CREATE POLICY x ON journal'),
	('DROP INDEX journal_id'),
	('ALTER SEQUENCE journal_id_seq RESTART'),
	('ALTER TABLE entry RENAME TO entries_old'),
	('DROP TABLE journal'),
	('DROP TRIGGER failsafe_guard ON journal'),
	('DROP EVENT TRIGGER failsafe_drop_guard'),
	('DROP FUNCTION wallet_debit'),
	('DROP SCHEMA failsafe CASCADE'),
	('DROP EXTENSION pg_failsafe'),
	('DROP EXTENSION pg_failsafe CASCADE')) AS v (what);

-- Nothing changed, and the key that all of them named is free
SELECT testing.state() = :'before' AS unchanged;
SELECT state FROM idempotency_status('bad_1');
SELECT status, replayed FROM wallet_debit('bad_a', 1, 'EUR', 'bad_1');
SELECT * FROM testing.faults();
