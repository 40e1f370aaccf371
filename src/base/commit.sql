-- base: durable answers of functions written in SQL, and a look at early lock release.

CREATE FUNCTION failsafe._wait_durable_all() RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'failsafe_wait_durable_all';
COMMENT ON FUNCTION failsafe._wait_durable_all() IS 'waits until all that was committed up to now is flushed and, where synchronous_commit asks for it, on the synchronous standbys; on a standby it returns at once';

CREATE FUNCTION failsafe._released_early() RETURNS bool
LANGUAGE C VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'failsafe_released_early';
COMMENT ON FUNCTION failsafe._released_early() IS 'did the last transaction of this session that wrote to the ledger drop its locks before its commit was flushed';
