-- A payroll: many payments in one call, run again after a correction without paying twice.
-- Run it in an empty database:  psql -e -f examples/payroll_batch.sql

CREATE EXTENSION pg_failsafe;
SET search_path = public, failsafe;

CREATE TABLE salary (employee text PRIMARY KEY, account text NOT NULL, amount numeric NOT NULL,
                     attempt int NOT NULL DEFAULT 1);
INSERT INTO salary VALUES
    ('anna', 'acc:anna', 3120.50), ('bert', 'acc:bert', 2875.00),
    ('cleo', 'acc:cleoo', 4010.25), ('dora', 'acc:dora', 2990.00);

SELECT code FROM account_open('employer', 'EUR');
SELECT opened.code FROM unnest(ARRAY['anna', 'bert', 'cleo', 'dora']) AS name,
                        LATERAL account_open('acc:' || name, 'EUR') AS opened;
SELECT status, available FROM wallet_credit('employer', minor(8000.00, 'EUR'), 'EUR', 'funding:2026-10');

-- One command a row.  The key says what the payment is, not when it is sent:
-- this month's salary of this employee, once.  The attempt counts decisions, not tries.
CREATE VIEW payroll_commands AS
SELECT json_agg(json_build_object(
           'command', 'transfer', 'from_account', 'employer', 'to_account', account,
           'amount', minor(amount, 'EUR'), 'currency', 'EUR',
           'idempotency_key', business_key('payroll', '2026-10', employee, attempt::text),
           'reference', 'salary 2026-10') ORDER BY employee) AS commands
  FROM salary;

-- One account is misspelt, and the money does not last for the fourth: two are paid.
SELECT b.n, b.status, b.code, b.replayed, b.amount, b.idempotency_key
  FROM payroll_commands, LATERAL wallet_batch(commands) AS b;

-- A refused command left no trace: its key is free, so the row is corrected and sent again.
-- A recorded decline is the answer to its key for ever: paying after all is a new decision.
UPDATE salary SET account = 'acc:cleo' WHERE employee = 'cleo';
UPDATE salary SET attempt = 2 WHERE employee = 'dora';
SELECT status, available FROM wallet_credit('employer', minor(6000.00, 'EUR'), 'EUR', 'funding:2026-10:2');

-- Those who were paid are not paid again.
SELECT b.n, b.status, b.code, b.replayed, b.amount
  FROM payroll_commands, LATERAL wallet_batch(commands) AS b;

SELECT code, posted FROM accounts WHERE kind = 'wallet' ORDER BY code;

-- All or nothing: the second command fails, so the first has not happened either.
SELECT * FROM wallet_batch('[
  {"command": "debit", "account": "acc:anna", "amount": 100, "currency": "EUR", "idempotency_key": "fee:1"},
  {"command": "debit", "account": "acc:bert", "amount": 99900000, "currency": "EUR", "idempotency_key": "fee:2"}
]', atomic => true);
SELECT state FROM idempotency_status('fee:1');

SELECT * FROM ledger_verify();
