-- delivery: programs that fetch their events themselves.

CREATE FUNCTION failsafe.outbox_claim(
	subscription text, max_events int DEFAULT 100, lease interval DEFAULT '30 seconds',
	options jsonb DEFAULT NULL,
	OUT delivery_id int8, OUT fence int8, OUT event_id uuid, OUT event_type text,
	OUT order_key text, OUT attempt int, OUT lease_until timestamptz,
	OUT occurred_at timestamptz, OUT envelope json, OUT headers json)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'failsafe_outbox_claim';
COMMENT ON FUNCTION failsafe.outbox_claim(text, int, interval, jsonb) IS
'Hands out events of a subscription with the sink pull: those that wait for another try first, then new ones. At most max_events (1 to 1000); each is the caller''s until lease_until (1 second to 12 hours from now) and must be answered with its delivery_id and fence by outbox_ack() or outbox_nack() before that, else it is handed out again: at least once, with the same event_id. Ordered by key: one event of a key at a time. Commit before you work with the events, or a rollback hands them out again. One call a subscription at a time: others wait failsafe.lock_wait at most. A paused subscription hands out nothing. No options are known yet. Errors: SF070, 42809, 55000, 25001, 25006, 55P03, SF038, SF041.';

CREATE FUNCTION failsafe.outbox_ack(
	subscription text, delivery_ids int8[], fences int8[], options jsonb DEFAULT NULL,
	OUT delivery_id int8, OUT status text)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'failsafe_outbox_ack';
COMMENT ON FUNCTION failsafe.outbox_ack(text, int8[], int8[], jsonb) IS
'Tells that events were taken; one row for each. status: acked; stale (the lease ran out and the event is somebody else''s now, or waits: nothing was changed); unknown (no such delivery: it was acknowledged before, or is a dead letter). Takes the lock of the subscription until the transaction ends, so call it last.';

CREATE FUNCTION failsafe.outbox_nack(
	subscription text, delivery_id int8, fence int8, reason text, options jsonb DEFAULT NULL,
	OUT status text, OUT due_at timestamptz)
RETURNS record
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'failsafe_outbox_nack';
COMMENT ON FUNCTION failsafe.outbox_nack(text, int8, int8, text, jsonb) IS
'Tells that an event could not be taken, and why. status: waiting (it is handed out again after due_at, by the subscription''s retry policy); dead (it is a dead letter: its attempts or its age are used up, or it is permanent); stale and unknown as with outbox_ack(). Options: retry_after_ms (not before this, 0 to 86400000), permanent (true: never again).';

CREATE FUNCTION failsafe.outbox_extend(
	subscription text, delivery_id int8, fence int8, lease interval DEFAULT '30 seconds',
	options jsonb DEFAULT NULL)
RETURNS timestamptz
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'failsafe_outbox_extend';
COMMENT ON FUNCTION failsafe.outbox_extend(text, int8, int8, interval, jsonb) IS
'Sets the end of a lease to this long from now and returns it; NULL where the event is not the caller''s any more.';
