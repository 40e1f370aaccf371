-- Reports: balances at a time, statements, holds, keys, trace, verification, upkeep.
-- test/pgtap has the details; this runs with assertions and without preload too.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_failsafe;
RESET client_min_messages;
\set SHOW_CONTEXT never

SELECT code, kind FROM failsafe.account_open('rep_a', 'EUR');
SELECT code, kind FROM failsafe.account_open('rep_b', 'EUR');
SELECT code, kind FROM failsafe.account_open('rep_fees', 'EUR', 'system');
SELECT status FROM failsafe.wallet_credit('rep_a', 10000, 'EUR', 'rep_credit', reference => 'rep_1');
SELECT status FROM failsafe.wallet_debit('rep_a', 250, 'EUR', 'rep_debit', counterparty => 'rep_fees');
SELECT status FROM failsafe.wallet_transfer('rep_a', 'rep_b', 1000, 'EUR', 'rep_move', reason => 'rent');
SELECT status FROM failsafe.wallet_hold('rep_a', 700, 'EUR', 'rep_hold', '5 days');
SELECT status FROM failsafe.wallet_commit('key:rep_hold', 'rep_capture', 300, false, counterparty => 'rep_fees');
SELECT status FROM failsafe.wallet_reverse('key:rep_move', 'rep_back', 400);
SELECT status, code FROM failsafe.wallet_debit('rep_b', 99999, 'EUR', 'rep_declined', on_decline => 'record');

-- a statement, forwards and backwards
SELECT command, amount, posted, version, counterparty, reference, reason, idempotency_key
FROM failsafe.account_statement('rep_a');
SELECT command, amount, posted, version, counterparty, idempotency_key
FROM failsafe.account_statement('rep_fees', max_rows => 1, options => '{"order": "desc"}');

-- a balance at a time
SELECT currency, posted, version, final FROM failsafe.account_balance_at('rep_a', 'infinity');
SELECT currency, posted, version, final FROM failsafe.account_balance_at('rep_a', '2020-01-01');
SELECT currency, posted, version, final FROM failsafe.account_balance_at('rep_fees', 'infinity', 'effective');

-- holds
SELECT status, amount, captured, released, remaining FROM failsafe.holds('rep_a');
SELECT command, status, amount, remaining FROM failsafe.hold_history('key:rep_capture');
SELECT account, status, remaining FROM failsafe.hold_get('key:rep_hold');

-- keys
SELECT state, transaction_id IS NOT NULL AS known FROM failsafe.idempotency_status('rep_move');
SELECT state FROM failsafe.idempotency_status('rep_declined');
SELECT state FROM failsafe.idempotency_status('rep_nothing');

-- trace
SELECT kind, regexp_replace(summary, '(t|h)_[0-9]+|seq=[0-9]+', '\1#', 'g') AS summary
FROM failsafe.trace('rep_move') WHERE kind IN ('transaction', 'entry', 'event');

-- views
SELECT code, status, posted, held, available, version FROM failsafe.accounts
WHERE code LIKE 'rep@_%' ESCAPE '@' ORDER BY code;
SELECT command, status, code, account, counterparty, amount, posted, held, available
FROM failsafe.transactions WHERE idempotency_key LIKE 'rep@_%' ESCAPE '@' ORDER BY recorded_at, transaction_id;
SELECT account, change, status, floor FROM failsafe.account_changes
WHERE account LIKE 'rep@_%' ESCAPE '@' ORDER BY changed_at;

-- upkeep and proof
SELECT accounts > 0 AS some, note ~ '^up to e_' AS done FROM failsafe.ledger_checkpoint(options => '{"min_entries": 1}');
SELECT posted FROM failsafe.account_balance('rep_fees');
SELECT task, note LIKE 'failed%' AS failed FROM failsafe.maintain();
SELECT count(*) FROM failsafe.doctor() WHERE status = 'error' AND check_name !~ '^setting (fsync|full_page_writes)$';
SET client_min_messages = warning;
SELECT * FROM failsafe.ledger_verify('{"account": "rep_a"}');
SELECT * FROM failsafe.ledger_verify('{"account": "rep_fees"}');
RESET client_min_messages;

-- what is refused
SELECT * FROM failsafe.account_statement('rep_nobody');
SELECT * FROM failsafe.account_statement('rep_a', max_rows => 0);
SELECT * FROM failsafe.account_statement('rep_a', options => '{"sort": "desc"}');
SELECT * FROM failsafe.account_balance_at('rep_a', NULL);
SELECT * FROM failsafe.account_balance_at('rep_a', now(), 'somehow');
SELECT * FROM failsafe.hold_get('key:rep_move');
SELECT * FROM failsafe.holds(NULL);
SELECT * FROM failsafe.idempotency_status('');
SELECT * FROM failsafe.idempotency_status('x', 'a scope');
SELECT * FROM failsafe.ledger_verify('[]');
SELECT * FROM failsafe.ledger_checkpoint(-1);
SELECT * FROM failsafe.trace(NULL);
SELECT failsafe._raise('NO_SUCH_CODE', NULL, NULL, NULL);
