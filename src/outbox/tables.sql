-- outbox: the events.  Four lanes (by priority) of sixteen leaves each; no DDL at run
-- time.  slot = lane * 16 + leaf.  Indexes are on the leaves, none on the parent: an
-- index on the parent would make pg_restore fail.

CREATE TABLE failsafe.outbox (
	seq int8 NOT NULL,
	journal_id int8,
	occurred_at timestamptz NOT NULL,
	deliver_after timestamptz,
	expires_at timestamptz,
	event_id uuid NOT NULL,
	tenant_id int4 NOT NULL,
	slot int2 NOT NULL,
	priority int2 NOT NULL,
	event_type text COLLATE "C" NOT NULL,
	order_key text COLLATE "C" NOT NULL,
	payload json,
	headers json,
	subject text,
	region text,
	trace_id text,
	traceparent text
) PARTITION BY LIST (slot);

CREATE SEQUENCE failsafe.outbox_seq_0;
CREATE SEQUENCE failsafe.outbox_seq_1;
CREATE SEQUENCE failsafe.outbox_seq_2;
CREATE SEQUENCE failsafe.outbox_seq_3;

DO $make_leaves$
DECLARE
	leaf text;
BEGIN
	FOR slot IN 0 .. 63 LOOP
		leaf := pg_catalog.format('outbox_%s_%s', slot / 16,
								  pg_catalog.lpad((slot % 16)::text, 2, '0'));
		EXECUTE pg_catalog.format(
			'CREATE TABLE failsafe.%I PARTITION OF failsafe.outbox FOR VALUES IN (%s)', leaf, slot);
		EXECUTE pg_catalog.format(
			'CREATE INDEX %I ON failsafe.%I (seq)', leaf || '_seq', leaf);
	END LOOP;
END
$make_leaves$;
