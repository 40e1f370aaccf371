-- Idempotency keys in one session: savepoints, twice in a transaction or a
-- statement, isolation levels, prepared transactions.
SET search_path = failsafe, public;

SELECT code FROM account_open('key_a', 'EUR');
SELECT s.status FROM wallet_credit('key_a', 1000, 'EUR', 'key_seed') AS r, testing.show(r) AS s;

-- A key that was rolled back is free; its effect is gone
BEGIN;
SELECT s.posted, s.replayed FROM wallet_debit('key_a', 1, 'EUR', 'key_1') AS r, testing.show(r) AS s;
ROLLBACK;
SELECT state FROM idempotency_status('key_1');
SELECT s.posted, s.replayed FROM wallet_debit('key_a', 2, 'EUR', 'key_1') AS r, testing.show(r) AS s;

-- The same with a savepoint, at each isolation level
BEGIN;
SAVEPOINT s;
SELECT s.posted, s.replayed FROM wallet_debit('key_a', 1, 'EUR', 'key_2') AS r, testing.show(r) AS s;
ROLLBACK TO s;
SELECT s.posted, s.replayed FROM wallet_debit('key_a', 3, 'EUR', 'key_2') AS r, testing.show(r) AS s;
SELECT s.posted, s.replayed FROM wallet_debit('key_a', 3, 'EUR', 'key_2') AS r, testing.show(r) AS s;
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SAVEPOINT s;
SELECT s.posted, s.replayed FROM wallet_debit('key_a', 1, 'EUR', 'key_3') AS r, testing.show(r) AS s;
ROLLBACK TO s;
SELECT s.posted, s.replayed FROM wallet_debit('key_a', 3, 'EUR', 'key_3') AS r, testing.show(r) AS s;
SELECT s.posted, s.replayed FROM wallet_debit('key_a', 3, 'EUR', 'key_3') AS r, testing.show(r) AS s;
SELECT posted, version FROM account_balance('key_a');
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SAVEPOINT s;
SELECT s.posted, s.replayed FROM wallet_debit('key_a', 1, 'EUR', 'key_4') AS r, testing.show(r) AS s;
ROLLBACK TO s;
SELECT s.posted, s.replayed FROM wallet_debit('key_a', 3, 'EUR', 'key_4') AS r, testing.show(r) AS s;
RELEASE s;
SELECT s.posted, s.replayed FROM wallet_debit('key_a', 3, 'EUR', 'key_4') AS r, testing.show(r) AS s;
SELECT posted, version FROM account_balance('key_a');
COMMIT;

-- After a failed statement the transaction goes on from the savepoint
BEGIN;
SELECT s.posted FROM wallet_debit('key_a', 1, 'EUR', 'key_5') AS r, testing.show(r) AS s;
SAVEPOINT s;
SELECT wallet_debit('key_a', 100000, 'EUR', 'key_6');
ROLLBACK TO s;
SELECT s.posted FROM wallet_debit('key_a', 1, 'EUR', 'key_6') AS r, testing.show(r) AS s;
COMMIT;

-- An account that was rolled back is not remembered
BEGIN;
SELECT code FROM account_open('key_gone', 'EUR');
SELECT s.posted FROM wallet_credit('key_gone', 5, 'EUR', 'key_7') AS r, testing.show(r) AS s;
ROLLBACK;
SELECT testing.refuse($$SELECT wallet_credit('key_gone', 5, 'EUR', 'key_7')$$);
BEGIN;
SAVEPOINT s;
SELECT code FROM account_open('key_gone', 'EUR');
SELECT s.posted FROM wallet_credit('key_gone', 5, 'EUR', 'key_7') AS r, testing.show(r) AS s;
ROLLBACK TO s;
SELECT testing.refuse($$SELECT wallet_credit('key_gone', 5, 'EUR', 'key_7')$$);
SELECT code, created FROM account_open('key_gone', 'EUR', floor => -5);
SELECT s.posted, s.available FROM wallet_credit('key_gone', 5, 'EUR', 'key_7') AS r, testing.show(r) AS s;
COMMIT;
SELECT posted, available FROM account_balance('key_gone');
-- and so a currency, with the world account of its first use
BEGIN;
SELECT currency_add('KEYGONE', 2);
SELECT code FROM account_open('key_cur', 'KEYGONE');
SELECT s.posted FROM wallet_credit('key_cur', 5, 'KEYGONE', 'key_8') AS r, testing.show(r) AS s;
ROLLBACK;
SELECT testing.refuse($$SELECT account_open('key_cur', 'KEYGONE')$$);
SELECT currency_add('KEYGONE', 3);
SELECT code FROM account_open('key_cur', 'KEYGONE');
SELECT s.posted FROM wallet_credit('key_cur', 5, 'KEYGONE', 'key_8') AS r, testing.show(r) AS s;

-- Twice in one statement: the second is a replay, or sees the first
SELECT (SELECT posted FROM wallet_debit('key_a', 1, 'EUR', 'key_9')) AS first,
	(SELECT posted FROM wallet_debit('key_a', 1, 'EUR', 'key_9')) AS again,
	(SELECT posted FROM wallet_debit('key_a', 1, 'EUR', 'key_10')) AS other,
	(SELECT posted FROM account_balance('key_a')) AS balance;
SELECT i, s.posted, s.replayed FROM generate_series(1, 4) AS i,
	LATERAL wallet_debit('key_a', 1, 'EUR', 'key_11_' || i % 2) AS r, testing.show(r) AS s;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT (SELECT posted FROM wallet_debit('key_a', 1, 'EUR', 'key_12')) AS first,
	(SELECT posted FROM wallet_debit('key_a', 1, 'EUR', 'key_12')) AS again,
	(SELECT posted FROM wallet_debit('key_a', 1, 'EUR', 'key_13')) AS other,
	(SELECT posted FROM account_balance('key_a')) AS balance;
COMMIT;

-- Many commands in one transaction, with savepoints around each
DO $$
BEGIN
	FOR i IN 1 .. 200 LOOP
		BEGIN
			PERFORM failsafe.wallet_debit('key_a', 1, 'EUR', 'key_many_' || i);
			IF i % 2 = 0 THEN
				RAISE EXCEPTION 'undo';
			END IF;
		EXCEPTION WHEN raise_exception THEN
			NULL;
		END;
	END LOOP;
END
$$;
SELECT count(*) FROM idempotency_key WHERE key LIKE 'key\_many\_%';
SELECT posted FROM account_balance('key_a');

-- A cursor, a prepared statement, a function
BEGIN;
DECLARE c CURSOR FOR SELECT i, (wallet_debit('key_a', 1, 'EUR', 'key_14_' || i)).posted FROM generate_series(1, 5) AS i;
FETCH 2 FROM c;
SELECT posted FROM account_balance('key_a');
FETCH 1 FROM c;
COMMIT;
SELECT count(*) FROM idempotency_key WHERE key LIKE 'key\_14\_%';
PREPARE debit(text) AS SELECT s.posted, s.replayed FROM wallet_debit('key_a', 1, 'EUR', $1) AS r, testing.show(r) AS s;
EXECUTE debit('key_15');
EXECUTE debit('key_15');
EXECUTE debit('key_16');
DEALLOCATE debit;

-- A replay writes nothing and takes no transaction id; a refusal neither
BEGIN;
SELECT s.replayed FROM wallet_debit('key_a', 1, 'EUR', 'key_15') AS r, testing.show(r) AS s;
SELECT status, code FROM wallet_batch('[{"command": "debit", "account": "key_none", "amount": 1, "currency": "EUR", "idempotency_key": "key_x"}]');
SELECT pg_current_xact_id_if_assigned() IS NULL AS wrote_nothing;
COMMIT;

-- A prepared transaction is refused, unless allowed
BEGIN;
SELECT s.status FROM wallet_debit('key_a', 1, 'EUR', 'key_17') AS r, testing.show(r) AS s;
PREPARE TRANSACTION 'key_prepared';
SELECT state FROM idempotency_status('key_17');

-- Scopes are apart: an application's key is another one
SELECT state FROM idempotency_claim('key_seed', '{}');
SELECT testing.refuse($$SELECT idempotency_claim('key_seed', '{}', 'wallet')$$);
SELECT state FROM idempotency_status('key_seed');
SELECT state FROM idempotency_status('key_seed', 'app');
SELECT state FROM idempotency_status('key_seed', 'none');

SELECT * FROM testing.faults();
