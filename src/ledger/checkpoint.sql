-- ledger: checkpoints of system accounts, whose balance is a checkpoint plus the
-- entries after it.
--
-- Journal numbers, and with them the ids of entries, are drawn after the transaction id.
-- So: read N, the last id that can have been drawn, then H, the next transaction id.
-- Whoever drew a number up to N has an id below H.  Under a snapshot whose xmin has
-- reached H all of them are over, and the entries up to N will never change [F6].
-- N and H are kept until then in sequences, which need neither a lock nor a dead row and
-- survive a rollback.  "home" tells the server, database and installation that wrote
-- them: after a restore both numbers mean nothing.

CREATE SEQUENCE failsafe.checkpoint_pending_entry MINVALUE 0;
CREATE SEQUENCE failsafe.checkpoint_pending_xid MINVALUE 0;
CREATE SEQUENCE failsafe.checkpoint_pending_home MINVALUE -9223372036854775808;
COMMENT ON SEQUENCE failsafe.checkpoint_pending_entry IS
'last entry id that the next checkpoint covers';
COMMENT ON SEQUENCE failsafe.checkpoint_pending_xid IS
'transaction id from which on a snapshot sees all of them';
COMMENT ON SEQUENCE failsafe.checkpoint_pending_home IS
'the server and database that noted the two';

CREATE FUNCTION failsafe._system_posted(account_id int8) RETURNS numeric
LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT coalesce(c.posted, 0)
	   + coalesce((SELECT sum(e.amount) FROM failsafe.entry AS e
				   WHERE e.account_id = _system_posted.account_id
					 AND coalesce(e.version, e.id) > coalesce(c.entry_id, 0)), 0)
FROM (VALUES (1)) AS one
LEFT JOIN LATERAL (
	SELECT k.entry_id, k.posted FROM failsafe.checkpoint AS k
	WHERE k.account_id = _system_posted.account_id
	ORDER BY k.entry_id DESC LIMIT 1) AS c ON true
$body$;
COMMENT ON FUNCTION failsafe._system_posted(int8) IS
'The posted balance of a system account: its last checkpoint and the entries after it, under one snapshot.';

CREATE FUNCTION failsafe._database_home() RETURNS int8
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT hashint8extended((SELECT c.system_identifier FROM pg_control_system() AS c),
						((SELECT d.oid::int8 FROM pg_database AS d
						  WHERE d.datname = current_database()) << 32)
						+ 'failsafe.checkpoint_pending_home'::regclass::oid::int8)
$body$;
COMMENT ON FUNCTION failsafe._database_home() IS
'A number that differs between servers, databases and installations of the extension.';

CREATE FUNCTION failsafe._entries_drawn() RETURNS int8
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT CASE WHEN s.is_called THEN 1024 * s.last_value + 1023 ELSE 0 END
FROM failsafe.journal_id_seq AS s
$body$;
COMMENT ON FUNCTION failsafe._entries_drawn() IS
'The last entry id of the last journal number that was drawn.';

-- The number up to which entries may be summed now, NULL while writers that drew a
-- smaller one still run.  Waits for short transactions, half a second at most.
CREATE FUNCTION failsafe._checkpoint_horizon() RETURNS int8
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
	home int8 := failsafe._database_home();
	pending_entry int8;
	pending_xid xid8;
	new_entry int8;
	new_xid xid8;
	usable int8;
BEGIN
	SELECT entry.last_value, xid.last_value::text::xid8 INTO pending_entry, pending_xid
	FROM failsafe.checkpoint_pending_entry AS entry, failsafe.checkpoint_pending_xid AS xid,
		 failsafe.checkpoint_pending_home AS place
	WHERE place.is_called AND place.last_value = home;
	IF pg_snapshot_xmin(pg_current_snapshot()) >= pending_xid THEN
		usable := pending_entry;
	END IF;

	new_entry := failsafe._entries_drawn();
	new_xid := failsafe._next_xid();
	FOR attempt IN 1 .. 50 LOOP
		IF pg_snapshot_xmin(pg_current_snapshot()) >= new_xid THEN
			RETURN new_entry;
		END IF;
		PERFORM pg_sleep(0.01);
	END LOOP;

	-- An older pair is reached sooner: it is replaced only when it has served.
	IF pending_xid IS NULL OR usable IS NOT NULL THEN
		PERFORM setval('failsafe.checkpoint_pending_xid', new_xid::text::int8);
		PERFORM setval('failsafe.checkpoint_pending_entry', new_entry);
		PERFORM setval('failsafe.checkpoint_pending_home', home);
	END IF;
	RETURN usable;
END
$body$;
COMMENT ON FUNCTION failsafe._checkpoint_horizon() IS
'The entry id up to which no running transaction can add an entry any more; NULL when that is not known yet.';

CREATE FUNCTION failsafe._checkpoint_write(horizon int8, max_accounts int4, min_entries int4)
RETURNS int8
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
	row_count int8;
BEGIN
	INSERT INTO failsafe.checkpoint (account_id, entry_id, entry_count, recorded_from,
									 recorded_until, taken_at, posted)
	SELECT due.id, horizon, due.entry_count + later.entry_count, later.recorded_from,
		   greatest(due.recorded_until, later.recorded_until), clock_timestamp(),
		   due.posted + later.amount
	FROM (
		SELECT a.id, coalesce(c.entry_id, 0) AS entry_id, coalesce(c.posted, 0) AS posted,
			   coalesce(c.entry_count, 0) AS entry_count, c.recorded_until
		FROM failsafe.account AS a
		LEFT JOIN LATERAL (
			SELECT k.entry_id, k.posted, k.entry_count, k.recorded_until
			FROM failsafe.checkpoint AS k
			WHERE k.account_id = a.id
			ORDER BY k.entry_id DESC LIMIT 1) AS c ON true
		WHERE a.kind = 'system'
		  AND EXISTS (SELECT FROM failsafe.entry AS e
					  WHERE e.account_id = a.id
						AND coalesce(e.version, e.id) > coalesce(c.entry_id, 0)
						AND coalesce(e.version, e.id) <= horizon
					  OFFSET min_entries - 1)
		LIMIT max_accounts) AS due
	CROSS JOIN LATERAL (
		SELECT count(*) AS entry_count, sum(e.amount) AS amount,
			   min(j.recorded_at) AS recorded_from, max(j.recorded_at) AS recorded_until
		FROM failsafe.entry AS e
		JOIN failsafe.journal AS j ON j.id = e.journal_id
		WHERE e.account_id = due.id AND coalesce(e.version, e.id) > due.entry_id
		  AND coalesce(e.version, e.id) <= horizon) AS later
	ON CONFLICT DO NOTHING;
	GET DIAGNOSTICS row_count = ROW_COUNT;
	RETURN row_count;
END
$body$;
COMMENT ON FUNCTION failsafe._checkpoint_write(int8, int4, int4) IS
'Writes the checkpoints at this horizon; returns their number.';

CREATE FUNCTION failsafe.ledger_checkpoint(max_accounts int4 DEFAULT 1000,
										   options jsonb DEFAULT NULL)
RETURNS TABLE (accounts int8, note text)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
	min_entries int8;
	horizon int8;
BEGIN
	PERFORM failsafe._options_check(options, 'min_entries');
	min_entries := failsafe._option_int8(options, 'min_entries', 1, 1000000, 1000);
	PERFORM failsafe._require('max_accounts', max_accounts::text);
	IF max_accounts NOT BETWEEN 1 AND 100000 THEN
		PERFORM failsafe._raise('OPTION_INVALID', 'max_accounts', 'field', 'max_accounts');
	END IF;
	accounts := 0;
	BEGIN
		LOCK TABLE failsafe.checkpoint IN SHARE UPDATE EXCLUSIVE MODE NOWAIT;
	EXCEPTION WHEN lock_not_available THEN
		note := 'another checkpoint, or a vacuum of its table, is running';
		RETURN NEXT;
		RETURN;
	END;

	horizon := failsafe._checkpoint_horizon();
	IF horizon IS NULL THEN
		note := 'waiting for transactions that were running when the last entry was noted';
	ELSE
		accounts := failsafe._checkpoint_write(horizon, max_accounts, min_entries::int4);
		note := format('up to e_%s', horizon);
	END IF;
	RETURN NEXT;
END
$body$;
COMMENT ON FUNCTION failsafe.ledger_checkpoint(int4, jsonb) IS
'Makes reading the balance of system accounts cheap: stores the sum of all entries that no running transaction can add to, for accounts with at least min_entries new ones. Returns how many accounts, and what it did or waits for. Call it as a statement of its own: a transaction that has written before holds the horizon back. Beside a long transaction it does nothing; the next call goes on.
max_accounts: 1 to 100000. options: min_entries (1 to 1000000, default 1000).
Errors: VALUE_REQUIRED, OPTION_INVALID.';
