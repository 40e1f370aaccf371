-- base: roles.  They belong to the whole server: another database may have made them
-- already, and they stay when the extension is dropped.

DO $roles$
DECLARE
	wanted record;
	adopt bool := COALESCE(NULLIF(pg_catalog.current_setting('failsafe.adopt_roles', true), ''),
						   'off')::bool;
	found record;
BEGIN
	FOR wanted IN
		SELECT * FROM (VALUES
			('failsafe_reader', 'pg_failsafe: reads accounts, balances and statements'),
			('failsafe_app', 'pg_failsafe: moves money and emits events'),
			('failsafe_operator', 'pg_failsafe: verifies, traces, freezes and repairs deliveries'),
			('failsafe_admin', 'pg_failsafe: tenants, currencies and limits')
		) AS v(name, comment)
	LOOP
		-- another database may be installing the extension at this moment
		BEGIN
			EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', wanted.name);
			EXECUTE pg_catalog.format('COMMENT ON ROLE %I IS %L', wanted.name, wanted.comment);
			CONTINUE;
		EXCEPTION WHEN duplicate_object OR unique_violation THEN
			NULL;
		END;

		SELECT r.rolcanlogin AS can_login,
			   r.rolsuper OR r.rolcreaterole OR r.rolbypassrls OR r.rolreplication AS has_power,
			   (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(g.rolname), ', ' ORDER BY g.rolname)
				FROM pg_catalog.pg_auth_members AS m
				JOIN pg_catalog.pg_roles AS g ON g.oid = m.member
				WHERE m.roleid = r.oid
					-- 16 and later: whoever made the role is a member that can only administer it
					AND NOT (m.admin_option
							 AND (pg_catalog.to_jsonb(m) ->> 'inherit_option') = 'false'
							 AND (pg_catalog.to_jsonb(m) ->> 'set_option') = 'false')) AS members
		INTO STRICT found
		FROM pg_catalog.pg_roles AS r
		WHERE r.rolname = wanted.name;

		IF NOT adopt AND (found.can_login OR found.has_power OR found.members IS NOT NULL) THEN
			RAISE EXCEPTION USING
				ERRCODE = 'object_not_in_prerequisite_state',
				MESSAGE = pg_catalog.format('role "%s" exists and can be used by others', wanted.name),
				DETAIL = CASE
					WHEN found.members IS NOT NULL THEN
						pg_catalog.format('Its members would receive privileges in this database: %s.', found.members)
					ELSE 'It can log in or has attributes of an administrator.' END,
				HINT = 'If this is meant, for example because another database of this server uses the extension, '
					'run SET failsafe.adopt_roles = on and then CREATE EXTENSION again.';
		END IF;
	END LOOP;
END
$roles$;
