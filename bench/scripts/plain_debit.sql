-- debit.sql in PL/pgSQL, with a hundred world accounts.
\set n :n + 1
\set account random(1, :accounts)
SELECT status, transaction_id, available FROM plain.transfer('acc_' || :account, 'world_' || (:account::int % 100), 1, 'EUR', 'debit_' || :run || '_' || :client_id || '_' || :n, 'debit');
