-- The repetition of a command that finished long ago.
\set n random(0, :replay_keys - 1)
\set account :n % :accounts + 1
SELECT status, entry_id, available FROM failsafe.wallet_debit('acc_' || :account, 1, 'EUR', 'replay_' || :n);
