-- The same work in plain PL/pgSQL, to compare with: an idempotency row, two balance
-- updates with a floor check, a journal row, two entries and an outbox row, in one
-- transaction.
--
-- It is kept as fast as such code gets: bigint amounts, no foreign keys, no holds, no
-- tenants, no actor, no trace, one currency check, journal ids drawn before the key is
-- inserted so that no row is written twice.  And it gets a hundred world accounts to
-- spread the other side of the debits over, where one would make every debit wait.

CREATE SCHEMA plain;

CREATE TABLE plain.account (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	code text NOT NULL UNIQUE,
	currency text NOT NULL,
	floor bigint					-- NULL: none
);
CREATE TABLE plain.balance (
	account_id bigint PRIMARY KEY,
	posted bigint NOT NULL,
	version bigint NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE plain.idempotency_key (
	key text PRIMARY KEY,
	fingerprint bytea NOT NULL,
	journal_id bigint NOT NULL
);
CREATE TABLE plain.journal (
	id bigint PRIMARY KEY,
	recorded_at timestamptz NOT NULL,
	command text NOT NULL,
	account_id bigint NOT NULL,
	counterparty_id bigint NOT NULL,
	amount bigint NOT NULL,
	posted bigint NOT NULL			-- of account_id, after
);
CREATE SEQUENCE plain.journal_id_seq;
CREATE TABLE plain.entry (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	journal_id bigint NOT NULL,
	account_id bigint NOT NULL,
	amount bigint NOT NULL,
	posted bigint NOT NULL
);
CREATE INDEX entry_account ON plain.entry (account_id, id);
CREATE INDEX entry_journal ON plain.entry (journal_id);
CREATE TABLE plain.outbox (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	event_type text NOT NULL,
	order_key text NOT NULL,
	occurred_at timestamptz NOT NULL,
	payload jsonb NOT NULL
);

CREATE FUNCTION plain.transfer(
	from_code text,
	to_code text,
	amount bigint,
	currency text,
	idempotency_key text,
	command text DEFAULT 'transfer',
	OUT status text,
	OUT transaction_id bigint,
	OUT available bigint,
	OUT replayed boolean
)
LANGUAGE plpgsql
AS $body$
DECLARE
	now timestamptz;
	request bytea := sha256(convert_to(
		format('%s|%L|%L|%s|%s', command, from_code, to_code, amount, currency), 'UTF8'));
	stored bytea;
	payer plain.account;
	payee plain.account;
	payer_posted bigint;
	payee_posted bigint;
BEGIN
	IF amount <= 0 THEN
		RAISE EXCEPTION 'the amount must be positive';
	END IF;
	transaction_id := nextval('plain.journal_id_seq');
	INSERT INTO plain.idempotency_key (key, fingerprint, journal_id)
	VALUES (idempotency_key, request, transaction_id)
	ON CONFLICT DO NOTHING;
	IF NOT FOUND THEN
		SELECT k.fingerprint, j.id, j.posted INTO stored, transaction_id, available
		FROM plain.idempotency_key AS k
		JOIN plain.journal AS j ON j.id = k.journal_id
		WHERE k.key = idempotency_key;
		IF stored IS DISTINCT FROM request THEN
			RAISE EXCEPTION 'the idempotency key was used for another command';
		END IF;
		status := 'committed';
		replayed := true;
		RETURN;
	END IF;

	SELECT * INTO STRICT payer FROM plain.account AS a WHERE a.code = from_code;
	SELECT * INTO STRICT payee FROM plain.account AS a WHERE a.code = to_code;
	IF payer.currency <> currency OR payee.currency <> currency THEN
		RAISE EXCEPTION 'the account has another currency';
	END IF;

	PERFORM FROM plain.balance AS b
	WHERE b.account_id IN (payer.id, payee.id) ORDER BY b.account_id FOR UPDATE;
	now := clock_timestamp();
	UPDATE plain.balance AS b SET posted = b.posted - amount, version = b.version + 1
	WHERE b.account_id = payer.id RETURNING b.posted INTO payer_posted;
	IF payer_posted < payer.floor THEN
		RAISE EXCEPTION 'insufficient funds';
	END IF;
	UPDATE plain.balance AS b SET posted = b.posted + amount, version = b.version + 1
	WHERE b.account_id = payee.id RETURNING b.posted INTO payee_posted;

	INSERT INTO plain.journal (id, recorded_at, command, account_id, counterparty_id, amount, posted)
	VALUES (transaction_id, now, command, payer.id, payee.id, amount, payer_posted);
	INSERT INTO plain.entry (journal_id, account_id, amount, posted)
	VALUES (transaction_id, payer.id, -amount, payer_posted),
		   (transaction_id, payee.id, amount, payee_posted);
	INSERT INTO plain.outbox (event_type, order_key, occurred_at, payload)
	VALUES ('wallet.' || command || '.committed', from_code, now, jsonb_build_object(
		'event_id', gen_random_uuid(), 'event_type', 'wallet.' || command || '.committed',
		'schema_version', '1.0.0', 'occurred_at', now, 'account_id', from_code,
		'counterparty_id', to_code, 'amount_minor', amount, 'currency', currency,
		'idempotency_key', idempotency_key, 'transaction_id', transaction_id,
		'posted', payer_posted));
	status := 'committed';
	available := payer_posted - coalesce(payer.floor, 0);
	replayed := false;
END
$body$;

CREATE FUNCTION plain.fill(account_count int, funds bigint) RETURNS bigint
LANGUAGE sql
BEGIN ATOMIC
	INSERT INTO plain.account (code, currency, floor)
	SELECT 'acc_' || n, 'EUR', 0 FROM generate_series(1, account_count) AS n
	UNION ALL SELECT 'hot', 'EUR', 0
	UNION ALL SELECT 'world_' || n, 'EUR', NULL FROM generate_series(0, 99) AS n;
	INSERT INTO plain.balance (account_id, posted, version)
	SELECT id, CASE WHEN code LIKE 'acc%' THEN funds ELSE 0 END, 0 FROM plain.account;
	SELECT count(*) FROM plain.balance;
END;
