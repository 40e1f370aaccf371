-- The JSON doors: wallet_command(), wallet_http(), wallet_batch().
SET search_path = failsafe, public;
\pset format unaligned
\pset tuples_only on

SELECT code FROM account_open('gat_a', 'EUR');
SELECT code FROM account_open('gat_b', 'EUR');
SELECT currency_add('GAT18', 18);
SELECT code FROM account_open('gat_t', 'GAT18', floor => NULL);

-- Each command has its body
SELECT testing.send('{"command": "credit", "account": "gat_a", "amount": 1000, "currency": "EUR", "idempotency_key": "gat_1"}');
SELECT testing.send('{"command": "debit", "account": "gat_a", "amount": "50", "currency": "EUR", "idempotency_key": "gat_2",
	"reference": "r", "reason": "w", "counterparty": "gat_b", "metadata": {"a": [1, {"b": null}]}, "on_decline": "record",
	"trace_id": "tr", "region": "eu", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	"options": {"min_available": 10, "expected_version": 1, "order_key": "o", "deadline": "2999-12-31T23:59:59Z"}}');
SELECT testing.send('{"command": "transfer", "from_account": "gat_a", "to_account": "gat_b", "amount": 5, "currency": "EUR", "idempotency_key": "gat_3"}');
SELECT testing.send('{"command": "hold", "account": "gat_a", "amount": 100, "currency": "EUR", "idempotency_key": "gat_4", "expires_in": "PT15M"}');
SELECT testing.send('{"command": "extend", "hold": "key:gat_4", "idempotency_key": "gat_5", "expires_in": "1 day"}');
SELECT testing.send('{"command": "commit", "hold": "key:gat_4", "amount": 30, "final": false, "idempotency_key": "gat_6"}');
SELECT testing.send('{"command": "rollback", "hold": "key:gat_4", "idempotency_key": "gat_7"}');
SELECT testing.send('{"command": "reverse", "transaction": "key:gat_3", "amount": 2, "idempotency_key": "gat_8"}');
SELECT testing.send('{"command": "post", "legs": [{"account": "gat_a", "amount": -7, "currency": "EUR"}, {"account": "gat_b", "amount": "7", "currency": "EUR"}], "idempotency_key": "gat_9"}');
SELECT testing.send('{"command": "debit", "account": "gat_a", "amount": 100000, "currency": "EUR", "idempotency_key": "gat_10"}');
SELECT testing.send('{"command": "credit", "account": "gat_t", "amount": "1000000000000000000000000", "currency": "GAT18", "idempotency_key": "gat_11"}');
SELECT testing.send('{"command": "credit", "account": "gat_t", "amount": 9007199254740991, "currency": "GAT18", "idempotency_key": "gat_12"}');

-- The body of a key is the same byte for byte, at every door
SELECT testing.send('{"idempotency_key": "gat_1", "currency": "EUR", "amount": "1000", "account": "gat_a", "command": "credit"}');
SELECT wallet_command('{"command": "hold", "account": "gat_a", "amount": 100, "currency": "EUR", "idempotency_key": "gat_4", "expires_in": "PT15M"}')::text AS body \gset
SELECT http_status, replayed, body::text = :'body' AS same
FROM wallet_http('{"command": "hold", "account": "gat_a", "amount": 100, "currency": "EUR", "idempotency_key": "gat_4", "expires_in": "15 minutes"}');
SELECT testing.send('{"command": "debit", "account": "gat_a", "amount": 100000, "currency": "EUR", "idempotency_key": "gat_10"}');
-- what one door did, the others replay; a recorded decline is an error for a caller that raises
SELECT status, replayed FROM wallet_credit('gat_a', 1000, 'EUR', 'gat_1');
SELECT status, replayed FROM wallet_hold('gat_a', 100, 'EUR', 'gat_4', '15 minutes');
SELECT status, replayed FROM ledger_post(ARRAY[('gat_a', -7, 'EUR'), ('gat_b', 7, 'EUR')]::leg[], 'gat_9');
SELECT status, replayed FROM wallet_debit('gat_a', 9, 'EUR', 'gat_13', 'r');
SELECT testing.send('{"command": "debit", "account": "gat_a", "amount": 9, "currency": "EUR", "idempotency_key": "gat_13", "reference": "r"}');
SELECT testing.refuse($$SELECT wallet_debit('gat_a', 100000, 'EUR', 'gat_10')$$);
SELECT testing.refuse($$SELECT wallet_command('{"command": "debit", "account": "gat_a", "amount": 100000, "currency": "EUR", "idempotency_key": "gat_14", "on_decline": "raise"}')$$);
SELECT state FROM idempotency_status('gat_14');

-- Refused: a value, and nothing is stored
SELECT v.command || ': ' || testing.send(v.command::json)
FROM (VALUES
	('{}'), ('[]'), ('null'), ('1'), ('"debit"'),
	('{"command": null}'),
	('{"command": "withdraw"}'),
	('{"command": ["debit"]}'),
	('{"command": "expire", "hold": "key:gat_4", "idempotency_key": "gat_x"}'),
	('{"command": "debit", "command": "debit", "account": "gat_a", "amount": 1, "currency": "EUR", "idempotency_key": "gat_x"}'),
	('{"command": "debit", "account": "gat_a", "amount": 1, "amount": 2, "currency": "EUR", "idempotency_key": "gat_x"}'),
	('{"command": "debit", "account": "gat_a", "amount": 1, "currency": "EUR", "idempotency_key": "gat_x", "amuont": 2}'),
	('{"command": "debit", "account": "gat_a", "amount": 1, "currency": "EUR", "idempotency_key": "gat_x", "legs": []}'),
	('{"command": "debit", "account": "gat_a", "amount": 1, "currency": "EUR", "idempotency_key": "gat_x", "hold": "h_1"}'),
	('{"command": "debit", "account": "gat_a", "amount": 1.0, "currency": "EUR", "idempotency_key": "gat_x"}'),
	('{"command": "debit", "account": "gat_a", "amount": 1e2, "currency": "EUR", "idempotency_key": "gat_x"}'),
	('{"command": "debit", "account": "gat_a", "amount": "1e2", "currency": "EUR", "idempotency_key": "gat_x"}'),
	('{"command": "debit", "account": "gat_a", "amount": "1.0", "currency": "EUR", "idempotency_key": "gat_x"}'),
	('{"command": "debit", "account": "gat_a", "amount": " 1", "currency": "EUR", "idempotency_key": "gat_x"}'),
	('{"command": "debit", "account": "gat_a", "amount": "+1", "currency": "EUR", "idempotency_key": "gat_x"}'),
	('{"command": "debit", "account": "gat_a", "amount": "", "currency": "EUR", "idempotency_key": "gat_x"}'),
	('{"command": "debit", "account": "gat_a", "amount": "NaN", "currency": "EUR", "idempotency_key": "gat_x"}'),
	('{"command": "debit", "account": "gat_a", "amount": 0, "currency": "EUR", "idempotency_key": "gat_x"}'),
	('{"command": "debit", "account": "gat_a", "amount": -0, "currency": "EUR", "idempotency_key": "gat_x"}'),
	('{"command": "debit", "account": "gat_a", "amount": -1, "currency": "EUR", "idempotency_key": "gat_x"}'),
	('{"command": "debit", "account": "gat_a", "amount": 9007199254740992, "currency": "EUR", "idempotency_key": "gat_x"}'),
	('{"command": "debit", "account": "gat_a", "amount": "1000000000000000000000000000000000000", "currency": "EUR", "idempotency_key": "gat_x"}'),
	('{"command": "debit", "account": "gat_a", "amount": true, "currency": "EUR", "idempotency_key": "gat_x"}'),
	('{"command": "debit", "account": "gat_a", "amount": [1], "currency": "EUR", "idempotency_key": "gat_x"}'),
	('{"command": "debit", "account": "gat_a", "amount": null, "currency": "EUR", "idempotency_key": "gat_x"}'),
	('{"command": "debit", "account": 7, "amount": 1, "currency": "EUR", "idempotency_key": "gat_x"}'),
	('{"command": "debit", "account": "gat_a", "amount": 1, "currency": "EUR", "idempotency_key": 7}'),
	('{"command": "debit", "account": "gat_a", "amount": 1, "currency": "EUR"}'),
	('{"command": "debit", "account": "gat_a", "amount": 1, "currency": "EUR", "idempotency_key": null}'),
	('{"command": "debit", "account": "gat_a", "amount": 1, "currency": "EUR", "idempotency_key": ""}'),
	('{"command": "debit", "account": "gat_a", "amount": 1, "currency": "EUR", "idempotency_key": "a\u0000b"}'),
	('{"command": "debit", "account": "gat_a", "amount": 1, "currency": "EUR", "idempotency_key": "a\ud800"}'),
	('{"command": "debit", "account": "gat_a", "amount": 1, "currency": "EUR", "idempotency_key": "a\u0007"}'),
	('{"command": "debit", "account": "gat_a", "amount": 1, "currency": "EUR", "idempotency_key": "gat_x", "metadata": "m"}'),
	('{"command": "debit", "account": "gat_a", "amount": 1, "currency": "EUR", "idempotency_key": "gat_x", "metadata": {"a": "\u0000"}}'),
	('{"command": "debit", "account": "gat_a", "amount": 1, "currency": "EUR", "idempotency_key": "gat_x", "on_decline": "never"}'),
	('{"command": "debit", "account": "gat_a", "amount": 1, "currency": "EUR", "idempotency_key": "gat_x", "options": {"trace": "x"}}'),
	('{"command": "debit", "account": "gat_a", "amount": 1, "currency": "EUR", "idempotency_key": "gat_x", "options": {"region": "a", "region": "b"}}'),
	('{"command": "debit", "account": "gat_a", "amount": 1, "currency": "EUR", "idempotency_key": "gat_x", "options": {"deadline": "soon"}}'),
	('{"command": "debit", "account": "gat_a", "amount": 1, "currency": "EUR", "idempotency_key": "gat_x", "options": {"deadline": "2020-01-01T00:00:00Z"}}'),
	('{"command": "debit", "account": "gat_none", "amount": 1, "currency": "EUR", "idempotency_key": "gat_x"}'),
	('{"command": "debit", "account": "gat_a", "amount": 1, "currency": "USD", "idempotency_key": "gat_x"}'),
	('{"command": "debit", "account": "gat_a", "amount": 1001, "currency": "EUR", "idempotency_key": "gat_1"}'),
	('{"command": "debit", "account": "gat_a", "amount": 1, "currency": "EUR", "idempotency_key": "gat_x", "options": {"expected_version": 999}}'),
	('{"command": "hold", "account": "gat_a", "amount": 1, "currency": "EUR", "idempotency_key": "gat_x", "expires_in": "soon"}'),
	('{"command": "hold", "account": "gat_a", "amount": 1, "currency": "EUR", "idempotency_key": "gat_x", "expires_in": "500 days"}'),
	('{"command": "hold", "account": "gat_a", "amount": 1, "currency": "EUR", "idempotency_key": "gat_x", "expires_in": 60}'),
	('{"command": "commit", "hold": "key:gat_none", "idempotency_key": "gat_x"}'),
	('{"command": "commit", "hold": "key:gat_4", "final": "no", "idempotency_key": "gat_x"}'),
	('{"command": "commit", "idempotency_key": "gat_x"}'),
	('{"command": "reverse", "transaction": "t_0", "idempotency_key": "gat_x"}'),
	('{"command": "post", "idempotency_key": "gat_x"}'),
	('{"command": "post", "legs": {}, "idempotency_key": "gat_x"}'),
	('{"command": "post", "legs": [1, 2], "idempotency_key": "gat_x"}'),
	('{"command": "post", "legs": [{"account": "gat_a", "amount": 1, "currency": "EUR"}], "idempotency_key": "gat_x"}'),
	('{"command": "post", "legs": [{"account": "gat_a", "amount": 1, "currency": "EUR", "x": 1}, {}], "idempotency_key": "gat_x"}'),
	('{"command": "post", "legs": [{"account": "gat_a", "amount": -1, "currency": "EUR"}, {"account": "gat_b", "amount": 2, "currency": "EUR"}], "idempotency_key": "gat_x"}')
	) AS v (command);
SELECT testing.send(NULL);
SELECT testing.send(('{"command": "debit", "x": ' || repeat('[', 5000) || repeat(']', 5000) || '}')::json);
SELECT state FROM idempotency_status('gat_x');
-- what is no JSON does not even get here
SELECT testing.refuse($$SELECT wallet_command('{"command": ')$$) ~ '^22P02' AS refused;

-- A batch: in order, each sees the ones before, a bad one does not touch the others
SELECT n, status, posted, code, replayed, amount, hold_remaining, version, idempotency_key
FROM wallet_batch('[
	{"command": "credit", "account": "gat_b", "amount": 100, "currency": "EUR", "idempotency_key": "gat_b1"},
	{"command": "debit", "account": "gat_b", "amount": 1000000, "currency": "EUR", "idempotency_key": "gat_b2"},
	{"command": "debit", "account": "gat_none", "amount": 1, "currency": "EUR", "idempotency_key": "gat_b3"},
	{"command": "nonsense"},
	7,
	{"command": "credit", "account": "gat_b", "amount": 100, "currency": "EUR", "idempotency_key": "gat_b1"},
	{"command": "credit", "account": "gat_b", "amount": 101, "currency": "EUR", "idempotency_key": "gat_b1"},
	{"command": "debit", "account": "gat_b", "amount": 1000000, "currency": "EUR", "idempotency_key": "gat_b2"},
	{"command": "hold", "account": "gat_b", "amount": 60, "currency": "EUR", "idempotency_key": "gat_b4"},
	{"command": "commit", "hold": "key:gat_b4", "amount": 10, "final": false, "idempotency_key": "gat_b5"},
	{"command": "rollback", "hold": "key:gat_b4", "idempotency_key": "gat_b6"},
	{"command": "reverse", "transaction": "key:gat_b5", "idempotency_key": "gat_b7"},
	{"command": "transfer", "from_account": "gat_b", "to_account": "gat_a", "amount": 1, "currency": "EUR", "idempotency_key": "gat_b8"}]');
-- the second time everything is a replay, but for what was refused
SELECT string_agg(n || ':' || status || CASE WHEN replayed THEN '!' ELSE '' END, ' ' ORDER BY n)
FROM wallet_batch('[
	{"command": "transfer", "from_account": "gat_b", "to_account": "gat_a", "amount": 1, "currency": "EUR", "idempotency_key": "gat_b8"},
	{"command": "debit", "account": "gat_b", "amount": 1000000, "currency": "EUR", "idempotency_key": "gat_b2"},
	{"command": "debit", "account": "gat_none", "amount": 1, "currency": "EUR", "idempotency_key": "gat_b3"},
	{"command": "rollback", "hold": "key:gat_b4", "idempotency_key": "gat_b6"},
	{"command": "credit", "account": "gat_b", "amount": 100, "currency": "EUR", "idempotency_key": "gat_b1"}]');

-- A decline tells the numbers of its moment, not of the batch's end
SELECT n, status FROM wallet_batch('[
	{"command": "debit", "account": "gat_b", "amount": 5000, "currency": "EUR", "idempotency_key": "gat_c1"},
	{"command": "credit", "account": "gat_b", "amount": 5000, "currency": "EUR", "idempotency_key": "gat_c2"},
	{"command": "debit", "account": "gat_b", "amount": 5001, "currency": "EUR", "idempotency_key": "gat_c3"}]');
SELECT testing.refuse($$SELECT wallet_debit('gat_b', 5000, 'EUR', 'gat_c1')$$);
SELECT posted FROM account_balance('gat_b');

-- The first use of a currency, by several commands of one batch
SELECT currency_add('GATNEW', 2);
SELECT code FROM account_open('gat_new', 'GATNEW');
SELECT n, status, posted FROM wallet_batch('[
	{"command": "credit", "account": "gat_new", "amount": 5, "currency": "GATNEW", "idempotency_key": "gat_g1"},
	{"command": "credit", "account": "gat_new", "amount": 5, "currency": "GATNEW", "idempotency_key": "gat_g2"},
	{"command": "debit", "account": "gat_new", "amount": 1, "currency": "GATNEW", "idempotency_key": "gat_g3"}]');
SELECT posted FROM account_balance('world:GATNEW');

-- A refused command gives its key back, also after it was claimed
SELECT n, status, code FROM wallet_batch('[
	{"command": "debit", "account": "gat_b", "amount": 1, "currency": "EUR", "idempotency_key": "gat_d1", "options": {"expected_version": 0}},
	{"command": "debit", "account": "gat_b", "amount": 1, "currency": "EUR", "idempotency_key": "gat_d2"},
	{"command": "debit", "account": "gat_b", "amount": 1, "currency": "EUR", "idempotency_key": "gat_d1", "options": {"expected_version": 0}},
	{"command": "debit", "account": "gat_b", "amount": 2, "currency": "EUR", "idempotency_key": "gat_d1"}]');

-- Atomic: the first failure is raised with its index, and nothing has happened
SELECT testing.refuse($$SELECT * FROM wallet_batch('[
	{"command": "credit", "account": "gat_a", "amount": 1, "currency": "EUR", "idempotency_key": "gat_e1"},
	{"command": "debit", "account": "gat_a", "amount": 1000000, "currency": "EUR", "idempotency_key": "gat_e2"},
	{"command": "nonsense"}]', atomic => true)$$);
SELECT testing.refuse($$SELECT * FROM wallet_batch('[
	{"command": "debit", "account": "gat_a", "amount": 1000000, "currency": "EUR", "idempotency_key": "gat_e2"},
	{"command": "credit", "account": "gat_a", "amount": 1000000, "currency": "EUR", "idempotency_key": "gat_e1"}]', atomic => true)$$);
-- the index counts through segments
SELECT testing.refuse($$SELECT * FROM wallet_batch('[
	{"command": "credit", "account": "gat_a", "amount": 1, "currency": "EUR", "idempotency_key": "gat_e1"},
	{"command": "credit", "account": "gat_a", "amount": 1, "currency": "EUR", "idempotency_key": "gat_e1"},
	{"command": "credit", "account": "gat_a", "amount": 1, "currency": "EUR", "idempotency_key": "gat_e3"},
	{"command": "credit", "account": "gat_a", "amount": 2, "currency": "EUR", "idempotency_key": "gat_e1"}]', atomic => true)$$);
SELECT state FROM idempotency_status('gat_e1');
SELECT n, status, replayed FROM wallet_batch('[
	{"command": "credit", "account": "gat_a", "amount": 1, "currency": "EUR", "idempotency_key": "gat_e1"},
	{"command": "credit", "account": "gat_a", "amount": 1, "currency": "EUR", "idempotency_key": "gat_e1"}]', atomic => true);
-- a decline that was recorded before is a failure, too
SELECT testing.refuse($$SELECT * FROM wallet_batch('[
	{"command": "credit", "account": "gat_a", "amount": 1, "currency": "EUR", "idempotency_key": "gat_e4"},
	{"command": "debit", "account": "gat_b", "amount": 1000000, "currency": "EUR", "idempotency_key": "gat_b2"}]', atomic => true)$$);

-- Sizes and shapes
SELECT count(*) FROM wallet_batch('[]');
SELECT testing.refuse($$SELECT * FROM wallet_batch('{}')$$);
SELECT testing.refuse($$SELECT * FROM wallet_batch('7')$$);
SELECT testing.refuse($$SELECT * FROM wallet_batch(NULL)$$);
SELECT testing.refuse($$SELECT * FROM wallet_batch('[]', options => '{"x": 1}')$$);
SELECT json_agg(json_build_object('command', 'credit', 'account', 'gat_b', 'amount', 1, 'currency', 'EUR',
	'idempotency_key', 'gat_many_' || i)) AS commands FROM generate_series(1, 10001) AS i \gset
SELECT testing.refuse(format('SELECT count(*) FROM wallet_batch(%L)', :'commands'));
SELECT posted FROM account_balance('gat_b') \gset
SELECT count(*), count(DISTINCT entry_id), max(posted) - :posted AS raised, max(n), bool_or(replayed)
FROM wallet_batch((SELECT json_agg(c) FROM (SELECT c FROM json_array_elements(:'commands') AS c LIMIT 10000) AS c));
SELECT count(*), bool_and(replayed)
FROM wallet_batch((SELECT json_agg(c) FROM (SELECT c FROM json_array_elements(:'commands') AS c LIMIT 10000) AS c), atomic => true);
SELECT posted - :posted AS raised FROM account_balance('gat_b');
-- all is done before the first row is returned
SELECT n FROM wallet_batch('[
	{"command": "credit", "account": "gat_b", "amount": 1, "currency": "EUR", "idempotency_key": "gat_f1"},
	{"command": "credit", "account": "gat_b", "amount": 1, "currency": "EUR", "idempotency_key": "gat_f2"}]') LIMIT 1;
SELECT state FROM idempotency_status('gat_f2');

SELECT * FROM testing.faults();
