-- A marketplace: the buyer's money is reserved at the order, taken as parcels ship,
-- and split between the seller and the marketplace.  Then a part is returned.
-- Run it in an empty database:  psql -e -f examples/marketplace.sql

CREATE EXTENSION pg_failsafe;
SET search_path = public, failsafe;

CREATE TABLE customer_order (number int PRIMARY KEY, buyer text, seller text, state text);

-- Buyer and seller have wallets.  Fees and clearing are system accounts: no limits, no locks.
SELECT code, kind FROM account_open('buyer:7', 'EUR');
SELECT code, kind FROM account_open('seller:3', 'EUR');
SELECT code, kind FROM account_open('fees', 'EUR', 'system', floor => NULL);
SELECT code, kind FROM account_open('clearing', 'EUR', 'system', floor => NULL);
SELECT status, available FROM wallet_credit('buyer:7', 20000, 'EUR', 'topup:7:1');

-- The order and the hold are one transaction.  Captures will go to clearing.
BEGIN;
INSERT INTO customer_order VALUES (1001, 'buyer:7', 'seller:3', 'ordered');
SELECT status, held, available
  FROM wallet_hold('buyer:7', 12000, 'EUR', 'order:1001:hold', expires_in => '7 days',
                   reference => 'order 1001', counterparty => 'clearing');
COMMIT;

-- The first parcel, 80.00 EUR: capture that much, keep the rest reserved, and pay out
-- with a fee of 10 %.  Both or neither.
BEGIN;
SELECT status, amount, hold_remaining
  FROM wallet_commit('key:order:1001:hold', 'order:1001:parcel:1', amount => 8000, final => false,
                     reference => 'order 1001');
SELECT status FROM ledger_post(
    ARRAY[('clearing', -8000, 'EUR'), ('seller:3', 7200, 'EUR'), ('fees', 800, 'EUR')]::leg[],
    'order:1001:split:1', reference => 'order 1001');
UPDATE customer_order SET state = 'shipped in part' WHERE number = 1001;
COMMIT;

-- The second parcel is smaller than planned: 30.00 EUR.  The last 10.00 EUR are free again.
BEGIN;
SELECT status, amount, hold_remaining, held, available
  FROM wallet_commit('key:order:1001:hold', 'order:1001:parcel:2', amount => 3000,
                     reference => 'order 1001');
SELECT status FROM ledger_post(
    ARRAY[('clearing', -3000, 'EUR'), ('seller:3', 2700, 'EUR'), ('fees', 300, 'EUR')]::leg[],
    'order:1001:split:2', reference => 'order 1001');
UPDATE customer_order SET state = 'shipped' WHERE number = 1001;
COMMIT;

-- The second parcel comes back.  Undo its split and its capture, both as a whole.
BEGIN;
SELECT status, amount FROM wallet_reverse('key:order:1001:split:2', 'order:1001:return:2:split',
                                          reason => 'parcel returned');
SELECT status, amount, available
  FROM wallet_reverse('key:order:1001:parcel:2', 'order:1001:return:2', reason => 'parcel returned');
UPDATE customer_order SET state = 'returned in part' WHERE number = 1001;
COMMIT;

-- The web shop sends the return again, because it got no answer: nothing happens twice.
SELECT status, amount, replayed
  FROM wallet_reverse('key:order:1001:parcel:2', 'order:1001:return:2', reason => 'parcel returned');

-- Where is the money?  Clearing must be empty.
SELECT a.code, b.posted, b.available
  FROM (VALUES ('buyer:7'), ('seller:3'), ('fees'), ('clearing')) AS a (code),
       LATERAL account_balance(a.code) AS b;

-- The buyer's statement, and the life of the hold.
SELECT command, amount, posted, counterparty, reference FROM account_statement('buyer:7');
SELECT command, status, amount, released, remaining FROM hold_history('key:order:1001:hold');

SELECT * FROM ledger_verify();
