-- base: the catalogue of error codes, as the C code has it.

CREATE FUNCTION failsafe._error_codes(
	OUT code text, OUT name text, OUT class text, OUT retryable bool,
	OUT http_status int4, OUT meaning text, OUT what_to_do text,
	OUT check_order int4, OUT message text)
RETURNS SETOF record
LANGUAGE C IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'failsafe_error_codes';
COMMENT ON FUNCTION failsafe._error_codes() IS 'the error catalogue of the loaded library';

CREATE VIEW failsafe.error_codes AS
SELECT e.code, e.name, e.class, e.retryable, e.http_status, e.meaning, e.what_to_do,
	   e.check_order, e.message
FROM failsafe._error_codes() AS e;
COMMENT ON VIEW failsafe.error_codes IS 'every error code: what it means, whether a retry may help, and what to do';
COMMENT ON COLUMN failsafe.error_codes.code IS 'SQLSTATE';
COMMENT ON COLUMN failsafe.error_codes.name IS 'the member "code" of DETAIL and of JSON answers';
COMMENT ON COLUMN failsafe.error_codes.class IS 'declined: a business answer that can be recorded; refused: never stored, the key stays free; failure: the installation or the server says no; standard: a code of PostgreSQL itself';
COMMENT ON COLUMN failsafe.error_codes.retryable IS 'may the same call, with the same key, succeed later';
COMMENT ON COLUMN failsafe.error_codes.http_status IS 'the status that wallet_http() answers with';
COMMENT ON COLUMN failsafe.error_codes.meaning IS 'when the code is raised';
COMMENT ON COLUMN failsafe.error_codes.what_to_do IS 'the hint';
COMMENT ON COLUMN failsafe.error_codes.check_order IS 'when several codes apply, the one with the lowest number is given; NULL for standard codes';
COMMENT ON COLUMN failsafe.error_codes.message IS 'the primary message, the same in all releases; NULL for standard codes';
