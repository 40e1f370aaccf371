-- The same event in PgQ.
\set n :n + 1
\set account random(1, :accounts)
SELECT pgq.insert_event('q', 'bench.order.paid', bench.payload('e_' || :run || '_' || :client_id || '_' || :n)::text, 'acc_' || :account, NULL, NULL, NULL);
