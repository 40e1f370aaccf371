-- What bench/run needs in its database.  Variables: accounts, funds, replay_keys.

\set ON_ERROR_STOP on
CREATE EXTENSION pg_failsafe;
CREATE SCHEMA bench;

-- F, the yardstick: one row with an identity key and a unique text key.
CREATE TABLE bench.f (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	key text NOT NULL UNIQUE
);

-- Calls of wallet_batch() that are made before the clock runs, so that building the
-- JSON is not measured.  Stored plainly, so that unpacking it is not either.
CREATE TABLE bench.batch (
	run int NOT NULL,
	n int NOT NULL,
	commands json NOT NULL,
	PRIMARY KEY (run, n)
);
ALTER TABLE bench.batch ALTER COLUMN commands SET STORAGE EXTERNAL;

CREATE FUNCTION bench.commands(run text, command_count int, accounts int, counterparty text)
RETURNS json
LANGUAGE sql
BEGIN ATOMIC
	SELECT json_agg(json_strip_nulls(json_build_object('command', 'debit',
		'account', 'acc_' || (1 + floor(random() * accounts))::int,
		'amount', 1, 'currency', 'EUR', 'counterparty', counterparty,
		'idempotency_key', 'batch_' || run || '_' || i)))
	FROM generate_series(1, command_count) AS i;
END;

CREATE FUNCTION bench.batches(run int, call_count int, command_count int, accounts int)
RETURNS void
LANGUAGE sql
BEGIN ATOMIC
	INSERT INTO bench.batch (run, n, commands)
	SELECT run, n, bench.commands(run || '_' || n, command_count, accounts, NULL)
	FROM generate_series(1, call_count) AS n;
END;

SELECT count(opened.code) AS opened
FROM generate_series(1, :accounts) AS n, LATERAL failsafe.account_open('acc_' || n, 'EUR') AS opened;
SELECT count(funded.entry_id) AS funded
FROM generate_series(1, :accounts) AS n,
	 LATERAL failsafe.wallet_credit('acc_' || n, :funds, 'EUR', 'fund_' || n) AS funded;
SELECT status FROM failsafe.account_open('hot', 'EUR');
SELECT status FROM failsafe.account_open('clearing', 'EUR', 'system', floor => NULL);

-- Finished keys for the replays: see scripts/replay.sql.
SELECT count(done.entry_id) AS finished
FROM generate_series(0, :replay_keys - 1) AS n,
	 LATERAL failsafe.wallet_debit('acc_' || n % :accounts + 1, 1, 'EUR', 'replay_' || n) AS done;
