-- What the rows about delivery need in their database.

\set ON_ERROR_STOP on
CREATE EXTENSION pg_failsafe;
CREATE EXTENSION pgstattuple;
CREATE SCHEMA bench;

-- As much as an event of the ledger has, with a name by which it is found again.
CREATE FUNCTION bench.payload(name text)
RETURNS jsonb
LANGUAGE sql
BEGIN ATOMIC
	SELECT jsonb_build_object('name', name, 'emitted_us', (extract(epoch FROM clock_timestamp()) * 1e6)::int8,
		'account_id', 'acc_1234', 'amount_minor', 5000, 'currency', 'EUR', 'reference_id', 'po_00001234',
		'idempotency_key', 'debit_pi_00001234', 'transaction_id', 't_1234567', 'entry_id', 'e_1234567',
		'counterparty_id', 'world:EUR', 'counterparty_version', 1234567, 'account_version', 1234);
END;

-- A backlog: events of many keys.
CREATE FUNCTION bench.emit(event_count int, key_count int)
RETURNS int8
LANGUAGE sql
BEGIN ATOMIC
	SELECT count(failsafe.outbox_emit('bench.order.paid', 'acc_' || n % key_count,
									  bench.payload('backlog_' || n)))
	FROM generate_series(1, event_count) AS n;
END;

CREATE FUNCTION bench.delivered(subscription text)
RETURNS int8
LANGUAGE sql
BEGIN ATOMIC
	SELECT coalesce(max(d.delivered), 0)
	FROM failsafe.subscription AS s, failsafe._stat_deliveries() AS d
	WHERE s.name = subscription AND d.subscription_id = s.id;
END;

-- Seconds since then until so many events of the subscription were delivered, NULL: it took
-- too long.
CREATE FUNCTION bench.wait_delivered(subscription text, wanted int8,
									 began timestamptz DEFAULT clock_timestamp(), most_s int DEFAULT 600)
RETURNS float8
LANGUAGE plpgsql
AS $$
BEGIN
	LOOP
		IF bench.delivered(subscription) >= wanted THEN
			RETURN extract(epoch FROM clock_timestamp() - began);
		END IF;
		EXIT WHEN clock_timestamp() - began > make_interval(secs => most_s);
		PERFORM pg_sleep(0.01);
	END LOOP;
	RETURN NULL;
END;
$$;

-- Tables of ours: versions that died, as the server counts them and as they are found.
CREATE VIEW bench.dead_tuples AS
SELECT sum(s.n_dead_tup)::int8 AS counted,
	   sum((SELECT t.dead_tuple_count FROM public.pgstattuple(s.relid) AS t))::int8 AS found,
	   sum(pg_table_size(s.relid))::int8 AS table_bytes,
	   sum(pg_indexes_size(s.relid))::int8 AS index_bytes
FROM pg_stat_user_tables AS s
JOIN pg_class AS c ON c.oid = s.relid AND c.relkind = 'r'
WHERE s.schemaname = 'failsafe';

-- The program that pulls, inside the server so that no driver is measured: it notes how
-- many milliseconds passed since each event was written.
CREATE UNLOGGED TABLE bench.seen (
	ms float8 NOT NULL
);

CREATE PROCEDURE bench.consume(subscription text, seconds int)
LANGUAGE plpgsql
AS $$
DECLARE
	ends CONSTANT timestamptz := clock_timestamp() + make_interval(secs => seconds);
	ids int8[];
	fences int8[];
	emitted float8[];
BEGIN
	WHILE clock_timestamp() < ends LOOP
		SELECT array_agg(c.delivery_id), array_agg(c.fence),
			   array_agg((c.envelope ->> 'emitted_us')::float8)
		INTO ids, fences, emitted
		FROM failsafe.outbox_claim(subscription, 1000) AS c;
		COMMIT;
		IF ids IS NULL THEN
			PERFORM pg_sleep(0.001);
			CONTINUE;
		END IF;
		INSERT INTO bench.seen (ms)
		SELECT (extract(epoch FROM clock_timestamp())::float8 * 1e6 - e) / 1e3 FROM unnest(emitted) AS e;
		PERFORM failsafe.outbox_ack(subscription, ids, fences);
		COMMIT;
	END LOOP;
END;
$$;
