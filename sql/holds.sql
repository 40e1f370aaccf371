-- Holds: place, capture, extend, roll back, expire.
SET search_path = failsafe, public;

SELECT code FROM account_open('hol_a', 'EUR');
SELECT code FROM account_open('hol_b', 'EUR', ceiling => 100);
SELECT code FROM account_open('hol_shop', 'EUR');
SELECT s.* FROM wallet_credit('hol_a', 1000, 'EUR', 'hol_seed') AS r, testing.show(r) AS s;

-- Place: the money is held, not moved
SELECT s.* FROM wallet_hold('hol_a', 400, 'EUR', 'hol_1', reference => 'booking', counterparty => 'hol_shop') AS r, testing.show(r) AS s;
SELECT s.* FROM wallet_hold('hol_a', 400, 'EUR', 'hol_1', reference => 'booking', counterparty => 'hol_shop') AS r, testing.show(r) AS s;
SELECT expires_at - recorded_at AS default_expiry, transaction_id = 't_' || substr(hold_id, 3) AS same_number
FROM wallet_hold('hol_a', 400, 'EUR', 'hol_1', reference => 'booking', counterparty => 'hol_shop');
SELECT testing.refuse($$SELECT wallet_hold('hol_a', 400, 'EUR', 'hol_1', reference => 'booking')$$);
SELECT testing.refuse($$SELECT wallet_hold('hol_a', 400, 'EUR', 'hol_1', '7 days', reference => 'booking', counterparty => 'hol_shop')$$);
SELECT testing.refuse($$SELECT wallet_debit('hol_a', 601, 'EUR', 'hol_x')$$);
SELECT testing.refuse($$SELECT wallet_hold('hol_a', 601, 'EUR', 'hol_x')$$);
SELECT s.* FROM wallet_debit('hol_a', 600, 'EUR', 'hol_d') AS r, testing.show(r) AS s;
SELECT s.* FROM wallet_credit('hol_a', 600, 'EUR', 'hol_c') AS r, testing.show(r) AS s;
-- the unit of an interval matters, its sum does not: a day is not 24 hours
SELECT s.replayed FROM wallet_hold('hol_a', 1, 'EUR', 'hol_2', '1 day') AS r, testing.show(r) AS s;
SELECT s.replayed FROM wallet_hold('hol_a', 1, 'EUR', 'hol_2', '1 day') AS r, testing.show(r) AS s;
SELECT testing.refuse($$SELECT wallet_hold('hol_a', 1, 'EUR', 'hol_2', '24 hours')$$);
SELECT s.* FROM wallet_rollback('key:hol_2', 'hol_2r') AS r, testing.show(r) AS s;

-- Capture in parts; the last one resolves the hold
SELECT s.* FROM wallet_commit('key:hol_1', 'hol_1a', 150, false) AS r, testing.show(r) AS s;
SELECT s.* FROM wallet_commit('key:hol_1', 'hol_1a', 150, false) AS r, testing.show(r) AS s;
SELECT testing.refuse($$SELECT wallet_commit('key:hol_1', 'hol_1a', 150, true)$$);
SELECT testing.refuse($$SELECT wallet_commit('key:hol_1', 'hol_1a', 151, false)$$);
SELECT testing.refuse($$SELECT wallet_commit('key:hol_1', 'hol_1b', 251, false)$$);
SELECT s.* FROM wallet_commit('key:hol_1', 'hol_1c', 50, false, counterparty => 'world:EUR') AS r, testing.show(r) AS s;
SELECT s.* FROM wallet_commit('key:hol_1', 'hol_1d', 200, false) AS r, testing.show(r) AS s;
SELECT testing.refuse($$SELECT wallet_commit('key:hol_1', 'hol_1e', 1)$$);
SELECT testing.refuse($$SELECT wallet_rollback('key:hol_1', 'hol_1f')$$);
SELECT posted FROM account_balance('hol_shop');
SELECT command, status, amount, released, remaining, idempotency_key FROM hold_history('key:hol_1');
SELECT status, amount, captured, released, remaining, counterparty, reference FROM hold_get('key:hol_1c');

-- final gives the rest back
SELECT s.* FROM wallet_hold('hol_a', 100, 'EUR', 'hol_3') AS r, testing.show(r) AS s;
SELECT s.* FROM wallet_commit('key:hol_3', 'hol_3a', 30) AS r, testing.show(r) AS s;
SELECT status, captured, released, remaining FROM hold_get('key:hol_3');
SELECT s.* FROM wallet_rollback('key:hol_3', 'hol_3b') AS r, testing.show(r) AS s;
-- no amount: all that remains; a designator may be an id, too
SELECT s.* FROM wallet_hold('hol_a', 100, 'EUR', 'hol_4') AS r, testing.show(r) AS s;
SELECT hold_id, transaction_id FROM wallet_hold('hol_a', 100, 'EUR', 'hol_4') \gset
SELECT s.* FROM wallet_commit(:'hold_id', 'hol_4a', 60, false) AS r, testing.show(r) AS s;
SELECT entry_id FROM wallet_commit('key:hol_4', 'hol_4a', 60, false) \gset
SELECT s.* FROM wallet_commit(:'entry_id', 'hol_4b') AS r, testing.show(r) AS s;
SELECT s.replayed FROM wallet_commit(:'transaction_id', 'hol_4b') AS r, testing.show(r) AS s;

-- Roll back: once with the rest, then with nothing
SELECT s.* FROM wallet_hold('hol_a', 100, 'EUR', 'hol_5') AS r, testing.show(r) AS s;
SELECT s.* FROM wallet_commit('key:hol_5', 'hol_5a', 10, false) AS r, testing.show(r) AS s;
SELECT s.* FROM wallet_rollback('key:hol_5', 'hol_5b', 'ref', 'guest left') AS r, testing.show(r) AS s;
SELECT s.* FROM wallet_rollback('key:hol_5', 'hol_5b', 'ref', 'guest left') AS r, testing.show(r) AS s;
SELECT s.* FROM wallet_rollback('key:hol_5', 'hol_5c') AS r, testing.show(r) AS s;
SELECT testing.refuse($$SELECT wallet_commit('key:hol_5', 'hol_5d')$$);

-- Extend
SELECT s.* FROM wallet_hold('hol_a', 10, 'EUR', 'hol_6', '1 hour') AS r, testing.show(r) AS s;
SELECT expires_at - recorded_at AS left, status, hold_remaining FROM wallet_extend('key:hol_6', 'hol_6a', '2 days');
SELECT expires_at - recorded_at AS left, replayed FROM wallet_extend('key:hol_6', 'hol_6a', '2 days');
SELECT expires_at - recorded_at AS left FROM wallet_extend('key:hol_6', 'hol_6b');
SELECT testing.refuse($$SELECT wallet_extend('key:hol_6', 'hol_6a', '3 days')$$);
-- to sooner, too
SELECT expires_at - recorded_at AS left FROM wallet_extend('key:hol_6', 'hol_6c', '1 minute');
SELECT expires_at - placed_at < '2 minutes' AS sooner FROM hold_get('key:hol_6');
SELECT s.* FROM wallet_rollback('key:hol_6', 'hol_6d') AS r, testing.show(r) AS s;

-- The destination is judged at the capture; declined leaves the hold open
SELECT s.* FROM wallet_hold('hol_a', 200, 'EUR', 'hol_7', counterparty => 'hol_b') AS r, testing.show(r) AS s;
SELECT testing.refuse($$SELECT wallet_commit('key:hol_7', 'hol_7a')$$);
SELECT s.* FROM wallet_commit('key:hol_7', 'hol_7b', 100, false) AS r, testing.show(r) AS s;
SELECT s.* FROM wallet_commit('key:hol_7', 'hol_7c', 1, on_decline => 'record') AS r, testing.show(r) AS s;
SELECT status FROM account_freeze('hol_b', 'test', 'all');
SELECT testing.refuse($$SELECT wallet_commit('key:hol_7', 'hol_7d', 1)$$);
SELECT status FROM account_unfreeze('hol_b', 'test');
SELECT status, remaining FROM hold_get('key:hol_7');

-- Freeze 'out' of the payer: earlier holds are captured and released, new ones refused
SELECT status FROM account_freeze('hol_a', 'test');
SELECT testing.refuse($$SELECT wallet_hold('hol_a', 1, 'EUR', 'hol_x')$$);
SELECT s.* FROM wallet_commit('key:hol_7', 'hol_7e', 20, false, counterparty => 'hol_shop') AS r, testing.show(r) AS s;
SELECT status FROM account_freeze('hol_a', 'test', 'all');
SELECT testing.refuse($$SELECT wallet_commit('key:hol_7', 'hol_7f', 20, false, counterparty => 'hol_shop')$$);
SELECT testing.refuse($$SELECT wallet_extend('key:hol_7', 'hol_7f')$$);
SELECT s.* FROM wallet_rollback('key:hol_7', 'hol_7g') AS r, testing.show(r) AS s;
SELECT status FROM account_unfreeze('hol_a', 'test');
-- an account with a hold is not empty
SELECT code FROM account_open('hol_close', 'EUR');
SELECT s.status FROM wallet_credit('hol_close', 5, 'EUR', 'hol_8') AS r, testing.show(r) AS s;
SELECT s.status FROM wallet_hold('hol_close', 5, 'EUR', 'hol_8a', '1 second') AS r, testing.show(r) AS s;
SELECT testing.refuse($$SELECT account_close('hol_close', 'bye')$$);

-- A raised floor does not stop a capture: the hold reserved the money
SELECT s.* FROM wallet_hold('hol_a', 50, 'EUR', 'hol_9') AS r, testing.show(r) AS s;
SELECT floor FROM account_set_limits('hol_a', 100000, NULL, 'test');
SELECT s.* FROM wallet_commit('key:hol_9', 'hol_9a') AS r, testing.show(r) AS s;
SELECT floor FROM account_set_limits('hol_a', 0, NULL, 'test');

-- Expiry: by the clock, inside one transaction too, where now() stands still
BEGIN;
SELECT s.* FROM wallet_hold('hol_a', 20, 'EUR', 'hol_e1', '1 second') AS r, testing.show(r) AS s;
SELECT s.* FROM wallet_hold('hol_a', 30, 'EUR', 'hol_e2', '1 second') AS r, testing.show(r) AS s;
SELECT s.* FROM wallet_hold('hol_a', 40, 'EUR', 'hol_e3', '1 hour') AS r, testing.show(r) AS s;
SELECT posted, held FROM account_balance('hol_a');
SELECT testing.wait_until_over('hol_e2');
-- nobody wrote anything yet, and yet nothing is held for them
SELECT posted, held, available FROM account_balance('hol_a');
SELECT status, remaining FROM hold_get('key:hol_e1');
SELECT idempotency_key FROM holds('hol_a');
SELECT count(*) AS written FROM journal WHERE command = 'expire'
	AND hold_id IN (SELECT journal_id FROM idempotency_key WHERE key LIKE 'hol\_e_');
SELECT testing.refuse($$SELECT wallet_commit('key:hol_e1', 'hol_e1a')$$);
SELECT testing.refuse($$SELECT wallet_extend('key:hol_e1', 'hol_e1b', '1 hour')$$);
SELECT s.* FROM wallet_commit('key:hol_e1', 'hol_e1c', on_decline => 'record') AS r, testing.show(r) AS s;
-- whoever finds them writes their expiry first, all that are due
SELECT command, status, amount, released, remaining FROM hold_history('key:hol_e1');
SELECT command, status, amount, released, remaining FROM hold_history('key:hol_e2');
SELECT s.* FROM wallet_rollback('key:hol_e1', 'hol_e1d') AS r, testing.show(r) AS s;
COMMIT;
SELECT e.event_type, testing.blot(e.envelope::text) AS envelope FROM events AS e
WHERE e.event_type = 'wallet.hold.expired' AND e.order_key = 'hol_a' ORDER BY e.seq;

-- The next command may use what an expired hold had reserved; close, too
SELECT available FROM account_balance('hol_a') \gset
SELECT s.held, s.available FROM wallet_hold('hol_a', :available, 'EUR', 'hol_e4', '1 second') AS r, testing.show(r) AS s;
SELECT testing.refuse($$SELECT wallet_debit('hol_a', 1, 'EUR', 'hol_e5')$$) ~ 'SF020' AS refused;
SELECT testing.wait_until_over('hol_e4');
SELECT s.status, s.held FROM wallet_debit('hol_a', 1, 'EUR', 'hol_e5') AS r, testing.show(r) AS s;
SELECT s.status FROM wallet_debit('hol_close', 5, 'EUR', 'hol_8b') AS r, testing.show(r) AS s;
SELECT status FROM account_close('hol_close', 'bye');

-- The sweep writes the rest, a few at a time
SELECT s.status FROM wallet_hold('hol_a', 1, 'EUR', 'hol_s1', '1 second') AS r, testing.show(r) AS s;
SELECT s.status FROM wallet_hold('hol_shop', 1, 'EUR', 'hol_s2', '1 second') AS r, testing.show(r) AS s;
SELECT holds_sweep();
SELECT testing.wait_until_over('hol_s2');
SELECT holds_sweep(1) > 0 AS swept;
SELECT holds_sweep() >= 0 AS swept;
SELECT holds_sweep();
SELECT status FROM hold WHERE id IN (SELECT journal_id FROM idempotency_key WHERE key LIKE 'hol\_s_');

-- A partial capture, then the expiry of the rest
SELECT s.status FROM wallet_hold('hol_a', 10, 'EUR', 'hol_p', '1 second') AS r, testing.show(r) AS s;
SELECT s.status, s.rest FROM wallet_commit('key:hol_p', 'hol_p1', 4, false) AS r, testing.show(r) AS s;
SELECT testing.wait_until_over('hol_p');
SELECT testing.refuse($$SELECT wallet_commit('key:hol_p', 'hol_p2', 4, false)$$);
SELECT holds_sweep();
SELECT status, captured, released, remaining FROM hold_get('key:hol_p');
SELECT s.* FROM wallet_rollback('key:hol_p', 'hol_p3') AS r, testing.show(r) AS s;
SELECT s.replayed, s.rest FROM wallet_commit('key:hol_p', 'hol_p1', 4, false) AS r, testing.show(r) AS s;

SELECT * FROM testing.faults();
