-- base: counters of commands.

CREATE FUNCTION failsafe._stat_commands(
	OUT command text, OUT outcome text, OUT code text, OUT count int8,
	OUT total_ms float8, OUT mean_us float8, OUT p50_us float8, OUT p95_us float8,
	OUT p99_us float8, OUT histogram int8[])
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'failsafe_stat_commands';
COMMENT ON FUNCTION failsafe._stat_commands() IS 'the counters of stat_commands';

CREATE FUNCTION failsafe._stat_commands_available() RETURNS bool
LANGUAGE C VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'failsafe_stat_commands_available';
COMMENT ON FUNCTION failsafe._stat_commands_available() IS 'false: shared memory had no room and commands are not counted; preload the library';

CREATE VIEW failsafe.stat_commands AS
SELECT s.command, s.outcome, s.code, s.count, s.total_ms, s.mean_us,
	   s.p50_us, s.p95_us, s.p99_us, s.histogram
FROM failsafe._stat_commands() AS s;
COMMENT ON VIEW failsafe.stat_commands IS 'commands by outcome, with latencies: of the whole server, since its start or the last reset, counted also when the transaction rolls back';
COMMENT ON COLUMN failsafe.stat_commands.outcome IS 'accepted, replayed, mismatched, declined, refused';
COMMENT ON COLUMN failsafe.stat_commands.code IS 'name of the error code; NULL for accepted and replayed';
COMMENT ON COLUMN failsafe.stat_commands.p50_us IS 'median in microseconds, interpolated inside its bucket';
COMMENT ON COLUMN failsafe.stat_commands.histogram IS 'number of commands that took less than 1, 2, 4, 8 ... microseconds and not less than the bound before; the last has no upper bound';

CREATE FUNCTION failsafe.stat_commands_reset() RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'failsafe_stat_commands_reset';
COMMENT ON FUNCTION failsafe.stat_commands_reset() IS 'sets the counters of stat_commands to zero';
