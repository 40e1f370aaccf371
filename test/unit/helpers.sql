-- The module's functions, and how expectations are counted.

\set ON_ERROR_STOP 1
SET client_min_messages = warning;
SET timezone = 'UTC';
SET intervalstyle = 'postgres';

CREATE FUNCTION money_read(numeric) RETURNS text AS :'module', 'unit_money' LANGUAGE C STRICT;
CREATE FUNCTION money_text(text) RETURNS text AS :'module', 'unit_money_text' LANGUAGE C STRICT;
CREATE FUNCTION money_major(numeric, int) RETURNS text
	AS :'module', 'unit_money_major' LANGUAGE C STRICT;
CREATE FUNCTION money_same_bytes(numeric) RETURNS bool
	AS :'module', 'unit_money_same_bytes' LANGUAGE C STRICT;
CREATE FUNCTION infinity(numeric) RETURNS int AS :'module', 'unit_infinity' LANGUAGE C STRICT;
CREATE FUNCTION exponent(text) RETURNS int AS :'module', 'unit_exponent' LANGUAGE C STRICT;
CREATE FUNCTION members(text, numeric, int) RETURNS text
	AS :'module', 'unit_members' LANGUAGE C STRICT;
CREATE FUNCTION time_text(timestamptz) RETURNS text AS :'module', 'unit_time' LANGUAGE C STRICT;
CREATE FUNCTION time_read(text) RETURNS timestamptz
	AS :'module', 'unit_time_read' LANGUAGE C STRICT;
CREATE FUNCTION command(bytea) RETURNS text AS :'module', 'unit_command' LANGUAGE C STRICT;
CREATE FUNCTION command(text) RETURNS text LANGUAGE sql
	AS $$ SELECT command(convert_to($1, getdatabaseencoding())) $$;
CREATE FUNCTION options(jsonb) RETURNS text AS :'module', 'unit_options' LANGUAGE C;
CREATE FUNCTION split(text, int) RETURNS text AS :'module', 'unit_split' LANGUAGE C STRICT;
CREATE FUNCTION body(int, int) RETURNS text AS :'module', 'unit_body' LANGUAGE C STRICT;
CREATE FUNCTION policy(jsonb, jsonb) RETURNS jsonb AS :'module', 'unit_policy' LANGUAGE C;
CREATE FUNCTION retry_delay(int, int, int, int8, float8) RETURNS int8
	AS :'module', 'unit_retry_delay' LANGUAGE C STRICT;
CREATE FUNCTION retry_judge(int, int, int, int, int, int, int, int) RETURNS text
	AS :'module', 'unit_retry_judge' LANGUAGE C STRICT;
CREATE FUNCTION patterns(text[], text) RETURNS bool AS :'module', 'unit_patterns' LANGUAGE C STRICT;
CREATE FUNCTION wants(int[], bool, text[], int, text) RETURNS bool
	AS :'module', 'unit_wants' LANGUAGE C;
CREATE FUNCTION fuzz_money(int, int8) RETURNS int8
	AS :'module', 'unit_fuzz_money' LANGUAGE C STRICT;
CREATE FUNCTION fuzz_major(int, int8) RETURNS int8
	AS :'module', 'unit_fuzz_major' LANGUAGE C STRICT;
CREATE FUNCTION fuzz_time(int, int8) RETURNS int8
	AS :'module', 'unit_fuzz_time' LANGUAGE C STRICT;
CREATE FUNCTION fuzz_command(text[], int, int8) RETURNS int8
	AS :'module', 'unit_fuzz_command' LANGUAGE C STRICT;

-- Counted by sequences, because some expectations are rolled back.
CREATE TEMP SEQUENCE passed MINVALUE 0;
CREATE TEMP SEQUENCE failed MINVALUE 0;
SELECT nextval('passed'), nextval('failed') \g /dev/null

CREATE FUNCTION expect(what text, got text, expected text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF got IS DISTINCT FROM expected THEN
		RAISE WARNING E'%\n  got      %\n  expected %', what, got, expected;
	END IF;
	PERFORM nextval(CASE WHEN got IS DISTINCT FROM expected THEN 'failed' ELSE 'passed' END);
END $$;

-- The value of an expression as text, or the SQLSTATE and field of its error.
CREATE FUNCTION try(expression text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
	detail text;
BEGIN
	EXECUTE 'SELECT (' || expression || ')::text' INTO answer;
	RETURN answer;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	IF SQLSTATE LIKE 'SF%' THEN
		RETURN SQLSTATE || ' ' || coalesce(detail::json ->> 'field', '-');
	END IF;
	RETURN SQLSTATE;
END $$;
