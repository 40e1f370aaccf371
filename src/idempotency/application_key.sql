-- idempotency: keys of applications.

CREATE FUNCTION failsafe.idempotency_claim(
	key text, request jsonb, scope text DEFAULT 'app', options jsonb DEFAULT NULL,
	OUT state text, OUT response jsonb, OUT claimed_at timestamptz)
RETURNS record
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'failsafe_idempotency_claim';
COMMENT ON FUNCTION failsafe.idempotency_claim(text, jsonb, text, jsonb) IS
'Claims a key of the application before it does something once. state is new (the caller does the work, then calls idempotency_complete), replay (done before; response has the answer), or unfinished (claimed and committed before, never completed; the caller holds it until its transaction ends and decides). The same key with another request raises SF001; the detail names the members that differ. Waits failsafe.key_wait at most for a running transaction that has the key (55P03). request may be NULL; up to 16 kB of it are kept for comparison, beyond that its fingerprint alone.';

CREATE FUNCTION failsafe.idempotency_complete(
	key text, response jsonb, scope text DEFAULT 'app', options jsonb DEFAULT NULL)
RETURNS bool
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'failsafe_idempotency_complete';
COMMENT ON FUNCTION failsafe.idempotency_complete(text, jsonb, text, jsonb) IS
'Stores the answer of a claimed key: true. Again with an equal response: false, nothing changes; with another response: SF006. A key that nobody claimed: SF005. The response must not be NULL and has at most failsafe.event_max_bytes bytes.';

CREATE FUNCTION failsafe.idempotency_release(
	key text, reason text, scope text DEFAULT 'app', options jsonb DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'failsafe_idempotency_release';
COMMENT ON FUNCTION failsafe.idempotency_release(text, text, text, jsonb) IS
'Gives an unfinished key back, so that it can be claimed as new. The reason is required and goes to the server''s log. A completed key is never given back: SF006.';

CREATE FUNCTION failsafe.idempotency_prune(
	max_rows int DEFAULT 1000, options jsonb DEFAULT NULL)
RETURNS int8
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'failsafe_idempotency_prune';
COMMENT ON FUNCTION failsafe.idempotency_prune(int, jsonb) IS
'Deletes completed application keys, of all tenants, that were completed more than failsafe.application_key_retention ago: at most max_rows (1 to 10000) a call, the oldest first. Returns how many; 0 also while another session prunes. Unfinished keys are never deleted by age.';

CREATE FUNCTION failsafe._application_key_in_progress(scope text, key text)
RETURNS bool
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'failsafe_application_key_in_progress';
COMMENT ON FUNCTION failsafe._application_key_in_progress(text, text) IS
'Is a running transaction claiming, completing or releasing this key of the session''s tenant? Does not wait.';

CREATE VIEW failsafe.application_keys WITH (security_barrier) AS
SELECT t.name AS tenant, k.scope, k.key, k.state, k.claimed_at, k.completed_at,
	k.request, k.response
FROM failsafe.application_key AS k
JOIN failsafe.tenant AS t ON t.id = k.tenant_id
WHERE CASE WHEN (SELECT pg_catalog.pg_has_role('failsafe_operator', 'USAGE')) THEN true
	ELSE k.tenant_id = (SELECT failsafe._tenant_id()) END;
COMMENT ON VIEW failsafe.application_keys IS
'Application keys of the session''s tenant; members of failsafe_operator see those of all tenants. An unfinished key that is old belongs to work that stopped half-way.';
COMMENT ON COLUMN failsafe.application_keys.state IS 'unfinished or completed';

COMMENT ON TABLE failsafe.application_key IS
'Keys that applications claim: one row for each tenant, scope and key. Changed by the idempotency functions alone.';
COMMENT ON COLUMN failsafe.application_key.completed_at IS 'NULL while unfinished';
COMMENT ON COLUMN failsafe.application_key.fingerprint IS
'SHA-256 over the request; what a second claim is compared with';
COMMENT ON COLUMN failsafe.application_key.request IS
'the request itself, up to 16 kB, to name what differs; NULL: none given, or larger';
COMMENT ON COLUMN failsafe.application_key.actor_id IS 'who claimed the key';
COMMENT ON SEQUENCE failsafe.application_key_id_seq IS 'ids of application keys';
