-- debit.sql with a reference and a reason, as a payment has them.
\set n :n + 1
\set account random(1, :accounts)
SELECT status, entry_id, available FROM failsafe.wallet_debit('acc_' || :account, 1, 'EUR', 'debit_' || :run || '_' || :client_id || '_' || :n, reference => 'po_' || :client_id || '_' || :n, reason => 'payout');
