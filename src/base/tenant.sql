-- base: tenants.

CREATE FUNCTION failsafe._tenant_id() RETURNS int4
LANGUAGE C STABLE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'failsafe_tenant_id';
COMMENT ON FUNCTION failsafe._tenant_id() IS 'id of the session''s tenant; raises TENANT_UNKNOWN or TENANT_REQUIRED';

CREATE FUNCTION failsafe.tenant_add(
	tenant text, options jsonb DEFAULT NULL,
	OUT name text, OUT region text, OUT created bool)
RETURNS record
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'failsafe_tenant_add';
COMMENT ON FUNCTION failsafe.tenant_add(text, jsonb) IS 'adds a tenant; the same again changes nothing and says created = false. Option: region';

COMMENT ON TABLE failsafe.tenant IS 'tenants: accounts, keys and events of one are out of reach of the others';
COMMENT ON COLUMN failsafe.tenant.region IS 'the region that events name unless the session sets another';
COMMENT ON COLUMN failsafe.tenant.builtin IS 'made by the extension, left out of dumps';
COMMENT ON SEQUENCE failsafe.tenant_id_seq IS 'ids of tenants';
COMMENT ON TABLE failsafe.actor IS 'who did it: one row for each combination of session user, role, client address and application; append-only';
COMMENT ON COLUMN failsafe.actor.session_user_name IS 'who logged in';
COMMENT ON COLUMN failsafe.actor.role_name IS 'the role that was in effect (SET ROLE)';
COMMENT ON COLUMN failsafe.actor.client_address IS 'NULL: a local connection';
COMMENT ON SEQUENCE failsafe.actor_id_seq IS 'ids of actors';
