\echo Use "CREATE EXTENSION pg_failsafe" to load this file. \quit

-- ==== src/base/roles.sql

-- base: roles.  They belong to the whole server: another database may have made them
-- already, and they stay when the extension is dropped.

DO $roles$
DECLARE
	wanted record;
	adopt bool := COALESCE(NULLIF(pg_catalog.current_setting('failsafe.adopt_roles', true), ''),
						   'off')::bool;
	found record;
BEGIN
	FOR wanted IN
		SELECT * FROM (VALUES
			('failsafe_reader', 'pg_failsafe: reads accounts, balances and statements'),
			('failsafe_app', 'pg_failsafe: moves money and emits events'),
			('failsafe_operator', 'pg_failsafe: verifies, traces, freezes and repairs deliveries'),
			('failsafe_admin', 'pg_failsafe: tenants, currencies and limits')
		) AS v(name, comment)
	LOOP
		-- another database may be installing the extension at this moment
		BEGIN
			EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', wanted.name);
			EXECUTE pg_catalog.format('COMMENT ON ROLE %I IS %L', wanted.name, wanted.comment);
			CONTINUE;
		EXCEPTION WHEN duplicate_object OR unique_violation THEN
			NULL;
		END;

		SELECT r.rolcanlogin AS can_login,
			   r.rolsuper OR r.rolcreaterole OR r.rolbypassrls OR r.rolreplication AS has_power,
			   (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(g.rolname), ', ' ORDER BY g.rolname)
				FROM pg_catalog.pg_auth_members AS m
				JOIN pg_catalog.pg_roles AS g ON g.oid = m.member
				WHERE m.roleid = r.oid
					-- 16 and later: whoever made the role is a member that can only administer it
					AND NOT (m.admin_option
							 AND (pg_catalog.to_jsonb(m) ->> 'inherit_option') = 'false'
							 AND (pg_catalog.to_jsonb(m) ->> 'set_option') = 'false')) AS members
		INTO STRICT found
		FROM pg_catalog.pg_roles AS r
		WHERE r.rolname = wanted.name;

		IF NOT adopt AND (found.can_login OR found.has_power OR found.members IS NOT NULL) THEN
			RAISE EXCEPTION USING
				ERRCODE = 'object_not_in_prerequisite_state',
				MESSAGE = pg_catalog.format('role "%s" exists and can be used by others', wanted.name),
				DETAIL = CASE
					WHEN found.members IS NOT NULL THEN
						pg_catalog.format('Its members would receive privileges in this database: %s.', found.members)
					ELSE 'It can log in or has attributes of an administrator.' END,
				HINT = 'If this is meant, for example because another database of this server uses the extension, '
					'run SET failsafe.adopt_roles = on and then CREATE EXTENSION again.';
		END IF;
	END LOOP;
END
$roles$;

-- ==== src/base/tables.sql

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

-- ==== src/base/version.sql

-- base: the version of the loaded library.

-- Every update script replaces this function: that tells running sessions to check again.
CREATE FUNCTION failsafe._library_version() RETURNS text
LANGUAGE C STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'failsafe_library_version';
COMMENT ON FUNCTION failsafe._library_version() IS 'version of the loaded library; must equal the version of the extension';

-- ==== src/base/commit.sql

-- base: durable answers of functions written in SQL, and a look at early lock release.

CREATE FUNCTION failsafe._wait_durable_all() RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'failsafe_wait_durable_all';
COMMENT ON FUNCTION failsafe._wait_durable_all() IS 'waits until all that was committed up to now is flushed and, where synchronous_commit asks for it, on the synchronous standbys; on a standby it returns at once';

CREATE FUNCTION failsafe._released_early() RETURNS bool
LANGUAGE C VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'failsafe_released_early';
COMMENT ON FUNCTION failsafe._released_early() IS 'did the last transaction of this session that wrote to the ledger drop its locks before its commit was flushed';

-- ==== src/base/money.sql

-- base: currencies, and the functions that convert by them.

-- ISO 4217.  Left out are the codes to which it gives no minor unit (metals, bond
-- units, special drawing rights, testing): an exponent never changes once money is
-- counted in it, so whoever needs one chooses it with currency_add().  A few codes that
-- were withdrawn lately stay, because old books name them.
INSERT INTO failsafe.currency (code, exponent, builtin)
SELECT code, exponent, true
FROM (VALUES
	(0, 'BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF'),
	(2, 'AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN
		BWP BYN BZD CAD CDF CHE CHF CHW CNY COP COU CRC CUC CUP CVE CZK DKK DOP DZD EGP ERN
		ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HRK HTG HUF IDR ILS INR IRR JMD
		KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR
		MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB
		SAR SBD SCR SDG SEK SGD SHP SLE SLL SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY
		TTD TWD TZS UAH USD USN UYU UZS VED VES WST XAD XCD XCG YER ZAR ZMW ZWG ZWL'),
	(3, 'BHD IQD JOD KWD LYD OMR TND'),
	(4, 'CLF UYW')
) AS list (exponent, codes),
	pg_catalog.regexp_split_to_table(pg_catalog.btrim(codes), '\s+') AS code
ORDER BY code;

COMMENT ON TABLE failsafe.currency IS
	'Currencies: ISO 4217 is preloaded, currency_add() adds others. Rows never change.';
COMMENT ON COLUMN failsafe.currency.code IS
	'1 to 16 upper-case letters, digits or _: EUR, USD, BTC.';
COMMENT ON COLUMN failsafe.currency.exponent IS
	'Decimal places of one major unit: 2 for EUR, so that 5000 is 50.00 EUR.';
COMMENT ON COLUMN failsafe.currency.builtin IS
	'True for the preloaded rows, which a dump leaves out.';
COMMENT ON COLUMN failsafe.currency.created_at IS
	'When the row was added.';

CREATE FUNCTION failsafe.currency_add(code text, exponent int)
RETURNS bool
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'failsafe_currency_add';

COMMENT ON FUNCTION failsafe.currency_add(text, int) IS
	'Adds a currency. code: 1 to 16 upper-case letters, digits or _. exponent: decimal places, 0 to 24, for ever. Returns true when it is new, false when it was there with this exponent. Another exponent is CURRENCY_CONFLICT.';

CREATE FUNCTION failsafe.minor(amount numeric, currency text)
RETURNS numeric
LANGUAGE C STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'failsafe_minor';

COMMENT ON FUNCTION failsafe.minor(numeric, text) IS
	'Major units to minor units, exactly: minor(50.00, ''EUR'') is 5000. An amount with more decimal places than the currency is AMOUNT_HAS_FRACTION, an unknown currency CURRENCY_UNKNOWN.';

CREATE FUNCTION failsafe.major(amount numeric, currency text)
RETURNS numeric
LANGUAGE C STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'failsafe_major';

COMMENT ON FUNCTION failsafe.major(numeric, text) IS
	'Minor units to major units, with the decimal places of the currency: major(5000, ''EUR'') is 50.00.';

CREATE FUNCTION failsafe.business_key(VARIADIC parts text[])
RETURNS text
LANGUAGE C IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'failsafe_business_key';

COMMENT ON FUNCTION failsafe.business_key(text[]) IS
	'An idempotency key from the parts of a business operation: business_key(''payout'', ''po_001'') is payout:po_001. Different parts give different keys: inside a part, '':'', ''%'', blanks and control characters are written as %XX. A NULL or empty part, and more than 255 bytes, are IDEMPOTENCY_KEY_INVALID.';

-- ==== src/base/errors.sql

-- base: the catalogue of error codes, as the C code has it.

CREATE FUNCTION failsafe._error_codes(
	OUT code text, OUT name text, OUT class text, OUT retryable bool,
	OUT http_status int4, OUT meaning text, OUT what_to_do text,
	OUT check_order int4, OUT message text)
RETURNS SETOF record
LANGUAGE C IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'failsafe_error_codes';
COMMENT ON FUNCTION failsafe._error_codes() IS 'the error catalogue of the loaded library';

CREATE VIEW failsafe.error_codes AS
SELECT e.code, e.name, e.class, e.retryable, e.http_status, e.meaning, e.what_to_do,
	   e.check_order, e.message
FROM failsafe._error_codes() AS e;
COMMENT ON VIEW failsafe.error_codes IS 'every error code: what it means, whether a retry may help, and what to do';
COMMENT ON COLUMN failsafe.error_codes.code IS 'SQLSTATE';
COMMENT ON COLUMN failsafe.error_codes.name IS 'the member "code" of DETAIL and of JSON answers';
COMMENT ON COLUMN failsafe.error_codes.class IS 'declined: a business answer that can be recorded; refused: never stored, the key stays free; failure: the installation or the server says no; standard: a code of PostgreSQL itself';
COMMENT ON COLUMN failsafe.error_codes.retryable IS 'may the same call, with the same key, succeed later';
COMMENT ON COLUMN failsafe.error_codes.http_status IS 'the status that wallet_http() answers with';
COMMENT ON COLUMN failsafe.error_codes.meaning IS 'when the code is raised';
COMMENT ON COLUMN failsafe.error_codes.what_to_do IS 'the hint';
COMMENT ON COLUMN failsafe.error_codes.check_order IS 'when several codes apply, the one with the lowest number is given; NULL for standard codes';
COMMENT ON COLUMN failsafe.error_codes.message IS 'the primary message, the same in all releases; NULL for standard codes';

-- ==== src/base/options.sql

-- base: the options argument.

CREATE FUNCTION failsafe._options_none(options jsonb) RETURNS void
LANGUAGE C IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'failsafe_options_none';
COMMENT ON FUNCTION failsafe._options_none(jsonb) IS
'For functions that know no option yet: raises OPTION_INVALID unless the argument is NULL or an empty object.';

-- ==== src/base/tenant.sql

-- base: tenants.

CREATE FUNCTION failsafe._tenant_id() RETURNS int4
LANGUAGE C STABLE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'failsafe_tenant_id';
COMMENT ON FUNCTION failsafe._tenant_id() IS 'id of the session''s tenant; raises TENANT_UNKNOWN or TENANT_REQUIRED';

CREATE FUNCTION failsafe.tenant_add(
	tenant text, options jsonb DEFAULT NULL,
	OUT name text, OUT region text, OUT created bool)
RETURNS record
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'failsafe_tenant_add';
COMMENT ON FUNCTION failsafe.tenant_add(text, jsonb) IS 'adds a tenant; the same again changes nothing and says created = false. Option: region';

COMMENT ON TABLE failsafe.tenant IS 'tenants: accounts, keys and events of one are out of reach of the others';
COMMENT ON COLUMN failsafe.tenant.region IS 'the region that events name unless the session sets another';
COMMENT ON COLUMN failsafe.tenant.builtin IS 'made by the extension, left out of dumps';
COMMENT ON SEQUENCE failsafe.tenant_id_seq IS 'ids of tenants';
COMMENT ON TABLE failsafe.actor IS 'who did it: one row for each combination of session user, role, client address and application; append-only';
COMMENT ON COLUMN failsafe.actor.session_user_name IS 'who logged in';
COMMENT ON COLUMN failsafe.actor.role_name IS 'the role that was in effect (SET ROLE)';
COMMENT ON COLUMN failsafe.actor.client_address IS 'NULL: a local connection';
COMMENT ON SEQUENCE failsafe.actor_id_seq IS 'ids of actors';

-- ==== src/base/stats.sql

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

-- ==== src/idempotency/tables.sql

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

-- ==== src/idempotency/key.sql

-- idempotency: helpers of the wallet keys.

CREATE FUNCTION failsafe._key_in_progress(key text) RETURNS bool
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'failsafe_key_in_progress';
COMMENT ON FUNCTION failsafe._key_in_progress(text) IS
	'Is this wallet key of the session''s tenant held by a transaction that still runs? Does not wait.';

COMMENT ON TABLE failsafe.idempotency_key IS
'One row for each key of a wallet command that had an outcome; append-only, for ever. The answer is in the journal.';
COMMENT ON COLUMN failsafe.idempotency_key.fingerprint IS
'SHA-256 over the command''s fields; what a repeat is compared with';

-- ==== src/idempotency/application_key.sql

-- idempotency: keys of applications.

CREATE FUNCTION failsafe.idempotency_claim(
	key text, request jsonb, scope text DEFAULT 'app', options jsonb DEFAULT NULL,
	OUT state text, OUT response jsonb, OUT claimed_at timestamptz)
RETURNS record
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'failsafe_idempotency_claim';
COMMENT ON FUNCTION failsafe.idempotency_claim(text, jsonb, text, jsonb) IS
'Claims a key of the application before it does something once. state is new (the caller does the work, then calls idempotency_complete), replay (done before; response has the answer), or unfinished (claimed and committed before, never completed; the caller holds it until its transaction ends and decides). The same key with another request raises SF001; the detail names the members that differ. Waits failsafe.key_wait at most for a running transaction that has the key (55P03). request may be NULL; up to 16 kB of it are kept for comparison, beyond that its fingerprint alone.';

CREATE FUNCTION failsafe.idempotency_complete(
	key text, response jsonb, scope text DEFAULT 'app', options jsonb DEFAULT NULL)
RETURNS bool
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'failsafe_idempotency_complete';
COMMENT ON FUNCTION failsafe.idempotency_complete(text, jsonb, text, jsonb) IS
'Stores the answer of a claimed key: true. Again with an equal response: false, nothing changes; with another response: SF006. A key that nobody claimed: SF005. The response must not be NULL and has at most failsafe.event_max_bytes bytes.';

CREATE FUNCTION failsafe.idempotency_release(
	key text, reason text, scope text DEFAULT 'app', options jsonb DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'failsafe_idempotency_release';
COMMENT ON FUNCTION failsafe.idempotency_release(text, text, text, jsonb) IS
'Gives an unfinished key back, so that it can be claimed as new. The reason is required and goes to the server''s log. A completed key is never given back: SF006.';

CREATE FUNCTION failsafe.idempotency_prune(
	max_rows int DEFAULT 1000, options jsonb DEFAULT NULL)
RETURNS int8
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'failsafe_idempotency_prune';
COMMENT ON FUNCTION failsafe.idempotency_prune(int, jsonb) IS
'Deletes completed application keys, of all tenants, that were completed more than failsafe.application_key_retention ago: at most max_rows (1 to 10000) a call, the oldest first. Returns how many; 0 also while another session prunes. Unfinished keys are never deleted by age.';

CREATE FUNCTION failsafe._application_key_in_progress(scope text, key text)
RETURNS bool
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'failsafe_application_key_in_progress';
COMMENT ON FUNCTION failsafe._application_key_in_progress(text, text) IS
'Is a running transaction claiming, completing or releasing this key of the session''s tenant? Does not wait.';

CREATE VIEW failsafe.application_keys WITH (security_barrier) AS
SELECT t.name AS tenant, k.scope, k.key, k.state, k.claimed_at, k.completed_at,
	k.request, k.response
FROM failsafe.application_key AS k
JOIN failsafe.tenant AS t ON t.id = k.tenant_id
WHERE CASE WHEN (SELECT pg_catalog.pg_has_role('failsafe_operator', 'USAGE')) THEN true
	ELSE k.tenant_id = (SELECT failsafe._tenant_id()) END;
COMMENT ON VIEW failsafe.application_keys IS
'Application keys of the session''s tenant; members of failsafe_operator see those of all tenants. An unfinished key that is old belongs to work that stopped half-way.';
COMMENT ON COLUMN failsafe.application_keys.state IS 'unfinished or completed';

COMMENT ON TABLE failsafe.application_key IS
'Keys that applications claim: one row for each tenant, scope and key. Changed by the idempotency functions alone.';
COMMENT ON COLUMN failsafe.application_key.completed_at IS 'NULL while unfinished';
COMMENT ON COLUMN failsafe.application_key.fingerprint IS
'SHA-256 over the request; what a second claim is compared with';
COMMENT ON COLUMN failsafe.application_key.request IS
'the request itself, up to 16 kB, to name what differs; NULL: none given, or larger';
COMMENT ON COLUMN failsafe.application_key.actor_id IS 'who claimed the key';
COMMENT ON SEQUENCE failsafe.application_key_id_seq IS 'ids of application keys';

-- ==== src/outbox/tables.sql

-- outbox: the events.  Four lanes (by priority) of sixteen leaves each; no DDL at run
-- time.  slot = lane * 16 + leaf.  Indexes are on the leaves, none on the parent: an
-- index on the parent would make pg_restore fail.

CREATE TABLE failsafe.outbox (
	seq int8 NOT NULL,
	journal_id int8,
	occurred_at timestamptz NOT NULL,
	deliver_after timestamptz,
	expires_at timestamptz,
	event_id uuid NOT NULL,
	tenant_id int4 NOT NULL,
	slot int2 NOT NULL,
	priority int2 NOT NULL,
	event_type text COLLATE "C" NOT NULL,
	order_key text COLLATE "C" NOT NULL,
	payload json,
	headers json,
	subject text,
	region text,
	trace_id text,
	traceparent text
) PARTITION BY LIST (slot);

CREATE SEQUENCE failsafe.outbox_seq_0;
CREATE SEQUENCE failsafe.outbox_seq_1;
CREATE SEQUENCE failsafe.outbox_seq_2;
CREATE SEQUENCE failsafe.outbox_seq_3;

DO $make_leaves$
DECLARE
	leaf text;
BEGIN
	FOR slot IN 0 .. 63 LOOP
		leaf := pg_catalog.format('outbox_%s_%s', slot / 16,
								  pg_catalog.lpad((slot % 16)::text, 2, '0'));
		EXECUTE pg_catalog.format(
			'CREATE TABLE failsafe.%I PARTITION OF failsafe.outbox FOR VALUES IN (%s)', leaf, slot);
		EXECUTE pg_catalog.format(
			'CREATE INDEX %I ON failsafe.%I (seq)', leaf || '_seq', leaf);
	END LOOP;
END
$make_leaves$;

-- ==== src/outbox/outbox.sql

-- outbox: emit and read events.

CREATE FUNCTION failsafe.outbox_emit(
	event_type text, order_key text, payload jsonb, headers jsonb DEFAULT '{}',
	options jsonb DEFAULT NULL)
RETURNS uuid
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'failsafe_outbox_emit';
COMMENT ON FUNCTION failsafe.outbox_emit(text, text, jsonb, jsonb, jsonb) IS
'Writes an event in this transaction and returns its event_id. It is visible to this transaction at once, to others after the commit, and gone after a rollback. event_type: 1 to 128 bytes, words of a-z, 0-9 and _ with dots between; wallet., account. and failsafe. are reserved. order_key: 1 to 255 bytes; events of one key are delivered in order. payload: an object of at most failsafe.event_max_bytes bytes without the members that the envelope adds. headers: an object of strings. Options: priority (0 first to 9 last, default 5), deliver_after and expires_at (timestamps), subject, ordered (true: waits for other transactions that emit ordered events of the key, failsafe.lock_wait at most, so that their order is commit order), region, trace_id, traceparent. A type that failsafe.event_types switches off: NULL, nothing is written. Errors: SF066, SF067, SF041, SF038, 25006, 55P03.';

CREATE FUNCTION failsafe._event_envelope(
	event_id uuid, event_type text, occurred_at timestamptz, tenant text, region text,
	trace_id text, payload json)
RETURNS json
LANGUAGE C IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'failsafe_event_envelope';
COMMENT ON FUNCTION failsafe._event_envelope(uuid, text, timestamptz, text, text, text, json) IS
'The complete event: the members of the envelope, then the payload''s, byte for byte.';

CREATE FUNCTION failsafe._event_position(event_id uuid, OUT lane int, OUT seq int8)
RETURNS record
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'failsafe_event_position';
COMMENT ON FUNCTION failsafe._event_position(uuid) IS
'The lane and number inside an event id; NULLs where the id is not one of ours.';

CREATE VIEW failsafe.events WITH (security_barrier) AS
SELECT (o.slot / 16)::int4 AS lane, o.seq, o.event_id, o.event_type, o.order_key,
	o.occurred_at, t.name AS tenant, o.priority::int4 AS priority,
	failsafe._event_envelope(o.event_id, o.event_type, o.occurred_at, t.name, o.region,
							 o.trace_id, o.payload) AS envelope,
	o.headers, o.subject, o.deliver_after, o.expires_at, o.traceparent
FROM failsafe.outbox AS o
JOIN failsafe.tenant AS t ON t.id = o.tenant_id
WHERE CASE WHEN (SELECT pg_catalog.pg_has_role('failsafe_operator', 'USAGE')) THEN true
	ELSE o.tenant_id = (SELECT failsafe._tenant_id()) END;
COMMENT ON VIEW failsafe.events IS
'Events of the session''s tenant, as long as they are kept; members of failsafe_operator see those of all tenants.';
COMMENT ON COLUMN failsafe.events.lane IS
'0: priority 0 (money), 1: 1 to 4, 2: 5 to 8, 3: 9; numbers and order are per lane';
COMMENT ON COLUMN failsafe.events.seq IS
'number in the lane; gaps are normal, and a smaller one can become visible later';
COMMENT ON COLUMN failsafe.events.envelope IS
'the complete event as a consumer gets it: event_id, event_type, schema_version, occurred_at, tenant, region and trace_id where set, then the payload';
COMMENT ON COLUMN failsafe.events.order_key IS
'events of one key are delivered in the order of their numbers';

CREATE FUNCTION failsafe.outbox_get(event_id uuid, options jsonb DEFAULT NULL)
RETURNS SETOF failsafe.events
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
	PERFORM failsafe._options_none(options);
	PERFORM failsafe._wait_durable_all();
	RETURN QUERY
		SELECT e.*
		FROM failsafe._event_position(outbox_get.event_id) AS p
		JOIN failsafe.events AS e ON e.seq = p.seq AND e.lane = p.lane
		WHERE e.event_id = outbox_get.event_id;
END
$body$;
COMMENT ON FUNCTION failsafe.outbox_get(uuid, jsonb) IS
'The event with this id, as failsafe.events shows it; no row where it is unknown, of another tenant, or no longer kept.';

COMMENT ON TABLE failsafe.outbox IS
'Events: four lanes by priority, a ring of sixteen leaves each. Written once, never updated; a leaf is emptied as a whole when its events are old enough. The stored payload, of wallet events too, leaves out the envelope that other columns hold: failsafe.events and what is delivered have it all.';
COMMENT ON COLUMN failsafe.outbox.seq IS 'number in the lane, drawn after the transaction has its id';
COMMENT ON COLUMN failsafe.outbox.journal_id IS 'the transaction that it tells about; NULL: an application''s event';
COMMENT ON COLUMN failsafe.outbox.deliver_after IS 'NULL: at once';
COMMENT ON COLUMN failsafe.outbox.expires_at IS 'not delivered later than this; NULL: never expires';
COMMENT ON COLUMN failsafe.outbox.event_id IS 'UUID version 7 that carries lane and seq; what a consumer tells repeats by';
COMMENT ON COLUMN failsafe.outbox.slot IS 'lane * 16 + leaf';
COMMENT ON COLUMN failsafe.outbox.priority IS '0 (first) to 9 (last)';
COMMENT ON COLUMN failsafe.outbox.payload IS
'the event without its envelope, which other columns hold';
COMMENT ON COLUMN failsafe.outbox.subject IS 'CloudEvents subject';
COMMENT ON COLUMN failsafe.outbox.traceparent IS 'W3C trace context';
COMMENT ON SEQUENCE failsafe.outbox_seq_0 IS 'numbers of lane 0: priority 0';
COMMENT ON SEQUENCE failsafe.outbox_seq_1 IS 'numbers of lane 1: priorities 1 to 4';
COMMENT ON SEQUENCE failsafe.outbox_seq_2 IS 'numbers of lane 2: priorities 5 to 8';
COMMENT ON SEQUENCE failsafe.outbox_seq_3 IS 'numbers of lane 3: priority 9';
DO $comment_leaves$
DECLARE
	leaf regclass;
BEGIN
	FOR leaf IN SELECT inhrelid FROM pg_catalog.pg_inherits
				WHERE inhparent = 'failsafe.outbox'::pg_catalog.regclass LOOP
		EXECUTE pg_catalog.format('COMMENT ON TABLE %s IS %L', leaf,
								  'a leaf of failsafe.outbox: filled for a while, emptied as a whole');
	END LOOP;
END
$comment_leaves$;

-- ==== src/outbox/retention.sql

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

-- ==== src/ledger/tables.sql

-- ledger: accounts, balances, journal, entries, holds.

-- What never changes about an account.
CREATE TABLE failsafe.account (
	id int8 NOT NULL,
	created_at timestamptz NOT NULL,
	actor_id int8 NOT NULL,
	tenant_id int4 NOT NULL,
	code text COLLATE "C" NOT NULL,
	currency text COLLATE "C" NOT NULL,
	kind text NOT NULL,				-- wallet, system
	metadata jsonb NOT NULL
);
CREATE UNIQUE INDEX account_id ON failsafe.account (id);
CREATE UNIQUE INDEX account_code ON failsafe.account (tenant_id, code);
CREATE INDEX account_system ON failsafe.account (id) WHERE kind = 'system';
CREATE SEQUENCE failsafe.account_id_seq OWNED BY failsafe.account.id;

-- What changes under load.  The index is not unique on purpose: under a held snapshot a
-- unique check walks every dead version; account_open() is the only inserter and
-- account_code guards it.
CREATE TABLE failsafe.balance (
	account_id int8 NOT NULL,
	version int8 NOT NULL,			-- number of the account's entries
	recorded_at timestamptz NOT NULL,	-- of the latest entry; never goes back
	next_hold_expiry timestamptz,	-- of the open hold that expires first, or earlier
	status text NOT NULL,			-- open, frozen_out, frozen_all, closed
	posted numeric NOT NULL,
	held numeric NOT NULL,
	floor numeric,					-- NULL: none
	ceiling numeric					-- NULL: none
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX balance_account_id ON failsafe.balance (account_id);
ALTER TABLE failsafe.balance REPLICA IDENTITY FULL;

-- Status and limit changes, append-only.
CREATE TABLE failsafe.account_change (
	id int8 NOT NULL,
	account_id int8 NOT NULL,
	changed_at timestamptz NOT NULL,
	actor_id int8 NOT NULL,
	xid xid8 NOT NULL,
	change text NOT NULL,			-- opened, frozen, unfrozen, closed, limits_changed
	status text NOT NULL,			-- after the change
	floor numeric,					-- after the change
	ceiling numeric,				-- after the change
	reason text
);
CREATE UNIQUE INDEX account_change_id ON failsafe.account_change (id);
CREATE INDEX account_change_account ON failsafe.account_change (account_id, id);
CREATE SEQUENCE failsafe.account_change_id_seq OWNED BY failsafe.account_change.id;

-- One immutable row for every command that had an outcome.
CREATE TABLE failsafe.journal (
	id int8 NOT NULL,				-- t_...
	account_id int8,				-- the account named first; NULL for a posting
	counterparty_id int8,
	hold_id int8,					-- the hold it placed or touched
	reverses int8,					-- journal id
	version int8,					-- of the account, after
	counterparty_version int8,		-- of the counterparty, after; NULL for system accounts
	actor_id int8 NOT NULL,
	xid xid8 NOT NULL,
	recorded_at timestamptz NOT NULL,
	effective_at timestamptz,		-- NULL: recorded_at
	expires_at timestamptz,			-- of the hold, after
	tenant_id int4 NOT NULL,
	command text NOT NULL,			-- debit, credit, transfer, hold, extend, commit, rollback, reverse, post, expire
	status text NOT NULL,			-- committed, held, rolled_back, declined, expired
	code text,						-- of a decline: INSUFFICIENT_FUNDS ...
	key text COLLATE "C",			-- NULL for an expiry
	amount numeric,
	posted numeric,					-- of the account, after
	held numeric,
	available numeric,
	hold_remaining numeric,
	released numeric,				-- held money that this command set free without moving it
	reference text COLLATE "C",
	reason text,
	trace_id text COLLATE "C",
	traceparent text,
	region text,
	metadata jsonb,
	detail json,					-- of a decline
	leg_account_ids int8[],			-- of a posting: its accounts, in the order of the legs
	leg_versions int8[]				-- of a posting: their versions after each leg; 0 for system accounts
);
CREATE UNIQUE INDEX journal_id ON failsafe.journal (id);
CREATE INDEX journal_reference ON failsafe.journal (reference, tenant_id) WHERE reference IS NOT NULL;
CREATE INDEX journal_trace_id ON failsafe.journal (trace_id, tenant_id) WHERE trace_id IS NOT NULL;
CREATE INDEX journal_hold_id ON failsafe.journal (hold_id) WHERE hold_id IS NOT NULL;
CREATE INDEX journal_reverses ON failsafe.journal (reverses) WHERE reverses IS NOT NULL;
CREATE SEQUENCE failsafe.journal_id_seq;

-- The legs.  id = 1024 * journal_id + number of the leg, from 0: it leads to the journal
-- row, whose accounts and versions lead back, so no index has it.  The place of an entry
-- in its account is coalesce(version, id): versions are the order in which a wallet's
-- entries were posted; ids are drawn before its lock is waited for.
CREATE TABLE failsafe.entry (
	id int8 NOT NULL,				-- e_...
	account_id int8 NOT NULL,
	journal_id int8 NOT NULL,
	version int8,					-- 1, 2, 3 ... of the account; NULL for system accounts
	effective_at timestamptz,		-- only where back-dated
	amount numeric NOT NULL,		-- '+' raises posted, '-' lowers it
	posted numeric					-- of the account, after; NULL for system accounts
);
CREATE INDEX entry_account ON failsafe.entry (account_id, (coalesce(version, id)));
CREATE INDEX entry_effective ON failsafe.entry (account_id, effective_at) WHERE effective_at IS NOT NULL;

-- Reserved money.  Rows have no lock of their own: they live under the lock of their
-- account's balance.  id = the journal id of the command that placed the hold.
CREATE TABLE failsafe.hold (
	id int8 NOT NULL,				-- h_...
	account_id int8 NOT NULL,
	counterparty_id int8,			-- where a capture goes unless it says otherwise
	placed_at timestamptz NOT NULL,
	expires_at timestamptz NOT NULL,
	tenant_id int4 NOT NULL,
	status text NOT NULL,			-- open, committed, rolled_back, expired
	amount numeric NOT NULL,		-- reserved at first
	captured numeric NOT NULL,
	released numeric NOT NULL
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX hold_id ON failsafe.hold (id);
CREATE INDEX hold_open ON failsafe.hold (account_id, expires_at) WHERE status = 'open';
CREATE INDEX hold_due ON failsafe.hold (expires_at) WHERE status = 'open';

-- How much of a transaction has been returned; under the lock of its journal row.
CREATE TABLE failsafe.reversible (
	journal_id int8 NOT NULL,
	reversed numeric NOT NULL
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX reversible_journal_id ON failsafe.reversible (journal_id);

-- Balances of system accounts at a point: all entries with id <= entry_id.
CREATE TABLE failsafe.checkpoint (
	account_id int8 NOT NULL,
	entry_id int8 NOT NULL,
	entry_count int8 NOT NULL,
	recorded_from timestamptz NOT NULL,		-- no entry since the checkpoint before is recorded earlier
	recorded_until timestamptz NOT NULL,	-- no entry up to entry_id is recorded later
	taken_at timestamptz NOT NULL,
	posted numeric NOT NULL
);
CREATE UNIQUE INDEX checkpoint_account ON failsafe.checkpoint (account_id, entry_id);

-- What ledger_post() takes an array of.
CREATE TYPE failsafe.leg AS (account text, amount numeric, currency text);

COMMENT ON TABLE failsafe.account IS
'Accounts: what never changes about them. Read failsafe.accounts.';
COMMENT ON COLUMN failsafe.account.kind IS
'wallet: locked, versioned, with limits; system: derived from its entries, never locked';
COMMENT ON TABLE failsafe.balance IS
'What changes about an account under load, one row each. Of a system account only the status is used.';
COMMENT ON COLUMN failsafe.balance.version IS 'number of the account''s entries';
COMMENT ON COLUMN failsafe.balance.posted IS 'sum of the account''s entries, in minor units';
COMMENT ON COLUMN failsafe.balance.held IS
'rest of the holds that are open, in minor units; an expired one counts until its expiry is written';
COMMENT ON COLUMN failsafe.balance.next_hold_expiry IS
'when the open hold that expires first does so, or earlier';
COMMENT ON TABLE failsafe.account_change IS
'Status and limits of accounts as they were changed, with who and why; append-only.';
COMMENT ON SEQUENCE failsafe.account_change_id_seq IS 'ids of account changes';
COMMENT ON SEQUENCE failsafe.account_id_seq IS 'ids of accounts';
COMMENT ON TABLE failsafe.journal IS
'One row for each command that had an outcome, recorded declines and expiries of holds too; append-only. A replay answers from it. Read failsafe.transactions.';
COMMENT ON COLUMN failsafe.journal.key IS 'the idempotency key; NULL for the expiry of a hold';
COMMENT ON COLUMN failsafe.journal.posted IS
'of the account named first, after the command; so are held, available and version';
COMMENT ON COLUMN failsafe.journal.released IS
'held money that the command set free without moving it';
COMMENT ON SEQUENCE failsafe.journal_id_seq IS 'numbers of t_... and h_..., and in 1024 parts of e_...; gaps are normal';
COMMENT ON TABLE failsafe.entry IS
'The legs of transactions, in minor units; append-only. They add up to zero in each currency. Read failsafe.entries.';
COMMENT ON COLUMN failsafe.entry.amount IS '+ raises the account''s posted balance, - lowers it';
COMMENT ON COLUMN failsafe.entry.version IS
'1, 2, 3 ... of a wallet, without gaps; NULL for system accounts';
COMMENT ON COLUMN failsafe.entry.effective_at IS 'where back-dated; else when it was recorded';
COMMENT ON TABLE failsafe.hold IS
'Reserved money. amount = captured + released + what remains; an open hold has a rest.';
COMMENT ON COLUMN failsafe.hold.id IS 'the number of the transaction that placed it';
COMMENT ON COLUMN failsafe.hold.status IS
'open, committed, rolled_back, expired; one that is open and past expires_at reserves nothing';
COMMENT ON TABLE failsafe.reversible IS
'How much of a transaction has been returned by reversals, in minor units; of one with more than two legs 0 or 1.';
COMMENT ON TABLE failsafe.checkpoint IS
'Balances of system accounts at a point: the sum of all entries up to entry_id. Kept so that a balance is read from few entries.';
COMMENT ON TYPE failsafe.leg IS
'A leg of ledger_post(): account, amount in minor units (+ raises posted, - lowers it), currency.';

-- ==== src/ledger/comment.sql

-- ledger: what the tables, sequences and types hold, for \d+ and for those who read the
-- catalogue.

COMMENT ON TABLE failsafe.account IS
'What never changes about an account. Read it through failsafe.accounts.';
COMMENT ON COLUMN failsafe.account.code IS 'unique in its tenant';
COMMENT ON COLUMN failsafe.account.kind IS
'wallet: locked by each movement, versioned; system: never locked, its balance is a checkpoint and the entries after it';
COMMENT ON COLUMN failsafe.account.actor_id IS 'who opened it';
COMMENT ON SEQUENCE failsafe.account_id_seq IS 'ids of accounts';

COMMENT ON TABLE failsafe.balance IS
'What changes about an account: one row each, locked and replaced by every movement of a wallet. The row of a system account keeps its status alone.';
COMMENT ON COLUMN failsafe.balance.version IS 'number of the account''s entries';
COMMENT ON COLUMN failsafe.balance.recorded_at IS 'of the latest entry; never goes back';
COMMENT ON COLUMN failsafe.balance.next_hold_expiry IS
'when the first open hold expires, or earlier; NULL: no open hold';
COMMENT ON COLUMN failsafe.balance.status IS 'open, frozen_out, frozen_all, closed';
COMMENT ON COLUMN failsafe.balance.posted IS 'sum of the account''s entries, minor units';
COMMENT ON COLUMN failsafe.balance.held IS
'sum of the rest of the holds whose row says open, expired ones too until somebody meets them';
COMMENT ON COLUMN failsafe.balance.floor IS 'NULL: none';
COMMENT ON COLUMN failsafe.balance.ceiling IS 'NULL: none';

COMMENT ON TABLE failsafe.account_change IS
'Openings, freezes, closings and changes of limits; append-only. status, floor and ceiling are those after the change. Read it through failsafe.account_changes.';
COMMENT ON COLUMN failsafe.account_change.change IS
'opened, frozen, unfrozen, closed, limits_changed';
COMMENT ON SEQUENCE failsafe.account_change_id_seq IS 'ids of account changes';

COMMENT ON TABLE failsafe.journal IS
'One row for each command that had an outcome, declines and expiries too; append-only. It holds everything that a repeat of the command answers. Read it through failsafe.transactions.';
COMMENT ON COLUMN failsafe.journal.id IS 't_...';
COMMENT ON COLUMN failsafe.journal.account_id IS 'the account named first; NULL: a posting';
COMMENT ON COLUMN failsafe.journal.hold_id IS 'the hold that it placed or touched';
COMMENT ON COLUMN failsafe.journal.reverses IS 'the transaction that it returns';
COMMENT ON COLUMN failsafe.journal.version IS 'of the account, after';
COMMENT ON COLUMN failsafe.journal.counterparty_version IS
'of the counterparty, after; NULL: a system account, or nothing moved';
COMMENT ON COLUMN failsafe.journal.effective_at IS 'NULL: when it was recorded';
COMMENT ON COLUMN failsafe.journal.expires_at IS 'of the hold, after';
COMMENT ON COLUMN failsafe.journal.command IS
'debit, credit, transfer, hold, extend, commit, rollback, reverse, post, expire';
COMMENT ON COLUMN failsafe.journal.status IS
'committed, held, rolled_back, declined, expired';
COMMENT ON COLUMN failsafe.journal.code IS 'of a decline';
COMMENT ON COLUMN failsafe.journal.key IS 'NULL: an expiry';
COMMENT ON COLUMN failsafe.journal.posted IS 'of the account, after; NULL: a system account';
COMMENT ON COLUMN failsafe.journal.released IS 'held money that it set free without moving it';
COMMENT ON COLUMN failsafe.journal.detail IS 'of a decline, as its error would show it';
COMMENT ON COLUMN failsafe.journal.leg_account_ids IS
'of a posting: its accounts, in the order of the legs';
COMMENT ON COLUMN failsafe.journal.leg_versions IS
'of a posting: the versions of its accounts, after each leg; 0: a system account';
COMMENT ON SEQUENCE failsafe.journal_id_seq IS 'ids of transactions; 1024 entry ids belong to each';

COMMENT ON TABLE failsafe.entry IS
'The legs of all transactions; append-only. + raises posted, - lowers it. Read it through failsafe.entries.';
COMMENT ON COLUMN failsafe.entry.id IS 'e_...; 1024 * journal_id + number of the leg, from 0';
COMMENT ON COLUMN failsafe.entry.version IS
'1, 2, 3 ... of the account; NULL: a system account';
COMMENT ON COLUMN failsafe.entry.effective_at IS 'only where back-dated';
COMMENT ON COLUMN failsafe.entry.posted IS 'of the account, after; NULL: a system account';

COMMENT ON TABLE failsafe.hold IS
'Reserved money. A row lives under the lock of its account''s balance and does not change any more once it is not open. Read it through failsafe.hold_list.';
COMMENT ON COLUMN failsafe.hold.id IS 'h_...; the id of the transaction that placed it';
COMMENT ON COLUMN failsafe.hold.counterparty_id IS
'where a capture goes unless it says otherwise';
COMMENT ON COLUMN failsafe.hold.status IS 'open, committed, rolled_back, expired';
COMMENT ON COLUMN failsafe.hold.amount IS 'reserved at first';
COMMENT ON COLUMN failsafe.hold.released IS 'became free without moving';

COMMENT ON TABLE failsafe.reversible IS
'How much of a transaction has been returned; of a posting with more than two legs 1 when it was.';

COMMENT ON TABLE failsafe.checkpoint IS
'Balances of system accounts at a point: the sum of all entries up to entry_id. Made by ledger_checkpoint(); append-only.';
COMMENT ON COLUMN failsafe.checkpoint.entry_count IS 'number of entries up to entry_id';
COMMENT ON COLUMN failsafe.checkpoint.recorded_from IS
'no entry since the checkpoint before is recorded earlier';
COMMENT ON COLUMN failsafe.checkpoint.recorded_until IS
'no entry up to entry_id is recorded later';

COMMENT ON TYPE failsafe.leg IS
'One leg of ledger_post(): account code, signed amount in minor units, currency.';

-- ==== src/ledger/account.sql

-- ledger: accounts.

CREATE TYPE failsafe.account_info AS (
	code text,
	currency text,
	kind text,
	status text,
	floor numeric,
	ceiling numeric,
	created bool,
	metadata jsonb
);
COMMENT ON TYPE failsafe.account_info IS
	'An account as it is now. status: open, frozen_out, frozen_all, closed. floor, ceiling: minor units, NULL = none. created: did this call open it?';

CREATE TYPE failsafe.account_balance_result AS (
	currency text,
	posted numeric,
	held numeric,
	available numeric,
	version int8
);
COMMENT ON TYPE failsafe.account_balance_result IS
	'posted: sum of the entries. held: reserved by open, unexpired holds. available: posted - held - floor, NULL without a floor. version: number of entries, NULL for system accounts. Minor units.';

CREATE FUNCTION failsafe.account_open(
	code text,
	currency text,
	kind text DEFAULT 'wallet',
	floor numeric DEFAULT 0,
	ceiling numeric DEFAULT NULL,
	metadata jsonb DEFAULT '{}',
	options jsonb DEFAULT NULL
) RETURNS failsafe.account_info
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'failsafe_account_open';
COMMENT ON FUNCTION failsafe.account_open(text, text, text, numeric, numeric, jsonb, jsonb) IS
	'Open an account, or return it (created = false) when it exists with the same currency, kind and first limits; else ACCOUNT_CONFLICT. kind: wallet (locked, versioned, with limits) or system (derived, never locked). floor, ceiling: minor units; NULL, -Infinity, Infinity = none.';

CREATE FUNCTION failsafe.account_freeze(
	code text,
	reason text,
	scope text DEFAULT 'out',
	options jsonb DEFAULT NULL
) RETURNS failsafe.account_info
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'failsafe_account_freeze';
COMMENT ON FUNCTION failsafe.account_freeze(text, text, text, jsonb) IS
	'Freeze an account. scope out: no debit, hold or transfer out; money in, captures and releases go on. scope all: only releases. Freezing a system account does not wait for commands in flight. reason is required and kept.';

CREATE FUNCTION failsafe.account_unfreeze(
	code text,
	reason text,
	options jsonb DEFAULT NULL
) RETURNS failsafe.account_info
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'failsafe_account_unfreeze';
COMMENT ON FUNCTION failsafe.account_unfreeze(text, text, jsonb) IS
	'Lift a freeze. reason is required and kept.';

CREATE FUNCTION failsafe.account_close(
	code text,
	reason text,
	options jsonb DEFAULT NULL
) RETURNS failsafe.account_info
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'failsafe_account_close';
COMMENT ON FUNCTION failsafe.account_close(text, text, jsonb) IS
	'Close an account for ever. It must be empty: posted and held zero, else ACCOUNT_NOT_EMPTY. System accounts are not closed. reason is required and kept.';

CREATE FUNCTION failsafe.account_set_limits(
	code text,
	floor numeric,
	ceiling numeric,
	reason text,
	options jsonb DEFAULT NULL
) RETURNS failsafe.account_info
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'failsafe_account_set_limits';
COMMENT ON FUNCTION failsafe.account_set_limits(text, numeric, numeric, text, jsonb) IS
	'Change the limits, in minor units. NULL leaves a limit as it is, -Infinity (floor) and Infinity (ceiling) remove it. A floor above the balance is allowed: available is then negative. reason is required and kept.';

CREATE FUNCTION failsafe.account_balance(
	code text,
	options jsonb DEFAULT NULL
) RETURNS failsafe.account_balance_result
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'failsafe_account_balance';
COMMENT ON FUNCTION failsafe.account_balance(text, jsonb) IS
	'The balance now, in minor units. Works in READ ONLY transactions and on standbys. Rests on durable rows: what it shows cannot be lost by a crash.';

-- ==== src/ledger/command.sql

-- ledger: the commands that move or reserve money.

CREATE TYPE failsafe.wallet_result AS (
	status text,
	transaction_id text,
	entry_id text,
	hold_id text,
	posted numeric,
	held numeric,
	available numeric,
	code text,
	replayed bool,
	amount numeric,
	hold_remaining numeric,
	expires_at timestamptz,
	version int8,
	recorded_at timestamptz,
	idempotency_key text
);
COMMENT ON TYPE failsafe.wallet_result IS
	'The outcome of a command. status: committed, held, rolled_back, declined, refused. posted, held, available, version: of the account named first, after the command; a replay gives the values of the first time. Amounts in minor units. code: why it was declined or refused.';

CREATE FUNCTION failsafe.wallet_debit(
	account text,
	amount numeric,
	currency text,
	idempotency_key text,
	reference text DEFAULT NULL,
	reason text DEFAULT NULL,
	counterparty text DEFAULT NULL,
	on_decline text DEFAULT 'raise',
	metadata jsonb DEFAULT NULL,
	options jsonb DEFAULT NULL
) RETURNS failsafe.wallet_result
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'failsafe_wallet_debit';
COMMENT ON FUNCTION failsafe.wallet_debit(text, numeric, text, text, text, text, text, text, jsonb, jsonb) IS
	'Take amount (minor units) from the account and give it to the counterparty (default: the system account world:CUR). Same key again: the same answer, replayed. on_decline: raise (an error, the key stays free) or record (the decline is the answer for ever). options: expected_version, min_available, effective_at, order_key, deadline, trace_id, traceparent, region. Errors: failsafe.error_codes.';

CREATE FUNCTION failsafe.wallet_credit(
	account text,
	amount numeric,
	currency text,
	idempotency_key text,
	reference text DEFAULT NULL,
	reason text DEFAULT NULL,
	counterparty text DEFAULT NULL,
	on_decline text DEFAULT 'raise',
	metadata jsonb DEFAULT NULL,
	options jsonb DEFAULT NULL
) RETURNS failsafe.wallet_result
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'failsafe_wallet_credit';
COMMENT ON FUNCTION failsafe.wallet_credit(text, numeric, text, text, text, text, text, text, jsonb, jsonb) IS
	'Give amount (minor units) to the account, from the counterparty (default: the system account world:CUR). Otherwise as wallet_debit().';

CREATE FUNCTION failsafe.wallet_transfer(
	from_account text,
	to_account text,
	amount numeric,
	currency text,
	idempotency_key text,
	reference text DEFAULT NULL,
	reason text DEFAULT NULL,
	on_decline text DEFAULT 'raise',
	metadata jsonb DEFAULT NULL,
	options jsonb DEFAULT NULL
) RETURNS failsafe.wallet_result
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'failsafe_wallet_transfer';
COMMENT ON FUNCTION failsafe.wallet_transfer(text, text, numeric, text, text, text, text, text, jsonb, jsonb) IS
	'Move amount (minor units) between two accounts of one currency. The balances returned are from_account''s. Otherwise as wallet_debit().';

CREATE FUNCTION failsafe.wallet_hold(
	account text,
	amount numeric,
	currency text,
	idempotency_key text,
	expires_in interval DEFAULT NULL,
	reference text DEFAULT NULL,
	reason text DEFAULT NULL,
	counterparty text DEFAULT NULL,
	on_decline text DEFAULT 'raise',
	metadata jsonb DEFAULT NULL,
	options jsonb DEFAULT NULL
) RETURNS failsafe.wallet_result
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'failsafe_wallet_hold';
COMMENT ON FUNCTION failsafe.wallet_hold(text, numeric, text, text, interval, text, text, text, text, jsonb, jsonb) IS
	'Reserve amount (minor units) on the account until it is committed, rolled back or expired. expires_in: 1 second to 400 days, NULL = failsafe.hold_expiry. counterparty: where captures go by default. Otherwise as wallet_debit().';

CREATE FUNCTION failsafe.wallet_extend(
	hold text,
	idempotency_key text,
	expires_in interval DEFAULT NULL,
	reason text DEFAULT NULL,
	on_decline text DEFAULT 'raise',
	options jsonb DEFAULT NULL
) RETURNS failsafe.wallet_result
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'failsafe_wallet_extend';
COMMENT ON FUNCTION failsafe.wallet_extend(text, text, interval, text, text, jsonb) IS
	'Let an open hold expire expires_in from now (NULL = failsafe.hold_expiry). hold: h_..., t_..., e_... or key:<the hold''s key>.';

CREATE FUNCTION failsafe.wallet_commit(
	hold text,
	idempotency_key text,
	amount numeric DEFAULT NULL,
	final bool DEFAULT true,
	reference text DEFAULT NULL,
	reason text DEFAULT NULL,
	counterparty text DEFAULT NULL,
	on_decline text DEFAULT 'raise',
	metadata jsonb DEFAULT NULL,
	options jsonb DEFAULT NULL
) RETURNS failsafe.wallet_result
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'failsafe_wallet_commit';
COMMENT ON FUNCTION failsafe.wallet_commit(text, text, numeric, bool, text, text, text, text, jsonb, jsonb) IS
	'Capture amount (minor units; NULL = all that remains) of a hold. final releases the rest; with final => false the rest stays held. hold: h_..., t_..., e_... or key:<the hold''s key>. The money goes to the counterparty named here, else by the hold, else to world:CUR.';

CREATE FUNCTION failsafe.wallet_rollback(
	hold text,
	idempotency_key text,
	reference text DEFAULT NULL,
	reason text DEFAULT NULL,
	on_decline text DEFAULT 'raise',
	metadata jsonb DEFAULT NULL,
	options jsonb DEFAULT NULL
) RETURNS failsafe.wallet_result
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'failsafe_wallet_rollback';
COMMENT ON FUNCTION failsafe.wallet_rollback(text, text, text, text, text, jsonb, jsonb) IS
	'Release what remains of a hold. An expired or released hold: rolled_back with amount 0; one that was captured in full: declined. hold: h_..., t_..., e_... or key:<the hold''s key>.';

CREATE FUNCTION failsafe.wallet_reverse(
	transaction text,
	idempotency_key text,
	amount numeric DEFAULT NULL,
	reference text DEFAULT NULL,
	reason text DEFAULT NULL,
	on_decline text DEFAULT 'raise',
	metadata jsonb DEFAULT NULL,
	options jsonb DEFAULT NULL
) RETURNS failsafe.wallet_result
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'failsafe_wallet_reverse';
COMMENT ON FUNCTION failsafe.wallet_reverse(text, text, numeric, text, text, text, jsonb, jsonb) IS
	'Return amount (minor units; NULL = all that is left) of a committed transaction, by a new transaction. All reversals together never exceed what was moved. transaction: t_..., e_... or key:<its key>. More than two legs are reversed whole; a reversal cannot be reversed; a hold is voided by wallet_rollback().';

CREATE FUNCTION failsafe.ledger_post(
	legs failsafe.leg[],
	idempotency_key text,
	reference text DEFAULT NULL,
	reason text DEFAULT NULL,
	on_decline text DEFAULT 'raise',
	metadata jsonb DEFAULT NULL,
	options jsonb DEFAULT NULL
) RETURNS failsafe.wallet_result
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'failsafe_ledger_post';
COMMENT ON FUNCTION failsafe.ledger_post(failsafe.leg[], text, text, text, text, jsonb, jsonb) IS
	'Post 2 to 1000 legs at once: (account, amount, currency), amount signed in minor units, + raises posted. The legs of each currency add up to zero. Limits are judged by the net of each account.';

CREATE FUNCTION failsafe.wallet_command(command json) RETURNS json
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'failsafe_wallet_command';
COMMENT ON FUNCTION failsafe.wallet_command(json) IS
	'One command as JSON: {"command":"debit","account":...,"amount":...,"currency":...,"idempotency_key":...}; members are named as the arguments of the SQL functions. Answers the gateway''s body; a decline is recorded unless on_decline is raise; bad input is answered as refused.';

CREATE FUNCTION failsafe.wallet_http(
	command json,
	OUT http_status int4,
	OUT replayed bool,
	OUT body json
)
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'failsafe_wallet_http';
COMMENT ON FUNCTION failsafe.wallet_http(json) IS
	'wallet_command() for a gateway: the HTTP status, whether the answer is a replay, and the body, which is the same byte for byte each time a key is used.';

CREATE FUNCTION failsafe.wallet_batch(
	commands json,
	atomic bool DEFAULT false,
	options jsonb DEFAULT NULL
) RETURNS TABLE (
	n int4,
	status text,
	transaction_id text,
	entry_id text,
	hold_id text,
	posted numeric,
	held numeric,
	available numeric,
	code text,
	replayed bool,
	amount numeric,
	hold_remaining numeric,
	expires_at timestamptz,
	version int8,
	recorded_at timestamptz,
	idempotency_key text
)
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'failsafe_wallet_batch';
COMMENT ON FUNCTION failsafe.wallet_batch(json, bool, jsonb) IS
	'Up to 10000 commands in one call, in order; each sees the ones before it. A row for each, n from 0; all is done before the first row is returned. atomic => false: one bad command does not touch the others, declines are recorded. atomic => true: the first failure is raised, with its index, and nothing has happened.';

CREATE FUNCTION failsafe.holds_sweep(max_rows int4 DEFAULT 1000) RETURNS int4
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'failsafe_holds_sweep';
COMMENT ON FUNCTION failsafe.holds_sweep(int4) IS
	'Write the expiry of at most max_rows (1 to 10000) holds whose time is over; returns how many. Balances never depend on it: an expired hold reserves nothing, swept or not.';

-- ==== src/ledger/report.sql

-- ledger: what the reports share.  Reports are VOLATILE, so that a statement sees the
-- effect of the command before it; the internal functions below them are STABLE, so
-- that everything one of them reads comes from the snapshot of the statement that
-- called it.

CREATE FUNCTION failsafe._raise(name text, subject text, member text, value text)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'failsafe_report_raise';
COMMENT ON FUNCTION failsafe._raise(text, text, text, text) IS
'Raises the error of the catalogue that has this name. The subject ends the message, member and value go into DETAIL.';

CREATE FUNCTION failsafe._event_type_enabled(event_type text) RETURNS bool
LANGUAGE C STABLE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'failsafe_event_type_enabled';
COMMENT ON FUNCTION failsafe._event_type_enabled(text) IS
'Does failsafe.event_types let this type through now?';

-- Settings exist in a session once the library is loaded, so they are asked from C.
CREATE FUNCTION failsafe._event_retention() RETURNS interval
LANGUAGE C STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'failsafe_event_retention';
COMMENT ON FUNCTION failsafe._event_retention() IS
'How long events are kept: failsafe.event_retention.';

CREATE FUNCTION failsafe._next_xid() RETURNS xid8
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'failsafe_next_xid';
COMMENT ON FUNCTION failsafe._next_xid() IS
'The transaction id that will be assigned next; every running writer has a smaller one.';

-- The role that the caller acts as.  Inside a SECURITY DEFINER function CURRENT_USER is
-- the owner; the setting "role" still tells what SET ROLE chose.
CREATE FUNCTION failsafe._is_operator() RETURNS bool
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT coalesce(bool_or(pg_has_role(caller.name, privileged.oid, 'USAGE')), false)
FROM (SELECT CASE current_setting('role') WHEN 'none' THEN SESSION_USER::text
				  ELSE current_setting('role') END::name AS name) AS caller,
	 pg_roles AS privileged
WHERE privileged.rolname = 'failsafe_operator'
$body$;
COMMENT ON FUNCTION failsafe._is_operator() IS
'Does the caller act as a member of failsafe_operator, or as a superuser?';

CREATE FUNCTION failsafe._report_tenants() RETURNS int4[]
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
	IF failsafe._is_operator() THEN
		RETURN ARRAY(SELECT t.id FROM failsafe.tenant AS t);
	END IF;
	RETURN ARRAY[failsafe._tenant_id()];
END
$body$;
COMMENT ON FUNCTION failsafe._report_tenants() IS
'The tenants that the caller may see: the session''s own, for operators all.';

CREATE FUNCTION failsafe._options_check(options jsonb, VARIADIC known text[] DEFAULT '{}')
RETURNS void
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
	member text;
BEGIN
	IF options IS NULL THEN
		RETURN;
	END IF;
	IF jsonb_typeof(options) <> 'object' THEN
		PERFORM failsafe._raise('OPTION_INVALID', 'options', 'field', 'options');
	END IF;
	FOR member IN SELECT jsonb_object_keys(options) LOOP
		IF member <> ALL (known) THEN
			PERFORM failsafe._raise('OPTION_INVALID', member, 'field', member);
		END IF;
	END LOOP;
END
$body$;
COMMENT ON FUNCTION failsafe._options_check(jsonb, text[]) IS
'Refuses options that are no object or have a member that is not known.';

-- One option as text; the cast to what it must be is guarded, so that a wrong value
-- is refused by the option's name.
CREATE FUNCTION failsafe._option_int8(options jsonb, member text, lowest int8, highest int8,
									  preset int8)
RETURNS int8
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
	given jsonb := options -> member;
BEGIN
	IF given IS NULL THEN
		RETURN preset;
	END IF;
	IF jsonb_typeof(given) <> 'number' OR given::numeric <> trunc(given::numeric)
	   OR given::numeric NOT BETWEEN lowest AND highest THEN
		PERFORM failsafe._raise('OPTION_INVALID', member, 'field', member);
	END IF;
	RETURN given::numeric::int8;
END
$body$;
COMMENT ON FUNCTION failsafe._option_int8(jsonb, text, int8, int8, int8) IS
'A whole number from the options, between lowest and highest, or the preset.';

CREATE FUNCTION failsafe._option_bool(options jsonb, member text)
RETURNS bool
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
	IF options -> member IS NULL THEN
		RETURN false;
	END IF;
	IF jsonb_typeof(options -> member) <> 'boolean' THEN
		PERFORM failsafe._raise('OPTION_INVALID', member, 'field', member);
	END IF;
	RETURN (options -> member)::bool;
END
$body$;
COMMENT ON FUNCTION failsafe._option_bool(jsonb, text) IS
'A boolean from the options; false where it is absent.';

CREATE FUNCTION failsafe._option_time(options jsonb, member text)
RETURNS timestamptz
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
	RETURN (options ->> member)::timestamptz;
EXCEPTION WHEN data_exception THEN
	PERFORM failsafe._raise('OPTION_INVALID', member, 'field', member);
END
$body$;
COMMENT ON FUNCTION failsafe._option_time(jsonb, text) IS
'A time from the options; NULL where it is absent.';

CREATE FUNCTION failsafe._require(field text, value text) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
	IF value IS NULL THEN
		PERFORM failsafe._raise('VALUE_REQUIRED', field, 'field', field);
	END IF;
END
$body$;
COMMENT ON FUNCTION failsafe._require(text, text) IS
'Refuses a NULL where a value is needed.';

-- t_12 with prefix t -> 12.  NULL for everything that is no such id.
CREATE FUNCTION failsafe._id_number(prefix text, id text) RETURNS int8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT CASE WHEN id ~ '^[a-z]_[1-9][0-9]{0,18}$' AND left(id, 2) = prefix || '_'
			THEN CASE WHEN substr(id, 3)::numeric <= 9223372036854775807
					  THEN substr(id, 3)::int8 END END
$body$;
COMMENT ON FUNCTION failsafe._id_number(text, text) IS
'The number of an id with this prefix, NULL when the text is none.';

CREATE FUNCTION failsafe._account_find(code text) RETURNS failsafe.account
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
	tenant int4 := failsafe._tenant_id();
	found_account failsafe.account;
BEGIN
	PERFORM failsafe._require('code', code);
	SELECT * INTO found_account
	FROM failsafe.account AS a
	WHERE a.tenant_id = tenant AND a.code = _account_find.code;
	IF found_account.id IS NULL THEN
		PERFORM failsafe._raise('ACCOUNT_UNKNOWN', code, 'account', code);
	END IF;
	RETURN found_account;
END
$body$;
COMMENT ON FUNCTION failsafe._account_find(text) IS
'The account of the session''s tenant that has this code. Raises ACCOUNT_UNKNOWN.';

-- An entry id is 1024 times its journal id plus the number of its leg.
CREATE FUNCTION failsafe._transaction_find(designator text, tenants int4[]) RETURNS int8
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT j.id
FROM failsafe.journal AS j
WHERE j.tenant_id = ANY (tenants)
  AND j.id = CASE
	WHEN starts_with(designator, 'key:') THEN
		(SELECT k.journal_id FROM failsafe.idempotency_key AS k
		 WHERE k.tenant_id = ANY (tenants) AND k.key = substr(designator, 5)
		 ORDER BY k.journal_id LIMIT 1)
	WHEN starts_with(designator, 'e_') THEN failsafe._id_number('e', designator) / 1024
	ELSE failsafe._id_number('t', designator)
	END
  AND (NOT starts_with(designator, 'e_')
	   OR j.status = 'committed'
		  AND failsafe._id_number('e', designator) % 1024
			  < coalesce(cardinality(j.leg_account_ids), 2))
$body$;
COMMENT ON FUNCTION failsafe._transaction_find(text, int4[]) IS
'The journal id behind t_..., e_... or key:..., NULL when there is none in these tenants.';

-- The legs that a transaction names: a posting lists their accounts and versions, any
-- other movement has leg 0 on its account and leg 1 on its counterparty.
CREATE FUNCTION failsafe._transaction_legs(
	id int8, status text, account_id int8, version int8, counterparty_id int8,
	counterparty_version int8, leg_account_ids int8[], leg_versions int8[])
RETURNS TABLE (leg_number int8, leg_entry_id int8, leg_account_id int8, leg_place int8)
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $body$
SELECT leg.number - 1, 1024 * id + leg.number - 1, leg.account_id,
	   coalesce(nullif(leg.version, 0), 1024 * id + leg.number - 1)
FROM unnest(leg_account_ids, leg_versions) WITH ORDINALITY AS leg (account_id, version, number)
UNION ALL
SELECT 0, 1024 * id, account_id, coalesce(version, 1024 * id)
WHERE leg_account_ids IS NULL AND status = 'committed'
UNION ALL
SELECT 1, 1024 * id + 1, counterparty_id, coalesce(counterparty_version, 1024 * id + 1)
WHERE leg_account_ids IS NULL AND status = 'committed'
$body$;
COMMENT ON FUNCTION failsafe._transaction_legs(int8, text, int8, int8, int8, int8, int8[], int8[]) IS
'The legs of a journal row: the id, the account and the place in the account of each entry.';

CREATE FUNCTION failsafe._actor_label(actor_id int8) RETURNS text
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT a.session_user_name
	   || CASE WHEN a.role_name <> a.session_user_name THEN ' as ' || a.role_name ELSE '' END
	   || coalesce(' from ' || a.client_address, '')
	   || CASE WHEN a.application_name <> '' THEN ' (' || a.application_name || ')' ELSE '' END
FROM failsafe.actor AS a
WHERE a.id = actor_id
$body$;
COMMENT ON FUNCTION failsafe._actor_label(int8) IS
'Who did it, in words: session user, role, client address, application.';

-- ==== src/ledger/read.sql

-- ledger: balances at a time, statements, holds, the state of a key.

-- Everything recorded before the returned time is visible to a snapshot that is taken
-- from now on.  A writer reads the clock only after it has locked its key and its
-- balances, and it holds RowExclusiveLock on these tables until its transaction ends.
-- So a writer that is not listed here reads the clock after us, and one that is listed
-- did not read it before its transaction began.  A prepared transaction does not tell
-- when it began, a fixed snapshot may be older than the list, and a standby does not
-- know the writers of the primary: then nothing is certain [F32].
CREATE FUNCTION failsafe._recorded_horizon() RETURNS timestamptz
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
	asked_at timestamptz := clock_timestamp();
	oldest timestamptz;
BEGIN
	IF pg_is_in_recovery() OR current_setting('transaction_isolation') <> 'read committed' THEN
		RETURN '-infinity';
	END IF;

	-- the list of sessions is kept for a whole transaction unless it is dropped
	PERFORM pg_stat_clear_snapshot();
	SELECT min(coalesce(session.xact_start, '-infinity')) INTO oldest
	FROM pg_locks AS writer
	LEFT JOIN pg_stat_activity AS session ON session.pid = writer.pid
	WHERE writer.locktype = 'relation' AND writer.mode = 'RowExclusiveLock' AND writer.granted
	  AND writer.database = (SELECT d.oid FROM pg_database AS d
							 WHERE d.datname = current_database())
	  AND writer.relation IN ('failsafe.idempotency_key'::regclass, 'failsafe.journal'::regclass,
							  'failsafe.balance'::regclass, 'failsafe.entry'::regclass)
	  AND writer.pid IS DISTINCT FROM pg_backend_pid();
	RETURN least(asked_at, oldest);
END
$body$;
COMMENT ON FUNCTION failsafe._recorded_horizon() IS
'No entry that a later snapshot does not see can be recorded before this time; -infinity where that is not known.';

-- Within a wallet versions and recording times have the same order, so the last entry of
-- a time is found by bisection: about as many probes as the version has bits.
CREATE FUNCTION failsafe._wallet_version_at(account_id int8, at timestamptz) RETURNS int8
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
	found_version int8 := 0;	-- recorded at or before the time
	low int8 := 0;				-- nothing above it up to here is later than the time
	high int8;					-- everything from here on is later than the time
	middle int8;
	probe record;
BEGIN
	SELECT e.version INTO high
	FROM failsafe.entry AS e
	WHERE e.account_id = _wallet_version_at.account_id
	ORDER BY coalesce(e.version, e.id) DESC LIMIT 1;
	high := coalesce(high, 0) + 1;
	middle := high - 1;

	WHILE high - low > 1 LOOP
		SELECT e.version, j.recorded_at INTO probe
		FROM failsafe.entry AS e
		JOIN failsafe.journal AS j ON j.id = e.journal_id
		WHERE e.account_id = _wallet_version_at.account_id
		  AND coalesce(e.version, e.id) > low AND coalesce(e.version, e.id) <= middle
		ORDER BY coalesce(e.version, e.id) DESC LIMIT 1;

		IF NOT FOUND THEN
			low := middle;
		ELSIF probe.recorded_at <= at THEN
			found_version := probe.version;
			low := middle;
		ELSE
			high := probe.version;
		END IF;
		middle := low + (high - low) / 2;
	END LOOP;
	RETURN found_version;
END
$body$;
COMMENT ON FUNCTION failsafe._wallet_version_at(int8, timestamptz) IS
'The version of the wallet''s last entry recorded at or before the time, 0 when there is none.';

CREATE FUNCTION failsafe._wallet_balance_at(account_id int8, at timestamptz, effective bool,
											OUT posted numeric, OUT version int8)
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
	last_version int8 := failsafe._wallet_version_at(account_id, at);
BEGIN
	SELECT e.posted INTO posted
	FROM failsafe.entry AS e
	WHERE e.account_id = _wallet_balance_at.account_id
	  AND coalesce(e.version, e.id) = last_version;
	posted := coalesce(posted, 0);
	version := last_version;

	-- An entry is never effective later than recorded, so the entries recorded by then
	-- all count, and those recorded later count where they were back-dated far enough.
	IF effective THEN
		version := NULL;
		posted := posted + coalesce(
			(SELECT sum(e.amount) FROM failsafe.entry AS e
			 WHERE e.account_id = _wallet_balance_at.account_id
			   AND e.effective_at <= at AND e.version > last_version), 0);
	END IF;
END
$body$;
COMMENT ON FUNCTION failsafe._wallet_balance_at(int8, timestamptz, bool) IS
'The posted balance of a wallet at a time, and its version then.';

-- The entry ids of a system account that may lie in [since, until], in windows between
-- checkpoints.  Ids and times of a system account do not have the same order, so a
-- window says what it may hold, and the last one, after all checkpoints, always counts.
CREATE FUNCTION failsafe._system_windows(account_id int8, since timestamptz, until timestamptz)
RETURNS TABLE (after_id int8, last_id int8)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
WITH checkpoints AS (
	SELECT coalesce(lag(c.entry_id) OVER (ORDER BY c.entry_id), 0) AS after_id,
		   c.entry_id AS last_id, c.recorded_from, c.recorded_until
	FROM failsafe.checkpoint AS c
	WHERE c.account_id = _system_windows.account_id
)
SELECT c.after_id, c.last_id
FROM checkpoints AS c
WHERE c.recorded_until >= since AND c.recorded_from <= until
UNION ALL
SELECT coalesce(max(c.last_id), 0), 9223372036854775807
FROM checkpoints AS c
$body$;
COMMENT ON FUNCTION failsafe._system_windows(int8, timestamptz, timestamptz) IS
'Ranges of entry ids (after_id, last_id] that hold every entry of the system account recorded between the two times.';

CREATE FUNCTION failsafe._system_balance_at(account_id int8, at timestamptz, effective bool)
RETURNS numeric
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
	base_id int8;
	base_posted numeric;
	later numeric;
	back_dated numeric := 0;
BEGIN
	SELECT c.entry_id, c.posted INTO base_id, base_posted
	FROM failsafe.checkpoint AS c
	WHERE c.account_id = _system_balance_at.account_id AND c.recorded_until <= at
	ORDER BY c.entry_id DESC LIMIT 1;
	base_id := coalesce(base_id, 0);

	SELECT sum(e.amount) INTO later
	FROM failsafe._system_windows(account_id, '-infinity', at) AS w
	JOIN failsafe.entry AS e ON e.account_id = _system_balance_at.account_id
		AND coalesce(e.version, e.id) > w.after_id AND coalesce(e.version, e.id) <= w.last_id
	JOIN failsafe.journal AS j ON j.id = e.journal_id
	WHERE w.last_id > base_id AND j.recorded_at <= at;

	IF effective THEN
		SELECT sum(e.amount) INTO back_dated
		FROM failsafe.entry AS e
		JOIN failsafe.journal AS j ON j.id = e.journal_id
		WHERE e.account_id = _system_balance_at.account_id
		  AND e.effective_at <= at AND j.recorded_at > at;
	END IF;
	RETURN coalesce(base_posted, 0) + coalesce(later, 0) + coalesce(back_dated, 0);
END
$body$;
COMMENT ON FUNCTION failsafe._system_balance_at(int8, timestamptz, bool) IS
'The posted balance of a system account at a time: a checkpoint and the entries after it.';

CREATE FUNCTION failsafe.account_balance_at(
	code text, at timestamptz, by text DEFAULT 'recorded', options jsonb DEFAULT NULL)
RETURNS TABLE (currency text, posted numeric, version int8, final bool)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
#variable_conflict use_column
DECLARE
	effective bool := account_balance_at.by = 'effective';
	horizon timestamptz;
	asked failsafe.account;
BEGIN
	PERFORM failsafe._options_check(options);
	PERFORM failsafe._require('at', account_balance_at.at::text);
	IF account_balance_at.by IS NULL OR account_balance_at.by NOT IN ('recorded', 'effective') THEN
		PERFORM failsafe._raise('OPTION_INVALID', 'by', 'field', 'by');
	END IF;
	asked := failsafe._account_find(account_balance_at.code);

	-- first the horizon, then the snapshot that must see everything before it
	horizon := failsafe._recorded_horizon();
	currency := asked.currency;
	IF asked.kind = 'system' THEN
		SELECT failsafe._system_balance_at(asked.id, account_balance_at.at, effective)
		INTO posted;
	ELSE
		SELECT b.posted, b.version
		FROM failsafe._wallet_balance_at(asked.id, account_balance_at.at, effective) AS b
		INTO posted, version;
	END IF;
	final := NOT effective AND account_balance_at.at < horizon;
	PERFORM failsafe._wait_durable_all();
	RETURN NEXT;
END
$body$;
COMMENT ON FUNCTION failsafe.account_balance_at(text, timestamptz, text, jsonb) IS
'The posted balance of an account at a time, in minor units.
by: recorded (what the books said then) or effective (with entries that were back-dated to then later on).
version: number of the account''s entries then; NULL for system accounts and by effective time.
final: no command can change the answer any more. False while a transaction that began at or before the time may still write; always false by effective time, on a standby, under REPEATABLE READ, SERIALIZABLE and while a prepared transaction of the ledger waits.
Errors: ACCOUNT_UNKNOWN, VALUE_REQUIRED, OPTION_INVALID.';

CREATE FUNCTION failsafe._statement_windows(account_id int8, kind text, since timestamptz,
											until timestamptz)
RETURNS TABLE (after_place int8, last_place int8)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT w.after_id, w.last_id
FROM failsafe._system_windows(account_id, since, until) AS w
WHERE kind = 'system'
UNION ALL
SELECT failsafe._wallet_version_at(account_id, since - interval '1 microsecond'),
	   failsafe._wallet_version_at(account_id, until - interval '1 microsecond')
WHERE kind <> 'system'
$body$;
COMMENT ON FUNCTION failsafe._statement_windows(int8, text, timestamptz, timestamptz) IS
'Ranges of places (after_place, last_place] that hold every entry of the account recorded between the two times. The place of an entry is its version in a wallet, its id in a system account.';

-- The places of one page, in its order, at most max_rows of them.
CREATE FUNCTION failsafe._statement_page(account_id int8, kind text, since timestamptz,
										 until timestamptz, max_rows int4, after_place int8,
										 descending bool)
RETURNS SETOF int8
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
	above int8 := CASE WHEN descending THEN 0 ELSE coalesce(after_place, 0) END;
	below int8 := CASE WHEN descending THEN coalesce(after_place, 9223372036854775807)
					   ELSE 9223372036854775807 END;
	part record;
	row_count int8;
	missing int8 := max_rows;
BEGIN
	FOR part IN
		SELECT greatest(w.after_place, above) AS low, w.last_place AS high
		FROM failsafe._statement_windows(account_id, kind, since, until) AS w
		WHERE w.last_place > above AND w.after_place < below
		ORDER BY CASE WHEN descending THEN - w.after_place ELSE w.after_place END
	LOOP
		IF descending THEN
			RETURN QUERY
				SELECT coalesce(e.version, e.id)
				FROM failsafe.entry AS e JOIN failsafe.journal AS j ON j.id = e.journal_id
				WHERE e.account_id = _statement_page.account_id
				  AND coalesce(e.version, e.id) > part.low
				  AND coalesce(e.version, e.id) <= part.high AND coalesce(e.version, e.id) < below
				  AND j.recorded_at >= since AND j.recorded_at < until
				ORDER BY coalesce(e.version, e.id) DESC LIMIT missing;
		ELSE
			RETURN QUERY
				SELECT coalesce(e.version, e.id)
				FROM failsafe.entry AS e JOIN failsafe.journal AS j ON j.id = e.journal_id
				WHERE e.account_id = _statement_page.account_id
				  AND coalesce(e.version, e.id) > part.low
				  AND coalesce(e.version, e.id) <= part.high
				  AND j.recorded_at >= since AND j.recorded_at < until
				ORDER BY coalesce(e.version, e.id) LIMIT missing;
		END IF;
		GET DIAGNOSTICS row_count = ROW_COUNT;
		missing := missing - row_count;
		EXIT WHEN missing = 0;
	END LOOP;
END
$body$;
COMMENT ON FUNCTION failsafe._statement_page(int8, text, timestamptz, timestamptz, int4, int8, bool) IS
'The places of the entries of one page of a statement.';

CREATE FUNCTION failsafe._entry_place(account_id int8, entry_id int8) RETURNS int8
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT leg.leg_place
FROM failsafe.journal AS j
CROSS JOIN LATERAL failsafe._transaction_legs(j.id, j.status, j.account_id, j.version,
			j.counterparty_id, j.counterparty_version, j.leg_account_ids, j.leg_versions) AS leg
WHERE j.id = _entry_place.entry_id / 1024 AND leg.leg_entry_id = _entry_place.entry_id
  AND leg.leg_account_id = _entry_place.account_id
$body$;
COMMENT ON FUNCTION failsafe._entry_place(int8, int8) IS
'The place of an entry in this account; NULL when it is none of its entries.';

CREATE FUNCTION failsafe.account_statement(
	code text, since timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL,
	max_rows int4 DEFAULT 100, after text DEFAULT NULL, options jsonb DEFAULT NULL)
RETURNS TABLE (entry_id text, transaction_id text, recorded_at timestamptz,
			   effective_at timestamptz, command text, amount numeric, posted numeric,
			   version int8, counterparty text, reference text, reason text,
			   idempotency_key text, hold_id text, reverses text, trace_id text, metadata jsonb)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
#variable_conflict use_column
DECLARE
	row_order text := coalesce(options ->> 'order', 'asc');
	after_place int8;
	asked failsafe.account;
BEGIN
	PERFORM failsafe._options_check(options, 'order');
	IF row_order NOT IN ('asc', 'desc') THEN
		PERFORM failsafe._raise('OPTION_INVALID', 'order', 'field', 'order');
	END IF;
	PERFORM failsafe._require('max_rows', max_rows::text);
	IF max_rows NOT BETWEEN 1 AND 10000 THEN
		PERFORM failsafe._raise('OPTION_INVALID', 'max_rows', 'field', 'max_rows');
	END IF;
	asked := failsafe._account_find(account_statement.code);
	after_place := failsafe._entry_place(asked.id, failsafe._id_number('e', account_statement.after));
	IF account_statement.after IS NOT NULL AND after_place IS NULL THEN
		PERFORM failsafe._raise('OPTION_INVALID', 'after', 'field', 'after');
	END IF;

	RETURN QUERY
		SELECT 'e_' || e.id, 't_' || j.id, j.recorded_at,
			   coalesce(e.effective_at, j.recorded_at), j.command, e.amount, e.posted,
			   e.version, other.code, j.reference, j.reason, j.key, 'h_' || j.hold_id,
			   't_' || j.reverses, j.trace_id, j.metadata
		FROM failsafe._statement_page(asked.id, asked.kind,
				coalesce(account_statement.since, '-infinity'),
				coalesce(account_statement.until, 'infinity'),
				max_rows, after_place, row_order = 'desc') WITH ORDINALITY AS page (place, number)
		JOIN failsafe.entry AS e ON e.account_id = asked.id
			AND coalesce(e.version, e.id) = page.place
		JOIN failsafe.journal AS j ON j.id = e.journal_id
		LEFT JOIN failsafe.account AS other
			ON other.id = CASE j.account_id WHEN asked.id THEN j.counterparty_id
							ELSE j.account_id END
		ORDER BY page.number;
	PERFORM failsafe._wait_durable_all();
END
$body$;
COMMENT ON FUNCTION failsafe.account_statement(text, timestamptz, timestamptz, int4, text, jsonb) IS
'The entries of an account, recorded at or after since and before until (NULL: no bound). A wallet''s are in the order of their versions, a system account''s in that of their ids: about the order in which their transactions began. Holds move nothing and are not listed.
max_rows: 1 to 10000. after: the entry_id of the last row of the page before; another account''s is refused.
options: order (asc or desc).
amount and posted are minor units, + raises posted. posted and version are NULL for system accounts. counterparty is NULL where a posting has more than two legs.
Errors: ACCOUNT_UNKNOWN, VALUE_REQUIRED, OPTION_INVALID.';

-- A hold as its holder sees it: an open hold whose time is over counts as expired,
-- whether or not its expiry has been written yet.
CREATE FUNCTION failsafe._hold_rows(hold_ids int8[])
RETURNS TABLE (hold_id text, account text, currency text, status text, amount numeric,
			   captured numeric, released numeric, remaining numeric, counterparty text,
			   placed_at timestamptz, expires_at timestamptz, reference text, reason text,
			   idempotency_key text, metadata jsonb)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT 'h_' || h.id, a.code, a.currency,
	   CASE WHEN over.is_over THEN 'expired' ELSE h.status END,
	   h.amount, h.captured,
	   CASE WHEN over.is_over THEN h.amount - h.captured ELSE h.released END,
	   CASE WHEN h.status = 'open' AND NOT over.is_over
			THEN h.amount - h.captured - h.released ELSE 0 END,
	   destination.code, h.placed_at, h.expires_at, j.reference, j.reason, j.key, j.metadata
FROM unnest(hold_ids) AS wanted (id)
JOIN failsafe.hold AS h ON h.id = wanted.id
JOIN failsafe.account AS a ON a.id = h.account_id
JOIN failsafe.journal AS j ON j.id = h.id
LEFT JOIN failsafe.account AS destination ON destination.id = h.counterparty_id
CROSS JOIN LATERAL (SELECT h.status = 'open' AND h.expires_at <= clock_timestamp()) AS over (is_over)
ORDER BY h.id
$body$;
COMMENT ON FUNCTION failsafe._hold_rows(int8[]) IS
'The holds with these numbers, as they are at this moment.';

CREATE FUNCTION failsafe.holds(account text, options jsonb DEFAULT NULL)
RETURNS TABLE (hold_id text, currency text, status text, amount numeric, captured numeric,
			   released numeric, remaining numeric, counterparty text, placed_at timestamptz,
			   expires_at timestamptz, reference text, reason text, idempotency_key text,
			   metadata jsonb)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
#variable_conflict use_column
DECLARE
	row_limit int8;
	after_id int8;
	asked failsafe.account;
BEGIN
	PERFORM failsafe._options_check(options, 'max_rows', 'after');
	row_limit := failsafe._option_int8(options, 'max_rows', 1, 10000, 1000);
	after_id := failsafe._id_number('h', options ->> 'after');
	IF options ->> 'after' IS NOT NULL AND after_id IS NULL THEN
		PERFORM failsafe._raise('OPTION_INVALID', 'after', 'field', 'after');
	END IF;
	PERFORM failsafe._require('account', holds.account);
	asked := failsafe._account_find(holds.account);

	RETURN QUERY
		SELECT r.hold_id, r.currency, r.status, r.amount, r.captured, r.released, r.remaining,
			   r.counterparty, r.placed_at, r.expires_at, r.reference, r.reason,
			   r.idempotency_key, r.metadata
		FROM failsafe._hold_rows(ARRAY(
				SELECT h.id FROM failsafe.hold AS h
				WHERE h.account_id = asked.id AND h.status = 'open'
				  AND h.expires_at > clock_timestamp() AND h.id > coalesce(after_id, 0)
				ORDER BY h.id LIMIT row_limit)) AS r
		WHERE r.status = 'open';
	PERFORM failsafe._wait_durable_all();
END
$body$;
COMMENT ON FUNCTION failsafe.holds(text, jsonb) IS
'The holds of an account that are open and not expired, in the order in which they were placed. Amounts are minor units; remaining is what still counts as held.
options: max_rows (1 to 10000, default 1000), after (the hold_id of the last row of the page before).
Errors: ACCOUNT_UNKNOWN, VALUE_REQUIRED, OPTION_INVALID.';

-- h_12 names a hold; every other designator names a command, and through it the hold
-- that it placed or touched.
CREATE FUNCTION failsafe._hold_find(designator text) RETURNS int8
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
	tenants int4[] := failsafe._report_tenants();
	found_id int8;
BEGIN
	PERFORM failsafe._require('hold', designator);
	SELECT h.id INTO found_id
	FROM failsafe.hold AS h
	WHERE h.tenant_id = ANY (tenants)
	  AND h.id = CASE WHEN starts_with(designator, 'h_') THEN failsafe._id_number('h', designator)
					  ELSE (SELECT j.hold_id FROM failsafe.journal AS j
							WHERE j.id = failsafe._transaction_find(designator, tenants)) END;
	IF found_id IS NULL THEN
		PERFORM failsafe._raise('HOLD_UNKNOWN', NULL, 'hold', designator);
	END IF;
	RETURN found_id;
END
$body$;
COMMENT ON FUNCTION failsafe._hold_find(text) IS
'The number of the hold behind a designator. Raises HOLD_UNKNOWN.';

CREATE FUNCTION failsafe.hold_get(hold text, options jsonb DEFAULT NULL)
RETURNS TABLE (hold_id text, account text, currency text, status text, amount numeric,
			   captured numeric, released numeric, remaining numeric, counterparty text,
			   placed_at timestamptz, expires_at timestamptz, reference text, reason text,
			   idempotency_key text, metadata jsonb)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
	PERFORM failsafe._options_check(options);
	RETURN QUERY
		SELECT r.*
		FROM failsafe._hold_rows(ARRAY[failsafe._hold_find(hold_get.hold)]) AS r;
	PERFORM failsafe._wait_durable_all();
END
$body$;
COMMENT ON FUNCTION failsafe.hold_get(text, jsonb) IS
'One hold as it is now, whatever became of it. hold: h_..., key: and the key of a command on it, or the t_... or e_... of one.
status: open, committed, rolled_back, expired. Amounts are minor units.
Errors: HOLD_UNKNOWN, VALUE_REQUIRED, OPTION_INVALID.';

CREATE FUNCTION failsafe.hold_history(hold text, options jsonb DEFAULT NULL)
RETURNS TABLE (recorded_at timestamptz, transaction_id text, command text, status text,
			   code text, amount numeric, released numeric, remaining numeric,
			   expires_at timestamptz, idempotency_key text, reference text, reason text,
			   actor text)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
#variable_conflict use_column
BEGIN
	PERFORM failsafe._options_check(options);
	RETURN QUERY
		SELECT j.recorded_at, 't_' || j.id, j.command, j.status, j.code, j.amount,
			   j.released, j.hold_remaining, j.expires_at, j.key, j.reference, j.reason,
			   failsafe._actor_label(j.actor_id)
		FROM failsafe._hold_find(hold_history.hold) AS found (id)
		JOIN failsafe.journal AS j ON j.hold_id = found.id
		-- a command that finds the hold expired writes the expiry before itself
		ORDER BY j.recorded_at, j.command <> 'expire', j.id;
	PERFORM failsafe._wait_durable_all();
END
$body$;
COMMENT ON FUNCTION failsafe.hold_history(text, jsonb) IS
'Everything that was asked of a hold, in order: placed, extended, captured, rolled back, expired, and the declines that were recorded. hold: as in hold_get(). Amounts are minor units; released is what became free without moving.
Errors: HOLD_UNKNOWN, VALUE_REQUIRED, OPTION_INVALID.';

CREATE FUNCTION failsafe._key_check(key text, scope text) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
	IF key IS NULL THEN
		PERFORM failsafe._raise('IDEMPOTENCY_KEY_REQUIRED', NULL, 'field', 'key');
	END IF;
	IF octet_length(key) NOT BETWEEN 1 AND 255 OR key ~ '^ | $|[\u0001-\u001f\u007f]' THEN
		PERFORM failsafe._raise('IDEMPOTENCY_KEY_INVALID', NULL, 'field', 'key');
	END IF;
	IF scope IS NULL OR scope !~ '^[A-Za-z0-9_.:-]{1,63}$' THEN
		PERFORM failsafe._raise('SCOPE_INVALID', scope, 'field', 'scope');
	END IF;
END
$body$;
COMMENT ON FUNCTION failsafe._key_check(text, text) IS
'Refuses a text that cannot be a key, or a scope that cannot be one.';

CREATE FUNCTION failsafe.idempotency_status(
	key text, scope text DEFAULT 'wallet', options jsonb DEFAULT NULL)
RETURNS TABLE (state text, first_seen_at timestamptz, transaction_id text)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
#variable_conflict use_column
DECLARE
	tenant int4 := failsafe._tenant_id();
	in_progress bool;
BEGIN
	PERFORM failsafe._options_check(options);
	PERFORM failsafe._key_check(idempotency_status.key, idempotency_status.scope);

	-- Ask for a running holder first: one that commits in between is found below.
	IF idempotency_status.scope = 'wallet' THEN
		in_progress := failsafe._key_in_progress(idempotency_status.key);
		SELECT j.status, j.recorded_at, 't_' || j.id
		INTO state, first_seen_at, transaction_id
		FROM failsafe.idempotency_key AS k
		JOIN failsafe.journal AS j ON j.id = k.journal_id
		WHERE k.tenant_id = tenant AND k.key = idempotency_status.key;
	ELSE
		in_progress := failsafe._application_key_in_progress(idempotency_status.scope,
															 idempotency_status.key);
		SELECT CASE k.state WHEN 'completed' THEN 'committed' ELSE 'in_progress' END,
			   k.claimed_at
		INTO state, first_seen_at
		FROM failsafe.application_key AS k
		WHERE k.tenant_id = tenant AND k.scope = idempotency_status.scope
		  AND k.key = idempotency_status.key;
	END IF;
	state := coalesce(state, CASE WHEN in_progress THEN 'in_progress' ELSE 'none' END);
	PERFORM failsafe._wait_durable_all();
	RETURN NEXT;
END
$body$;
COMMENT ON FUNCTION failsafe.idempotency_status(text, text, jsonb) IS
'What became of a key, without waiting.
state: none (never used, or its transaction was rolled back), in_progress (a running transaction holds it; for an application''s key also: claimed and not completed), committed, held, rolled_back, declined. first_seen_at and transaction_id are NULL where no committed row exists.
scope: wallet (the default) or the scope of an application''s key.
Errors: IDEMPOTENCY_KEY_REQUIRED, IDEMPOTENCY_KEY_INVALID, SCOPE_INVALID, OPTION_INVALID.';

-- ==== src/ledger/views.sql

-- ledger: the views.  They show the session's tenant; operators see all tenants.  Views
-- cannot wait: with early lock release a row may be seen a moment before it is flushed.

CREATE VIEW failsafe.accounts WITH (security_barrier) AS
SELECT t.name AS tenant, a.code, a.currency, a.kind, b.status,
	   CASE a.kind WHEN 'wallet' THEN b.posted END AS posted, b.held - due.held AS held,
	   CASE a.kind WHEN 'wallet' THEN b.posted - b.held + due.held - b.floor END AS available,
	   b.floor, b.ceiling, CASE a.kind WHEN 'wallet' THEN b.version END AS version,
	   a.created_at, CASE WHEN b.version > 0 THEN b.recorded_at END AS latest_entry_at,
	   a.metadata
FROM failsafe.account AS a
JOIN failsafe.tenant AS t ON t.id = a.tenant_id
LEFT JOIN failsafe.balance AS b ON b.account_id = a.id
LEFT JOIN LATERAL (
	SELECT coalesce(sum(h.amount - h.captured - h.released), 0) AS held
	FROM failsafe.hold AS h
	WHERE b.next_hold_expiry <= clock_timestamp() AND h.account_id = a.id
	  AND h.status = 'open' AND h.expires_at <= clock_timestamp()) AS due ON true
WHERE a.tenant_id = ANY ((SELECT failsafe._report_tenants())::int4[]);
COMMENT ON VIEW failsafe.accounts IS
'The accounts with their balances, in minor units. posted, available and version are NULL for system accounts: use account_balance().';
COMMENT ON COLUMN failsafe.accounts.held IS 'sum of the rest of open, unexpired holds';
COMMENT ON COLUMN failsafe.accounts.available IS 'posted - held - floor; NULL without a floor';
COMMENT ON COLUMN failsafe.accounts.version IS 'number of the account''s entries';

CREATE VIEW failsafe.transactions WITH (security_barrier) AS
SELECT t.name AS tenant, 't_' || j.id AS transaction_id, j.recorded_at,
	   coalesce(j.effective_at, j.recorded_at) AS effective_at, j.command, j.status, j.code,
	   a.code AS account, other.code AS counterparty, coalesce(a.currency, other.currency) AS currency,
	   j.amount, CASE j.status WHEN 'committed' THEN 'e_' || 1024 * j.id END AS entry_id, 'h_' || j.hold_id AS hold_id,
	   't_' || j.reverses AS reverses, j.posted, j.held, j.available, j.hold_remaining,
	   j.released, j.expires_at, j.version, j.key AS idempotency_key, j.reference, j.reason,
	   j.trace_id, j.traceparent, j.region, j.metadata, j.detail, j.xid,
	   who.session_user_name, who.role_name, who.client_address, who.application_name
FROM failsafe.journal AS j
JOIN failsafe.tenant AS t ON t.id = j.tenant_id
LEFT JOIN failsafe.account AS a ON a.id = j.account_id
LEFT JOIN failsafe.account AS other ON other.id = j.counterparty_id
LEFT JOIN failsafe.actor AS who ON who.id = j.actor_id
WHERE j.tenant_id = ANY ((SELECT failsafe._report_tenants())::int4[]);
COMMENT ON VIEW failsafe.transactions IS
'Every command that had an outcome, recorded declines and expiries too. Amounts are minor units; balances are those after the command.';
COMMENT ON COLUMN failsafe.transactions.account IS 'the account named first; NULL for a posting';
COMMENT ON COLUMN failsafe.transactions.released IS 'held money that the command set free without moving it';
COMMENT ON COLUMN failsafe.transactions.detail IS 'of a recorded decline';

CREATE VIEW failsafe.entries WITH (security_barrier) AS
SELECT t.name AS tenant, 'e_' || e.id AS entry_id, 't_' || e.journal_id AS transaction_id,
	   a.code AS account, a.currency, e.amount, e.posted, e.version, j.recorded_at,
	   coalesce(e.effective_at, j.recorded_at) AS effective_at, j.command, j.reference,
	   j.key AS idempotency_key
FROM failsafe.entry AS e
JOIN failsafe.account AS a ON a.id = e.account_id
JOIN failsafe.tenant AS t ON t.id = a.tenant_id
JOIN failsafe.journal AS j ON j.id = e.journal_id
WHERE a.tenant_id = ANY ((SELECT failsafe._report_tenants())::int4[]);
COMMENT ON VIEW failsafe.entries IS
'The legs of all transactions. + raises posted, - lowers it; posted is the balance after. posted and version are NULL for system accounts.';

CREATE VIEW failsafe.hold_list WITH (security_barrier) AS
SELECT t.name AS tenant, 'h_' || h.id AS hold_id, a.code AS account, a.currency,
	   CASE WHEN h.status = 'open' AND h.expires_at <= clock_timestamp() THEN 'expired'
			ELSE h.status END AS status,
	   h.amount, h.captured,
	   CASE WHEN h.status = 'open' AND h.expires_at <= clock_timestamp()
			THEN h.amount - h.captured ELSE h.released END AS released,
	   CASE WHEN h.status = 'open' AND h.expires_at > clock_timestamp()
			THEN h.amount - h.captured - h.released ELSE 0 END AS remaining,
	   destination.code AS counterparty, h.placed_at, h.expires_at
FROM failsafe.hold AS h
JOIN failsafe.account AS a ON a.id = h.account_id
JOIN failsafe.tenant AS t ON t.id = h.tenant_id
LEFT JOIN failsafe.account AS destination ON destination.id = h.counterparty_id
WHERE h.tenant_id = ANY ((SELECT failsafe._report_tenants())::int4[]);
COMMENT ON VIEW failsafe.hold_list IS
'All holds, in minor units. An open hold whose time is over shows as expired, also before its expiry is written.';

CREATE VIEW failsafe.account_changes WITH (security_barrier) AS
SELECT t.name AS tenant, a.code AS account, c.changed_at, c.change, c.status, c.floor,
	   c.ceiling, c.reason, c.xid, who.session_user_name, who.role_name, who.client_address,
	   who.application_name
FROM failsafe.account_change AS c
JOIN failsafe.account AS a ON a.id = c.account_id
JOIN failsafe.tenant AS t ON t.id = a.tenant_id
LEFT JOIN failsafe.actor AS who ON who.id = c.actor_id
WHERE a.tenant_id = ANY ((SELECT failsafe._report_tenants())::int4[]);
COMMENT ON VIEW failsafe.account_changes IS
'Every opening, freeze, unfreeze, closing and change of limits, with who did it and why. status, floor and ceiling are those after the change.';

-- ==== src/ledger/checkpoint.sql

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

-- ==== src/ledger/verify.sql

-- ledger: proof that the books balance.
--
-- Each function below returns one row a fault: the rule, the object and a detail.  They
-- are STABLE and are called by one statement of ledger_verify(), so all of them read
-- the same snapshot and concurrent commands raise no false alarm.  All take the same
-- scope: the tenants, one account or NULL, and the first transaction to look at (0: all).

CREATE FUNCTION failsafe._verify_sums(tenants int4[], only_account int8, from_journal int8)
RETURNS TABLE (rule text, object text, detail text)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT 'currency_sum', t.name || '/' || a.currency,
	   format('the entries add up to %s, not to 0', sum(e.amount))
FROM failsafe.entry AS e
JOIN failsafe.account AS a ON a.id = e.account_id
JOIN failsafe.tenant AS t ON t.id = a.tenant_id
WHERE only_account IS NULL AND from_journal = 0 AND a.tenant_id = ANY (tenants)
GROUP BY t.name, a.currency
HAVING sum(e.amount) <> 0
UNION ALL
SELECT 'transaction_sum', 't_' || e.journal_id,
	   format('the entries in %s add up to %s, not to 0', a.currency, sum(e.amount))
FROM failsafe.entry AS e
JOIN failsafe.account AS a ON a.id = e.account_id
WHERE only_account IS NULL AND e.journal_id >= from_journal
  AND a.tenant_id = ANY (tenants)
GROUP BY e.journal_id, a.currency
HAVING sum(e.amount) <> 0
$body$;
COMMENT ON FUNCTION failsafe._verify_sums(int4[], int8, int8) IS
'Rules currency_sum and transaction_sum.';

-- The chain of a wallet is walked from its first entry in the scope on; the version and
-- balance of the one before are taken as right.  Journal ids are drawn before a wallet's
-- lock is waited for, so entries that are not in the scope may follow.
CREATE FUNCTION failsafe._verify_balances(tenants int4[], only_account int8,
										  from_journal int8)
RETURNS TABLE (rule text, object text, detail text)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
WITH first AS (
	SELECT e.account_id, min(e.version) AS version
	FROM failsafe.entry AS e
	WHERE from_journal > 0 AND e.journal_id >= from_journal
	  AND (only_account IS NULL OR e.account_id = only_account)
	GROUP BY e.account_id
), wallet AS (
	SELECT a.code, b.posted, b.version,
		   coalesce(base.posted, 0) + coalesce(chain.amount, 0) AS sum,
		   coalesce(base.version, 0) + chain.entry_count AS entry_count,
		   chain.bad_version, chain.bad_posted
	FROM failsafe.account AS a
	JOIN failsafe.balance AS b ON b.account_id = a.id
	LEFT JOIN first ON first.account_id = a.id
	LEFT JOIN LATERAL (
		SELECT e.version, e.posted FROM failsafe.entry AS e
		WHERE from_journal > 0 AND e.account_id = a.id
		  AND coalesce(e.version, e.id) < coalesce(first.version, 9223372036854775807)
		ORDER BY coalesce(e.version, e.id) DESC LIMIT 1) AS base ON true
	CROSS JOIN LATERAL (
		SELECT count(*) AS entry_count, sum(link.amount) AS amount,
			   (array_agg(link.id ORDER BY link.number) FILTER (
					WHERE link.version IS DISTINCT FROM coalesce(base.version, 0) + link.number))[1]
					AS bad_version,
			   (array_agg(link.id ORDER BY link.number) FILTER (
					WHERE link.posted IS DISTINCT FROM coalesce(base.posted, 0) + link.running))[1]
					AS bad_posted
		FROM (SELECT e.id, e.amount, e.version, e.posted,
					 row_number() OVER in_order AS number,
					 sum(e.amount) OVER in_order AS running
			  FROM failsafe.entry AS e
			  WHERE e.account_id = a.id AND coalesce(e.version, e.id) > coalesce(base.version, 0)
			  WINDOW in_order AS (ORDER BY coalesce(e.version, e.id), e.id
								  ROWS UNBOUNDED PRECEDING)) AS link) AS chain
	WHERE a.kind = 'wallet' AND a.tenant_id = ANY (tenants)
	  AND (only_account IS NULL OR a.id = only_account)
)
SELECT 'balance_posted', w.code,
	   format('posted is %s, the entries add up to %s', w.posted, w.sum)
FROM wallet AS w WHERE w.posted IS DISTINCT FROM w.sum
UNION ALL
SELECT 'balance_version', w.code,
	   format('version is %s, the account has %s entries', w.version, w.entry_count)
FROM wallet AS w WHERE w.version IS DISTINCT FROM w.entry_count
UNION ALL
SELECT 'entry_version', 'e_' || w.bad_version,
	   format('the versions of account %s are not 1, 2, 3 ... from here on', w.code)
FROM wallet AS w WHERE w.bad_version IS NOT NULL
UNION ALL
SELECT 'entry_posted', 'e_' || w.bad_posted,
	   format('posted of account %s is not the sum of the entries up to here', w.code)
FROM wallet AS w WHERE w.bad_posted IS NOT NULL
$body$;
COMMENT ON FUNCTION failsafe._verify_balances(int4[], int8, int8) IS
'Rules balance_posted, balance_version, entry_version and entry_posted.';

CREATE FUNCTION failsafe._verify_accounts(tenants int4[], only_account int8,
										  from_journal int8)
RETURNS TABLE (rule text, object text, detail text)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT 'account_balance', coalesce(a.code, 'account ' || b.account_id),
	   CASE WHEN a.id IS NULL THEN 'a balance row has no account'
			ELSE format('the account has %s balance rows, not 1', b.row_count) END
FROM failsafe.account AS a
FULL JOIN (SELECT balance.account_id, count(*) AS row_count FROM failsafe.balance
		   GROUP BY balance.account_id) AS b ON b.account_id = a.id
WHERE (coalesce(b.row_count, 0) <> 1 OR a.id IS NULL)
  AND (a.tenant_id = ANY (tenants) OR a.id IS NULL)
  AND (only_account IS NULL OR coalesce(a.id, b.account_id) = only_account)
UNION ALL
SELECT 'account_change', a.code,
	   CASE WHEN c.id IS NULL THEN 'no row tells who opened the account'
			ELSE format('status, floor, ceiling are %s; the last change says %s',
						row(b.status, b.floor, b.ceiling), row(c.status, c.floor, c.ceiling)) END
FROM failsafe.account AS a
JOIN failsafe.balance AS b ON b.account_id = a.id
LEFT JOIN LATERAL (
	SELECT k.id, k.status, k.floor, k.ceiling FROM failsafe.account_change AS k
	WHERE k.account_id = a.id ORDER BY k.id DESC LIMIT 1) AS c ON true
WHERE (c.id IS NULL
	   OR (b.status, b.floor, b.ceiling) IS DISTINCT FROM (c.status, c.floor, c.ceiling))
  AND a.tenant_id = ANY (tenants) AND (only_account IS NULL OR a.id = only_account)
$body$;
COMMENT ON FUNCTION failsafe._verify_accounts(int4[], int8, int8) IS
'Rules account_balance and account_change.';

CREATE FUNCTION failsafe._verify_holds(tenants int4[], only_account int8, from_journal int8)
RETURNS TABLE (rule text, object text, detail text)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT 'balance_held', a.code,
	   format('held is %s, the open holds have %s left', b.held, coalesce(open.rest, 0))
FROM failsafe.account AS a
JOIN failsafe.balance AS b ON b.account_id = a.id
LEFT JOIN (SELECT h.account_id, sum(h.amount - h.captured - h.released) AS rest,
				  min(h.expires_at) AS expires_at
		   FROM failsafe.hold AS h WHERE h.status = 'open'
		   GROUP BY h.account_id) AS open ON open.account_id = a.id
WHERE b.held IS DISTINCT FROM coalesce(open.rest, 0)
  AND a.tenant_id = ANY (tenants) AND (only_account IS NULL OR a.id = only_account)
UNION ALL
SELECT 'hold_expiry', a.code,
	   format('the next hold expires at %s, the balance expects it at %s',
			  open.expires_at, coalesce(b.next_hold_expiry::text, 'no time'))
FROM failsafe.account AS a
JOIN failsafe.balance AS b ON b.account_id = a.id
JOIN (SELECT h.account_id, min(h.expires_at) AS expires_at
	  FROM failsafe.hold AS h WHERE h.status = 'open'
	  GROUP BY h.account_id) AS open ON open.account_id = a.id
WHERE (b.next_hold_expiry IS NULL OR b.next_hold_expiry > open.expires_at)
  AND a.tenant_id = ANY (tenants) AND (only_account IS NULL OR a.id = only_account)
UNION ALL
SELECT 'hold_transaction', 'h_' || h.id,
	   CASE WHEN placed.id IS NULL THEN 'no transaction placed the hold'
			ELSE format('amount, captured, released, expiry are %s; the transactions say %s',
						row(h.amount, h.captured, h.released, h.expires_at),
						row(placed.amount, told.captured, told.released, told.expires_at)) END
FROM failsafe.hold AS h
LEFT JOIN failsafe.journal AS placed ON placed.id = h.id AND placed.command = 'hold'
	AND placed.status = 'held' AND placed.account_id = h.account_id
	AND placed.tenant_id = h.tenant_id
LEFT JOIN (
	SELECT j.hold_id,
		   coalesce(sum(j.amount) FILTER (WHERE j.command = 'commit'), 0) AS captured,
		   coalesce(sum(j.released), 0) AS released,
		   array_agg(j.expires_at) FILTER (WHERE j.status = 'held'
										   AND j.recorded_at = j.last_held_at) AS expires_at
	FROM (SELECT k.hold_id, k.command, k.status, k.amount, k.released, k.recorded_at, k.expires_at,
				 max(k.recorded_at) FILTER (WHERE k.status = 'held')
					OVER (PARTITION BY k.hold_id) AS last_held_at
		  FROM failsafe.journal AS k
		  WHERE k.hold_id IS NOT NULL AND k.status <> 'declined') AS j
	GROUP BY j.hold_id) AS told ON told.hold_id = h.id
WHERE (placed.id IS NULL
	   OR (h.amount, h.captured, h.released)
		  IS DISTINCT FROM (placed.amount, told.captured, told.released)
   OR (h.expires_at = ANY (told.expires_at)) IS NOT TRUE)
  AND h.tenant_id = ANY (tenants) AND (only_account IS NULL OR h.account_id = only_account)
UNION ALL
SELECT 'hold_status', 'h_' || h.id,
	   format('status is %s with %s left', h.status, h.amount - h.captured - h.released)
FROM failsafe.hold AS h
WHERE CASE h.status WHEN 'open' THEN h.amount - h.captured - h.released <= 0
		   WHEN 'committed' THEN h.amount - h.captured - h.released <> 0 OR h.captured = 0
		   WHEN 'rolled_back' THEN h.amount - h.captured - h.released <> 0
		   WHEN 'expired' THEN h.amount - h.captured - h.released <> 0
		   ELSE true END
  AND h.tenant_id = ANY (tenants) AND (only_account IS NULL OR h.account_id = only_account)
$body$;
COMMENT ON FUNCTION failsafe._verify_holds(int4[], int8, int8) IS
'Rules balance_held, hold_expiry, hold_transaction and hold_status.';

CREATE FUNCTION failsafe._verify_entries(tenants int4[], only_account int8,
										 from_journal int8)
RETURNS TABLE (rule text, object text, detail text)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
WITH leg AS (
	SELECT e.id, e.version, e.effective_at, e.posted, a.id AS account_id, a.kind,
		   a.tenant_id AS account_tenant, j.id AS journal_id, j.tenant_id, j.status,
		   j.recorded_at, j.effective_at AS stated_at,
		   coalesce(cardinality(j.leg_account_ids), 2) AS leg_count
	FROM failsafe.entry AS e
	LEFT JOIN failsafe.account AS a ON a.id = e.account_id
	LEFT JOIN failsafe.journal AS j ON j.id = e.journal_id
	WHERE e.journal_id >= from_journal
	  AND (only_account IS NULL OR e.account_id = only_account)
	  AND (a.tenant_id = ANY (tenants) OR j.tenant_id = ANY (tenants)
		   OR a.id IS NULL AND j.id IS NULL)
)
SELECT 'entry_transaction', 'e_' || leg.id,
	   CASE WHEN leg.account_id IS NULL THEN 'the entry has no account'
			WHEN leg.journal_id IS NULL THEN 'the entry has no transaction'
			WHEN leg.account_tenant <> leg.tenant_id THEN
				 'account and transaction belong to different tenants'
			WHEN leg.status <> 'committed' THEN format('t_%s is %s', leg.journal_id, leg.status)
			WHEN (leg.kind = 'wallet') <> (leg.version IS NOT NULL)
				 OR (leg.kind = 'wallet') <> (leg.posted IS NOT NULL) THEN
				 'version and posted do not fit the kind of the account'
			WHEN leg.effective_at IS DISTINCT FROM
				 CASE WHEN leg.stated_at < leg.recorded_at THEN leg.stated_at END THEN
				 'the effective time is not the transaction''s'
			ELSE format('the entry is none of those that t_%s names', leg.journal_id) END
FROM leg
WHERE leg.account_id IS NULL OR leg.journal_id IS NULL OR leg.account_tenant <> leg.tenant_id
   OR leg.status <> 'committed'
   OR (leg.kind = 'wallet') <> (leg.version IS NOT NULL)
   OR (leg.kind = 'wallet') <> (leg.posted IS NOT NULL)
   OR leg.effective_at IS DISTINCT FROM
	  CASE WHEN leg.stated_at < leg.recorded_at THEN leg.stated_at END
   OR leg.id / 1024 <> leg.journal_id OR leg.id % 1024 >= leg.leg_count
UNION ALL
SELECT 'entry_recorded_at', 'e_' || late.id, 'an earlier entry of the account was recorded later'
FROM (SELECT leg.id, leg.recorded_at,
			 lag(leg.recorded_at) OVER (PARTITION BY leg.account_id
										ORDER BY leg.version, leg.id) AS before
	  FROM leg WHERE leg.kind = 'wallet') AS late
WHERE late.recorded_at < late.before
$body$;
COMMENT ON FUNCTION failsafe._verify_entries(int4[], int8, int8) IS
'Rules entry_transaction and entry_recorded_at.';

CREATE FUNCTION failsafe._verify_transactions(tenants int4[], only_account int8,
											  from_journal int8)
RETURNS TABLE (rule text, object text, detail text)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT 'transaction_entries', 't_' || j.id,
	   CASE WHEN e.id IS NULL THEN format('entry e_%s is missing', leg.leg_entry_id)
			WHEN abs(e.amount) IS DISTINCT FROM coalesce(j.amount, abs(e.amount)) THEN
				 format('amount is %s, e_%s says %s', j.amount, e.id, e.amount)
			ELSE format('version and posted are %s, %s; e_%s says %s, %s',
						j.version, j.posted, e.id, e.version, e.posted) END
FROM failsafe.journal AS j
CROSS JOIN LATERAL failsafe._transaction_legs(j.id, j.status, j.account_id, j.version,
			j.counterparty_id, j.counterparty_version, j.leg_account_ids, j.leg_versions) AS leg
LEFT JOIN failsafe.entry AS e ON e.account_id = leg.leg_account_id
	AND coalesce(e.version, e.id) = leg.leg_place
	AND e.id = leg.leg_entry_id AND e.journal_id = j.id
WHERE j.id >= from_journal AND j.tenant_id = ANY (tenants)
  AND (only_account IS NULL OR only_account IN (j.account_id, j.counterparty_id))
  AND (e.id IS NULL
	   OR j.leg_account_ids IS NULL AND abs(e.amount) <> j.amount
	   OR j.leg_account_ids IS NULL AND leg.leg_number = 0
		  AND (e.version, e.posted) IS DISTINCT FROM (j.version, j.posted)
	   OR j.leg_account_ids IS NULL AND leg.leg_number = 0
		  AND j.command <> 'reverse'
		  AND sign(e.amount) <> CASE j.command WHEN 'credit' THEN 1 ELSE -1 END)
UNION ALL
SELECT 'transaction_reference', 't_' || j.id,
	   CASE WHEN a.id IS NULL AND j.account_id IS NOT NULL THEN 'the account does not exist'
			WHEN other.id IS NULL AND j.counterparty_id IS NOT NULL THEN
				 'the counterparty does not exist'
			WHEN h.id IS NULL AND j.hold_id IS NOT NULL THEN 'the hold does not exist'
			WHEN original.id IS NULL AND j.reverses IS NOT NULL THEN
				 'the reversed transaction does not exist'
			WHEN who.id IS NULL THEN 'the actor does not exist'
			ELSE 'account, counterparty, hold or reversed transaction belong to another tenant' END
FROM failsafe.journal AS j
LEFT JOIN failsafe.account AS a ON a.id = j.account_id
LEFT JOIN failsafe.account AS other ON other.id = j.counterparty_id
LEFT JOIN failsafe.hold AS h ON h.id = j.hold_id
LEFT JOIN failsafe.journal AS original ON original.id = j.reverses
LEFT JOIN failsafe.actor AS who ON who.id = j.actor_id
WHERE j.id >= from_journal AND j.tenant_id = ANY (tenants)
  AND (only_account IS NULL OR only_account IN (j.account_id, j.counterparty_id))
  AND (a.id IS NULL AND j.account_id IS NOT NULL
	   OR other.id IS NULL AND j.counterparty_id IS NOT NULL
	   OR h.id IS NULL AND j.hold_id IS NOT NULL AND j.status <> 'declined'
	   OR original.id IS NULL AND j.reverses IS NOT NULL
	   OR who.id IS NULL
	   OR a.tenant_id <> j.tenant_id OR other.tenant_id <> j.tenant_id
	   OR h.tenant_id <> j.tenant_id OR original.tenant_id <> j.tenant_id)
$body$;
COMMENT ON FUNCTION failsafe._verify_transactions(int4[], int8, int8) IS
'Rules transaction_entries and transaction_reference.';

CREATE FUNCTION failsafe._verify_keys(tenants int4[], only_account int8, from_journal int8)
RETURNS TABLE (rule text, object text, detail text)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT 'transaction_key', 't_' || j.id,
	   CASE WHEN j.command = 'expire' THEN 'an expiry has no key'
			WHEN j.key IS NULL THEN 'the transaction has no key'
			WHEN k.journal_id IS NULL THEN 'the key row is missing'
			ELSE format('the key row names t_%s', k.journal_id) END
FROM failsafe.journal AS j
LEFT JOIN failsafe.idempotency_key AS k ON k.tenant_id = j.tenant_id AND k.key = j.key
WHERE j.id >= from_journal AND j.tenant_id = ANY (tenants)
  AND (only_account IS NULL OR only_account IN (j.account_id, j.counterparty_id))
  AND (CASE j.command WHEN 'expire' THEN j.key IS NOT NULL
	   ELSE k.journal_id IS DISTINCT FROM j.id END)
UNION ALL
SELECT 'key_transaction', 't_' || k.journal_id,
	   CASE WHEN j.id IS NULL THEN 'a key row names a transaction that does not exist'
			ELSE 'a key row names a transaction with another key or tenant' END
FROM failsafe.idempotency_key AS k
LEFT JOIN failsafe.journal AS j ON j.id = k.journal_id
WHERE only_account IS NULL AND k.journal_id >= from_journal AND k.tenant_id = ANY (tenants)
  AND (k.tenant_id, k.key) IS DISTINCT FROM (j.tenant_id, j.key)
$body$;
COMMENT ON FUNCTION failsafe._verify_keys(int4[], int8, int8) IS
'Rules transaction_key and key_transaction.';

-- An event may be missing for a good reason: its type is switched off, or it is older
-- than the retention.  Whether a type was switched off for a while is not recorded, so
-- transactions before the first event of their type that is still there do not count.
CREATE FUNCTION failsafe._verify_events(tenants int4[], only_account int8, from_journal int8)
RETURNS TABLE (rule text, object text, detail text)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
WITH expected AS (
	SELECT j.id, j.tenant_id, j.recorded_at,
		   CASE j.command WHEN 'expire' THEN 'wallet.hold.expired'
				ELSE 'wallet.' || j.command || '.' || j.status END AS event_type
	FROM failsafe.journal AS j
	WHERE j.id >= from_journal AND j.tenant_id = ANY (tenants)
	  AND (only_account IS NULL OR only_account IN (j.account_id, j.counterparty_id))
), kept AS (
	SELECT x.event_type, min(o.journal_id) AS first_id
	FROM (SELECT DISTINCT expected.event_type FROM expected) AS x
	LEFT JOIN failsafe.outbox AS o ON o.event_type = x.event_type
	WHERE failsafe._event_type_enabled(x.event_type)
	GROUP BY x.event_type
)
SELECT 'transaction_event', 't_' || x.id,
	   format('the event %s is missing, unless its type was switched off then', x.event_type)
FROM expected AS x
JOIN kept ON kept.event_type = x.event_type
LEFT JOIN failsafe.outbox AS o ON o.journal_id = x.id
WHERE o.seq IS NULL AND x.id >= coalesce(kept.first_id, 0)
  AND x.recorded_at > clock_timestamp() - failsafe._event_retention()
UNION ALL
SELECT 'event_transaction', o.event_id::text,
	   CASE WHEN x.id IS NULL THEN format('t_%s does not exist', o.journal_id)
			WHEN o.number > 1 THEN format('t_%s has another event', o.journal_id)
			ELSE format('type is %s, t_%s asks for %s', o.event_type, x.id, x.event_type) END
FROM (SELECT event.journal_id, event.event_id, event.event_type, event.tenant_id,
			 row_number() OVER (PARTITION BY event.journal_id ORDER BY event.seq) AS number
	  FROM failsafe.outbox AS event
	  WHERE event.journal_id IS NOT NULL AND event.journal_id >= from_journal) AS o
LEFT JOIN expected AS x ON x.id = o.journal_id
WHERE only_account IS NULL AND o.tenant_id = ANY (tenants)
  AND (x.id IS NULL OR o.number > 1
	   OR (o.event_type, o.tenant_id) IS DISTINCT FROM (x.event_type, x.tenant_id))
$body$;
COMMENT ON FUNCTION failsafe._verify_events(int4[], int8, int8) IS
'Rules transaction_event and event_transaction.';

-- A posting of two legs moved what one of them says; one of more legs is reversed as a
-- whole, and counts 1.
CREATE FUNCTION failsafe._verify_reversals(tenants int4[], only_account int8,
										   from_journal int8)
RETURNS TABLE (rule text, object text, detail text)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT 'reversal_sum', 't_' || coalesce(r.journal_id, told.journal_id),
	   CASE WHEN j.id IS NULL THEN 'the reversed transaction does not exist'
			WHEN r.reversed IS DISTINCT FROM told.amount THEN
				 format('%s is noted as returned, the reversals add up to %s',
						coalesce(r.reversed, 0), coalesce(told.amount, 0))
			ELSE format('%s was returned, more than the %s that were moved',
						r.reversed, moved.amount) END
FROM failsafe.reversible AS r
FULL JOIN (SELECT k.reverses AS journal_id, sum(coalesce(k.amount, 1)) AS amount
		   FROM failsafe.journal AS k
		   WHERE k.reverses IS NOT NULL AND k.status = 'committed'
		   GROUP BY k.reverses) AS told ON told.journal_id = r.journal_id
LEFT JOIN failsafe.journal AS j ON j.id = coalesce(r.journal_id, told.journal_id)
CROSS JOIN LATERAL (
	SELECT CASE WHEN cardinality(j.leg_account_ids) = 2
				THEN (SELECT abs(e.amount) FROM failsafe.entry AS e
					  WHERE e.account_id = j.leg_account_ids[1]
						AND coalesce(e.version, e.id)
							= coalesce(nullif(j.leg_versions[1], 0), 1024 * j.id))
				ELSE coalesce(j.amount, 1) END) AS moved (amount)
WHERE (j.id IS NULL OR j.tenant_id = ANY (tenants))
  AND (only_account IS NULL OR only_account IN (j.account_id, j.counterparty_id))
  AND (j.id IS NULL OR r.reversed IS DISTINCT FROM told.amount
	   OR r.reversed > moved.amount)
$body$;
COMMENT ON FUNCTION failsafe._verify_reversals(int4[], int8, int8) IS
'Rule reversal_sum.';

CREATE FUNCTION failsafe._verify_checkpoints(tenants int4[], only_account int8,
											 from_journal int8)
RETURNS TABLE (rule text, object text, detail text)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT 'checkpoint_sum', a.code || '/e_' || c.entry_id,
	   format('the checkpoint says %s in %s entries, they add up to %s in %s',
			  c.posted, c.entry_count, c.base_posted + coalesce(s.amount, 0),
			  c.base_count + s.entry_count)
FROM (SELECT k.account_id, k.entry_id, k.posted, k.entry_count, k.recorded_from, k.recorded_until,
			 coalesce(lag(k.entry_id) OVER by_entry, 0) AS base_id,
			 coalesce(lag(k.posted) OVER by_entry, 0) AS base_posted,
			 coalesce(lag(k.entry_count) OVER by_entry, 0) AS base_count,
			 lag(k.recorded_until) OVER by_entry AS base_until
	  FROM failsafe.checkpoint AS k
	  WINDOW by_entry AS (PARTITION BY k.account_id ORDER BY k.entry_id)) AS c
JOIN failsafe.account AS a ON a.id = c.account_id
CROSS JOIN LATERAL (
	SELECT count(*) AS entry_count, sum(e.amount) AS amount,
		   min(j.recorded_at) AS recorded_from, max(j.recorded_at) AS recorded_until
	FROM failsafe.entry AS e
	LEFT JOIN failsafe.journal AS j ON j.id = e.journal_id
	WHERE e.account_id = c.account_id AND coalesce(e.version, e.id) > c.base_id
	  AND coalesce(e.version, e.id) <= c.entry_id) AS s
WHERE c.entry_id >= 1024 * from_journal - 1 AND a.tenant_id = ANY (tenants)
  AND (only_account IS NULL OR c.account_id = only_account)
  AND (c.posted IS DISTINCT FROM c.base_posted + coalesce(s.amount, 0)
	   OR c.entry_count <> c.base_count + s.entry_count
	   OR c.recorded_from IS DISTINCT FROM s.recorded_from
	   OR c.recorded_until IS DISTINCT FROM greatest(c.base_until, s.recorded_until))
$body$;
COMMENT ON FUNCTION failsafe._verify_checkpoints(int4[], int8, int8) IS
'Rule checkpoint_sum.';

CREATE FUNCTION failsafe._verify_values(tenants int4[], only_account int8, from_journal int8)
RETURNS TABLE (rule text, object text, detail text)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT 'value_whole', v.object, format('%s is no whole number of minor units', v.value)
FROM (
	SELECT 'e_' || e.id AS object, e.account_id, x.value
	FROM failsafe.entry AS e CROSS JOIN LATERAL (VALUES (e.amount), (e.posted)) AS x (value)
	WHERE e.journal_id >= from_journal
	UNION ALL
	SELECT a.code, b.account_id, x.value
	FROM failsafe.balance AS b JOIN failsafe.account AS a ON a.id = b.account_id
	CROSS JOIN LATERAL (VALUES (b.posted), (b.held), (b.floor), (b.ceiling)) AS x (value)
	UNION ALL
	SELECT 'h_' || h.id, h.account_id, x.value
	FROM failsafe.hold AS h
	CROSS JOIN LATERAL (VALUES (h.amount), (h.captured), (h.released)) AS x (value)
	UNION ALL
	SELECT 't_' || j.id, j.account_id, x.value
	FROM failsafe.journal AS j
	CROSS JOIN LATERAL (VALUES (j.amount), (j.posted), (j.held), (j.available),
							   (j.hold_remaining), (j.released)) AS x (value)
	WHERE j.id >= from_journal
	UNION ALL
	SELECT a.code || '/e_' || c.entry_id, c.account_id, c.posted
	FROM failsafe.checkpoint AS c JOIN failsafe.account AS a ON a.id = c.account_id
	UNION ALL
	SELECT 't_' || r.journal_id, NULL, r.reversed FROM failsafe.reversible AS r
) AS v
WHERE v.value IS NOT NULL AND scale(v.value) IS DISTINCT FROM 0
  AND (only_account IS NULL OR v.account_id = only_account)
  AND (v.account_id IS NULL OR EXISTS (
		SELECT FROM failsafe.account AS a
		WHERE a.id = v.account_id AND a.tenant_id = ANY (tenants)))
$body$;
COMMENT ON FUNCTION failsafe._verify_values(int4[], int8, int8) IS
'Rule value_whole: no NaN, no infinity, no decimal place.';

-- Where to begin: the scope is made of whole transactions.  A checkpoint covers the
-- entries of all journal ids up to one.
CREATE FUNCTION failsafe._verify_scope(since timestamptz, quick bool) RETURNS int8
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT CASE
	WHEN quick THEN coalesce((SELECT max(c.entry_id) / 1024 + 1 FROM failsafe.checkpoint AS c), 0)
	WHEN since IS NULL THEN 0
	ELSE coalesce((SELECT min(j.id) FROM failsafe.journal AS j WHERE j.recorded_at >= since),
				  (SELECT max(j.id) + 1 FROM failsafe.journal AS j), 0)
	END
$body$;
COMMENT ON FUNCTION failsafe._verify_scope(timestamptz, bool) IS
'The first transaction to look at; 0: all.';

CREATE FUNCTION failsafe._verify_counts(tenants int4[], only_account int8, from_journal int8)
RETURNS text
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT format('checked %s accounts, %s transactions, %s entries, %s holds, %s keys, %s events',
	(SELECT count(*) FROM failsafe.account AS a
	 WHERE a.tenant_id = ANY (tenants) AND (only_account IS NULL OR a.id = only_account)),
	(SELECT count(*) FROM failsafe.journal AS j
	 WHERE j.id >= from_journal AND j.tenant_id = ANY (tenants)
	   AND (only_account IS NULL OR only_account IN (j.account_id, j.counterparty_id))),
	(SELECT count(*) FROM failsafe.entry AS e
	 JOIN failsafe.account AS a ON a.id = e.account_id
	 WHERE e.journal_id >= from_journal AND a.tenant_id = ANY (tenants)
	   AND (only_account IS NULL OR a.id = only_account)),
	(SELECT count(*) FROM failsafe.hold AS h
	 WHERE h.tenant_id = ANY (tenants) AND (only_account IS NULL OR h.account_id = only_account)),
	(SELECT count(*) FROM failsafe.idempotency_key AS k
	 WHERE only_account IS NULL AND k.journal_id >= from_journal AND k.tenant_id = ANY (tenants)),
	(SELECT count(*) FROM failsafe.outbox AS o
	 WHERE only_account IS NULL AND o.journal_id >= from_journal AND o.tenant_id = ANY (tenants)))
$body$;
COMMENT ON FUNCTION failsafe._verify_counts(int4[], int8, int8) IS
'How much a verification looks at, in words.';

CREATE FUNCTION failsafe.ledger_verify(options jsonb DEFAULT NULL)
RETURNS TABLE (rule text, object text, detail text)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
	fault_limit CONSTANT int := 10000;
	tenants int4[] := failsafe._report_tenants();
	quick bool;
	since timestamptz;
	asked failsafe.account;
	row_count int8;
BEGIN
	PERFORM failsafe._options_check(options, 'account', 'since', 'quick');
	quick := failsafe._option_bool(options, 'quick');
	since := failsafe._option_time(options, 'since');
	IF quick AND since IS NOT NULL THEN
		PERFORM failsafe._raise('OPTION_INVALID', 'quick', 'field', 'quick');
	END IF;
	IF options ->> 'account' IS NOT NULL THEN
		asked := failsafe._account_find(options ->> 'account');
	END IF;

	-- one statement, one snapshot, for the scope too
	RETURN QUERY
		SELECT r.rule, r.object, r.detail
		FROM (SELECT tenants AS t, asked.id AS a, scope.from_journal AS j
			  FROM failsafe._verify_scope(since, quick) AS scope (from_journal)) AS s
		CROSS JOIN LATERAL (
			SELECT * FROM failsafe._verify_sums(s.t, s.a, s.j)
			UNION ALL SELECT * FROM failsafe._verify_balances(s.t, s.a, s.j)
			UNION ALL SELECT * FROM failsafe._verify_accounts(s.t, s.a, s.j)
			UNION ALL SELECT * FROM failsafe._verify_holds(s.t, s.a, s.j)
			UNION ALL SELECT * FROM failsafe._verify_entries(s.t, s.a, s.j)
			UNION ALL SELECT * FROM failsafe._verify_transactions(s.t, s.a, s.j)
			UNION ALL SELECT * FROM failsafe._verify_keys(s.t, s.a, s.j)
			UNION ALL SELECT * FROM failsafe._verify_events(s.t, s.a, s.j)
			UNION ALL SELECT * FROM failsafe._verify_reversals(s.t, s.a, s.j)
			UNION ALL SELECT * FROM failsafe._verify_checkpoints(s.t, s.a, s.j)
			UNION ALL SELECT * FROM failsafe._verify_values(s.t, s.a, s.j)) AS r
		ORDER BY r.rule, r.object
		LIMIT fault_limit;
	GET DIAGNOSTICS row_count = ROW_COUNT;

	RAISE NOTICE '%', (
		SELECT failsafe._verify_counts(tenants, asked.id, failsafe._verify_scope(since, quick)));
	IF row_count = fault_limit THEN
		RAISE WARNING 'only the first % faults are shown', fault_limit;
	END IF;
	PERFORM failsafe._wait_durable_all();
END
$body$;
COMMENT ON FUNCTION failsafe.ledger_verify(jsonb) IS
'Proves that the books balance: one row for each fault, no row when there is none. A notice says how much was checked. Everything is read under one snapshot; commands may go on beside it. Operators verify all tenants, others their own.
options: account (a code: what belongs to that account only), since (a time: whole transactions from the first one recorded then), quick (true: only what is newer than the last checkpoint; all when there is none).
Rules: currency_sum, transaction_sum (entries add up to 0 per tenant and currency, and in each transaction); balance_posted, balance_version, balance_held (a balance is the sum of its entries, their number, the rest of its open holds); entry_version, entry_posted, entry_recorded_at (each wallet''s entries are a chain without gaps); entry_transaction, transaction_entries, transaction_reference (every entry has its transaction and the other way round, and what it names exists); transaction_key, key_transaction; transaction_event, event_transaction; hold_transaction, hold_status, hold_expiry; reversal_sum; checkpoint_sum; account_balance, account_change; value_whole.
Errors: ACCOUNT_UNKNOWN, OPTION_INVALID.';

-- ==== src/ledger/trace.sql

-- ledger: everything that happened around one id, in time order.

-- Events are numbered almost in the order of time, so the first one of a time is found
-- by bisection over the leaves' indexes on seq.
CREATE FUNCTION failsafe._event_seq_at(at timestamptz) RETURNS int8
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
	low int8;					-- nothing up to here is as late as the time
	high int8;					-- found: this one is
	middle int8;
	probe record;
BEGIN
	SELECT min(o.seq) - 1, max(o.seq) + 1 INTO low, high
	FROM failsafe.outbox AS o WHERE o.slot BETWEEN 0 AND 15;
	WHILE high - low > 1 LOOP
		middle := low + (high - low) / 2;
		SELECT o.seq, o.occurred_at INTO probe
		FROM failsafe.outbox AS o
		WHERE o.slot BETWEEN 0 AND 15 AND o.seq >= middle AND o.seq < high
		ORDER BY o.seq LIMIT 1;
		IF NOT FOUND THEN
			high := middle;
		ELSIF probe.occurred_at < at THEN
			low := probe.seq;
		ELSE
			high := middle;
		END IF;
	END LOOP;
	RETURN high;
END
$body$;
COMMENT ON FUNCTION failsafe._event_seq_at(timestamptz) IS
'About the first event of the money lane that occurred at or after the time; NULL when the outbox is empty.';

-- The events that these transactions wrote.  An event has no index on its transaction:
-- that would cost every command.  Its place is found by time, with some slack for
-- transactions that ran at once, and the neighbourhood is read by the index on seq.
CREATE FUNCTION failsafe._transaction_events(journal_ids int8[])
RETURNS TABLE (journal_id int8, event_id uuid, event_type text, occurred_at timestamptz, seq int8)
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
#variable_conflict use_column
DECLARE
	slack_before CONSTANT interval := '1 second';
	slack_after CONSTANT interval := '5 seconds';
	period tstzrange;
BEGIN
	FOR period IN
		SELECT unnest(range_agg(tstzrange(j.recorded_at - slack_before, j.recorded_at + slack_after)))
		FROM failsafe.journal AS j WHERE j.id = ANY (journal_ids)
	LOOP
		RETURN QUERY
			SELECT o.journal_id, o.event_id, o.event_type, o.occurred_at, o.seq
			FROM failsafe.outbox AS o
			WHERE o.slot BETWEEN 0 AND 15
			  AND o.seq >= (SELECT failsafe._event_seq_at(lower(period)))
			  AND o.seq < (SELECT failsafe._event_seq_at(upper(period)))
			  AND o.journal_id = ANY (journal_ids);
	END LOOP;
END
$body$;
COMMENT ON FUNCTION failsafe._transaction_events(int8[]) IS
'The events of these transactions that the outbox still holds.';

-- The transactions that an id names.  h_7 and t_7 name the same one: the hold.
CREATE FUNCTION failsafe._trace_start(id text, tenants int4[], max_rows int4)
RETURNS SETOF int8
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT failsafe._transaction_find(_trace_start.id, tenants)
UNION
SELECT h.id FROM failsafe.hold AS h
WHERE h.id = failsafe._id_number('h', _trace_start.id) AND h.tenant_id = ANY (tenants)
UNION
SELECT k.journal_id FROM failsafe.idempotency_key AS k
WHERE k.tenant_id = ANY (tenants) AND k.key = _trace_start.id
UNION
(SELECT j.id FROM failsafe.journal AS j
 WHERE j.reference = _trace_start.id AND j.tenant_id = ANY (tenants) LIMIT max_rows)
UNION
(SELECT j.id FROM failsafe.journal AS j
 WHERE j.trace_id = _trace_start.id AND j.tenant_id = ANY (tenants) LIMIT max_rows)
$body$;
COMMENT ON FUNCTION failsafe._trace_start(text, int4[], int4) IS
'The journal ids that a designator, key, reference or trace id names.';

-- Holds and reversals lead from one transaction to the next.
CREATE FUNCTION failsafe._trace_spread(journal_ids int8[], max_rows int4) RETURNS int8[]
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
	known int8[] := journal_ids;
	latest int8[] := journal_ids;
BEGIN
	LOOP
		SELECT array_agg(found.id) INTO latest
		FROM (
			SELECT j.hold_id AS id FROM failsafe.journal AS j WHERE j.id = ANY (latest)
			UNION
			SELECT j.reverses FROM failsafe.journal AS j WHERE j.id = ANY (latest)
			UNION
			SELECT j.id FROM failsafe.journal AS j WHERE j.hold_id = ANY (latest)
			UNION
			SELECT j.id FROM failsafe.journal AS j WHERE j.reverses = ANY (latest)
		) AS found
		WHERE found.id <> ALL (known);
		EXIT WHEN latest IS NULL OR cardinality(known) >= max_rows;
		known := known || latest;
	END LOOP;
	RETURN known[1:max_rows];
END
$body$;
COMMENT ON FUNCTION failsafe._trace_spread(int8[], int4) IS
'These transactions and all that they touch through holds and reversals.';

CREATE FUNCTION failsafe._trace_transactions(journal_ids int8[])
RETURNS TABLE (at timestamptz, kind text, object text, summary text, actor text)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT j.recorded_at, 'transaction', 't_' || j.id,
	   concat_ws(' ', j.command,
				 CASE WHEN j.status <> j.command THEN j.status END, j.code,
				 j.amount || coalesce(' ' || coalesce(a.currency, other.currency), ''),
				 a.code || coalesce(CASE j.command WHEN 'credit' THEN ' <- '
													  WHEN 'reverse' THEN ' / ' ELSE ' -> ' END
									|| other.code, ''),
				 'of h_' || j.hold_id, 'reverses t_' || j.reverses,
				 'key=' || j.key, 'reference=' || j.reference, 'reason=' || j.reason,
				 'effective=' || j.effective_at, 'trace=' || j.trace_id),
	   failsafe._actor_label(j.actor_id)
FROM failsafe.journal AS j
LEFT JOIN failsafe.account AS a ON a.id = j.account_id
LEFT JOIN failsafe.account AS other ON other.id = j.counterparty_id
WHERE j.id = ANY (journal_ids)
$body$;
COMMENT ON FUNCTION failsafe._trace_transactions(int8[]) IS 'The transactions of a trace.';

CREATE FUNCTION failsafe._trace_entries(journal_ids int8[])
RETURNS TABLE (at timestamptz, kind text, object text, summary text, actor text)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT j.recorded_at, 'entry', 'e_' || e.id,
	   concat_ws(' ', a.code, CASE WHEN e.amount > 0 THEN '+' ELSE '' END || e.amount, a.currency,
				 'posted=' || e.posted, 'version=' || e.version),
	   NULL
FROM failsafe.journal AS j
CROSS JOIN LATERAL failsafe._transaction_legs(j.id, j.status, j.account_id, j.version,
			j.counterparty_id, j.counterparty_version, j.leg_account_ids, j.leg_versions) AS leg
JOIN failsafe.entry AS e ON e.account_id = leg.leg_account_id
	AND coalesce(e.version, e.id) = leg.leg_place
JOIN failsafe.account AS a ON a.id = e.account_id
WHERE j.id = ANY (journal_ids)
$body$;
COMMENT ON FUNCTION failsafe._trace_entries(int8[]) IS 'The entries of a trace.';

CREATE FUNCTION failsafe._trace_holds(journal_ids int8[])
RETURNS TABLE (at timestamptz, kind text, object text, summary text, actor text)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT r.placed_at, 'hold', r.hold_id,
	   format('%s now %s: %s %s reserved, %s captured, %s released, %s left, expires %s',
			  r.account, r.status, r.amount, r.currency, r.captured, r.released, r.remaining,
			  r.expires_at),
	   NULL
FROM failsafe._hold_rows(ARRAY(
		SELECT DISTINCT j.hold_id FROM failsafe.journal AS j
		WHERE j.id = ANY (journal_ids) AND j.hold_id IS NOT NULL)) AS r
$body$;
COMMENT ON FUNCTION failsafe._trace_holds(int8[]) IS 'The holds of a trace, as they are now.';

-- Freezes and limits of the accounts explain declines: from the last change before the
-- first transaction to an hour after the last one.
CREATE FUNCTION failsafe._trace_changes(account_ids int8[], since timestamptz, until timestamptz)
RETURNS TABLE (at timestamptz, kind text, object text, summary text, actor text)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT c.changed_at, 'account', a.code,
	   concat_ws(' ', c.change, 'status=' || c.status, 'floor=' || c.floor,
				 'ceiling=' || c.ceiling, 'reason=' || c.reason),
	   failsafe._actor_label(c.actor_id)
FROM failsafe.account AS a
JOIN failsafe.account_change AS c ON c.account_id = a.id
WHERE a.id = ANY (account_ids) AND c.changed_at <= until + interval '1 hour'
  AND c.id >= coalesce((SELECT max(k.id) FROM failsafe.account_change AS k
						WHERE k.account_id = a.id AND k.changed_at <= since), 0)
$body$;
COMMENT ON FUNCTION failsafe._trace_changes(int8[], timestamptz, timestamptz) IS
'The status and limit changes of accounts around a time.';

-- An event id carries its lane and number: 2 and 46 bits after the variant of the uuid.
CREATE FUNCTION failsafe._trace_event(id uuid, tenants int4[])
RETURNS TABLE (at timestamptz, kind text, object text, summary text, actor text, journal_id int8)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT o.occurred_at, 'event', o.event_id::text,
	   concat_ws(' ', o.event_type, 'key=' || o.order_key, 'seq=' || o.seq,
				 'trace=' || o.trace_id),
	   NULL, o.journal_id
FROM (SELECT ('x' || right(replace(_trace_event.id::text, '-', ''), 16))::bit(64) AS tail) AS given
JOIN failsafe.outbox AS o
	ON o.seq = substring(given.tail FROM 5 FOR 46)::bit(46)::int8
	AND o.slot BETWEEN 16 * substring(given.tail FROM 3 FOR 2)::int4
		AND 16 * substring(given.tail FROM 3 FOR 2)::int4 + 15
WHERE o.event_id = _trace_event.id AND o.tenant_id = ANY (tenants)
$body$;
COMMENT ON FUNCTION failsafe._trace_event(uuid, int4[]) IS 'The event with this id.';

CREATE FUNCTION failsafe._trace_accounts(journal_ids int8[])
RETURNS TABLE (at timestamptz, kind text, object text, summary text, actor text)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT c.*
FROM (SELECT min(j.recorded_at) AS since, max(j.recorded_at) AS until
	  FROM failsafe.journal AS j WHERE j.id = ANY (journal_ids)) AS span
CROSS JOIN LATERAL failsafe._trace_changes(ARRAY(
		SELECT unnest(ARRAY[j.account_id, j.counterparty_id] || j.leg_account_ids)
		FROM failsafe.journal AS j WHERE j.id = ANY (journal_ids)), span.since, span.until) AS c
$body$;
COMMENT ON FUNCTION failsafe._trace_accounts(int8[]) IS
'The status and limit changes around a trace.';

CREATE FUNCTION failsafe._trace_application_keys(key text, tenants int4[])
RETURNS TABLE (at timestamptz, kind text, object text, summary text, actor text)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT k.claimed_at, 'application_key', k.scope || '/' || k.key,
	   concat_ws(' ', k.state, 'completed=' || k.completed_at),
	   failsafe._actor_label(k.actor_id)
FROM failsafe.application_key AS k
WHERE k.tenant_id = ANY (tenants) AND k.scope = 'app'
  AND k.key = _trace_application_keys.key
$body$;
COMMENT ON FUNCTION failsafe._trace_application_keys(text, int4[]) IS
'The application''s key with this text, of the default scope.';

CREATE FUNCTION failsafe._trace_rows(id text, event_id uuid, tenants int4[], max_rows int4)
RETURNS TABLE (rank int4, at timestamptz, kind text, object text, summary text, actor text)
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
#variable_conflict use_column
DECLARE
	journal_ids int8[];
BEGIN
	SELECT array_agg(DISTINCT found.id) INTO journal_ids
	FROM (SELECT start.id FROM failsafe._trace_start(_trace_rows.id, tenants, max_rows) AS start (id)
		  UNION ALL
		  SELECT e.journal_id FROM failsafe._trace_event(event_id, tenants) AS e) AS found
	WHERE found.id IS NOT NULL;
	journal_ids := failsafe._trace_spread(coalesce(journal_ids, '{}'), max_rows);

	RETURN QUERY
		SELECT 1, t.* FROM failsafe._trace_accounts(journal_ids) AS t
		UNION ALL
		SELECT 2, t.* FROM failsafe._trace_application_keys(_trace_rows.id, tenants) AS t
		UNION ALL
		SELECT 3, t.* FROM failsafe._trace_transactions(journal_ids) AS t
		UNION ALL
		SELECT 4, t.* FROM failsafe._trace_entries(journal_ids) AS t
		UNION ALL
		SELECT 5, t.* FROM failsafe._trace_holds(journal_ids) AS t
		UNION ALL
		SELECT 6, o.occurred_at, 'event', o.event_id::text,
			   concat_ws(' ', o.event_type, 'of t_' || o.journal_id, 'seq=' || o.seq), NULL
		FROM failsafe._transaction_events(journal_ids) AS o
		UNION ALL
		SELECT 6, e.at, e.kind, e.object, e.summary, e.actor
		FROM failsafe._trace_event(event_id, tenants) AS e
		WHERE e.journal_id IS NULL;
END
$body$;
COMMENT ON FUNCTION failsafe._trace_rows(text, uuid, int4[], int4) IS
'The rows of a trace; rank orders those of one time.';

CREATE FUNCTION failsafe.trace(id text, options jsonb DEFAULT NULL)
RETURNS TABLE (at timestamptz, kind text, object text, summary text, actor text)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
#variable_conflict use_column
DECLARE
	max_rows int8;
	event_id uuid;
BEGIN
	PERFORM failsafe._options_check(options, 'max_rows');
	max_rows := failsafe._option_int8(options, 'max_rows', 1, 10000, 1000);
	PERFORM failsafe._require('id', trace.id);
	IF trace.id ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN
		event_id := trace.id::uuid;
	END IF;

	RETURN QUERY
		SELECT t.at, t.kind, t.object, t.summary, t.actor
		FROM failsafe._trace_rows(trace.id, event_id, failsafe._report_tenants(),
								  max_rows::int4) AS t
		ORDER BY t.at, t.rank, length(t.object), t.object;
	PERFORM failsafe._wait_durable_all();
END
$body$;
COMMENT ON FUNCTION failsafe.trace(text, jsonb) IS
'Everything that happened around one id, in time order: transactions (declines, expiries and reversals too), their entries, holds, events, and the status and limit changes of the accounts around that time. Transactions that belong together by a hold or a reversal are followed.
id: t_..., e_..., h_..., an idempotency key (with or without key:), a reference, a trace id, or an event id. Several kinds may fit one text: all of them are shown. No row: nothing is known of it.
kind: transaction, entry, hold (as it is now), event (while the outbox holds it), account, application_key.
options: max_rows (1 to 10000, default 1000), the number of transactions.
Errors: VALUE_REQUIRED, OPTION_INVALID.';

-- ==== src/maintain.sql

-- One call for cron: everything that has to be done now and then.

CREATE FUNCTION failsafe.maintain(options jsonb DEFAULT NULL)
RETURNS TABLE (task text, done int8, note text)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
#variable_conflict use_column
DECLARE
	step record;
BEGIN
	PERFORM failsafe._options_check(options);

	-- Checkpoints come first: a transaction that has written holds their horizon back.
	FOR step IN
		SELECT * FROM (VALUES
			('checkpoint', 'SELECT c.accounts, c.note FROM failsafe.ledger_checkpoint() AS c'),
			('holds', 'SELECT failsafe.holds_sweep(1000), NULL::text'),
			('application_keys', 'SELECT failsafe.idempotency_prune(10000), NULL::text'),
			('deliveries', 'SELECT p.attempts + p.dead_letters, NULL::text FROM failsafe.delivery_prune() AS p'),
			('outbox', 'SELECT count(*) FILTER (WHERE r.action = ''emptied''), '
					   'string_agg(r.leaf || '': '' || r.action, '', '') FILTER (WHERE r.action = ''busy'') '
					   'FROM failsafe.outbox_retain() AS r')
		) AS s (name, command)
	LOOP
		BEGIN
			task := step.name;
			EXECUTE step.command INTO done, note;
		EXCEPTION WHEN OTHERS THEN
			done := 0;
			note := format('failed: %s (%s)', SQLERRM, SQLSTATE);
		END;
		RETURN NEXT;
	END LOOP;
END
$body$;
COMMENT ON FUNCTION failsafe.maintain(jsonb) IS
'Does the upkeep, a bounded part of each task a call: checkpoints of system accounts, expiry of holds, old application keys, old events, old attempts and resolved dead letters. A task that fails does not stop the others; its note tells why. Call it every minute, as a statement of its own under READ COMMITTED. Errors: OPTION_INVALID.';

-- ==== src/base/guard.sql

-- base: guards.  Runs late: it loops over all tables of the schema.

CREATE FUNCTION failsafe._guard() RETURNS trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'failsafe_guard';
COMMENT ON FUNCTION failsafe._guard() IS 'refuses UPDATE, DELETE and TRUNCATE by SQL';

CREATE FUNCTION failsafe._drop_guard() RETURNS event_trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'failsafe_drop_guard';
COMMENT ON FUNCTION failsafe._drop_guard() IS 'refuses to drop a ledger that holds rows, and to alter its objects by hand';

DO $guard$
DECLARE
	guarded pg_catalog.regclass;
BEGIN
	FOR guarded IN
		SELECT c.oid::pg_catalog.regclass
		FROM pg_catalog.pg_class AS c
		WHERE c.relnamespace = 'failsafe'::pg_catalog.regnamespace
			AND c.relkind IN ('r', 'p')
			AND EXISTS (SELECT FROM pg_catalog.pg_depend AS d
						WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
							AND d.objid = c.oid AND d.deptype = 'e')
		ORDER BY c.relname
	LOOP
		EXECUTE pg_catalog.format(
			'CREATE TRIGGER failsafe_guard BEFORE UPDATE OR DELETE OR TRUNCATE ON %s '
			'FOR EACH STATEMENT EXECUTE FUNCTION failsafe._guard()', guarded);
		EXECUTE pg_catalog.format(
			'ALTER TABLE %s ENABLE ALWAYS TRIGGER failsafe_guard', guarded);
		EXECUTE pg_catalog.format(
			'COMMENT ON TRIGGER failsafe_guard ON %s IS %L', guarded,
			'refuses UPDATE, DELETE and TRUNCATE by SQL');
	END LOOP;
END
$guard$;

CREATE EVENT TRIGGER failsafe_drop_guard ON ddl_command_start
	WHEN TAG IN ('DROP EXTENSION', 'DROP SCHEMA', 'DROP OWNED',
				 'ALTER EXTENSION', 'ALTER SCHEMA', 'ALTER TABLE', 'ALTER INDEX',
				 'ALTER SEQUENCE', 'ALTER TRIGGER', 'ALTER RULE', 'ALTER POLICY',
				 'ALTER VIEW', 'CREATE TRIGGER', 'CREATE RULE', 'CREATE POLICY',
				 'DROP INDEX', 'DROP TRIGGER', 'DROP RULE', 'DROP POLICY')
	EXECUTE FUNCTION failsafe._drop_guard();
COMMENT ON EVENT TRIGGER failsafe_drop_guard IS 'keeps the ledger from being dropped or altered by mistake';
ALTER EVENT TRIGGER failsafe_drop_guard ENABLE ALWAYS;

-- ==== src/base/doctor.sql

-- base: doctor(), one row for each thing that an operator should know.
--
-- Each _doctor_...() looks at one subject.  doctor() calls them one by one and turns a
-- failure into a row, so that one broken thing does not hide the others.  All of them
-- only read, and work on a standby too.

-- What the tables look like now: columns and indexes.
CREATE FUNCTION failsafe._schema_shape() RETURNS TABLE (relation text, shape text)
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT c.relname::text,
	   (SELECT string_agg(concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod),
									CASE WHEN a.attnotnull THEN 'NOT NULL' END), ', '
						  ORDER BY a.attnum)
		FROM pg_attribute AS a
		WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
	   || coalesce((SELECT '; ' || string_agg(i.relname || CASE WHEN x.indisvalid THEN '' ELSE ' (invalid)' END,
											  ', ' ORDER BY i.relname)
					FROM pg_index AS x JOIN pg_class AS i ON i.oid = x.indexrelid
					WHERE x.indrelid = c.oid), '')
FROM pg_class AS c
WHERE c.relnamespace = 'failsafe'::regnamespace AND c.relkind IN ('r', 'p')
$body$;
COMMENT ON FUNCTION failsafe._schema_shape() IS
'The tables with their columns and indexes.';

CREATE FUNCTION failsafe._doctor_library()
RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT 'library_version',
	   CASE WHEN v.library = e.extversion THEN 'ok' ELSE 'error' END,
	   format('library %s, SQL objects %s', v.library, e.extversion),
	   CASE WHEN v.library <> e.extversion THEN
		'Run ALTER EXTENSION pg_failsafe UPDATE; if the library is preloaded, restart the server.' END
FROM (SELECT failsafe._library_version() AS library) AS v, pg_extension AS e
WHERE e.extname = 'pg_failsafe'
UNION ALL
SELECT 'library_preloaded', CASE WHEN p.preloaded THEN 'ok' ELSE 'info' END,
	   CASE WHEN p.preloaded THEN 'yes' ELSE 'no: each session loads the library at its first call' END,
	   CASE WHEN NOT p.preloaded THEN
		'Add pg_failsafe to shared_preload_libraries and restart, for complete counters.' END
FROM (SELECT current_setting('shared_preload_libraries') ~ '(^|[,/ "])pg_failsafe("| *,| *$)' AS preloaded) AS p
UNION ALL
SELECT 'stat_commands', CASE WHEN s.available THEN 'ok' ELSE 'warning' END,
	   CASE WHEN s.available THEN 'commands are counted' ELSE 'no shared memory: commands are not counted' END,
	   CASE WHEN NOT s.available THEN 'Preload the library and restart.' END
FROM (SELECT failsafe._stat_commands_available() AS available) AS s
UNION ALL
SELECT 'server', CASE WHEN pg_is_in_recovery() THEN 'info' ELSE 'ok' END,
	   CASE WHEN pg_is_in_recovery() THEN 'a standby: reports work, commands are refused'
			ELSE 'a primary' END, NULL
$body$;
COMMENT ON FUNCTION failsafe._doctor_library() IS 'doctor(): library and server.';

CREATE FUNCTION failsafe._doctor_settings()
RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT 'setting ' || s.name,
	   CASE WHEN s.value = ANY (s.safe) THEN 'ok' ELSE s.otherwise END,
	   coalesce(s.value, 'not set'), CASE WHEN s.value <> ALL (s.safe) THEN s.hint END
FROM (VALUES
	('fsync', current_setting('fsync'), '{on}'::text[], 'error',
	 'A crash of the machine loses and corrupts data. Set it on.'),
	('full_page_writes', current_setting('full_page_writes'), '{on}', 'error',
	 'A crash in the middle of a page write corrupts data. Set it on.'),
	('synchronous_commit', current_setting('synchronous_commit'), '{on,local,remote_write,remote_apply}',
	 'warning', 'Committed money can be lost in a crash. Set it on for sessions that move money.'),
	('autovacuum', current_setting('autovacuum'), '{on}', 'warning',
	 'Balance rows grow without vacuum. Set it on.'),
	('wal_level', current_setting('wal_level'), '{logical}', 'info',
	 'Reading the outbox by logical decoding (CDC) needs logical.'),
	('failsafe.early_lock_release', current_setting('failsafe.early_lock_release', true),
	 '{off,own}', 'warning',
	 'With all, changes of other tables can be seen before they are flushed. Prefer own.'),
	('failsafe.allow_prepare', current_setting('failsafe.allow_prepare', true), '{off}', 'warning',
	 'A forgotten prepared transaction keeps keys and accounts locked. Set it off unless it is needed.'),
	('failsafe.allow_drop', current_setting('failsafe.allow_drop', true), '{off}', 'warning',
	 'DROP EXTENSION would destroy the books. Set it on only in the session that needs it.'),
	('failsafe.log_refusals', current_setting('failsafe.log_refusals', true), '{on}', 'info',
	 'Refusals are not in the server log.'),
	('failsafe.event_types', current_setting('failsafe.event_types', true), '{*}', 'info',
	 'Some types of events are switched off.')
) AS s (name, value, safe, otherwise, hint)
UNION ALL
SELECT 'setting of a role or database', 'warning',
	   concat_ws(' ', 'role ' || quote_ident(r.rolname), 'database ' || quote_ident(d.datname),
				 'has', assigned.text),
	   'Use ALTER ROLE or ALTER DATABASE ... RESET unless it is meant.'
FROM pg_db_role_setting AS k
LEFT JOIN pg_roles AS r ON r.oid = k.setrole
LEFT JOIN pg_database AS d ON d.oid = k.setdatabase
CROSS JOIN LATERAL unnest(k.setconfig) AS assigned (text)
WHERE lower(assigned.text) = ANY ('{failsafe.allow_drop=on,failsafe.allow_drop=true,failsafe.allow_drop=1,
	failsafe.allow_prepare=on,failsafe.allow_prepare=true,failsafe.allow_prepare=1,
	failsafe.early_lock_release=all,synchronous_commit=off}'::text[])
$body$;
COMMENT ON FUNCTION failsafe._doctor_settings() IS
'doctor(): settings that switch a safety off.';

CREATE FUNCTION failsafe._doctor_guards()
RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
WITH tables AS (
	SELECT c.oid, c.relname, t.tgenabled
	FROM pg_class AS c
	LEFT JOIN pg_trigger AS t ON t.tgrelid = c.oid AND t.tgname = 'failsafe_guard'
		AND t.tgfoid = 'failsafe._guard()'::regprocedure
		AND t.tgtype & 58 = 58 AND t.tgtype & 1 = 0		-- BEFORE UPDATE, DELETE, TRUNCATE, by statement
		AND t.tgqual IS NULL AND t.tgattr::text = ''
	WHERE c.relnamespace = 'failsafe'::regnamespace AND c.relkind IN ('r', 'p')
)
SELECT 'guards', CASE WHEN bad.names IS NULL THEN 'ok' ELSE 'error' END,
	   CASE WHEN bad.names IS NULL THEN format('all %s tables refuse UPDATE, DELETE and TRUNCATE',
											   (SELECT count(*) FROM tables))
			ELSE 'missing or not enabled always on: ' || bad.names END,
	   CASE WHEN bad.names IS NOT NULL THEN
		'ALTER TABLE ... ENABLE ALWAYS TRIGGER failsafe_guard; a restore with --disable-triggers leaves it off.' END
FROM (SELECT string_agg(t.relname, ', ' ORDER BY t.relname) AS names
	  FROM tables AS t WHERE t.tgenabled IS DISTINCT FROM 'A') AS bad
UNION ALL
SELECT 'drop_guard', CASE WHEN e.evtenabled = 'A' THEN 'ok' ELSE 'error' END,
	   CASE WHEN e.evtenabled = 'A' THEN 'DROP EXTENSION is refused while the ledger holds rows'
			ELSE 'the event trigger failsafe_drop_guard is missing or not enabled always' END,
	   CASE WHEN e.evtenabled IS DISTINCT FROM 'A' THEN
		'ALTER EVENT TRIGGER failsafe_drop_guard ENABLE ALWAYS.' END
FROM (VALUES (1)) AS one
LEFT JOIN pg_event_trigger AS e ON e.evtname = 'failsafe_drop_guard'
$body$;
COMMENT ON FUNCTION failsafe._doctor_guards() IS 'doctor(): guards of the tables and of the extension.';

CREATE FUNCTION failsafe._doctor_tables()
RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
WITH fault AS (
	SELECT format('%s is [%s], expected [%s]', coalesce(now.relation, made.relation),
				  coalesce(now.shape, 'missing'), coalesce(made.shape, 'no such table')) AS text
	FROM failsafe._schema_shape() AS now
	FULL JOIN failsafe._schema_shape_made() AS made ON made.relation = now.relation
	WHERE now.shape IS DISTINCT FROM made.shape
	UNION ALL
	SELECT format('%s has trigger %s', c.relname, t.tgname)
	FROM pg_class AS c JOIN pg_trigger AS t ON t.tgrelid = c.oid
	WHERE c.relnamespace = 'failsafe'::regnamespace AND t.tgname <> 'failsafe_guard'
	UNION ALL
	SELECT format('%s has constraint %s', c.relname, k.conname)
	FROM pg_class AS c JOIN pg_constraint AS k ON k.conrelid = c.oid
	WHERE c.relnamespace = 'failsafe'::regnamespace AND c.relkind IN ('r', 'p')
	  AND k.contype <> 'n'			-- since 18 NOT NULL is a constraint of its own
	UNION ALL
	SELECT format('%s has rule %s', c.relname, r.rulename)
	FROM pg_class AS c JOIN pg_rewrite AS r ON r.ev_class = c.oid
	WHERE c.relnamespace = 'failsafe'::regnamespace AND c.relkind IN ('r', 'p')
	UNION ALL
	SELECT format('%s has row security', c.relname)
	FROM pg_class AS c
	WHERE c.relnamespace = 'failsafe'::regnamespace AND (c.relrowsecurity OR c.relforcerowsecurity)
	UNION ALL
	SELECT format('%s is not logged', c.relname)
	FROM pg_class AS c
	WHERE c.relnamespace = 'failsafe'::regnamespace AND c.relkind = 'r' AND c.relpersistence <> 'p'
)
SELECT 'tables', 'ok', 'all tables are as the extension made them', NULL::text
WHERE NOT EXISTS (SELECT FROM fault)
UNION ALL
SELECT 'tables', 'error', fault.text,
	   'Undo the change: commands refuse to work on a table that was altered by hand.'
FROM fault
$body$;
COMMENT ON FUNCTION failsafe._doctor_tables() IS
'doctor(): tables that were altered by hand.';

CREATE FUNCTION failsafe._doctor_privileges()
RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
WITH fault (text, hint) AS (
	SELECT format('%s is open to PUBLIC', object.name), 'REVOKE ALL ON it FROM PUBLIC.'
	FROM (
		SELECT c.relname AS name, c.relacl AS acl FROM pg_class AS c
		WHERE c.relnamespace = 'failsafe'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'S')
		UNION ALL
		SELECT p.oid::regprocedure::text, coalesce(p.proacl, acldefault('f', p.proowner))
		FROM pg_proc AS p WHERE p.pronamespace = 'failsafe'::regnamespace
	) AS object
	CROSS JOIN LATERAL aclexplode(object.acl) AS granted
	WHERE granted.grantee = 0
	UNION ALL
	SELECT format('role %s can write the table %s', granted.grantee::regrole, c.relname),
		   'Only the functions may write: REVOKE it.'
	FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS granted
	WHERE c.relnamespace = 'failsafe'::regnamespace AND c.relkind IN ('r', 'p')
	  AND granted.grantee NOT IN (0, c.relowner)
	  AND granted.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER')
	UNION ALL
	SELECT format('role %s can log in or administer the server', r.rolname),
		   'Grant the role to login roles instead: ALTER ROLE ... NOLOGIN.'
	FROM pg_roles AS r
	WHERE r.rolname IN ('failsafe_reader', 'failsafe_app', 'failsafe_operator', 'failsafe_admin')
	  AND (r.rolcanlogin OR r.rolsuper OR r.rolcreaterole OR r.rolbypassrls OR r.rolreplication)
	UNION ALL
	SELECT format('role %s is missing', wanted.name), 'Create it, or restore its dump with the roles.'
	FROM (VALUES ('failsafe_reader'), ('failsafe_app'), ('failsafe_operator'), ('failsafe_admin')) AS wanted (name)
	WHERE to_regrole(wanted.name) IS NULL
)
SELECT 'privileges', 'ok', 'nothing is open to PUBLIC, and only the functions can write', NULL
WHERE NOT EXISTS (SELECT FROM fault)
UNION ALL
SELECT 'privileges', 'warning', fault.text, fault.hint FROM fault
UNION ALL
SELECT 'members of ' || r.rolname, 'info', string_agg(m.member::regrole::text, ', ' ORDER BY m.member), NULL
FROM pg_roles AS r JOIN pg_auth_members AS m ON m.roleid = r.oid
WHERE r.rolname IN ('failsafe_reader', 'failsafe_app', 'failsafe_operator', 'failsafe_admin')
GROUP BY r.rolname
$body$;
COMMENT ON FUNCTION failsafe._doctor_privileges() IS 'doctor(): roles and grants.';

CREATE FUNCTION failsafe._doctor_tenants()
RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
WITH tenants AS (SELECT count(*) AS number FROM failsafe.tenant),
without AS (
	SELECT string_agg(quote_ident(r.rolname), ', ' ORDER BY r.rolname) AS names
	FROM pg_roles AS r
	WHERE r.rolcanlogin AND NOT r.rolsuper AND to_regrole('failsafe_app') IS NOT NULL
	  AND pg_has_role(r.oid, to_regrole('failsafe_app')::oid, 'MEMBER')
	  AND NOT EXISTS (SELECT FROM pg_db_role_setting AS s CROSS JOIN LATERAL unnest(s.setconfig) AS c (text)
					  WHERE s.setrole IN (0, r.oid) AND starts_with(lower(c.text), 'failsafe.tenant='))
)
SELECT 'tenants', CASE WHEN t.number > 1 AND w.names IS NOT NULL THEN 'warning' ELSE 'ok' END,
	   format('%s tenants', t.number)
	   || CASE WHEN t.number > 1 THEN coalesce('; no tenant is set for: ' || w.names, '') ELSE '' END,
	   CASE WHEN t.number > 1 AND w.names IS NOT NULL THEN
		'ALTER ROLE ... SET failsafe.tenant = ''...''; until then their calls are refused.' END
FROM tenants AS t, without AS w
$body$;
COMMENT ON FUNCTION failsafe._doctor_tenants() IS 'doctor(): tenants and the roles that name none.';

CREATE FUNCTION failsafe._doctor_outbox()
RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
WITH leaf AS (
	SELECT first.occurred_at
	FROM generate_series(0, 63) AS number
	CROSS JOIN LATERAL (
		SELECT o.occurred_at FROM failsafe.outbox AS o
		WHERE o.slot = number ORDER BY o.seq LIMIT 1) AS first
), total AS (
	SELECT count(*) AS leaves, min(leaf.occurred_at) AS oldest,
		   (SELECT sum(pg_total_relation_size(i.inhrelid)) FROM pg_inherits AS i
			WHERE i.inhparent = 'failsafe.outbox'::regclass) AS bytes
	FROM leaf
)
SELECT 'outbox',
	   CASE WHEN t.oldest < clock_timestamp() - 2 * failsafe._event_retention() THEN 'warning' ELSE 'ok' END,
	   format('%s of 64 leaves in use, %s, oldest event %s, retention %s', t.leaves,
			  pg_size_pretty(t.bytes), coalesce(t.oldest::text, 'none'), failsafe._event_retention()),
	   CASE WHEN t.oldest < clock_timestamp() - 2 * failsafe._event_retention() THEN
		'Call failsafe.maintain() regularly; see what outbox_retain() answers.' END
FROM total AS t
$body$;
COMMENT ON FUNCTION failsafe._doctor_outbox() IS 'doctor(): size and age of the outbox.';

CREATE FUNCTION failsafe._doctor_upkeep()
RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
WITH uncounted AS (
	SELECT a.code, c.taken_at,
		   (SELECT count(*) FROM (SELECT FROM failsafe.entry AS e
								  WHERE e.account_id = a.id
									AND coalesce(e.version, e.id) > coalesce(c.entry_id, 0)
								  LIMIT 100000) AS sample) AS entries
	FROM failsafe.account AS a
	LEFT JOIN LATERAL (SELECT k.entry_id, k.taken_at FROM failsafe.checkpoint AS k
					   WHERE k.account_id = a.id ORDER BY k.entry_id DESC LIMIT 1) AS c ON true
	WHERE a.kind = 'system'
	ORDER BY entries DESC LIMIT 1
), due AS (
	SELECT count(*) AS holds, min(h.expires_at) AS oldest
	FROM (SELECT k.expires_at FROM failsafe.hold AS k
		  WHERE k.status = 'open' AND k.expires_at < clock_timestamp() - interval '5 minutes'
		  LIMIT 10000) AS h
), unfinished AS (
	SELECT count(*) AS keys, min(k.claimed_at) AS oldest
	FROM failsafe.application_key AS k
	WHERE k.state = 'unfinished' AND k.claimed_at < clock_timestamp() - interval '1 day'
)
SELECT 'checkpoints', CASE WHEN u.entries >= 100000 THEN 'warning' ELSE 'ok' END,
	   format('%s has %s entries since its checkpoint of %s', u.code,
			  CASE WHEN u.entries >= 100000 THEN '100000 or more' ELSE u.entries::text END,
			  coalesce(u.taken_at::text, 'never')),
	   CASE WHEN u.entries >= 100000 THEN
		'Call failsafe.maintain() regularly; a long transaction holds checkpoints back.' END
FROM uncounted AS u
UNION ALL
SELECT 'holds', CASE WHEN d.holds > 0 THEN 'warning' ELSE 'ok' END,
	   format('%s holds expired more than 5 minutes ago and are not swept', d.holds)
	   || coalesce(', the oldest at ' || d.oldest, ''),
	   CASE WHEN d.holds > 0 THEN
		'Their money is free already; call failsafe.maintain() for the events and the records.' END
FROM due AS d
UNION ALL
SELECT 'application_keys', CASE WHEN k.keys > 0 THEN 'warning' ELSE 'ok' END,
	   format('%s keys were claimed more than a day ago and never completed', k.keys)
	   || coalesce(', the oldest at ' || k.oldest, ''),
	   CASE WHEN k.keys > 0 THEN
		'Find out whether the work was done; then idempotency_complete() or idempotency_release().' END
FROM unfinished AS k
$body$;
COMMENT ON FUNCTION failsafe._doctor_upkeep() IS
'doctor(): checkpoints, expired holds and unfinished keys.';

CREATE FUNCTION failsafe._doctor_transactions()
RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
WITH fault (detail, hint) AS (
	SELECT format('process %s (%s, %s) is in a transaction since %s', a.pid, a.usename,
				  a.application_name, a.xact_start),
		   'It keeps dead rows and holds checkpoints back: end it, or pg_terminate_backend().'
	FROM pg_stat_activity AS a
	WHERE a.xact_start < clock_timestamp() - interval '10 minutes'
	  AND (a.backend_xid IS NOT NULL OR a.backend_xmin IS NOT NULL)
	UNION ALL
	SELECT format('transaction %L is prepared since %s', p.gid, p.prepared),
		   'It keeps its locks until COMMIT PREPARED or ROLLBACK PREPARED.'
	FROM pg_prepared_xacts AS p
	WHERE p.prepared < clock_timestamp() - interval '5 minutes'
	UNION ALL
	SELECT format('replication slot %s is not in use and keeps %s of WAL', s.slot_name,
				  pg_size_pretty(pg_wal_lsn_diff(
					CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
						 ELSE pg_current_wal_lsn() END, s.restart_lsn))),
		   'Drop it if nobody will come back for it.'
	FROM pg_replication_slots AS s
	WHERE NOT s.active AND s.restart_lsn IS NOT NULL
)
SELECT 'transactions', 'ok', 'none is old', NULL::text WHERE NOT EXISTS (SELECT FROM fault)
UNION ALL
SELECT 'transactions', 'warning', fault.detail, fault.hint FROM fault
$body$;
COMMENT ON FUNCTION failsafe._doctor_transactions() IS
'doctor(): transactions and slots that hold everything back.';

-- A sequence behind its table would give a number twice: a sign of a bad restore.
CREATE FUNCTION failsafe._doctor_sequences()
RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
WITH behind AS (
	SELECT s.name, s.highest, pg_sequence_last_value(('failsafe.' || s.name)::regclass) AS last
	FROM (VALUES
		('tenant_id_seq', (SELECT max(t.id)::int8 FROM failsafe.tenant AS t WHERE NOT t.builtin)),
		('actor_id_seq', (SELECT max(a.id) FROM failsafe.actor AS a)),
		('account_id_seq', (SELECT max(a.id) FROM failsafe.account AS a)),
		('account_change_id_seq', (SELECT max(c.id) FROM failsafe.account_change AS c)),
		('application_key_id_seq', (SELECT max(k.id) FROM failsafe.application_key AS k)),
		('journal_id_seq', (SELECT max(j.id) FROM failsafe.journal AS j)),
		('outbox_seq_0', (SELECT max(o.seq) FROM failsafe.outbox AS o WHERE o.slot BETWEEN 0 AND 15)),
		('outbox_seq_1', (SELECT max(o.seq) FROM failsafe.outbox AS o WHERE o.slot BETWEEN 16 AND 31)),
		('outbox_seq_2', (SELECT max(o.seq) FROM failsafe.outbox AS o WHERE o.slot BETWEEN 32 AND 47)),
		('outbox_seq_3', (SELECT max(o.seq) FROM failsafe.outbox AS o WHERE o.slot BETWEEN 48 AND 63))
	) AS s (name, highest)
)
SELECT 'sequences', 'ok', 'none is behind its table', NULL::text
WHERE NOT EXISTS (SELECT FROM behind WHERE highest > coalesce(last, 0))
UNION ALL
SELECT 'sequences', 'error',
	   format('%s is at %s, its table at %s', b.name, coalesce(b.last::text, 'its start'), b.highest),
	   format('SELECT setval(''failsafe.%s'', %s), before any command runs; then find out what the restore left out.',
			  b.name, b.highest)
FROM behind AS b WHERE b.highest > coalesce(b.last, 0)
$body$;
COMMENT ON FUNCTION failsafe._doctor_sequences() IS 'doctor(): sequences behind their tables.';

CREATE FUNCTION failsafe.doctor()
RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
	subject text;
BEGIN
	FOREACH subject IN ARRAY ARRAY['library', 'settings', 'guards', 'tables', 'privileges',
			'tenants', 'outbox', 'delivery', 'delivery_worker', 'upkeep', 'transactions', 'sequences']
	LOOP
		BEGIN
			RETURN QUERY EXECUTE format('SELECT * FROM failsafe._doctor_%s()', subject);
		EXCEPTION WHEN OTHERS THEN
			check_name := subject;
			status := 'error';
			detail := format('could not be checked: %s (%s)', SQLERRM, SQLSTATE);
			hint := 'Compare the objects of the extension with a new installation.';
			RETURN NEXT;
		END;
	END LOOP;
END
$body$;
COMMENT ON FUNCTION failsafe.doctor() IS
'What an operator should know: library, settings, guards, altered tables, privileges, tenants, outbox, delivery and its workers, upkeep, old transactions, sequences. status: ok, info, warning, error; hint says what to do. Only reads, works on a standby, and does not fail: what cannot be checked is a row with status error.';

-- What the tables looked like when the extension was made.  An update script that
-- changes a table makes this function anew, by the same block.
DO $shape$
BEGIN
	EXECUTE pg_catalog.format(
		'CREATE FUNCTION failsafe._schema_shape_made() RETURNS TABLE (relation text, shape text) '
		'LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp '
		'AS %L',
		(SELECT E'VALUES\n' || pg_catalog.string_agg(
					pg_catalog.format('(%L::text, %L::text)', s.relation, s.shape), E',\n'
					ORDER BY s.relation COLLATE "C")
		 FROM failsafe._schema_shape() AS s));
END
$shape$;
COMMENT ON FUNCTION failsafe._schema_shape_made() IS
'The tables with their columns and indexes, as the extension made them.';

-- ==== src/base/dump.sql

-- base: what pg_dump must carry: the rows of every table and the state of every sequence.
-- Rows that the script itself made are left out, they would collide in a restore.  Leaves
-- are named one by one; naming their parent would not cover them.

DO $dump$
DECLARE
	kept record;
BEGIN
	FOR kept IN
		SELECT c.oid::pg_catalog.regclass AS relation,
			   EXISTS (SELECT FROM pg_catalog.pg_attribute AS a
					   WHERE a.attrelid = c.oid AND a.attname = 'builtin'
						   AND NOT a.attisdropped) AS has_builtin
		FROM pg_catalog.pg_class AS c
		WHERE c.relnamespace = 'failsafe'::pg_catalog.regnamespace
			AND c.relkind IN ('r', 'S')
			AND EXISTS (SELECT FROM pg_catalog.pg_depend AS d
						WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
							AND d.objid = c.oid AND d.deptype = 'e')
		ORDER BY c.relname
	LOOP
		PERFORM pg_catalog.pg_extension_config_dump(
			kept.relation,
			CASE WHEN kept.has_builtin THEN 'WHERE NOT builtin' ELSE '' END);
	END LOOP;
END
$dump$;

-- ==== src/grants.matrix

-- Made from src/grants.matrix.
REVOKE ALL ON SCHEMA failsafe FROM PUBLIC;
REVOKE ALL ON ALL ROUTINES IN SCHEMA failsafe FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA failsafe FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA failsafe FROM PUBLIC;
GRANT USAGE ON SCHEMA failsafe
	TO failsafe_reader, failsafe_app, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.business_key(text[]) TO failsafe_reader, failsafe_app, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.currency_add(text, integer) TO failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.major(numeric, text) TO failsafe_reader, failsafe_app, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.minor(numeric, text) TO failsafe_reader, failsafe_app, failsafe_operator, failsafe_admin;
GRANT SELECT ON TABLE failsafe.error_codes TO failsafe_reader, failsafe_app, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe._error_codes() TO failsafe_reader, failsafe_app, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe._library_version() TO failsafe_reader, failsafe_app, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe._tenant_id() TO failsafe_reader, failsafe_app, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe._wait_durable_all() TO failsafe_reader, failsafe_app, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.tenant_add(text, jsonb) TO failsafe_admin;
GRANT SELECT ON TABLE failsafe.stat_commands TO failsafe_reader, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe._stat_commands() TO failsafe_reader, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe._stat_commands_available() TO failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe._released_early() TO failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.stat_commands_reset() TO failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.idempotency_claim(text, jsonb, text, jsonb) TO failsafe_app, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.idempotency_complete(text, jsonb, text, jsonb) TO failsafe_app, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.idempotency_release(text, text, text, jsonb) TO failsafe_app, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.idempotency_prune(integer, jsonb) TO failsafe_operator, failsafe_admin;
GRANT SELECT ON TABLE failsafe.application_keys TO failsafe_reader, failsafe_app, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.outbox_emit(text, text, jsonb, jsonb, jsonb) TO failsafe_app, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.outbox_get(uuid, jsonb) TO failsafe_reader, failsafe_app, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.outbox_retain(integer, jsonb) TO failsafe_operator, failsafe_admin;
GRANT SELECT ON TABLE failsafe.events TO failsafe_reader, failsafe_app, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe._event_envelope(uuid, text, timestamp with time zone, text, text, text, json) TO failsafe_reader, failsafe_app, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe._event_position(uuid) TO failsafe_reader, failsafe_app, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe._options_none(jsonb) TO failsafe_reader, failsafe_app, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.account_open(text, text, text, numeric, numeric, jsonb, jsonb) TO failsafe_app, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.account_freeze(text, text, text, jsonb) TO failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.account_unfreeze(text, text, jsonb) TO failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.account_close(text, text, jsonb) TO failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.account_set_limits(text, numeric, numeric, text, jsonb) TO failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.account_balance(text, jsonb) TO failsafe_reader, failsafe_app, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.wallet_debit(text, numeric, text, text, text, text, text, text, jsonb, jsonb) TO failsafe_app, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.wallet_credit(text, numeric, text, text, text, text, text, text, jsonb, jsonb) TO failsafe_app, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.wallet_transfer(text, text, numeric, text, text, text, text, text, jsonb, jsonb) TO failsafe_app, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.wallet_hold(text, numeric, text, text, interval, text, text, text, text, jsonb, jsonb) TO failsafe_app, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.wallet_extend(text, text, interval, text, text, jsonb) TO failsafe_app, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.wallet_commit(text, text, numeric, boolean, text, text, text, text, jsonb, jsonb) TO failsafe_app, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.wallet_rollback(text, text, text, text, text, jsonb, jsonb) TO failsafe_app, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.wallet_reverse(text, text, numeric, text, text, text, jsonb, jsonb) TO failsafe_app, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.ledger_post(failsafe.leg[], text, text, text, text, jsonb, jsonb) TO failsafe_app, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.wallet_command(json) TO failsafe_app, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.wallet_http(json) TO failsafe_app, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.wallet_batch(json, boolean, jsonb) TO failsafe_app, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.holds_sweep(integer) TO failsafe_operator, failsafe_admin;
REVOKE ALL ON TYPE failsafe.leg FROM PUBLIC;
GRANT USAGE ON TYPE failsafe.leg TO failsafe_app, failsafe_operator, failsafe_admin;
REVOKE ALL ON TYPE failsafe.wallet_result FROM PUBLIC;
GRANT USAGE ON TYPE failsafe.wallet_result TO failsafe_app, failsafe_operator, failsafe_admin;
REVOKE ALL ON TYPE failsafe.account_info FROM PUBLIC;
GRANT USAGE ON TYPE failsafe.account_info TO failsafe_app, failsafe_operator, failsafe_admin;
REVOKE ALL ON TYPE failsafe.account_balance_result FROM PUBLIC;
GRANT USAGE ON TYPE failsafe.account_balance_result TO failsafe_reader, failsafe_app, failsafe_operator, failsafe_admin;
GRANT SELECT ON TABLE failsafe.accounts TO failsafe_reader, failsafe_app, failsafe_operator, failsafe_admin;
GRANT SELECT ON TABLE failsafe.transactions TO failsafe_reader, failsafe_app, failsafe_operator, failsafe_admin;
GRANT SELECT ON TABLE failsafe.entries TO failsafe_reader, failsafe_app, failsafe_operator, failsafe_admin;
GRANT SELECT ON TABLE failsafe.hold_list TO failsafe_reader, failsafe_app, failsafe_operator, failsafe_admin;
GRANT SELECT ON TABLE failsafe.account_changes TO failsafe_reader, failsafe_app, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.account_balance_at(text, timestamp with time zone, text, jsonb) TO failsafe_reader, failsafe_app, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.account_statement(text, timestamp with time zone, timestamp with time zone, integer, text, jsonb) TO failsafe_reader, failsafe_app, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.holds(text, jsonb) TO failsafe_reader, failsafe_app, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.hold_get(text, jsonb) TO failsafe_reader, failsafe_app, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.hold_history(text, jsonb) TO failsafe_reader, failsafe_app, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.idempotency_status(text, text, jsonb) TO failsafe_reader, failsafe_app, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.trace(text, jsonb) TO failsafe_reader, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.ledger_verify(jsonb) TO failsafe_reader, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.ledger_checkpoint(integer, jsonb) TO failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.doctor() TO failsafe_reader, failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe.maintain(jsonb) TO failsafe_operator, failsafe_admin;
GRANT EXECUTE ON FUNCTION failsafe._report_tenants() TO failsafe_reader, failsafe_app, failsafe_operator, failsafe_admin;
