-- delivery: discard dead letters, and remove what is old.

CREATE INDEX dead_letter_resolved ON failsafe.dead_letter (resolved_at) WHERE resolved_at IS NOT NULL;

CREATE FUNCTION failsafe.dlq_discard(ids int8[], reason text, options jsonb DEFAULT NULL)
RETURNS int8
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'failsafe_dlq_discard';
COMMENT ON FUNCTION failsafe.dlq_discard(int8[], text, jsonb) IS
'Gives up dead letters for good: they are kept as discarded, with who and why, for failsafe.dead_letter_retention. The reason is required. Returns how many; ids that are unknown, of another tenant, or not dead (any more) are left alone. At most 100000 ids a call. Errors: SF038, SF039, SF041, 22023.';

CREATE FUNCTION failsafe.delivery_prune(
	max_rows int DEFAULT 10000, options jsonb DEFAULT NULL,
	OUT attempts int8, OUT dead_letters int8)
RETURNS record
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'failsafe_delivery_prune';
COMMENT ON FUNCTION failsafe.delivery_prune(int, jsonb) IS
'Deletes attempts older than failsafe.attempt_retention, and dead letters that were replayed or discarded more than failsafe.dead_letter_retention ago: at most max_rows (1 to 100000) of each a call, of all tenants, the oldest first. Returns how many. A dead letter that is dead is never deleted by age. maintain() calls it.';
