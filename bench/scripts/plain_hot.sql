-- hot.sql in PL/pgSQL.
\set n :n + 1
\set account random(1, :accounts)
SELECT status, transaction_id, available FROM plain.transfer('acc_' || :account, 'hot', 1, 'EUR', 'hot_' || :run || '_' || :client_id || '_' || :n);
