-- base: a look at early lock release, for tests and for doctor().

CREATE FUNCTION failsafe._released_early() RETURNS bool
LANGUAGE C VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'failsafe_released_early';
COMMENT ON FUNCTION failsafe._released_early() IS 'did the last transaction of this session that wrote to the ledger drop its locks before its commit was flushed';
