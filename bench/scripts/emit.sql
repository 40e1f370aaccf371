-- An event of an application, one a transaction.
\set n :n + 1
\set account random(1, :accounts)
SELECT failsafe.outbox_emit('bench.order.paid', 'acc_' || :account, bench.payload('e_' || :run || '_' || :client_id || '_' || :n));
