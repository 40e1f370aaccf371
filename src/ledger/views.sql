-- ledger: the views.  They show the session's tenant; operators see all tenants.  Views
-- cannot wait: with early lock release a row may be seen a moment before it is flushed.

CREATE VIEW failsafe.accounts WITH (security_barrier) AS
SELECT t.name AS tenant, a.code, a.currency, a.kind, b.status,
	   CASE a.kind WHEN 'wallet' THEN b.posted END AS posted, b.held - due.held AS held,
	   CASE a.kind WHEN 'wallet' THEN b.posted - b.held + due.held - b.floor END AS available,
	   b.floor, b.ceiling, CASE a.kind WHEN 'wallet' THEN b.version END AS version,
	   a.created_at, CASE WHEN b.version > 0 THEN b.recorded_at END AS latest_entry_at,
	   a.metadata
FROM failsafe.account AS a
JOIN failsafe.tenant AS t ON t.id = a.tenant_id
LEFT JOIN failsafe.balance AS b ON b.account_id = a.id
LEFT JOIN LATERAL (
	SELECT coalesce(sum(h.amount - h.captured - h.released), 0) AS held
	FROM failsafe.hold AS h
	WHERE b.next_hold_expiry <= clock_timestamp() AND h.account_id = a.id
	  AND h.status = 'open' AND h.expires_at <= clock_timestamp()) AS due ON true
WHERE a.tenant_id = ANY ((SELECT failsafe._report_tenants())::int4[]);
COMMENT ON VIEW failsafe.accounts IS
'The accounts with their balances, in minor units. posted, available and version are NULL for system accounts: use account_balance().';
COMMENT ON COLUMN failsafe.accounts.held IS 'sum of the rest of open, unexpired holds';
COMMENT ON COLUMN failsafe.accounts.available IS 'posted - held - floor; NULL without a floor';
COMMENT ON COLUMN failsafe.accounts.version IS 'number of the account''s entries';

CREATE VIEW failsafe.transactions WITH (security_barrier) AS
SELECT t.name AS tenant, 't_' || j.id AS transaction_id, j.recorded_at,
	   coalesce(j.effective_at, j.recorded_at) AS effective_at, j.command, j.status, j.code,
	   a.code AS account, other.code AS counterparty, coalesce(a.currency, other.currency) AS currency,
	   j.amount, CASE j.status WHEN 'committed' THEN 'e_' || 1024 * j.id END AS entry_id, 'h_' || j.hold_id AS hold_id,
	   't_' || j.reverses AS reverses, j.posted, j.held, j.available, j.hold_remaining,
	   j.released, j.expires_at, j.version, j.key AS idempotency_key, j.reference, j.reason,
	   j.trace_id, j.traceparent, j.region, j.metadata, j.detail, j.xid,
	   who.session_user_name, who.role_name, who.client_address, who.application_name
FROM failsafe.journal AS j
JOIN failsafe.tenant AS t ON t.id = j.tenant_id
LEFT JOIN failsafe.account AS a ON a.id = j.account_id
LEFT JOIN failsafe.account AS other ON other.id = j.counterparty_id
LEFT JOIN failsafe.actor AS who ON who.id = j.actor_id
WHERE j.tenant_id = ANY ((SELECT failsafe._report_tenants())::int4[]);
COMMENT ON VIEW failsafe.transactions IS
'Every command that had an outcome, recorded declines and expiries too. Amounts are minor units; balances are those after the command.';
COMMENT ON COLUMN failsafe.transactions.account IS 'the account named first; NULL for a posting';
COMMENT ON COLUMN failsafe.transactions.released IS 'held money that the command set free without moving it';
COMMENT ON COLUMN failsafe.transactions.detail IS 'of a recorded decline';

CREATE VIEW failsafe.entries WITH (security_barrier) AS
SELECT t.name AS tenant, 'e_' || e.id AS entry_id, 't_' || e.journal_id AS transaction_id,
	   a.code AS account, a.currency, e.amount, e.posted, e.version, j.recorded_at,
	   coalesce(e.effective_at, j.recorded_at) AS effective_at, j.command, j.reference,
	   j.key AS idempotency_key
FROM failsafe.entry AS e
JOIN failsafe.account AS a ON a.id = e.account_id
JOIN failsafe.tenant AS t ON t.id = a.tenant_id
JOIN failsafe.journal AS j ON j.id = e.journal_id
WHERE a.tenant_id = ANY ((SELECT failsafe._report_tenants())::int4[]);
COMMENT ON VIEW failsafe.entries IS
'The legs of all transactions. + raises posted, - lowers it; posted is the balance after. posted and version are NULL for system accounts.';

CREATE VIEW failsafe.hold_list WITH (security_barrier) AS
SELECT t.name AS tenant, 'h_' || h.id AS hold_id, a.code AS account, a.currency,
	   CASE WHEN h.status = 'open' AND h.expires_at <= clock_timestamp() THEN 'expired'
			ELSE h.status END AS status,
	   h.amount, h.captured,
	   CASE WHEN h.status = 'open' AND h.expires_at <= clock_timestamp()
			THEN h.amount - h.captured ELSE h.released END AS released,
	   CASE WHEN h.status = 'open' AND h.expires_at > clock_timestamp()
			THEN h.amount - h.captured - h.released ELSE 0 END AS remaining,
	   destination.code AS counterparty, h.placed_at, h.expires_at
FROM failsafe.hold AS h
JOIN failsafe.account AS a ON a.id = h.account_id
JOIN failsafe.tenant AS t ON t.id = h.tenant_id
LEFT JOIN failsafe.account AS destination ON destination.id = h.counterparty_id
WHERE h.tenant_id = ANY ((SELECT failsafe._report_tenants())::int4[]);
COMMENT ON VIEW failsafe.hold_list IS
'All holds, in minor units. An open hold whose time is over shows as expired, also before its expiry is written.';

CREATE VIEW failsafe.account_changes WITH (security_barrier) AS
SELECT t.name AS tenant, a.code AS account, c.changed_at, c.change, c.status, c.floor,
	   c.ceiling, c.reason, c.xid, who.session_user_name, who.role_name, who.client_address,
	   who.application_name
FROM failsafe.account_change AS c
JOIN failsafe.account AS a ON a.id = c.account_id
JOIN failsafe.tenant AS t ON t.id = a.tenant_id
LEFT JOIN failsafe.actor AS who ON who.id = c.actor_id
WHERE a.tenant_id = ANY ((SELECT failsafe._report_tenants())::int4[]);
COMMENT ON VIEW failsafe.account_changes IS
'Every opening, freeze, unfreeze, closing and change of limits, with who did it and why. status, floor and ceiling are those after the change.';
