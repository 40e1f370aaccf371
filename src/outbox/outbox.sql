-- outbox: emit and read events.

CREATE FUNCTION failsafe.outbox_emit(
	event_type text, order_key text, payload jsonb, headers jsonb DEFAULT '{}',
	options jsonb DEFAULT NULL)
RETURNS uuid
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'failsafe_outbox_emit';
COMMENT ON FUNCTION failsafe.outbox_emit(text, text, jsonb, jsonb, jsonb) IS
'Writes an event in this transaction and returns its event_id. It is visible to this transaction at once, to others after the commit, and gone after a rollback. event_type: 1 to 128 bytes, words of a-z, 0-9 and _ with dots between; wallet., account. and failsafe. are reserved. order_key: 1 to 255 bytes; events of one key are delivered in order. payload: an object of at most failsafe.event_max_bytes bytes without the members that the envelope adds. headers: an object of strings. Options: priority (0 first to 9 last, default 5), deliver_after and expires_at (timestamps), subject, ordered (true: waits for other transactions that emit ordered events of the key, failsafe.lock_wait at most, so that their order is commit order), region, trace_id, traceparent. A type that failsafe.event_types switches off: NULL, nothing is written. Errors: SF066, SF067, SF041, SF038, 25006, 55P03.';

CREATE FUNCTION failsafe._event_envelope(
	event_id uuid, event_type text, occurred_at timestamptz, tenant text, region text,
	trace_id text, payload json)
RETURNS json
LANGUAGE C IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'failsafe_event_envelope';
COMMENT ON FUNCTION failsafe._event_envelope(uuid, text, timestamptz, text, text, text, json) IS
'The complete event: the members of the envelope, then the payload''s, byte for byte.';

CREATE FUNCTION failsafe._event_position(event_id uuid, OUT lane int, OUT seq int8)
RETURNS record
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'failsafe_event_position';
COMMENT ON FUNCTION failsafe._event_position(uuid) IS
'The lane and number inside an event id; NULLs where the id is not one of ours.';

CREATE VIEW failsafe.events WITH (security_barrier) AS
SELECT (o.slot / 16)::int4 AS lane, o.seq, o.event_id, o.event_type, o.order_key,
	o.occurred_at, t.name AS tenant, o.priority::int4 AS priority,
	failsafe._event_envelope(o.event_id, o.event_type, o.occurred_at, t.name, o.region,
							 o.trace_id, o.payload) AS envelope,
	o.headers, o.subject, o.deliver_after, o.expires_at, o.traceparent
FROM failsafe.outbox AS o
JOIN failsafe.tenant AS t ON t.id = o.tenant_id
WHERE CASE WHEN (SELECT pg_catalog.pg_has_role('failsafe_operator', 'USAGE')) THEN true
	ELSE o.tenant_id = (SELECT failsafe._tenant_id()) END;
COMMENT ON VIEW failsafe.events IS
'Events of the session''s tenant, as long as they are kept; members of failsafe_operator see those of all tenants.';
COMMENT ON COLUMN failsafe.events.lane IS
'0: priority 0 (money), 1: 1 to 4, 2: 5 to 8, 3: 9; numbers and order are per lane';
COMMENT ON COLUMN failsafe.events.seq IS
'number in the lane; gaps are normal, and a smaller one can become visible later';
COMMENT ON COLUMN failsafe.events.envelope IS
'the complete event as a consumer gets it: event_id, event_type, schema_version, occurred_at, tenant, region and trace_id where set, then the payload';
COMMENT ON COLUMN failsafe.events.order_key IS
'events of one key are delivered in the order of their numbers';

CREATE FUNCTION failsafe.outbox_get(event_id uuid, options jsonb DEFAULT NULL)
RETURNS SETOF failsafe.events
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
	PERFORM failsafe._options_none(options);
	PERFORM failsafe._wait_durable_all();
	RETURN QUERY
		SELECT e.*
		FROM failsafe._event_position(outbox_get.event_id) AS p
		JOIN failsafe.events AS e ON e.seq = p.seq AND e.lane = p.lane
		WHERE e.event_id = outbox_get.event_id;
END
$body$;
COMMENT ON FUNCTION failsafe.outbox_get(uuid, jsonb) IS
'The event with this id, as failsafe.events shows it; no row where it is unknown, of another tenant, or no longer kept.';

COMMENT ON TABLE failsafe.outbox IS
'Events: four lanes by priority, a ring of sixteen leaves each. Written once, never updated; a leaf is emptied as a whole when its events are old enough. The stored payload, of wallet events too, leaves out the envelope that other columns hold: failsafe.events and what is delivered have it all.';
COMMENT ON COLUMN failsafe.outbox.seq IS 'number in the lane, drawn after the transaction has its id';
COMMENT ON COLUMN failsafe.outbox.journal_id IS 'the transaction that it tells about; NULL: an application''s event';
COMMENT ON COLUMN failsafe.outbox.deliver_after IS 'NULL: at once';
COMMENT ON COLUMN failsafe.outbox.expires_at IS 'not delivered later than this; NULL: never expires';
COMMENT ON COLUMN failsafe.outbox.event_id IS 'UUID version 7 that carries lane and seq; what a consumer tells repeats by';
COMMENT ON COLUMN failsafe.outbox.slot IS 'lane * 16 + leaf';
COMMENT ON COLUMN failsafe.outbox.priority IS '0 (first) to 9 (last)';
COMMENT ON COLUMN failsafe.outbox.payload IS
'the event without its envelope, which other columns hold';
COMMENT ON COLUMN failsafe.outbox.subject IS 'CloudEvents subject';
COMMENT ON COLUMN failsafe.outbox.traceparent IS 'W3C trace context';
COMMENT ON SEQUENCE failsafe.outbox_seq_0 IS 'numbers of lane 0: priority 0';
COMMENT ON SEQUENCE failsafe.outbox_seq_1 IS 'numbers of lane 1: priorities 1 to 4';
COMMENT ON SEQUENCE failsafe.outbox_seq_2 IS 'numbers of lane 2: priorities 5 to 8';
COMMENT ON SEQUENCE failsafe.outbox_seq_3 IS 'numbers of lane 3: priority 9';
DO $comment_leaves$
DECLARE
	leaf regclass;
BEGIN
	FOR leaf IN SELECT inhrelid FROM pg_catalog.pg_inherits
				WHERE inhparent = 'failsafe.outbox'::pg_catalog.regclass LOOP
		EXECUTE pg_catalog.format('COMMENT ON TABLE %s IS %L', leaf,
								  'a leaf of failsafe.outbox: filled for a while, emptied as a whole');
	END LOOP;
END
$comment_leaves$;
