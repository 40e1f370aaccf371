-- base: what pg_dump must carry: the rows of every table and the state of every sequence.
-- Rows that the script itself made are left out, they would collide in a restore.  Leaves
-- are named one by one; naming their parent would not cover them.

DO $dump$
DECLARE
	kept record;
BEGIN
	FOR kept IN
		SELECT c.oid::pg_catalog.regclass AS relation,
			   EXISTS (SELECT FROM pg_catalog.pg_attribute AS a
					   WHERE a.attrelid = c.oid AND a.attname = 'builtin'
						   AND NOT a.attisdropped) AS has_builtin
		FROM pg_catalog.pg_class AS c
		WHERE c.relnamespace = 'failsafe'::pg_catalog.regnamespace
			AND c.relkind IN ('r', 'S')
			AND EXISTS (SELECT FROM pg_catalog.pg_depend AS d
						WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
							AND d.objid = c.oid AND d.deptype = 'e')
		ORDER BY c.relname
	LOOP
		PERFORM pg_catalog.pg_extension_config_dump(
			kept.relation,
			CASE WHEN kept.has_builtin THEN 'WHERE NOT builtin' ELSE '' END);
	END LOOP;
END
$dump$;
