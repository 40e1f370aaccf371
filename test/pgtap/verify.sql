-- ledger_verify(): silent about a sound ledger, and each rule finds the damage that it is
-- there for.  Damage needs a superuser who takes the guards away first; everything is
-- undone at the end.
\set ON_ERROR_STOP on
\set QUIET on
SET client_min_messages = warning;
BEGIN;
SELECT plan(48);

-- ---- a ledger with one of everything -------------------------------------------------

SET LOCAL failsafe.tenant = 'default';
DO $setup$
BEGIN
	PERFORM failsafe.tenant_add('second');
	PERFORM failsafe.account_open('a', 'EUR'), failsafe.account_open('b', 'EUR'),
			failsafe.account_open('usd', 'USD'), failsafe.account_open('fees', 'EUR', 'system');
	PERFORM set_config('failsafe.tenant', 'second', true);
	PERFORM failsafe.account_open('other', 'EUR');
	PERFORM set_config('failsafe.tenant', 'default', true);
END
$setup$;
DO $setup$
BEGIN
	PERFORM failsafe.wallet_credit('a', 10000, 'EUR', 'k_credit');
	PERFORM failsafe.wallet_credit('usd', 10000, 'USD', 'k_usd');
	PERFORM failsafe.wallet_debit('a', 100, 'EUR', 'k_debit', counterparty => 'fees');
	PERFORM failsafe.wallet_transfer('a', 'b', 700, 'EUR', 'k_transfer');
	PERFORM failsafe.wallet_hold('a', 500, 'EUR', 'k_hold');
	PERFORM failsafe.wallet_commit('key:k_hold', 'k_capture', 200, false, counterparty => 'fees');
	PERFORM failsafe.wallet_extend('key:k_hold', 'k_extend', '2 days');
	PERFORM failsafe.wallet_hold('b', 50, 'EUR', 'k_hold_b');
	PERFORM failsafe.wallet_rollback('key:k_hold_b', 'k_rollback');
	PERFORM failsafe.wallet_reverse('key:k_transfer', 'k_reverse', 300);
	PERFORM failsafe.ledger_post(ARRAY[('a', -30, 'EUR'), ('b', 20, 'EUR'), ('fees', 10, 'EUR')]::failsafe.leg[], 'k_post');
	PERFORM failsafe.wallet_reverse('key:k_post', 'k_unpost');
	PERFORM failsafe.wallet_debit('b', 999999, 'EUR', 'k_declined', on_decline => 'record');
	PERFORM failsafe.wallet_credit('b', 5, 'EUR', 'k_late',
			options => jsonb_build_object('effective_at', now() - interval '1 day'));
END
$setup$;
INSERT INTO failsafe.checkpoint
SELECT a.id, 3071, 1, j.recorded_at, j.recorded_at, now(), e.amount
FROM failsafe.account AS a
JOIN failsafe.entry AS e ON e.account_id = a.id AND e.id <= 3071
JOIN failsafe.journal AS j ON j.id = e.journal_id
WHERE a.code = 'world:EUR';

ALTER EVENT TRIGGER failsafe_drop_guard DISABLE;
DO $unguard$
DECLARE
	guarded regclass;
BEGIN
	FOR guarded IN SELECT tgrelid FROM pg_trigger WHERE tgname = 'failsafe_guard' LOOP
		EXECUTE format('ALTER TABLE %s DISABLE TRIGGER failsafe_guard', guarded);
	END LOOP;
END
$unguard$;

-- The rules that speak up after a damage, which is undone again.
CREATE FUNCTION pg_temp.rules_after(damage text, options jsonb DEFAULT NULL) RETURNS text
LANGUAGE plpgsql AS $body$
DECLARE
	rules text;
	row_count int8;
BEGIN
	BEGIN
		EXECUTE damage;
		GET DIAGNOSTICS row_count = ROW_COUNT;
		SELECT string_agg(DISTINCT v.rule, ' ' ORDER BY v.rule) INTO rules
		FROM failsafe.ledger_verify(options) AS v;
		RAISE EXCEPTION USING ERRCODE = 'ZZ001';
	EXCEPTION WHEN SQLSTATE 'ZZ001' THEN
		NULL;
	END;
	RETURN CASE WHEN row_count = 0 THEN 'nothing was damaged' ELSE coalesce(rules, 'none') END;
END
$body$;

CREATE FUNCTION pg_temp.t(key text) RETURNS int8 LANGUAGE sql
RETURN (SELECT j.id FROM failsafe.journal AS j WHERE j.key = t.key);
CREATE FUNCTION pg_temp.a(code text) RETURNS int8 LANGUAGE sql
RETURN (SELECT a.id FROM failsafe.account AS a WHERE a.code = a.code AND a.code = $1);

-- ---- no false alarm -------------------------------------------------------------------

SELECT is_empty($$SELECT * FROM failsafe.ledger_verify()$$, 'a sound ledger has no fault');
SELECT is_empty($$SELECT * FROM failsafe.ledger_verify('{"quick": true}')$$, 'nor by the quick way');
SELECT is_empty($$SELECT * FROM failsafe.ledger_verify('{"account": "a"}')$$, 'nor for one account');
SELECT is_empty($$SELECT * FROM failsafe.ledger_verify('{"since": "2020-01-01"}')$$, 'nor since a time');
SELECT is_empty($$SELECT * FROM failsafe.ledger_verify('{"since": "2999-01-01"}')$$, 'nor since a time to come');
SELECT throws_ok($$SELECT * FROM failsafe.ledger_verify('{"sinse": 1}')$$, 'SF041', NULL, 'an unknown option is refused');
SELECT throws_ok($$SELECT * FROM failsafe.ledger_verify('{"since": "soon"}')$$, 'SF041', NULL, 'a wrong time is refused');
SELECT throws_ok($$SELECT * FROM failsafe.ledger_verify('{"quick": 1}')$$, 'SF041', NULL, 'a wrong boolean is refused');
SELECT throws_ok($$SELECT * FROM failsafe.ledger_verify('{"account": "nobody"}')$$, 'SF016', NULL, 'an unknown account is refused');

-- ---- each rule ------------------------------------------------------------------------

PREPARE damage(text, text, text) AS SELECT is(pg_temp.rules_after($2), $1, $3);

EXECUTE damage('currency_sum entry_transaction transaction_reference',
	$$UPDATE failsafe.account SET tenant_id = (SELECT id FROM failsafe.tenant WHERE name = 'second') WHERE code = 'fees'$$,
	'an account moves to another tenant');
EXECUTE damage('currency_sum transaction_entries transaction_sum',
	$$UPDATE failsafe.entry SET amount = amount + 1 WHERE journal_id = pg_temp.t('k_usd') AND version IS NULL$$,
	'a leg of a system account grows');
EXECUTE damage('balance_posted',
	$$UPDATE failsafe.balance SET posted = posted + 1 WHERE account_id = pg_temp.a('a')$$,
	'a balance changes');
EXECUTE damage('balance_version',
	$$UPDATE failsafe.balance SET version = version + 1 WHERE account_id = pg_temp.a('a')$$,
	'a version counter changes');
EXECUTE damage('entry_posted entry_recorded_at entry_version transaction_entries',
	$$UPDATE failsafe.entry SET version = 7 WHERE version = 1 AND account_id = pg_temp.a('a')$$,
	'an entry has another version');
EXECUTE damage('entry_posted',
	$$UPDATE failsafe.entry SET posted = posted + 1 WHERE journal_id = pg_temp.t('k_post') AND account_id = pg_temp.a('a')$$,
	'a running balance changes');
EXECUTE damage('balance_held',
	$$UPDATE failsafe.balance SET held = held + 1 WHERE account_id = pg_temp.a('a')$$,
	'held money changes');
EXECUTE damage('hold_expiry',
	$$UPDATE failsafe.balance SET next_hold_expiry = NULL WHERE account_id = pg_temp.a('a')$$,
	'the next expiry is forgotten');
EXECUTE damage('hold_transaction',
	$$UPDATE failsafe.hold SET captured = captured + 1, released = released - 1 WHERE status = 'open'$$,
	'a hold says that more was captured');
EXECUTE damage('hold_transaction',
	$$UPDATE failsafe.hold SET expires_at = expires_at + interval '1 second' WHERE status = 'open'$$,
	'a hold expires later');
EXECUTE damage('hold_status',
	$$UPDATE failsafe.hold SET status = 'committed' WHERE status = 'rolled_back'$$,
	'a hold has another status');
EXECUTE damage('account_balance',
	$$INSERT INTO failsafe.balance SELECT * FROM failsafe.balance WHERE account_id = pg_temp.a('usd')$$,
	'an account has two balances');
EXECUTE damage('account_balance',
	$$DELETE FROM failsafe.balance WHERE account_id = pg_temp.a('other')$$,
	'an account has no balance');
EXECUTE damage('account_balance',
	$$DELETE FROM failsafe.account WHERE code = 'other'$$,
	'a balance has no account');
EXECUTE damage('account_change',
	$$UPDATE failsafe.balance SET floor = -1000 WHERE account_id = pg_temp.a('a')$$,
	'a floor changes and nobody did it');
EXECUTE damage('account_change',
	$$DELETE FROM failsafe.account_change WHERE account_id = pg_temp.a('b')$$,
	'nobody opened an account');
EXECUTE damage('balance_posted balance_version currency_sum transaction_entries transaction_sum',
	$$DELETE FROM failsafe.entry WHERE journal_id = pg_temp.t('k_late') AND version IS NOT NULL$$,
	'the last entry of an account is gone');
EXECUTE damage('entry_transaction transaction_entries transaction_sum',
	$$UPDATE failsafe.entry SET journal_id = 987654 WHERE journal_id = pg_temp.t('k_post') AND account_id = pg_temp.a('fees')$$,
	'an entry names a transaction that does not exist');
EXECUTE damage('entry_transaction',
	$$UPDATE failsafe.entry SET effective_at = NULL WHERE effective_at IS NOT NULL AND version IS NOT NULL$$,
	'a back-dated entry is not any more');
EXECUTE damage('entry_recorded_at',
	$$UPDATE failsafe.journal SET recorded_at = recorded_at - interval '1 hour' WHERE key = 'k_transfer'$$,
	'a transaction was recorded before its predecessor');
EXECUTE damage('transaction_entries',
	$$UPDATE failsafe.journal SET amount = amount + 1 WHERE key = 'k_usd'$$,
	'a transaction has another amount');
EXECUTE damage('entry_transaction event_transaction',
	$$UPDATE failsafe.journal SET status = 'held' WHERE key = 'k_usd'$$,
	'a transaction forgot its entries');
EXECUTE damage('transaction_entries',
	$$UPDATE failsafe.journal SET counterparty_version = 7 WHERE key = 'k_transfer'$$,
	'a transaction names another entry of its counterparty');
EXECUTE damage('transaction_entries',
	$$UPDATE failsafe.journal SET leg_versions[2] = 7 WHERE key = 'k_post'$$,
	'a posting names another entry');
EXECUTE damage('entry_transaction transaction_entries',
	$$UPDATE failsafe.entry SET id = id + 1024 WHERE journal_id = pg_temp.t('k_usd') AND version IS NULL$$,
	'an entry has an id of another transaction');
EXECUTE damage('entry_transaction transaction_entries',
	$$UPDATE failsafe.entry SET id = id + 5 WHERE journal_id = pg_temp.t('k_usd') AND version IS NOT NULL$$,
	'an entry is a leg that its transaction does not have');
EXECUTE damage('transaction_reference',
	$$DELETE FROM failsafe.actor$$,
	'nobody did it');
EXECUTE damage('transaction_key',
	$$DELETE FROM failsafe.idempotency_key WHERE key = 'k_debit'$$,
	'a key is gone');
EXECUTE damage('key_transaction',
	$$INSERT INTO failsafe.idempotency_key SELECT 987654, tenant_id, fingerprint_version, fingerprint, 'k_new'
	  FROM failsafe.idempotency_key WHERE key = 'k_debit'$$,
	'a key has no transaction');
EXECUTE damage('transaction_event',
	$$DELETE FROM failsafe.outbox WHERE journal_id = pg_temp.t('k_debit')$$,
	'an event is gone');
EXECUTE damage('event_transaction',
	$$UPDATE failsafe.outbox SET event_type = 'wallet.credit.committed' WHERE journal_id = pg_temp.t('k_debit')$$,
	'an event tells something else');
EXECUTE damage('event_transaction',
	$$INSERT INTO failsafe.outbox SELECT * FROM failsafe.outbox WHERE journal_id = pg_temp.t('k_debit')$$,
	'an event is there twice');
EXECUTE damage('reversal_sum',
	$$UPDATE failsafe.reversible SET reversed = 0 WHERE journal_id = pg_temp.t('k_transfer')$$,
	'a reversal is forgotten');
EXECUTE damage('reversal_sum',
	$$UPDATE failsafe.reversible SET reversed = 2 WHERE journal_id = pg_temp.t('k_post')$$,
	'a posting was reversed twice');
EXECUTE damage('checkpoint_sum',
	$$UPDATE failsafe.checkpoint SET posted = posted + 1$$,
	'a checkpoint changes');
EXECUTE damage('value_whole',
	$$UPDATE failsafe.balance SET posted = posted + 0.00 WHERE account_id = pg_temp.a('b')$$,
	'a balance has decimal places');
EXECUTE damage('balance_held value_whole',
	$$UPDATE failsafe.balance SET held = 'NaN' WHERE account_id = pg_temp.a('b')$$,
	'a balance is not a number');

-- ---- what may be missing --------------------------------------------------------------

SELECT is(pg_temp.rules_after(
	$$SELECT set_config('failsafe.event_types', '*,!wallet.debit.committed', true);
	  DELETE FROM failsafe.outbox WHERE event_type = 'wallet.debit.committed'$$),
	'none', 'events that are switched off are not missed');
SELECT is(pg_temp.rules_after(
	$$DELETE FROM failsafe.outbox;
	  UPDATE failsafe.journal SET recorded_at = recorded_at - interval '8 days';
	  UPDATE failsafe.checkpoint SET recorded_from = recorded_from - interval '8 days',
			recorded_until = recorded_until - interval '8 days';
	  UPDATE failsafe.journal SET effective_at = effective_at - interval '8 days';
	  UPDATE failsafe.entry SET effective_at = effective_at - interval '8 days'$$),
	'none', 'events older than the retention are not missed');

SELECT * FROM finish();
ROLLBACK;
