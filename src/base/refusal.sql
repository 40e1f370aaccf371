-- base: the last refusals.

CREATE FUNCTION failsafe._last_refusals(
	OUT at timestamptz, OUT code text, OUT session_user_id oid, OUT role_id oid,
	OUT pid int4, OUT application_name text, OUT detail text)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'failsafe_last_refusals';
COMMENT ON FUNCTION failsafe._last_refusals() IS 'the ring of last_refusals';

CREATE VIEW failsafe.last_refusals WITH (security_barrier) AS
SELECT r.at, r.code, who.rolname::text AS session_user_name, role.rolname::text AS role_name,
	r.application_name, r.pid, r.detail
FROM failsafe._last_refusals() AS r
LEFT JOIN pg_catalog.pg_roles AS who ON who.oid = r.session_user_id
LEFT JOIN pg_catalog.pg_roles AS role ON role.oid = r.role_id;
COMMENT ON VIEW failsafe.last_refusals IS
'The last refusals and declines of this database that raised an error or were answered as JSON, of all tenants, the newest first: at most 256 of the whole server, 16 where the library is not preloaded. Kept in memory: a restart forgets them. Also those whose transaction was rolled back.';
COMMENT ON COLUMN failsafe.last_refusals.code IS 'name of the error code: see failsafe.error_codes';
COMMENT ON COLUMN failsafe.last_refusals.session_user_name IS 'who was logged in';
COMMENT ON COLUMN failsafe.last_refusals.role_name IS 'as whom: after SET ROLE';
COMMENT ON COLUMN failsafe.last_refusals.detail IS 'the fields of the refusal, keys masked, cut after 399 bytes';
