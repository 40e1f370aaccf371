-- base: the version of the loaded library.

-- Every update script replaces this function: that tells running sessions to check again.
CREATE FUNCTION failsafe._library_version() RETURNS text
LANGUAGE C STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'failsafe_library_version';
COMMENT ON FUNCTION failsafe._library_version() IS 'version of the loaded library; must equal the version of the extension';
