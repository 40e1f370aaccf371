-- From 0.1.0 to 0.2.0.

-- Replaced in every update: running sessions look at the version again.
CREATE OR REPLACE FUNCTION failsafe._library_version() RETURNS text
LANGUAGE C STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'failsafe_library_version';

COMMENT ON FUNCTION failsafe.outbox_retain(int, jsonb) IS
'Empties leaves of the outbox whose events are all older than failsafe.event_retention, at most max_leaves (1 to 64) a call. One row for each leaf that is not empty, current or next. action: emptied; kept (it has a younger event, or one that a subscription may still need); busy (somebody reads or writes it: try again). events is counted only where a leaf looked old enough; oldest and newest of a kept leaf are those of its first and last number. Never waits for a lock. Call it in a READ COMMITTED transaction of its own: an emptied leaf stays locked until the transaction ends. Another transaction with an older snapshot no longer sees the events that went.';

-- include ledger/waits.sql
-- include delivery/tables.sql
-- include delivery/worker.sql
-- include delivery/instance.sql
-- include delivery/subscription.sql
-- include delivery/failure.sql
-- grants 0.2.0
