-- idempotency: wallet keys (never change, never expire) and application keys.

CREATE TABLE failsafe.idempotency_key (
	journal_id int8 NOT NULL,
	tenant_id int4 NOT NULL,
	fingerprint_version int2 NOT NULL,
	fingerprint bytea NOT NULL,
	key text COLLATE "C" NOT NULL
);
ALTER TABLE failsafe.idempotency_key ALTER COLUMN fingerprint SET STORAGE PLAIN;
ALTER TABLE failsafe.idempotency_key ALTER COLUMN key SET STORAGE PLAIN;
CREATE UNIQUE INDEX idempotency_key_key ON failsafe.idempotency_key (tenant_id, key);
COMMENT ON TABLE failsafe.idempotency_key IS
'Keys of wallet commands: one key, one effect, for ever. A row is inserted with the effect and never changed.';
COMMENT ON COLUMN failsafe.idempotency_key.journal_id IS 'the transaction that the key stands for';
COMMENT ON COLUMN failsafe.idempotency_key.fingerprint IS
'SHA-256 over the fields that make two commands the same';

CREATE TABLE failsafe.application_key (
	id int8 NOT NULL,
	claimed_at timestamptz NOT NULL,
	completed_at timestamptz,
	tenant_id int4 NOT NULL,
	fingerprint_version int2 NOT NULL,
	state text NOT NULL,			-- unfinished, completed
	scope text COLLATE "C" NOT NULL,
	key text COLLATE "C" NOT NULL,
	fingerprint bytea NOT NULL,
	request jsonb,
	response jsonb,
	actor_id int8 NOT NULL
);
CREATE UNIQUE INDEX application_key_key ON failsafe.application_key (tenant_id, scope, key);
CREATE INDEX application_key_claimed_at ON failsafe.application_key (claimed_at);
CREATE SEQUENCE failsafe.application_key_id_seq OWNED BY failsafe.application_key.id;
