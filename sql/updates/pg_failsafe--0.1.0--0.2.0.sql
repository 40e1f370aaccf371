-- From 0.1.0 to 0.2.0.

-- Replaced in every update: running sessions look at the version again.
CREATE OR REPLACE FUNCTION failsafe._library_version() RETURNS text
LANGUAGE C STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'failsafe_library_version';

-- include ledger/waits.sql
-- include delivery/tables.sql
-- include delivery/instance.sql
-- include delivery/subscription.sql
-- include delivery/failure.sql
-- grants 0.2.0
