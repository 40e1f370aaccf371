-- ledger: proof that the books balance.
--
-- Each function below returns one row a fault: the rule, the object and a detail.  They
-- are STABLE and are called by one statement of ledger_verify(), so all of them read
-- the same snapshot and concurrent commands raise no false alarm.  All take the same
-- scope: the tenants, one account or NULL, and the first transaction and the last
-- entry that need not be looked at again (0: look at all).

CREATE FUNCTION failsafe._verify_sums(tenants int4[], only_account int8, from_journal int8,
									  after_entry int8)
RETURNS TABLE (rule text, object text, detail text)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT 'currency_sum', t.name || '/' || a.currency,
	   format('the entries add up to %s, not to 0', sum(e.amount))
FROM failsafe.entry AS e
JOIN failsafe.account AS a ON a.id = e.account_id
JOIN failsafe.tenant AS t ON t.id = a.tenant_id
WHERE only_account IS NULL AND from_journal = 0 AND a.tenant_id = ANY (tenants)
GROUP BY t.name, a.currency
HAVING sum(e.amount) <> 0
UNION ALL
SELECT 'transaction_sum', 't_' || e.journal_id,
	   format('the entries in %s add up to %s, not to 0', a.currency, sum(e.amount))
FROM failsafe.entry AS e
JOIN failsafe.account AS a ON a.id = e.account_id
WHERE only_account IS NULL AND e.id > after_entry AND e.journal_id >= from_journal
  AND a.tenant_id = ANY (tenants)
GROUP BY e.journal_id, a.currency
HAVING sum(e.amount) <> 0
$body$;
COMMENT ON FUNCTION failsafe._verify_sums(int4[], int8, int8, int8) IS
'Rules currency_sum and transaction_sum.';

-- The chain of a wallet is walked from the last entry before the scope, whose version
-- and balance are taken as right.
CREATE FUNCTION failsafe._verify_balances(tenants int4[], only_account int8,
										  from_journal int8, after_entry int8)
RETURNS TABLE (rule text, object text, detail text)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
WITH wallet AS (
	SELECT a.code, b.posted, b.version,
		   coalesce(base.posted, 0) + coalesce(chain.amount, 0) AS sum,
		   coalesce(base.version, 0) + chain.entry_count AS entry_count,
		   chain.bad_version, chain.bad_posted
	FROM failsafe.account AS a
	JOIN failsafe.balance AS b ON b.account_id = a.id
	LEFT JOIN LATERAL (
		SELECT e.version, e.posted FROM failsafe.entry AS e
		WHERE e.account_id = a.id AND e.id <= after_entry AND after_entry > 0
		ORDER BY e.id DESC LIMIT 1) AS base ON true
	CROSS JOIN LATERAL (
		SELECT count(*) AS entry_count, sum(link.amount) AS amount,
			   min(link.id) FILTER (WHERE link.version IS DISTINCT FROM
					coalesce(base.version, 0) + link.number) AS bad_version,
			   min(link.id) FILTER (WHERE link.posted IS DISTINCT FROM
					coalesce(base.posted, 0) + link.running) AS bad_posted
		FROM (SELECT e.id, e.amount, e.version, e.posted,
					 row_number() OVER in_order AS number,
					 sum(e.amount) OVER in_order AS running
			  FROM failsafe.entry AS e
			  WHERE e.account_id = a.id AND e.id > after_entry
			  WINDOW in_order AS (ORDER BY e.id ROWS UNBOUNDED PRECEDING)) AS link) AS chain
	WHERE a.kind = 'wallet' AND a.tenant_id = ANY (tenants)
	  AND (only_account IS NULL OR a.id = only_account)
)
SELECT 'balance_posted', w.code,
	   format('posted is %s, the entries add up to %s', w.posted, w.sum)
FROM wallet AS w WHERE w.posted IS DISTINCT FROM w.sum
UNION ALL
SELECT 'balance_version', w.code,
	   format('version is %s, the account has %s entries', w.version, w.entry_count)
FROM wallet AS w WHERE w.version IS DISTINCT FROM w.entry_count
UNION ALL
SELECT 'entry_version', 'e_' || w.bad_version,
	   format('the versions of account %s are not 1, 2, 3 ... from here on', w.code)
FROM wallet AS w WHERE w.bad_version IS NOT NULL
UNION ALL
SELECT 'entry_posted', 'e_' || w.bad_posted,
	   format('posted of account %s is not the sum of the entries up to here', w.code)
FROM wallet AS w WHERE w.bad_posted IS NOT NULL
$body$;
COMMENT ON FUNCTION failsafe._verify_balances(int4[], int8, int8, int8) IS
'Rules balance_posted, balance_version, entry_version and entry_posted.';

CREATE FUNCTION failsafe._verify_accounts(tenants int4[], only_account int8,
										  from_journal int8, after_entry int8)
RETURNS TABLE (rule text, object text, detail text)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT 'account_balance', coalesce(a.code, 'account ' || b.account_id),
	   CASE WHEN a.id IS NULL THEN 'a balance row has no account'
			ELSE format('the account has %s balance rows, not 1', b.row_count) END
FROM failsafe.account AS a
FULL JOIN (SELECT balance.account_id, count(*) AS row_count FROM failsafe.balance
		   GROUP BY balance.account_id) AS b ON b.account_id = a.id
WHERE coalesce(b.row_count, 0) <> 1 OR a.id IS NULL
  AND (a.tenant_id = ANY (tenants) OR a.id IS NULL)
  AND (only_account IS NULL OR coalesce(a.id, b.account_id) = only_account)
UNION ALL
SELECT 'account_change', a.code,
	   CASE WHEN c.id IS NULL THEN 'no row tells who opened the account'
			ELSE format('status, floor, ceiling are %s, %s, %s; the last change says %s, %s, %s',
						b.status, coalesce(b.floor::text, 'none'), coalesce(b.ceiling::text, 'none'),
						c.status, coalesce(c.floor::text, 'none'), coalesce(c.ceiling::text, 'none')) END
FROM failsafe.account AS a
JOIN failsafe.balance AS b ON b.account_id = a.id
LEFT JOIN LATERAL (
	SELECT k.id, k.status, k.floor, k.ceiling FROM failsafe.account_change AS k
	WHERE k.account_id = a.id ORDER BY k.id DESC LIMIT 1) AS c ON true
WHERE (c.id IS NULL OR (b.status, b.floor, b.ceiling) IS DISTINCT FROM (c.status, c.floor, c.ceiling))
  AND a.tenant_id = ANY (tenants) AND (only_account IS NULL OR a.id = only_account)
$body$;
COMMENT ON FUNCTION failsafe._verify_accounts(int4[], int8, int8, int8) IS
'Rules account_balance and account_change.';

CREATE FUNCTION failsafe._verify_holds(tenants int4[], only_account int8, from_journal int8,
									   after_entry int8)
RETURNS TABLE (rule text, object text, detail text)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT 'balance_held', a.code,
	   format('held is %s, the open holds have %s left', b.held, coalesce(open.rest, 0))
FROM failsafe.account AS a
JOIN failsafe.balance AS b ON b.account_id = a.id
LEFT JOIN (SELECT h.account_id, sum(h.amount - h.captured - h.released) AS rest,
				  min(h.expires_at) AS expires_at
		   FROM failsafe.hold AS h WHERE h.status = 'open'
		   GROUP BY h.account_id) AS open ON open.account_id = a.id
WHERE b.held IS DISTINCT FROM coalesce(open.rest, 0)
  AND a.tenant_id = ANY (tenants) AND (only_account IS NULL OR a.id = only_account)
UNION ALL
SELECT 'hold_expiry', a.code,
	   format('the next hold expires at %s, the balance expects it at %s',
			  open.expires_at, coalesce(b.next_hold_expiry::text, 'no time'))
FROM failsafe.account AS a
JOIN failsafe.balance AS b ON b.account_id = a.id
JOIN (SELECT h.account_id, min(h.expires_at) AS expires_at
	  FROM failsafe.hold AS h WHERE h.status = 'open'
	  GROUP BY h.account_id) AS open ON open.account_id = a.id
WHERE (b.next_hold_expiry IS NULL OR b.next_hold_expiry > open.expires_at)
  AND a.tenant_id = ANY (tenants) AND (only_account IS NULL OR a.id = only_account)
UNION ALL
SELECT 'hold_transaction', 'h_' || h.id,
	   CASE WHEN placed.id IS NULL THEN 'no transaction placed the hold'
			ELSE format('amount, captured, released, expiry are %s, %s, %s, %s; the transactions say %s, %s, %s, %s',
						h.amount, h.captured, h.released, h.expires_at, placed.amount,
						told.captured, told.released, told.expires_at) END
FROM failsafe.hold AS h
LEFT JOIN failsafe.journal AS placed ON placed.id = h.id AND placed.command = 'hold'
	AND placed.status = 'held' AND placed.account_id = h.account_id
	AND placed.tenant_id = h.tenant_id
LEFT JOIN (
	SELECT j.hold_id,
		   coalesce(sum(j.amount) FILTER (WHERE j.command = 'commit'), 0) AS captured,
		   coalesce(sum(j.released), 0) AS released,
		   (array_agg(j.expires_at ORDER BY j.id DESC)
			FILTER (WHERE j.status = 'held'))[1] AS expires_at
	FROM failsafe.journal AS j
	WHERE j.hold_id IS NOT NULL AND j.status <> 'declined'
	GROUP BY j.hold_id) AS told ON told.hold_id = h.id
WHERE (placed.id IS NULL
	   OR (h.amount, h.captured, h.released, h.expires_at)
		  IS DISTINCT FROM (placed.amount, told.captured, told.released, told.expires_at))
  AND h.tenant_id = ANY (tenants) AND (only_account IS NULL OR h.account_id = only_account)
UNION ALL
SELECT 'hold_status', 'h_' || h.id,
	   format('status is %s with %s left', h.status, h.amount - h.captured - h.released)
FROM failsafe.hold AS h
WHERE CASE h.status WHEN 'open' THEN h.amount - h.captured - h.released <= 0
		   WHEN 'committed' THEN h.amount - h.captured - h.released <> 0 OR h.captured = 0
		   WHEN 'rolled_back' THEN h.amount - h.captured - h.released <> 0
		   WHEN 'expired' THEN h.amount - h.captured - h.released <> 0
		   ELSE true END
  AND h.tenant_id = ANY (tenants) AND (only_account IS NULL OR h.account_id = only_account)
$body$;
COMMENT ON FUNCTION failsafe._verify_holds(int4[], int8, int8, int8) IS
'Rules balance_held, hold_expiry, hold_transaction and hold_status.';

CREATE FUNCTION failsafe._verify_entries(tenants int4[], only_account int8,
										 from_journal int8, after_entry int8)
RETURNS TABLE (rule text, object text, detail text)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
WITH leg AS (
	SELECT e.id, e.version, e.effective_at, e.posted, a.id AS account_id, a.kind,
		   a.tenant_id AS account_tenant, j.id AS journal_id, j.tenant_id, j.status,
		   j.recorded_at, j.effective_at AS stated_at, j.entry_id, j.entry_blocks
	FROM failsafe.entry AS e
	LEFT JOIN failsafe.account AS a ON a.id = e.account_id
	LEFT JOIN failsafe.journal AS j ON j.id = e.journal_id
	WHERE e.id > after_entry AND (only_account IS NULL OR e.account_id = only_account)
	  AND (a.tenant_id = ANY (tenants) OR j.tenant_id = ANY (tenants)
		   OR a.id IS NULL AND j.id IS NULL)
)
SELECT 'entry_transaction', 'e_' || leg.id,
	   CASE WHEN leg.account_id IS NULL THEN 'the entry has no account'
			WHEN leg.journal_id IS NULL THEN 'the entry has no transaction'
			WHEN leg.account_tenant <> leg.tenant_id THEN 'account and transaction belong to different tenants'
			WHEN leg.status <> 'committed' THEN format('t_%s is %s', leg.journal_id, leg.status)
			WHEN (leg.kind = 'wallet') <> (leg.version IS NOT NULL)
				 OR (leg.kind = 'wallet') <> (leg.posted IS NOT NULL) THEN
				 'version and posted do not fit the kind of the account'
			WHEN leg.effective_at IS DISTINCT FROM
				 CASE WHEN leg.stated_at < leg.recorded_at THEN leg.stated_at END THEN
				 'the effective time is not the transaction''s'
			ELSE format('the entry is none of those that t_%s names', leg.journal_id) END
FROM leg
WHERE leg.account_id IS NULL OR leg.journal_id IS NULL OR leg.account_tenant <> leg.tenant_id
   OR leg.status <> 'committed'
   OR (leg.kind = 'wallet') <> (leg.version IS NOT NULL)
   OR (leg.kind = 'wallet') <> (leg.posted IS NOT NULL)
   OR leg.effective_at IS DISTINCT FROM
	  CASE WHEN leg.stated_at < leg.recorded_at THEN leg.stated_at END
   OR (leg.id - (leg.id + 1) % 2 = ANY (coalesce(leg.entry_blocks, ARRAY[leg.entry_id]))) IS NOT TRUE
UNION ALL
SELECT 'entry_recorded_at', 'e_' || late.id, 'an earlier entry of the account was recorded later'
FROM (SELECT leg.id, leg.recorded_at,
			 lag(leg.recorded_at) OVER (PARTITION BY leg.account_id ORDER BY leg.id) AS before
	  FROM leg WHERE leg.kind = 'wallet') AS late
WHERE late.recorded_at < late.before
$body$;
COMMENT ON FUNCTION failsafe._verify_entries(int4[], int8, int8, int8) IS
'Rules entry_transaction and entry_recorded_at.';
