-- base: guards.  Runs late: it loops over all tables of the schema.

CREATE FUNCTION failsafe._guard() RETURNS trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'failsafe_guard';
COMMENT ON FUNCTION failsafe._guard() IS 'refuses UPDATE, DELETE and TRUNCATE by SQL';

CREATE FUNCTION failsafe._drop_guard() RETURNS event_trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'failsafe_drop_guard';
COMMENT ON FUNCTION failsafe._drop_guard() IS 'refuses to drop a ledger that holds rows, and to alter its objects by hand';

DO $guard$
DECLARE
	guarded pg_catalog.regclass;
BEGIN
	FOR guarded IN
		SELECT c.oid::pg_catalog.regclass
		FROM pg_catalog.pg_class AS c
		WHERE c.relnamespace = 'failsafe'::pg_catalog.regnamespace
			AND c.relkind IN ('r', 'p')
			AND EXISTS (SELECT FROM pg_catalog.pg_depend AS d
						WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
							AND d.objid = c.oid AND d.deptype = 'e')
		ORDER BY c.relname
	LOOP
		EXECUTE pg_catalog.format(
			'CREATE TRIGGER failsafe_guard BEFORE UPDATE OR DELETE OR TRUNCATE ON %s '
			'FOR EACH STATEMENT EXECUTE FUNCTION failsafe._guard()', guarded);
		EXECUTE pg_catalog.format(
			'ALTER TABLE %s ENABLE ALWAYS TRIGGER failsafe_guard', guarded);
		EXECUTE pg_catalog.format(
			'COMMENT ON TRIGGER failsafe_guard ON %s IS %L', guarded,
			'refuses UPDATE, DELETE and TRUNCATE by SQL');
	END LOOP;
END
$guard$;

CREATE EVENT TRIGGER failsafe_drop_guard ON ddl_command_start
	WHEN TAG IN ('DROP EXTENSION', 'DROP SCHEMA', 'DROP OWNED',
				 'ALTER EXTENSION', 'ALTER SCHEMA', 'ALTER TABLE', 'ALTER INDEX',
				 'ALTER SEQUENCE', 'ALTER TRIGGER', 'ALTER RULE', 'ALTER POLICY',
				 'ALTER VIEW', 'CREATE TRIGGER', 'CREATE RULE', 'CREATE POLICY',
				 'DROP INDEX', 'DROP TRIGGER', 'DROP RULE', 'DROP POLICY')
	EXECUTE FUNCTION failsafe._drop_guard();
COMMENT ON EVENT TRIGGER failsafe_drop_guard IS 'keeps the ledger from being dropped or altered by mistake';
ALTER EVENT TRIGGER failsafe_drop_guard ENABLE ALWAYS;
