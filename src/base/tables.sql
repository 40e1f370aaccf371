-- base: tenants, actors, currencies.

CREATE TABLE failsafe.tenant (
	id int4 NOT NULL,
	name text COLLATE "C" NOT NULL,
	region text,
	created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	created_by text NOT NULL DEFAULT SESSION_USER,
	builtin bool NOT NULL DEFAULT false
);
CREATE UNIQUE INDEX tenant_id ON failsafe.tenant (id);
CREATE UNIQUE INDEX tenant_name ON failsafe.tenant (name);
CREATE SEQUENCE failsafe.tenant_id_seq AS int4 START 2 OWNED BY failsafe.tenant.id;
INSERT INTO failsafe.tenant (id, name, builtin) VALUES (1, 'default', true);

CREATE TABLE failsafe.actor (
	id int8 NOT NULL,
	session_user_name text NOT NULL,
	role_name text NOT NULL,
	client_address text,
	application_name text NOT NULL,
	created_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX actor_id ON failsafe.actor (id);
CREATE INDEX actor_identity ON failsafe.actor
	(application_name, session_user_name, role_name, client_address);
CREATE SEQUENCE failsafe.actor_id_seq OWNED BY failsafe.actor.id;

CREATE TABLE failsafe.currency (
	code text COLLATE "C" NOT NULL,
	exponent int2 NOT NULL,
	builtin bool NOT NULL DEFAULT false,
	created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
CREATE UNIQUE INDEX currency_code ON failsafe.currency (code);
