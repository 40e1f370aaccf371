-- Everything that can be said of the extension's objects in this database, one line
-- each: two databases whose lines are the same hold the same extension.

CREATE TEMP VIEW member AS
SELECT d.classid, d.objid
FROM pg_depend AS d
WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
  AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_failsafe');

CREATE TEMP VIEW relation AS
SELECT c.*, c.oid::regclass::text AS name
FROM pg_class AS c JOIN member AS m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
UNION ALL
SELECT c.*, t.oid::regtype::text
FROM pg_type AS t
JOIN member AS m ON m.classid = 'pg_type'::regclass AND m.objid = t.oid
JOIN pg_class AS c ON c.oid = t.typrelid AND c.relkind = 'c';

-- members, and what belongs to a member table without being a member of its own
CREATE TEMP VIEW object AS
SELECT classid, objid FROM member
UNION
SELECT 'pg_class'::regclass, i.indexrelid FROM pg_index AS i JOIN relation AS r ON r.oid = i.indrelid
UNION
SELECT 'pg_trigger'::regclass, t.oid FROM pg_trigger AS t JOIN relation AS r ON r.oid = t.tgrelid
UNION
SELECT 'pg_constraint'::regclass, c.oid FROM pg_constraint AS c JOIN relation AS r ON r.oid = c.conrelid;

CREATE FUNCTION pg_temp.privileges(acl aclitem[]) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(format('%s:%s%s', CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END,
							 a.privilege_type, CASE WHEN a.is_grantable THEN '*' END), ' ' ORDER BY 1, a.grantee::regrole::text, a.privilege_type)
	FROM aclexplode(acl) AS a
$$;

-- late minor versions of 15 and 16 keep a number of their own there
CREATE FUNCTION pg_temp.options(options text[]) RETURNS text[] LANGUAGE sql AS $$
	SELECT array_agg(o ORDER BY o) FROM unnest(options) AS o WHERE o NOT LIKE 'pg\_attver=%'
$$;

-- rows that the scripts made
CREATE FUNCTION pg_temp.builtin_rows() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	kept regclass;
BEGIN
	FOR kept IN SELECT a.attrelid FROM pg_attribute AS a JOIN relation AS r ON r.oid = a.attrelid
				WHERE a.attname = 'builtin' AND r.relkind = 'r' LOOP
		RETURN QUERY EXECUTE format('SELECT format(''row of %%s: %%s'', %L, to_jsonb(t) - ''created_at'') FROM %s AS t WHERE t.builtin',
									kept, kept);
	END LOOP;
END
$$;

CREATE TEMP VIEW fact AS
SELECT format('member: %s %s', i.type, i.identity) AS line
FROM member AS m, pg_identify_object(m.classid, m.objid, 0) AS i
UNION ALL
SELECT format('comment: %s %s: %s', i.type, i.identity, d.description)
FROM object AS o JOIN pg_description AS d ON d.classoid = o.classid AND d.objoid = o.objid,
	 pg_identify_object(d.classoid, d.objoid, d.objsubid) AS i
UNION ALL
SELECT format('relation: %s kind %s %s, options %s, replica identity %s, row security %s %s, owner %s, access %s, method %s',
			  r.name, r.relkind, r.relpersistence, r.reloptions, r.relreplident, r.relrowsecurity,
			  r.relforcerowsecurity, r.relowner::regrole, pg_temp.privileges(r.relacl), am.amname)
FROM relation AS r LEFT JOIN pg_am AS am ON am.oid = r.relam
UNION ALL
SELECT format('partition: %s of %s %s, by %s', r.name, p.inhparent::regclass,
			  pg_get_expr(r.relpartbound, r.oid), pg_get_partkeydef(r.oid))
FROM relation AS r LEFT JOIN pg_inherits AS p ON p.inhrelid = r.oid
WHERE r.relispartition OR r.relkind = 'p'
UNION ALL
SELECT format('column: %s %s %s %s, null %s, default %s, collation %s, storage %s%s, options %s, dropped %s, access %s',
			  r.name, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull,
			  pg_get_expr(d.adbin, d.adrelid), c.collname, a.attstorage, a.attcompression, pg_temp.options(a.attoptions), a.attisdropped,
			  pg_temp.privileges(a.attacl))
FROM relation AS r
JOIN pg_attribute AS a ON a.attrelid = r.oid AND a.attnum > 0
LEFT JOIN pg_attrdef AS d ON d.adrelid = r.oid AND d.adnum = a.attnum
LEFT JOIN pg_collation AS c ON c.oid = a.attcollation
UNION ALL
SELECT format('index: %s, valid %s', pg_get_indexdef(i.indexrelid), i.indisvalid)
FROM pg_index AS i JOIN relation AS r ON r.oid = i.indrelid
UNION ALL
SELECT format('constraint: %s %s %s', r.name, c.conname, pg_get_constraintdef(c.oid))
FROM pg_constraint AS c JOIN relation AS r ON r.oid = c.conrelid
UNION ALL
SELECT format('trigger: %s, enabled %s', pg_get_triggerdef(t.oid), t.tgenabled)
FROM pg_trigger AS t JOIN relation AS r ON r.oid = t.tgrelid
UNION ALL
SELECT format('rule: %s', pg_get_ruledef(w.oid))
FROM pg_rewrite AS w JOIN relation AS r ON r.oid = w.ev_class
UNION ALL
SELECT format('policy: %s %s', r.name, p.polname) FROM pg_policy AS p JOIN relation AS r ON r.oid = p.polrelid
UNION ALL
SELECT format('sequence: %s %s, owned by %s', r.name, to_jsonb(s) - 'seqrelid', o.refobjid::regclass)
FROM pg_sequence AS s JOIN relation AS r ON r.oid = s.seqrelid
LEFT JOIN pg_depend AS o ON o.classid = 'pg_class'::regclass AND o.objid = s.seqrelid
	AND o.refclassid = 'pg_class'::regclass AND o.deptype = 'a'
UNION ALL
SELECT format('function: %s, owner %s, access %s', pg_get_functiondef(p.oid), p.proowner::regrole,
			  pg_temp.privileges(p.proacl))
FROM pg_proc AS p JOIN member AS m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
WHERE p.prokind <> 'a'
UNION ALL
SELECT format('type: %s %s, owner %s, access %s, base %s, default %s', t.oid::regtype, t.typtype, t.typowner::regrole,
			  pg_temp.privileges(t.typacl), NULLIF(t.typbasetype, 0)::regtype, t.typdefault)
FROM pg_type AS t JOIN member AS m ON m.classid = 'pg_type'::regclass AND m.objid = t.oid
UNION ALL
SELECT format('event trigger: %s on %s %s, enabled %s, calls %s', e.evtname, e.evtevent, e.evttags, e.evtenabled,
			  e.evtfoid::regprocedure)
FROM pg_event_trigger AS e JOIN member AS m ON m.classid = 'pg_event_trigger'::regclass AND m.objid = e.oid
UNION ALL
SELECT format('schema: %s owner %s, access %s', n.nspname, n.nspowner::regrole, pg_temp.privileges(n.nspacl))
FROM pg_namespace AS n JOIN pg_extension AS e ON e.extnamespace = n.oid WHERE e.extname = 'pg_failsafe'
UNION ALL
SELECT format('extension: version %s, relocatable %s, owner %s', e.extversion, e.extrelocatable, e.extowner::regrole)
FROM pg_extension AS e WHERE e.extname = 'pg_failsafe'
UNION ALL
SELECT format('dumped: %s %s', c.relation::regclass, c.condition)
FROM pg_extension AS e, unnest(e.extconfig, e.extcondition) AS c(relation, condition) WHERE e.extname = 'pg_failsafe'
UNION ALL
SELECT format('first access: %s %s: %s', i.type, i.identity, pg_temp.privileges(p.initprivs))
FROM pg_init_privs AS p JOIN object AS o ON o.classid = p.classoid AND o.objid = p.objoid,
	 pg_identify_object(p.classoid, p.objoid, p.objsubid) AS i
UNION ALL
SELECT pg_temp.builtin_rows();
