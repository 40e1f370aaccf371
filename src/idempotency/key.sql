-- idempotency: helpers of the wallet keys.

CREATE FUNCTION failsafe._key_in_progress(key text) RETURNS bool
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'failsafe_key_in_progress';
COMMENT ON FUNCTION failsafe._key_in_progress(text) IS
	'Is this wallet key of the session''s tenant held by a transaction that still runs? Does not wait.';

COMMENT ON TABLE failsafe.idempotency_key IS
'One row for each key of a wallet command that had an outcome; append-only, for ever. The answer is in the journal.';
COMMENT ON COLUMN failsafe.idempotency_key.fingerprint IS
'SHA-256 over the command''s fields; what a repeat is compared with';
