-- A transfer from one of many accounts into one hot account with a floor.
\set n :n + 1
\set account random(1, :accounts)
SELECT status, entry_id, available FROM failsafe.wallet_transfer('acc_' || :account, 'hot', 1, 'EUR', 'hot_' || :run || '_' || :client_id || '_' || :n);
