-- A debit of one of many accounts; the other side is world:EUR.
\set n :n + 1
\set account random(1, :accounts)
SELECT status, entry_id, available FROM failsafe.wallet_debit('acc_' || :account, 1, 'EUR', 'debit_' || :run || '_' || :client_id || '_' || :n);
