-- The first ten minutes: a wallet, money in, money out, and proof.
-- Run it in an empty database:  psql -e -f examples/first_ten_minutes.sql

CREATE EXTENSION pg_failsafe;

-- Amounts are whole numbers of the currency's smallest unit: 10000 is 100.00 EUR.
SELECT code, currency, status FROM failsafe.account_open('acc_42', 'EUR');

SELECT status, entry_id, available
  FROM failsafe.wallet_credit('acc_42', 10000, 'EUR', 'topup_001');

SELECT status, entry_id, available, replayed
  FROM failsafe.wallet_debit('acc_42', 5000, 'EUR', 'debit_pi_001',
                             reference => 'po_001', reason => 'payout');

-- The reply was lost, the client asks again: the same answer, nothing moves.
SELECT status, entry_id, available, replayed
  FROM failsafe.wallet_debit('acc_42', 5000, 'EUR', 'debit_pi_001',
                             reference => 'po_001', reason => 'payout');

-- The same key for something else is refused.
SELECT status, entry_id, available, replayed
  FROM failsafe.wallet_debit('acc_42', 6000, 'EUR', 'debit_pi_001',
                             reference => 'po_001', reason => 'payout');

-- Reserve money, then take a part of it; the rest is free again.
SELECT status, hold_id, held, available
  FROM failsafe.wallet_hold('acc_42', 3000, 'EUR', 'hold_001', expires_in => '2 days');

SELECT status, amount, hold_remaining, held, available
  FROM failsafe.wallet_commit('key:hold_001', 'capture_001', amount => 1200);

SELECT currency, posted, held, available FROM failsafe.account_balance('acc_42');

-- Each command wrote its event in its own transaction.
SELECT event_type, order_key, payload FROM failsafe.outbox ORDER BY seq;

-- No rows: the books balance.  The notice says how much was checked.
SELECT * FROM failsafe.ledger_verify();
