-- idempotency: helpers of the wallet keys.

CREATE FUNCTION failsafe._key_in_progress(key text) RETURNS bool
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'failsafe_key_in_progress';
COMMENT ON FUNCTION failsafe._key_in_progress(text) IS
	'Is this wallet key of the session''s tenant held by a transaction that still runs? Does not wait.';
