-- The commands: what each answers, and answers again.
SET search_path = failsafe, public;

-- Accounts
SELECT * FROM account_open('led_a', 'EUR', metadata => '{"owner": 7}');
SELECT * FROM account_open('led_b', 'EUR', floor => -500, ceiling => 20000);
SELECT * FROM account_open('led_free', 'EUR', floor => '-Infinity', ceiling => 'Infinity');
SELECT * FROM account_open('led_fees', 'EUR', 'system');
SELECT * FROM account_open('led_usd', 'USD', floor => NULL);
-- again: the same account; metadata is not part of its definition
SELECT * FROM account_open('led_a', 'EUR', metadata => '{"owner": 8}');
SELECT * FROM account_open('led_free', 'EUR', floor => NULL);
SELECT testing.refuse($$SELECT account_open('led_a', 'USD')$$);
SELECT testing.refuse($$SELECT account_open('led_a', 'EUR', 'system')$$);
SELECT testing.refuse($$SELECT account_open('led_a', 'EUR', floor => 1)$$);
SELECT testing.refuse($$SELECT account_open('led_a', 'EUR', ceiling => 1)$$);
SELECT * FROM account_balance('led_a');
SELECT * FROM account_balance('led_fees');

-- Credit and debit, and each again
SELECT s.* FROM wallet_credit('led_a', 10000, 'EUR', 'led_c1') AS r, testing.show(r) AS s;
SELECT s.* FROM wallet_debit('led_a', 2500, 'EUR', 'led_d1', reference => 'po_001', reason => 'payout',
	metadata => '{"note": 1}') AS r, testing.show(r) AS s;
SELECT s.* FROM wallet_debit('led_a', 1, 'EUR', 'led_d2', counterparty => 'led_fees') AS r, testing.show(r) AS s;
SELECT s.* FROM wallet_debit('led_a', 2500, 'EUR', 'led_d1', 'po_001', 'payout') AS r, testing.show(r) AS s;
SELECT first.r = again.r AS same_but_for_replayed
FROM (SELECT r FROM wallet_debit('led_a', 99, 'EUR', 'led_d3') AS r) AS first,
	 LATERAL (SELECT (jsonb_populate_record(r, '{"replayed": false}')) AS r
			  FROM wallet_debit('led_a', 99, 'EUR', 'led_d3') AS r) AS again;
-- a replay answers as the first time, whatever happened since
SELECT s.* FROM wallet_credit('led_a', 10000, 'EUR', 'led_c1') AS r, testing.show(r) AS s;
-- metadata, trace, conditions and on_decline are not part of the operation
SELECT s.* FROM wallet_credit('led_a', 10000, 'EUR', 'led_c1', on_decline => 'record', metadata => '{"x": 1}',
	options => '{"trace_id": "t", "expected_version": 77, "min_available": 1, "order_key": "o", "region": "eu"}')
	AS r, testing.show(r) AS s;
-- world:EUR is the default, named or not
SELECT s.* FROM wallet_credit('led_a', 10000, 'EUR', 'led_c1', counterparty => 'world:EUR') AS r, testing.show(r) AS s;
SELECT * FROM account_balance('led_a');
SELECT * FROM account_balance('led_fees');

-- The same key for something else: the detail names the fields
\pset format unaligned
SELECT what, testing.refuse('SELECT wallet_' || what)
FROM (VALUES
	($$debit('led_a', 2501, 'EUR', 'led_d1', 'po_001', 'payout')$$),
	($$debit('led_b', 2500, 'EUR', 'led_d1', 'po_001', 'payout')$$),
	($$debit('led_a', 2500, 'EUR', 'led_d1', 'po_002', 'payout')$$),
	($$debit('led_a', 2500, 'EUR', 'led_d1', 'po_001', 'payback')$$),
	($$debit('led_a', 2500, 'EUR', 'led_d1', 'po_001')$$),
	($$debit('led_a', 2500, 'EUR', 'led_d1')$$),
	($$debit('led_a', 2500, 'EUR', 'led_d1', 'po_001', 'payout', 'led_fees')$$),
	($$debit('led_a', 1, 'EUR', 'led_d2')$$),
	($$debit('led_a', 2500, 'EUR', 'led_d1', 'po_001', 'payout', options => '{"effective_at": "2020-01-01T00:00:00Z"}')$$),
	($$credit('led_a', 2500, 'EUR', 'led_d1', 'po_001', 'payout')$$),
	($$transfer('led_a', 'led_b', 2500, 'EUR', 'led_d1', 'po_001', 'payout')$$),
	($$hold('led_a', 2500, 'EUR', 'led_d1')$$),
	($$debit('led_b', 2, 'EUR', 'led_d1', 'x')$$)) AS v (what);
\pset format aligned
-- also one that could not be done
SELECT testing.refuse($$SELECT wallet_debit('led_a', 999999999, 'EUR', 'led_d1')$$);

-- Transfers
SELECT s.* FROM wallet_transfer('led_a', 'led_b', 1000, 'EUR', 'led_t1', 'ref', 'why') AS r, testing.show(r) AS s;
SELECT s.* FROM wallet_transfer('led_a', 'led_fees', 100, 'EUR', 'led_t2') AS r, testing.show(r) AS s;
SELECT s.* FROM wallet_transfer('led_fees', 'led_a', 30, 'EUR', 'led_t3') AS r, testing.show(r) AS s;
SELECT s.* FROM wallet_transfer('led_a', 'led_b', 1000, 'EUR', 'led_t1', 'ref', 'why') AS r, testing.show(r) AS s;
SELECT what, testing.refuse('SELECT wallet_transfer' || what)
FROM (VALUES
	($$('led_a', 'led_free', 1000, 'EUR', 'led_t1', 'ref', 'why')$$),
	($$('led_b', 'led_a', 1000, 'EUR', 'led_t1', 'ref', 'why')$$),
	($$('led_a', 'led_b', 10, 'EUR', 'led_t1', 'ref')$$)) AS v (what);

-- Limits: to the last unit, and not beyond
SELECT s.* FROM wallet_debit('led_b', 1500, 'EUR', 'led_b1') AS r, testing.show(r) AS s;
SELECT testing.refuse($$SELECT wallet_debit('led_b', 1, 'EUR', 'led_b2')$$);
SELECT s.* FROM wallet_credit('led_b', 20500, 'EUR', 'led_b3') AS r, testing.show(r) AS s;
SELECT testing.refuse($$SELECT wallet_credit('led_b', 1, 'EUR', 'led_b4')$$);
SELECT s.* FROM wallet_debit('led_free', 1000000, 'EUR', 'led_f1') AS r, testing.show(r) AS s;
SELECT testing.refuse($$SELECT wallet_transfer('led_free', 'led_b', 1, 'EUR', 'led_f2')$$);
-- money out is never refused for a ceiling, money in never for a floor
SELECT * FROM account_set_limits('led_b', 5000, 6000, 'test');
SELECT s.* FROM wallet_debit('led_b', 100, 'EUR', 'led_b5') AS r, testing.show(r) AS s;
SELECT * FROM account_set_limits('led_b', 50000, 60000, 'test');
SELECT s.* FROM wallet_credit('led_b', 100, 'EUR', 'led_b6') AS r, testing.show(r) AS s;
SELECT * FROM account_balance('led_b');
SELECT * FROM account_set_limits('led_b', '-Infinity', NULL, 'test');
SELECT * FROM account_set_limits('led_b', NULL, 'Infinity', 'test');
SELECT * FROM account_set_limits('led_b', 0, NULL, 'test');
SELECT * FROM account_open('led_b', 'EUR', floor => -500, ceiling => 20000);

-- A decline is an error, and the key stays free ...
SELECT testing.refuse($$SELECT wallet_debit('led_a', 1000000, 'EUR', 'led_n1')$$);
SELECT state, transaction_id FROM idempotency_status('led_n1');
SELECT s.* FROM wallet_debit('led_a', 10, 'EUR', 'led_n1') AS r, testing.show(r) AS s;
-- ... or the answer for ever, also as an error to a caller that raises
SELECT s.* FROM wallet_debit('led_a', 1000000, 'EUR', 'led_n2', on_decline => 'record') AS r, testing.show(r) AS s;
SELECT s.* FROM wallet_credit('led_a', 2000000, 'EUR', 'led_n3') AS r, testing.show(r) AS s;
SELECT s.* FROM wallet_debit('led_a', 1000000, 'EUR', 'led_n2', on_decline => 'record') AS r, testing.show(r) AS s;
SELECT testing.refuse($$SELECT wallet_debit('led_a', 1000000, 'EUR', 'led_n2')$$);
SELECT state, transaction_id IS NOT NULL AS has_transaction FROM idempotency_status('led_n2');
SELECT s.* FROM wallet_transfer('led_a', 'led_b', 9000000, 'EUR', 'led_n4', on_decline => 'record') AS r, testing.show(r) AS s;
SELECT s.* FROM wallet_debit('led_a', 2000000, 'EUR', 'led_n5') AS r, testing.show(r) AS s;

-- Conditions: expected_version before, min_available after
SELECT version FROM account_balance('led_a') \gset
SELECT s.available FROM wallet_debit('led_a', 1, 'EUR', 'led_v1',
	options => json_build_object('expected_version', :version)::jsonb) AS r, testing.show(r) AS s;
SELECT testing.refuse(format($$SELECT wallet_debit('led_a', 1, 'EUR', 'led_v2', options => '{"expected_version": %s}')$$, :version));
SELECT available FROM account_balance('led_a') \gset
SELECT s.available = :available - 1 AS taken FROM wallet_debit('led_a', 1, 'EUR', 'led_v3',
	options => json_build_object('min_available', :available - 1)::jsonb) AS r, testing.show(r) AS s;
SELECT testing.refuse(format($$SELECT wallet_debit('led_a', 1, 'EUR', 'led_v4', options => '{"min_available": %s}')$$, :available - 1));
SELECT s.status, s.code FROM wallet_debit('led_a', 1, 'EUR', 'led_v4', on_decline => 'record',
	options => json_build_object('min_available', :available)::jsonb) AS r, testing.show(r) AS s;
SELECT testing.refuse($$SELECT wallet_debit('led_fees', 1, 'EUR', 'led_v5', options => '{"expected_version": 0}')$$);
SELECT testing.refuse($$SELECT wallet_debit('led_fees', 1, 'EUR', 'led_v5', options => '{"min_available": 0}')$$);
SELECT testing.refuse($$SELECT wallet_debit('led_a', 1, 'EUR', 'led_v6', options => '{"deadline": "2020-01-01T00:00:00Z"}')$$);
SELECT s.status FROM wallet_debit('led_a', 1, 'EUR', 'led_v6',
	options => '{"deadline": "2999-01-01T00:00:00Z"}') AS r, testing.show(r) AS s;
-- The key was used: it answers after the deadline, too
SELECT s.status, s.replayed FROM wallet_debit('led_a', 1, 'EUR', 'led_v6',
	options => '{"deadline": "2020-01-01T00:00:00Z"}') AS r, testing.show(r) AS s;

-- Postings: many legs and currencies, judged by the net on each account
SELECT s.* FROM wallet_credit('led_usd', 1, 'USD', 'led_p1') AS r, testing.show(r) AS s;
SELECT s.* FROM ledger_post(ARRAY[('led_a', -300, 'EUR'), ('led_b', 200, 'EUR'), ('led_fees', 100, 'EUR'),
	('led_usd', 5, 'USD'), ('world:USD', -5, 'USD')]::leg[], 'led_p0') AS r, testing.show(r) AS s;
SELECT available FROM account_balance('led_a') \gset
-- a currency is used first by naming its world account
SELECT currency_add('LEDNEW', 0);
SELECT code FROM account_open('led_new', 'LEDNEW');
SELECT testing.refuse($$SELECT ledger_post(ARRAY[('led_new', 5, 'LEDNEW'), ('world:LEDOLD', -5, 'LEDNEW')]::leg[], 'led_p4')$$);
SELECT testing.refuse($$SELECT account_balance('world:LEDNEW')$$);
SELECT s.* FROM ledger_post(ARRAY[('led_new', 5, 'LEDNEW'), ('world:LEDNEW', -5, 'LEDNEW')]::leg[], 'led_p4') AS r, testing.show(r) AS s;
SELECT s.* FROM wallet_transfer('world:LEDNEW', 'led_new', 1, 'LEDNEW', 'led_p5') AS r, testing.show(r) AS s;
SELECT posted FROM account_balance('world:LEDNEW');
-- out and in again on one account: only the net counts
SELECT s.status FROM ledger_post(ARRAY[('led_a', -:available - 10, 'EUR'), ('led_a', 10, 'EUR'), ('led_fees', :available, 'EUR')]::leg[],
	'led_p2') AS r, testing.show(r) AS s;
SELECT testing.refuse($$SELECT ledger_post(ARRAY[('led_a', -11, 'EUR'), ('led_a', 10, 'EUR'), ('led_fees', 1, 'EUR')]::leg[], 'led_p3')$$);
SELECT testing.refuse($$SELECT ledger_post(ARRAY[('led_a', -300, 'EUR'), ('led_b', 300, 'EUR')]::leg[], 'led_p0')$$);
SELECT e.amount, e.version, e.posted
FROM entry AS e JOIN account AS a ON a.id = e.account_id
WHERE a.code = 'led_a' AND e.journal_id = (SELECT id FROM journal WHERE key = 'led_p2') ORDER BY e.id;

-- Freeze: no money out
SELECT s.status FROM wallet_credit('led_a', 1000, 'EUR', 'led_z0') AS r, testing.show(r) AS s;
SELECT status FROM account_freeze('led_a', 'court order');
SELECT status FROM account_freeze('led_a', 'court order');
SELECT what, testing.refuse('SELECT ' || what)
FROM (VALUES
	($$wallet_debit('led_a', 1, 'EUR', 'led_z1')$$),
	($$wallet_transfer('led_a', 'led_b', 1, 'EUR', 'led_z1')$$),
	($$wallet_hold('led_a', 1, 'EUR', 'led_z1')$$),
	($$ledger_post(ARRAY[('led_a', -1, 'EUR'), ('led_b', 1, 'EUR')]::leg[], 'led_z1')$$)) AS v (what);
SELECT s.status FROM wallet_credit('led_a', 1, 'EUR', 'led_z2') AS r, testing.show(r) AS s;
SELECT s.status FROM wallet_transfer('led_b', 'led_a', 1, 'EUR', 'led_z3') AS r, testing.show(r) AS s;
SELECT status FROM account_freeze('led_a', 'worse', scope => 'all');
SELECT testing.refuse($$SELECT wallet_credit('led_a', 1, 'EUR', 'led_z4')$$);
SELECT testing.refuse($$SELECT wallet_transfer('led_b', 'led_a', 1, 'EUR', 'led_z4')$$);
-- a replay is not a movement
SELECT s.status, s.replayed FROM wallet_credit('led_a', 1, 'EUR', 'led_z2') AS r, testing.show(r) AS s;
SELECT status FROM account_unfreeze('led_a', 'lifted');
SELECT s.status FROM wallet_debit('led_a', 1, 'EUR', 'led_z5') AS r, testing.show(r) AS s;
-- a system account can be frozen too
SELECT status FROM account_freeze('led_fees', 'audit');
SELECT testing.refuse($$SELECT wallet_debit('led_fees', 1, 'EUR', 'led_z6', counterparty => 'led_a')$$);
SELECT status FROM account_unfreeze('led_fees', 'audit is over');

-- Close: empty accounts only, and for ever
SELECT testing.refuse($$SELECT account_close('led_a', 'bye')$$);
SELECT testing.refuse($$SELECT account_close('led_fees', 'bye')$$);
SELECT posted FROM account_balance('led_a') \gset
SELECT s.posted FROM wallet_debit('led_a', :posted, 'EUR', 'led_x1') AS r, testing.show(r) AS s;
SELECT status FROM account_close('led_a', 'bye');
SELECT status FROM account_close('led_a', 'bye');
SELECT testing.refuse($$SELECT wallet_credit('led_a', 1, 'EUR', 'led_x2')$$);
SELECT testing.refuse($$SELECT wallet_transfer('led_b', 'led_a', 1, 'EUR', 'led_x2')$$);
SELECT testing.refuse($$SELECT account_unfreeze('led_a', 'no')$$);
SELECT testing.refuse($$SELECT account_freeze('led_a', 'no')$$);
SELECT testing.refuse($$SELECT account_set_limits('led_a', 1, 1, 'no')$$);
SELECT s.status, s.replayed FROM wallet_debit('led_a', :posted, 'EUR', 'led_x1') AS r, testing.show(r) AS s;
SELECT status, created FROM account_open('led_a', 'EUR');
SELECT change, status, floor, ceiling, reason FROM account_change AS c
JOIN account AS a ON a.id = c.account_id WHERE a.code IN ('led_a', 'led_b') ORDER BY c.id;

-- Back-dated: effective_at is kept, nothing else is rewritten
SELECT s.status FROM wallet_credit('led_b', 5, 'EUR', 'led_e1', options => '{"effective_at": "2020-01-01T00:00:00Z"}') AS r, testing.show(r) AS s;
SELECT s.status, s.replayed FROM wallet_credit('led_b', 5, 'EUR', 'led_e1', options => '{"effective_at": "2020-01-01T01:00:00+01:00"}') AS r, testing.show(r) AS s;
SELECT j.effective_at = '2020-01-01Z' AS kept, recorded_at > '2020-01-02' AS recorded_now,
	(SELECT bool_and(e.effective_at = '2020-01-01Z') FROM entry AS e WHERE e.journal_id = j.id) AS in_entries
FROM journal AS j WHERE key = 'led_e1';

-- Amounts of 18 decimal places, and the largest
SELECT currency_add('LED18', 18);
SELECT code FROM account_open('led_big', 'LED18', floor => NULL);
SELECT code FROM account_open('led_big2', 'LED18', floor => NULL);
SELECT s.posted FROM wallet_credit('led_big', 1000000000000000000, 'LED18', 'led_w1') AS r, testing.show(r) AS s;
SELECT s.posted, s.amount FROM wallet_transfer('led_big', 'led_big2', 999999999999999999999999999999999999, 'LED18', 'led_w2') AS r, testing.show(r) AS s;
SELECT s.posted, s.replayed FROM wallet_transfer('led_big', 'led_big2', 999999999999999999999999999999999999, 'LED18', 'led_w2') AS r, testing.show(r) AS s;
SELECT posted FROM account_balance('led_big2');

-- One event a command, with what the contract lists
\pset format unaligned
SELECT e.event_type, e.order_key, testing.blot(e.envelope::text) AS envelope
FROM events AS e WHERE e.envelope ->> 'idempotency_key' IN ('led_d1', 'led_t1', 'led_n2', 'led_p0', 'led_e1', 'led_w1')
	OR e.event_type LIKE 'account.%' AND e.order_key = 'led_b' ORDER BY e.seq;
-- none of a raised decline
SELECT count(*) FROM events AS e WHERE e.envelope ->> 'idempotency_key' IN ('led_b2', 'led_v2');
-- the order key may be given
SELECT s.status FROM wallet_credit('led_b', 5, 'EUR', 'led_o1', options => '{"order_key": "mine", "trace_id": "trace-1", "region": "eu-1",
	"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}') AS r, testing.show(r) AS s;
SELECT e.order_key, e.traceparent, testing.blot(e.envelope::text) AS envelope FROM events AS e WHERE e.envelope ->> 'idempotency_key' = 'led_o1';

\pset format aligned
-- Who did it is on the row
SELECT j.xid IS NOT NULL AS has_xid, a.session_user_name = session_user AS session_user_kept, a.role_name = current_user AS role_kept,
	a.application_name = current_setting('application_name') AS application_kept
FROM journal AS j JOIN actor AS a ON a.id = j.actor_id WHERE j.key = 'led_d1';

SELECT * FROM testing.faults();
