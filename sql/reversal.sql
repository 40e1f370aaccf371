-- Reversals: money goes back by a new transaction, never more than was moved.
SET search_path = failsafe, public;

SELECT code FROM account_open('rev_a', 'EUR');
SELECT code FROM account_open('rev_b', 'EUR');
SELECT code FROM account_open('rev_s', 'EUR', 'system');
SELECT code FROM account_open('rev_t', 'EUR', 'system');
SELECT code FROM account_open('rev_usd', 'USD');
SELECT s.* FROM wallet_credit('rev_a', 1000, 'EUR', 'rev_seed') AS r, testing.show(r) AS s;

-- A debit: in parts, then the rest
SELECT s.* FROM wallet_debit('rev_a', 100, 'EUR', 'rev_1') AS r, testing.show(r) AS s;
SELECT s.* FROM wallet_reverse('key:rev_1', 'rev_1a', 30, 'rma-1', 'broken') AS r, testing.show(r) AS s;
SELECT s.* FROM wallet_reverse('key:rev_1', 'rev_1a', 30, 'rma-1', 'broken') AS r, testing.show(r) AS s;
SELECT testing.refuse($$SELECT wallet_reverse('key:rev_1', 'rev_1a', 31, 'rma-1', 'broken')$$);
SELECT testing.refuse($$SELECT wallet_reverse('key:rev_1', 'rev_1a', NULL, 'rma-1', 'broken')$$);
SELECT testing.refuse($$SELECT wallet_reverse('key:rev_seed', 'rev_1a', 30, 'rma-1', 'broken')$$);
SELECT testing.refuse($$SELECT wallet_reverse('key:rev_1', 'rev_1b', 71)$$);
SELECT s.* FROM wallet_reverse('key:rev_1', 'rev_1c', 71, on_decline => 'record') AS r, testing.show(r) AS s;
SELECT s.* FROM wallet_reverse('key:rev_1', 'rev_1d') AS r, testing.show(r) AS s;
SELECT s.* FROM wallet_reverse('key:rev_1', 'rev_1d') AS r, testing.show(r) AS s;
SELECT testing.refuse($$SELECT wallet_reverse('key:rev_1', 'rev_1e')$$);
SELECT testing.refuse($$SELECT wallet_reverse('key:rev_1', 'rev_1e', 1)$$);
SELECT testing.refuse($$SELECT wallet_reverse('key:rev_1d', 'rev_1e')$$);

-- By id: of the transaction or of one of its entries
SELECT transaction_id, entry_id FROM wallet_transfer('rev_a', 'rev_b', 50, 'EUR', 'rev_2') \gset
SELECT s.* FROM wallet_reverse(:'transaction_id', 'rev_2a', 20) AS r, testing.show(r) AS s;
SELECT s.* FROM wallet_reverse(:'entry_id', 'rev_2b', 20) AS r, testing.show(r) AS s;
-- the other leg names the same transaction, and the same operation
SELECT 'e_' || (substr(:'entry_id', 3)::int8 + 1) AS other_entry_id \gset
SELECT s.replayed FROM wallet_reverse(:'other_entry_id', 'rev_2b', 20) AS r, testing.show(r) AS s;
SELECT s.* FROM wallet_reverse(:'other_entry_id', 'rev_2c', 10) AS r, testing.show(r) AS s;
SELECT posted FROM account_balance('rev_b');

-- A credit is taken back only from money that is there
SELECT s.* FROM wallet_credit('rev_b', 70, 'EUR', 'rev_3') AS r, testing.show(r) AS s;
SELECT s.* FROM wallet_debit('rev_b', 60, 'EUR', 'rev_3a') AS r, testing.show(r) AS s;
SELECT testing.refuse($$SELECT wallet_reverse('key:rev_3', 'rev_3b')$$);
SELECT s.* FROM wallet_reverse('key:rev_3', 'rev_3c', 10) AS r, testing.show(r) AS s;
SELECT s.* FROM wallet_transfer('rev_a', 'rev_b', 100, 'EUR', 'rev_3d') AS r, testing.show(r) AS s;
SELECT status FROM account_freeze('rev_b', 'test');
SELECT testing.refuse($$SELECT wallet_reverse('key:rev_3d', 'rev_3e')$$);
SELECT testing.refuse($$SELECT wallet_reverse('key:rev_3', 'rev_3e')$$);
-- money comes back to a frozen account
SELECT s.* FROM wallet_reverse('key:rev_3a', 'rev_3f', 5) AS r, testing.show(r) AS s;
SELECT status FROM account_unfreeze('rev_b', 'test');

-- A capture: the hold stays resolved
SELECT s.* FROM wallet_hold('rev_a', 40, 'EUR', 'rev_4', counterparty => 'rev_b') AS r, testing.show(r) AS s;
SELECT s.* FROM wallet_commit('key:rev_4', 'rev_4a', 30, false) AS r, testing.show(r) AS s;
SELECT s.* FROM wallet_reverse('key:rev_4a', 'rev_4b', 10) AS r, testing.show(r) AS s;
SELECT status, remaining FROM hold_get('key:rev_4');
SELECT s.* FROM wallet_commit('key:rev_4', 'rev_4c') AS r, testing.show(r) AS s;
SELECT s.* FROM wallet_reverse('key:rev_4c', 'rev_4d') AS r, testing.show(r) AS s;
SELECT status, remaining FROM hold_get('key:rev_4');
SELECT testing.refuse($$SELECT wallet_reverse('key:rev_4', 'rev_4e')$$);

-- Both legs on system accounts: the sum is kept all the same
SELECT s.* FROM wallet_transfer('rev_s', 'rev_t', 10, 'EUR', 'rev_5') AS r, testing.show(r) AS s;
SELECT s.* FROM wallet_reverse('key:rev_5', 'rev_5a', 6) AS r, testing.show(r) AS s;
SELECT testing.refuse($$SELECT wallet_reverse('key:rev_5', 'rev_5b', 5)$$);
SELECT s.* FROM wallet_reverse('key:rev_5', 'rev_5c', 4) AS r, testing.show(r) AS s;
SELECT testing.refuse($$SELECT wallet_reverse('key:rev_5', 'rev_5d')$$);
SELECT testing.refuse($$SELECT wallet_reverse('key:rev_5', 'rev_5d', options => '{"min_available": 1}')$$);

-- A posting of two legs in parts, one of more as a whole and once
SELECT s.status FROM ledger_post(ARRAY[('rev_a', -8, 'EUR'), ('rev_b', 8, 'EUR')]::leg[], 'rev_6') AS r, testing.show(r) AS s;
SELECT s.* FROM wallet_reverse('key:rev_6', 'rev_6a', 3) AS r, testing.show(r) AS s;
SELECT s.* FROM wallet_reverse('key:rev_6', 'rev_6b') AS r, testing.show(r) AS s;
SELECT testing.refuse($$SELECT wallet_reverse('key:rev_6', 'rev_6c', 1)$$);
SELECT s.status FROM wallet_credit('rev_usd', 9, 'USD', 'rev_usd') AS r, testing.show(r) AS s;
SELECT s.status FROM ledger_post(ARRAY[('rev_a', -7, 'EUR'), ('rev_b', 5, 'EUR'), ('rev_s', 2, 'EUR'),
	('rev_usd', -9, 'USD'), ('world:USD', 9, 'USD')]::leg[], 'rev_7') AS r, testing.show(r) AS s;
SELECT testing.refuse($$SELECT wallet_reverse('key:rev_7', 'rev_7a', 7)$$);
SELECT s.* FROM wallet_reverse('key:rev_7', 'rev_7b') AS r, testing.show(r) AS s;
SELECT s.* FROM wallet_reverse('key:rev_7', 'rev_7b') AS r, testing.show(r) AS s;
SELECT testing.refuse($$SELECT wallet_reverse('key:rev_7', 'rev_7c')$$);
SELECT a.code, e.amount FROM entry AS e JOIN account AS a ON a.id = e.account_id
WHERE e.journal_id = (SELECT journal_id FROM idempotency_key WHERE key = 'rev_7b') ORDER BY e.id;
SELECT a.code, b.posted FROM (VALUES ('rev_a'), ('rev_b'), ('rev_s'), ('rev_t'), ('rev_usd')) AS a (code), account_balance(a.code) AS b;

-- Several in one batch, also of what the batch itself did
SELECT n, status, code, amount FROM wallet_batch('[
	{"command": "debit", "account": "rev_a", "amount": 10, "currency": "EUR", "idempotency_key": "rev_8"},
	{"command": "reverse", "transaction": "key:rev_8", "amount": 6, "idempotency_key": "rev_8a"},
	{"command": "reverse", "transaction": "key:rev_8", "amount": 6, "idempotency_key": "rev_8b"},
	{"command": "reverse", "transaction": "key:rev_8", "idempotency_key": "rev_8c"},
	{"command": "reverse", "transaction": "key:rev_8", "idempotency_key": "rev_8d"}]');

SELECT e.event_type, e.order_key, testing.blot(e.envelope::text) AS envelope FROM events AS e
WHERE e.envelope ->> 'idempotency_key' IN ('rev_1a', 'rev_1c', 'rev_7b') ORDER BY e.seq;
SELECT * FROM testing.faults();
