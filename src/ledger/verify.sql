-- ledger: proof that the books balance.
--
-- Each function below returns one row a fault: the rule, the object and a detail.  They
-- are STABLE and are called by one statement of ledger_verify(), so all of them read
-- the same snapshot and concurrent commands raise no false alarm.  All take the same
-- scope: the tenants, one account or NULL, and the first transaction to look at (0: all).

CREATE FUNCTION failsafe._verify_sums(tenants int4[], only_account int8, from_journal int8)
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
WHERE only_account IS NULL AND e.journal_id >= from_journal
  AND a.tenant_id = ANY (tenants)
GROUP BY e.journal_id, a.currency
HAVING sum(e.amount) <> 0
$body$;
COMMENT ON FUNCTION failsafe._verify_sums(int4[], int8, int8) IS
'Rules currency_sum and transaction_sum.';

-- The chain of a wallet is walked from its first entry in the scope on; the version and
-- balance of the one before are taken as right.  Journal ids are drawn before a wallet's
-- lock is waited for, so entries that are not in the scope may follow.
CREATE FUNCTION failsafe._verify_balances(tenants int4[], only_account int8,
										  from_journal int8)
RETURNS TABLE (rule text, object text, detail text)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
WITH first AS (
	SELECT e.account_id, min(e.version) AS version
	FROM failsafe.entry AS e
	WHERE from_journal > 0 AND e.journal_id >= from_journal
	  AND (only_account IS NULL OR e.account_id = only_account)
	GROUP BY e.account_id
), wallet AS (
	SELECT a.code, b.posted, b.version,
		   coalesce(base.posted, 0) + coalesce(chain.amount, 0) AS sum,
		   coalesce(base.version, 0) + chain.entry_count AS entry_count,
		   chain.bad_version, chain.bad_posted
	FROM failsafe.account AS a
	JOIN failsafe.balance AS b ON b.account_id = a.id
	LEFT JOIN first ON first.account_id = a.id
	LEFT JOIN LATERAL (
		SELECT e.version, e.posted FROM failsafe.entry AS e
		WHERE from_journal > 0 AND e.account_id = a.id
		  AND coalesce(e.version, e.id) < coalesce(first.version, 9223372036854775807)
		ORDER BY coalesce(e.version, e.id) DESC LIMIT 1) AS base ON true
	CROSS JOIN LATERAL (
		SELECT count(*) AS entry_count, sum(link.amount) AS amount,
			   (array_agg(link.id ORDER BY link.number) FILTER (
					WHERE link.version IS DISTINCT FROM coalesce(base.version, 0) + link.number))[1]
					AS bad_version,
			   (array_agg(link.id ORDER BY link.number) FILTER (
					WHERE link.posted IS DISTINCT FROM coalesce(base.posted, 0) + link.running))[1]
					AS bad_posted
		FROM (SELECT e.id, e.amount, e.version, e.posted,
					 row_number() OVER in_order AS number,
					 sum(e.amount) OVER in_order AS running
			  FROM failsafe.entry AS e
			  WHERE e.account_id = a.id AND coalesce(e.version, e.id) > coalesce(base.version, 0)
			  WINDOW in_order AS (ORDER BY coalesce(e.version, e.id), e.id
								  ROWS UNBOUNDED PRECEDING)) AS link) AS chain
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
COMMENT ON FUNCTION failsafe._verify_balances(int4[], int8, int8) IS
'Rules balance_posted, balance_version, entry_version and entry_posted.';

CREATE FUNCTION failsafe._verify_accounts(tenants int4[], only_account int8,
										  from_journal int8)
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
WHERE (coalesce(b.row_count, 0) <> 1 OR a.id IS NULL)
  AND (a.tenant_id = ANY (tenants) OR a.id IS NULL)
  AND (only_account IS NULL OR coalesce(a.id, b.account_id) = only_account)
UNION ALL
SELECT 'account_change', a.code,
	   CASE WHEN c.id IS NULL THEN 'no row tells who opened the account'
			ELSE format('status, floor, ceiling are %s; the last change says %s',
						row(b.status, b.floor, b.ceiling), row(c.status, c.floor, c.ceiling)) END
FROM failsafe.account AS a
JOIN failsafe.balance AS b ON b.account_id = a.id
LEFT JOIN LATERAL (
	SELECT k.id, k.status, k.floor, k.ceiling FROM failsafe.account_change AS k
	WHERE k.account_id = a.id ORDER BY k.id DESC LIMIT 1) AS c ON true
WHERE (c.id IS NULL
	   OR (b.status, b.floor, b.ceiling) IS DISTINCT FROM (c.status, c.floor, c.ceiling))
  AND a.tenant_id = ANY (tenants) AND (only_account IS NULL OR a.id = only_account)
$body$;
COMMENT ON FUNCTION failsafe._verify_accounts(int4[], int8, int8) IS
'Rules account_balance and account_change.';

CREATE FUNCTION failsafe._verify_holds(tenants int4[], only_account int8, from_journal int8)
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
			ELSE format('amount, captured, released, expiry are %s; the transactions say %s',
						row(h.amount, h.captured, h.released, h.expires_at),
						row(placed.amount, told.captured, told.released, told.expires_at)) END
FROM failsafe.hold AS h
LEFT JOIN failsafe.journal AS placed ON placed.id = h.id AND placed.command = 'hold'
	AND placed.status = 'held' AND placed.account_id = h.account_id
	AND placed.tenant_id = h.tenant_id
LEFT JOIN (
	SELECT j.hold_id,
		   coalesce(sum(j.amount) FILTER (WHERE j.command = 'commit'), 0) AS captured,
		   coalesce(sum(j.released), 0) AS released,
		   array_agg(j.expires_at) FILTER (WHERE j.status = 'held'
										   AND j.recorded_at = j.last_held_at) AS expires_at
	FROM (SELECT k.hold_id, k.command, k.status, k.amount, k.released, k.recorded_at, k.expires_at,
				 max(k.recorded_at) FILTER (WHERE k.status = 'held')
					OVER (PARTITION BY k.hold_id) AS last_held_at
		  FROM failsafe.journal AS k
		  WHERE k.hold_id IS NOT NULL AND k.status <> 'declined') AS j
	GROUP BY j.hold_id) AS told ON told.hold_id = h.id
WHERE (placed.id IS NULL
	   OR (h.amount, h.captured, h.released)
		  IS DISTINCT FROM (placed.amount, told.captured, told.released)
   OR (h.expires_at = ANY (told.expires_at)) IS NOT TRUE)
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
COMMENT ON FUNCTION failsafe._verify_holds(int4[], int8, int8) IS
'Rules balance_held, hold_expiry, hold_transaction and hold_status.';

CREATE FUNCTION failsafe._verify_entries(tenants int4[], only_account int8,
										 from_journal int8)
RETURNS TABLE (rule text, object text, detail text)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
WITH leg AS (
	SELECT e.id, e.version, e.effective_at, e.posted, a.id AS account_id, a.kind,
		   a.tenant_id AS account_tenant, j.id AS journal_id, j.tenant_id, j.status,
		   j.recorded_at, j.effective_at AS stated_at,
		   coalesce(cardinality(j.leg_account_ids), 2) AS leg_count
	FROM failsafe.entry AS e
	LEFT JOIN failsafe.account AS a ON a.id = e.account_id
	LEFT JOIN failsafe.journal AS j ON j.id = e.journal_id
	WHERE e.journal_id >= from_journal
	  AND (only_account IS NULL OR e.account_id = only_account)
	  AND (a.tenant_id = ANY (tenants) OR j.tenant_id = ANY (tenants)
		   OR a.id IS NULL AND j.id IS NULL)
)
SELECT 'entry_transaction', 'e_' || leg.id,
	   CASE WHEN leg.account_id IS NULL THEN 'the entry has no account'
			WHEN leg.journal_id IS NULL THEN 'the entry has no transaction'
			WHEN leg.account_tenant <> leg.tenant_id THEN
				 'account and transaction belong to different tenants'
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
   OR leg.id / 1024 <> leg.journal_id OR leg.id % 1024 >= leg.leg_count
UNION ALL
SELECT 'entry_recorded_at', 'e_' || late.id, 'an earlier entry of the account was recorded later'
FROM (SELECT leg.id, leg.recorded_at,
			 lag(leg.recorded_at) OVER (PARTITION BY leg.account_id
										ORDER BY leg.version, leg.id) AS before
	  FROM leg WHERE leg.kind = 'wallet') AS late
WHERE late.recorded_at < late.before
$body$;
COMMENT ON FUNCTION failsafe._verify_entries(int4[], int8, int8) IS
'Rules entry_transaction and entry_recorded_at.';

CREATE FUNCTION failsafe._verify_transactions(tenants int4[], only_account int8,
											  from_journal int8)
RETURNS TABLE (rule text, object text, detail text)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT 'transaction_entries', 't_' || j.id,
	   CASE WHEN e.id IS NULL THEN format('entry e_%s is missing', leg.leg_entry_id)
			WHEN abs(e.amount) IS DISTINCT FROM coalesce(j.amount, abs(e.amount)) THEN
				 format('amount is %s, e_%s says %s', j.amount, e.id, e.amount)
			ELSE format('version and posted are %s, %s; e_%s says %s, %s',
						j.version, j.posted, e.id, e.version, e.posted) END
FROM failsafe.journal AS j
CROSS JOIN LATERAL failsafe._transaction_legs(j.id, j.status, j.account_id, j.version,
			j.counterparty_id, j.counterparty_version, j.leg_account_ids, j.leg_versions) AS leg
LEFT JOIN failsafe.entry AS e ON e.account_id = leg.leg_account_id
	AND coalesce(e.version, e.id) = leg.leg_place
	AND e.id = leg.leg_entry_id AND e.journal_id = j.id
WHERE j.id >= from_journal AND j.tenant_id = ANY (tenants)
  AND (only_account IS NULL OR only_account IN (j.account_id, j.counterparty_id))
  AND (e.id IS NULL
	   OR j.leg_account_ids IS NULL AND abs(e.amount) <> j.amount
	   OR j.leg_account_ids IS NULL AND leg.leg_number = 0
		  AND (e.version, e.posted) IS DISTINCT FROM (j.version, j.posted)
	   OR j.leg_account_ids IS NULL AND leg.leg_number = 0
		  AND j.command <> 'reverse'
		  AND sign(e.amount) <> CASE j.command WHEN 'credit' THEN 1 ELSE -1 END)
UNION ALL
SELECT 'transaction_reference', 't_' || j.id,
	   CASE WHEN a.id IS NULL AND j.account_id IS NOT NULL THEN 'the account does not exist'
			WHEN other.id IS NULL AND j.counterparty_id IS NOT NULL THEN
				 'the counterparty does not exist'
			WHEN h.id IS NULL AND j.hold_id IS NOT NULL THEN 'the hold does not exist'
			WHEN original.id IS NULL AND j.reverses IS NOT NULL THEN
				 'the reversed transaction does not exist'
			WHEN who.id IS NULL THEN 'the actor does not exist'
			ELSE 'account, counterparty, hold or reversed transaction belong to another tenant' END
FROM failsafe.journal AS j
LEFT JOIN failsafe.account AS a ON a.id = j.account_id
LEFT JOIN failsafe.account AS other ON other.id = j.counterparty_id
LEFT JOIN failsafe.hold AS h ON h.id = j.hold_id
LEFT JOIN failsafe.journal AS original ON original.id = j.reverses
LEFT JOIN failsafe.actor AS who ON who.id = j.actor_id
WHERE j.id >= from_journal AND j.tenant_id = ANY (tenants)
  AND (only_account IS NULL OR only_account IN (j.account_id, j.counterparty_id))
  AND (a.id IS NULL AND j.account_id IS NOT NULL
	   OR other.id IS NULL AND j.counterparty_id IS NOT NULL
	   OR h.id IS NULL AND j.hold_id IS NOT NULL AND j.status <> 'declined'
	   OR original.id IS NULL AND j.reverses IS NOT NULL
	   OR who.id IS NULL
	   OR a.tenant_id <> j.tenant_id OR other.tenant_id <> j.tenant_id
	   OR h.tenant_id <> j.tenant_id OR original.tenant_id <> j.tenant_id)
$body$;
COMMENT ON FUNCTION failsafe._verify_transactions(int4[], int8, int8) IS
'Rules transaction_entries and transaction_reference.';

CREATE FUNCTION failsafe._verify_keys(tenants int4[], only_account int8, from_journal int8)
RETURNS TABLE (rule text, object text, detail text)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT 'transaction_key', 't_' || j.id,
	   CASE WHEN j.command = 'expire' THEN 'an expiry has no key'
			WHEN j.key IS NULL THEN 'the transaction has no key'
			WHEN k.journal_id IS NULL THEN 'the key row is missing'
			ELSE format('the key row names t_%s', k.journal_id) END
FROM failsafe.journal AS j
LEFT JOIN failsafe.idempotency_key AS k ON k.tenant_id = j.tenant_id AND k.key = j.key
WHERE j.id >= from_journal AND j.tenant_id = ANY (tenants)
  AND (only_account IS NULL OR only_account IN (j.account_id, j.counterparty_id))
  AND (CASE j.command WHEN 'expire' THEN j.key IS NOT NULL
	   ELSE k.journal_id IS DISTINCT FROM j.id END)
UNION ALL
SELECT 'key_transaction', 't_' || k.journal_id,
	   CASE WHEN j.id IS NULL THEN 'a key row names a transaction that does not exist'
			ELSE 'a key row names a transaction with another key or tenant' END
FROM failsafe.idempotency_key AS k
LEFT JOIN failsafe.journal AS j ON j.id = k.journal_id
WHERE only_account IS NULL AND k.journal_id >= from_journal AND k.tenant_id = ANY (tenants)
  AND (k.tenant_id, k.key) IS DISTINCT FROM (j.tenant_id, j.key)
$body$;
COMMENT ON FUNCTION failsafe._verify_keys(int4[], int8, int8) IS
'Rules transaction_key and key_transaction.';

-- An event may be missing for a good reason: its type is switched off, or it is older
-- than the retention.  Whether a type was switched off for a while is not recorded, so
-- transactions before the first event of their type that is still there do not count.
CREATE FUNCTION failsafe._verify_events(tenants int4[], only_account int8, from_journal int8)
RETURNS TABLE (rule text, object text, detail text)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
WITH expected AS (
	SELECT j.id, j.tenant_id, j.recorded_at,
		   CASE j.command WHEN 'expire' THEN 'wallet.hold.expired'
				ELSE 'wallet.' || j.command || '.' || j.status END AS event_type
	FROM failsafe.journal AS j
	WHERE j.id >= from_journal AND j.tenant_id = ANY (tenants)
	  AND (only_account IS NULL OR only_account IN (j.account_id, j.counterparty_id))
), kept AS (
	SELECT x.event_type, min(o.journal_id) AS first_id
	FROM (SELECT DISTINCT expected.event_type FROM expected) AS x
	LEFT JOIN failsafe.outbox AS o ON o.event_type = x.event_type
	WHERE failsafe._event_type_enabled(x.event_type)
	GROUP BY x.event_type
)
SELECT 'transaction_event', 't_' || x.id,
	   format('the event %s is missing, unless its type was switched off then', x.event_type)
FROM expected AS x
JOIN kept ON kept.event_type = x.event_type
LEFT JOIN failsafe.outbox AS o ON o.journal_id = x.id
WHERE o.seq IS NULL AND x.id >= coalesce(kept.first_id, 0)
  AND x.recorded_at > clock_timestamp() - failsafe._event_retention()
UNION ALL
SELECT 'event_transaction', o.event_id::text,
	   CASE WHEN x.id IS NULL THEN format('t_%s does not exist', o.journal_id)
			WHEN o.number > 1 THEN format('t_%s has another event', o.journal_id)
			ELSE format('type is %s, t_%s asks for %s', o.event_type, x.id, x.event_type) END
FROM (SELECT event.journal_id, event.event_id, event.event_type, event.tenant_id,
			 row_number() OVER (PARTITION BY event.journal_id ORDER BY event.seq) AS number
	  FROM failsafe.outbox AS event
	  WHERE event.journal_id IS NOT NULL AND event.journal_id >= from_journal) AS o
LEFT JOIN expected AS x ON x.id = o.journal_id
WHERE only_account IS NULL AND o.tenant_id = ANY (tenants)
  AND (x.id IS NULL OR o.number > 1
	   OR (o.event_type, o.tenant_id) IS DISTINCT FROM (x.event_type, x.tenant_id))
$body$;
COMMENT ON FUNCTION failsafe._verify_events(int4[], int8, int8) IS
'Rules transaction_event and event_transaction.';

-- A posting of two legs moved what one of them says; one of more legs is reversed as a
-- whole, and counts 1.
CREATE FUNCTION failsafe._verify_reversals(tenants int4[], only_account int8,
										   from_journal int8)
RETURNS TABLE (rule text, object text, detail text)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT 'reversal_sum', 't_' || coalesce(r.journal_id, told.journal_id),
	   CASE WHEN j.id IS NULL THEN 'the reversed transaction does not exist'
			WHEN r.reversed IS DISTINCT FROM told.amount THEN
				 format('%s is noted as returned, the reversals add up to %s',
						coalesce(r.reversed, 0), coalesce(told.amount, 0))
			ELSE format('%s was returned, more than the %s that were moved',
						r.reversed, moved.amount) END
FROM failsafe.reversible AS r
FULL JOIN (SELECT k.reverses AS journal_id, sum(coalesce(k.amount, 1)) AS amount
		   FROM failsafe.journal AS k
		   WHERE k.reverses IS NOT NULL AND k.status = 'committed'
		   GROUP BY k.reverses) AS told ON told.journal_id = r.journal_id
LEFT JOIN failsafe.journal AS j ON j.id = coalesce(r.journal_id, told.journal_id)
CROSS JOIN LATERAL (
	SELECT CASE WHEN cardinality(j.leg_account_ids) = 2
				THEN (SELECT abs(e.amount) FROM failsafe.entry AS e
					  WHERE e.account_id = j.leg_account_ids[1]
						AND coalesce(e.version, e.id)
							= coalesce(nullif(j.leg_versions[1], 0), 1024 * j.id))
				ELSE coalesce(j.amount, 1) END) AS moved (amount)
WHERE (j.id IS NULL OR j.tenant_id = ANY (tenants))
  AND (only_account IS NULL OR only_account IN (j.account_id, j.counterparty_id))
  AND (j.id IS NULL OR r.reversed IS DISTINCT FROM told.amount
	   OR r.reversed > moved.amount)
$body$;
COMMENT ON FUNCTION failsafe._verify_reversals(int4[], int8, int8) IS
'Rule reversal_sum.';

CREATE FUNCTION failsafe._verify_checkpoints(tenants int4[], only_account int8,
											 from_journal int8)
RETURNS TABLE (rule text, object text, detail text)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT 'checkpoint_sum', a.code || '/e_' || c.entry_id,
	   format('the checkpoint says %s in %s entries, they add up to %s in %s',
			  c.posted, c.entry_count, c.base_posted + coalesce(s.amount, 0),
			  c.base_count + s.entry_count)
FROM (SELECT k.account_id, k.entry_id, k.posted, k.entry_count, k.recorded_from, k.recorded_until,
			 coalesce(lag(k.entry_id) OVER by_entry, 0) AS base_id,
			 coalesce(lag(k.posted) OVER by_entry, 0) AS base_posted,
			 coalesce(lag(k.entry_count) OVER by_entry, 0) AS base_count,
			 lag(k.recorded_until) OVER by_entry AS base_until
	  FROM failsafe.checkpoint AS k
	  WINDOW by_entry AS (PARTITION BY k.account_id ORDER BY k.entry_id)) AS c
JOIN failsafe.account AS a ON a.id = c.account_id
CROSS JOIN LATERAL (
	SELECT count(*) AS entry_count, sum(e.amount) AS amount,
		   min(j.recorded_at) AS recorded_from, max(j.recorded_at) AS recorded_until
	FROM failsafe.entry AS e
	LEFT JOIN failsafe.journal AS j ON j.id = e.journal_id
	WHERE e.account_id = c.account_id AND coalesce(e.version, e.id) > c.base_id
	  AND coalesce(e.version, e.id) <= c.entry_id) AS s
WHERE c.entry_id >= 1024 * from_journal - 1 AND a.tenant_id = ANY (tenants)
  AND (only_account IS NULL OR c.account_id = only_account)
  AND (c.posted IS DISTINCT FROM c.base_posted + coalesce(s.amount, 0)
	   OR c.entry_count <> c.base_count + s.entry_count
	   OR c.recorded_from IS DISTINCT FROM s.recorded_from
	   OR c.recorded_until IS DISTINCT FROM greatest(c.base_until, s.recorded_until))
$body$;
COMMENT ON FUNCTION failsafe._verify_checkpoints(int4[], int8, int8) IS
'Rule checkpoint_sum.';

CREATE FUNCTION failsafe._verify_values(tenants int4[], only_account int8, from_journal int8)
RETURNS TABLE (rule text, object text, detail text)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT 'value_whole', v.object, format('%s is no whole number of minor units', v.value)
FROM (
	SELECT 'e_' || e.id AS object, e.account_id, x.value
	FROM failsafe.entry AS e CROSS JOIN LATERAL (VALUES (e.amount), (e.posted)) AS x (value)
	WHERE e.journal_id >= from_journal
	UNION ALL
	SELECT a.code, b.account_id, x.value
	FROM failsafe.balance AS b JOIN failsafe.account AS a ON a.id = b.account_id
	CROSS JOIN LATERAL (VALUES (b.posted), (b.held), (b.floor), (b.ceiling)) AS x (value)
	UNION ALL
	SELECT 'h_' || h.id, h.account_id, x.value
	FROM failsafe.hold AS h
	CROSS JOIN LATERAL (VALUES (h.amount), (h.captured), (h.released)) AS x (value)
	UNION ALL
	SELECT 't_' || j.id, j.account_id, x.value
	FROM failsafe.journal AS j
	CROSS JOIN LATERAL (VALUES (j.amount), (j.posted), (j.held), (j.available),
							   (j.hold_remaining), (j.released)) AS x (value)
	WHERE j.id >= from_journal
	UNION ALL
	SELECT a.code || '/e_' || c.entry_id, c.account_id, c.posted
	FROM failsafe.checkpoint AS c JOIN failsafe.account AS a ON a.id = c.account_id
	UNION ALL
	SELECT 't_' || r.journal_id, NULL, r.reversed FROM failsafe.reversible AS r
) AS v
WHERE v.value IS NOT NULL AND scale(v.value) IS DISTINCT FROM 0
  AND (only_account IS NULL OR v.account_id = only_account)
  AND (v.account_id IS NULL OR EXISTS (
		SELECT FROM failsafe.account AS a
		WHERE a.id = v.account_id AND a.tenant_id = ANY (tenants)))
$body$;
COMMENT ON FUNCTION failsafe._verify_values(int4[], int8, int8) IS
'Rule value_whole: no NaN, no infinity, no decimal place.';

-- Where to begin: the scope is made of whole transactions.  A checkpoint covers the
-- entries of all journal ids up to one.
CREATE FUNCTION failsafe._verify_scope(since timestamptz, quick bool) RETURNS int8
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT CASE
	WHEN quick THEN coalesce((SELECT max(c.entry_id) / 1024 + 1 FROM failsafe.checkpoint AS c), 0)
	WHEN since IS NULL THEN 0
	ELSE coalesce((SELECT min(j.id) FROM failsafe.journal AS j WHERE j.recorded_at >= since),
				  (SELECT max(j.id) + 1 FROM failsafe.journal AS j), 0)
	END
$body$;
COMMENT ON FUNCTION failsafe._verify_scope(timestamptz, bool) IS
'The first transaction to look at; 0: all.';

CREATE FUNCTION failsafe._verify_counts(tenants int4[], only_account int8, from_journal int8)
RETURNS text
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT format('checked %s accounts, %s transactions, %s entries, %s holds, %s keys, %s events',
	(SELECT count(*) FROM failsafe.account AS a
	 WHERE a.tenant_id = ANY (tenants) AND (only_account IS NULL OR a.id = only_account)),
	(SELECT count(*) FROM failsafe.journal AS j
	 WHERE j.id >= from_journal AND j.tenant_id = ANY (tenants)
	   AND (only_account IS NULL OR only_account IN (j.account_id, j.counterparty_id))),
	(SELECT count(*) FROM failsafe.entry AS e
	 JOIN failsafe.account AS a ON a.id = e.account_id
	 WHERE e.journal_id >= from_journal AND a.tenant_id = ANY (tenants)
	   AND (only_account IS NULL OR a.id = only_account)),
	(SELECT count(*) FROM failsafe.hold AS h
	 WHERE h.tenant_id = ANY (tenants) AND (only_account IS NULL OR h.account_id = only_account)),
	(SELECT count(*) FROM failsafe.idempotency_key AS k
	 WHERE only_account IS NULL AND k.journal_id >= from_journal AND k.tenant_id = ANY (tenants)),
	(SELECT count(*) FROM failsafe.outbox AS o
	 WHERE only_account IS NULL AND o.journal_id >= from_journal AND o.tenant_id = ANY (tenants)))
$body$;
COMMENT ON FUNCTION failsafe._verify_counts(int4[], int8, int8) IS
'How much a verification looks at, in words.';

CREATE FUNCTION failsafe.ledger_verify(options jsonb DEFAULT NULL)
RETURNS TABLE (rule text, object text, detail text)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
	fault_limit CONSTANT int := 10000;
	tenants int4[] := failsafe._report_tenants();
	quick bool;
	since timestamptz;
	asked failsafe.account;
	row_count int8;
BEGIN
	PERFORM failsafe._options_check(options, 'account', 'since', 'quick');
	quick := failsafe._option_bool(options, 'quick');
	since := failsafe._option_time(options, 'since');
	IF quick AND since IS NOT NULL THEN
		PERFORM failsafe._raise('OPTION_INVALID', 'quick', 'field', 'quick');
	END IF;
	IF options ->> 'account' IS NOT NULL THEN
		asked := failsafe._account_find(options ->> 'account');
	END IF;

	-- one statement, one snapshot, for the scope too
	RETURN QUERY
		SELECT r.rule, r.object, r.detail
		FROM (SELECT tenants AS t, asked.id AS a, scope.from_journal AS j
			  FROM failsafe._verify_scope(since, quick) AS scope (from_journal)) AS s
		CROSS JOIN LATERAL (
			SELECT * FROM failsafe._verify_sums(s.t, s.a, s.j)
			UNION ALL SELECT * FROM failsafe._verify_balances(s.t, s.a, s.j)
			UNION ALL SELECT * FROM failsafe._verify_accounts(s.t, s.a, s.j)
			UNION ALL SELECT * FROM failsafe._verify_holds(s.t, s.a, s.j)
			UNION ALL SELECT * FROM failsafe._verify_entries(s.t, s.a, s.j)
			UNION ALL SELECT * FROM failsafe._verify_transactions(s.t, s.a, s.j)
			UNION ALL SELECT * FROM failsafe._verify_keys(s.t, s.a, s.j)
			UNION ALL SELECT * FROM failsafe._verify_events(s.t, s.a, s.j)
			UNION ALL SELECT * FROM failsafe._verify_reversals(s.t, s.a, s.j)
			UNION ALL SELECT * FROM failsafe._verify_checkpoints(s.t, s.a, s.j)
			UNION ALL SELECT * FROM failsafe._verify_values(s.t, s.a, s.j)) AS r
		ORDER BY r.rule, r.object
		LIMIT fault_limit;
	GET DIAGNOSTICS row_count = ROW_COUNT;

	RAISE NOTICE '%', (
		SELECT failsafe._verify_counts(tenants, asked.id, failsafe._verify_scope(since, quick)));
	IF row_count = fault_limit THEN
		RAISE WARNING 'only the first % faults are shown', fault_limit;
	END IF;
	PERFORM failsafe._wait_durable_all();
END
$body$;
COMMENT ON FUNCTION failsafe.ledger_verify(jsonb) IS
'Proves that the books balance: one row for each fault, no row when there is none. A notice says how much was checked. Everything is read under one snapshot; commands may go on beside it. Operators verify all tenants, others their own.
options: account (a code: what belongs to that account only), since (a time: whole transactions from the first one recorded then), quick (true: only what is newer than the last checkpoint; all when there is none).
Rules: currency_sum, transaction_sum (entries add up to 0 per tenant and currency, and in each transaction); balance_posted, balance_version, balance_held (a balance is the sum of its entries, their number, the rest of its open holds); entry_version, entry_posted, entry_recorded_at (each wallet''s entries are a chain without gaps); entry_transaction, transaction_entries, transaction_reference (every entry has its transaction and the other way round, and what it names exists); transaction_key, key_transaction; transaction_event, event_transaction; hold_transaction, hold_status, hold_expiry; reversal_sum; checkpoint_sum; account_balance, account_change; value_whole.
Errors: ACCOUNT_UNKNOWN, OPTION_INVALID.';
