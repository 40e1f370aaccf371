-- The same with PgQ: see delivery.sql, whose twins these are.

\set ON_ERROR_STOP on
CREATE EXTENSION pgq;
CREATE SCHEMA bench;
SELECT pgq.create_queue('q');
SELECT pgq.register_consumer('q', 'c');

CREATE FUNCTION bench.payload(name text)
RETURNS jsonb
LANGUAGE sql
BEGIN ATOMIC
	SELECT jsonb_build_object('name', name, 'emitted_us', (extract(epoch FROM clock_timestamp()) * 1e6)::int8,
		'account_id', 'acc_1234', 'amount_minor', 5000, 'currency', 'EUR', 'reference_id', 'po_00001234',
		'idempotency_key', 'debit_pi_00001234', 'transaction_id', 't_1234567', 'entry_id', 'e_1234567',
		'counterparty_id', 'world:EUR', 'counterparty_version', 1234567, 'account_version', 1234);
END;

CREATE UNLOGGED TABLE bench.seen (
	ms float8 NOT NULL
);

CREATE PROCEDURE bench.consume(seconds int)
LANGUAGE plpgsql
AS $$
DECLARE
	ends CONSTANT timestamptz := clock_timestamp() + make_interval(secs => seconds);
	batch int8;
BEGIN
	WHILE clock_timestamp() < ends LOOP
		batch := pgq.next_batch('q', 'c');
		IF batch IS NULL THEN
			COMMIT;
			PERFORM pg_sleep(0.001);
			CONTINUE;
		END IF;
		INSERT INTO bench.seen (ms)
		SELECT (extract(epoch FROM clock_timestamp())::float8 * 1e6 -
				(e.ev_data::json ->> 'emitted_us')::float8) / 1e3
		FROM pgq.get_batch_events(batch) AS e;
		PERFORM pgq.finish_batch(batch);
		COMMIT;
	END LOOP;
END;
$$;
