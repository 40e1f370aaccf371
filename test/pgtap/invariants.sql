-- What must hold in every database that has the extension, whatever is in it.  Only reads:
-- run it in your own database by pg_prove, or by psql -f (it needs the extension pgtap).
\set ON_ERROR_STOP on
\set QUIET on
SET client_min_messages = warning;
BEGIN;
SELECT plan(10);

SELECT is_empty($$SELECT * FROM failsafe.ledger_verify()$$, 'the books balance');
SELECT is_empty($$SELECT tenant, currency, sum(amount) FROM failsafe.entries
	GROUP BY tenant, currency HAVING sum(amount) <> 0$$, 'each tenant''s entries add up to 0 in each currency');
SELECT is_empty($$SELECT a.tenant, a.code FROM failsafe.accounts AS a
	LEFT JOIN (SELECT e.tenant, e.account, sum(e.amount) AS posted, count(*) AS n
			   FROM failsafe.entries AS e GROUP BY e.tenant, e.account) AS s
		ON s.tenant = a.tenant AND s.account = a.code
	WHERE a.kind = 'wallet' AND (a.posted, a.version) IS DISTINCT FROM (coalesce(s.posted, 0), coalesce(s.n, 0))$$,
	'posted and version are the sum and the number of the entries');
SELECT is_empty($$SELECT a.tenant, a.code FROM failsafe.accounts AS a
	LEFT JOIN (SELECT h.tenant, h.account, sum(h.remaining) AS held
			   FROM failsafe.hold_list AS h GROUP BY h.tenant, h.account) AS s
		ON s.tenant = a.tenant AND s.account = a.code
	WHERE a.kind = 'wallet' AND a.held <> coalesce(s.held, 0)$$, 'held is the rest of the open holds');
SELECT is_empty($$SELECT a.tenant, a.code FROM failsafe.accounts AS a
	WHERE a.available IS DISTINCT FROM a.posted - a.held - a.floor AND a.kind = 'wallet'$$, 'available = posted - held - floor');
SELECT is_empty($$SELECT a.tenant, a.code FROM failsafe.accounts AS a
	WHERE a.available < 0
	  AND NOT EXISTS (SELECT FROM failsafe.account_changes AS c
					  WHERE c.tenant = a.tenant AND c.account = a.code AND c.change = 'limits_changed')$$,
	'no account is below its floor unless its floor was raised');
SELECT is_empty($$SELECT tenant, idempotency_key FROM failsafe.transactions WHERE idempotency_key IS NOT NULL
	GROUP BY tenant, idempotency_key HAVING count(*) > 1$$, 'a key has one effect');
SELECT is_empty($$SELECT event_id FROM failsafe.events GROUP BY event_id HAVING count(*) > 1$$, 'an event id names one event');
SELECT is_empty($$SELECT check_name, detail FROM failsafe.doctor()
	WHERE status = 'error' AND check_name NOT IN ('setting fsync', 'setting full_page_writes')$$, 'doctor() finds no error');
SELECT is_empty($$SELECT check_name, detail FROM failsafe.doctor() WHERE check_name IN ('guards', 'drop_guard', 'tables') AND status <> 'ok'$$,
	'guards are on and tables are as the extension made them');

SELECT * FROM finish();
ROLLBACK;
