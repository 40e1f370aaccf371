-- outbox: retention.

CREATE FUNCTION failsafe.outbox_retain(
	max_leaves int DEFAULT 64, options jsonb DEFAULT NULL,
	OUT leaf text, OUT events int8, OUT oldest timestamptz, OUT newest timestamptz,
	OUT action text)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'failsafe_outbox_retain';
COMMENT ON FUNCTION failsafe.outbox_retain(int, jsonb) IS
'Empties leaves of the outbox whose events are all older than failsafe.event_retention, at most max_leaves (1 to 64) a call. One row for each leaf that is not empty, current or next. action: emptied; kept (it has a younger event, or one that a subscription may still need); busy (somebody reads or writes it: try again). events is counted only where a leaf looked old enough; oldest and newest of a kept leaf are those of its first and last number. Never waits for a lock. Call it in a READ COMMITTED transaction of its own: an emptied leaf stays locked until the transaction ends. Another transaction with an older snapshot no longer sees the events that went.';
