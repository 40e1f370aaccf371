-- base: the options argument.

CREATE FUNCTION failsafe._options_none(options jsonb) RETURNS void
LANGUAGE C IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'failsafe_options_none';
COMMENT ON FUNCTION failsafe._options_none(jsonb) IS
'For functions that know no option yet: raises OPTION_INVALID unless the argument is NULL or an empty object.';
