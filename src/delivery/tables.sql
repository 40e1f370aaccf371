-- delivery: tables.

-- Which database was told to deliver.  The first subscription writes the row; a restored
-- or copied database has a row that names another one, and sends nothing until adopt().
CREATE TABLE failsafe.instance (
	id int8 NOT NULL,
	system_identifier int8 NOT NULL,
	database_id oid NOT NULL,
	outbox_id oid NOT NULL,
	adopted_at timestamptz NOT NULL,
	actor_id int8 NOT NULL,
	reason text
);
CREATE SEQUENCE failsafe.instance_id_seq OWNED BY failsafe.instance.id;

CREATE TABLE failsafe.subscription (
	id int8 NOT NULL,
	generation int8 NOT NULL,
	created_at timestamptz NOT NULL,
	tenant_id int4 NOT NULL,
	actor_id int8 NOT NULL,
	state text NOT NULL,			-- active, paused, disabled
	state_reason text,
	name text COLLATE "C" NOT NULL,
	sink text NOT NULL,
	config json NOT NULL,
	event_types text[] COLLATE "C" NOT NULL,
	ordering text NOT NULL,			-- key, none
	on_blocked text NOT NULL,		-- block, skip
	tenants text[],
	regions text[],
	policy jsonb NOT NULL
);
CREATE UNIQUE INDEX subscription_id ON failsafe.subscription (id);
CREATE UNIQUE INDEX subscription_name ON failsafe.subscription (tenant_id, name);
CREATE SEQUENCE failsafe.subscription_id_seq OWNED BY failsafe.subscription.id;
CREATE SEQUENCE failsafe.subscription_generation_seq;

CREATE TABLE failsafe.subscription_change (
	id int8 NOT NULL,
	subscription_id int8 NOT NULL,
	changed_at timestamptz NOT NULL,
	actor_id int8 NOT NULL,
	tenant_id int4 NOT NULL,
	name text COLLATE "C" NOT NULL, -- the subscription may be gone
	action text NOT NULL,			-- created, altered, paused, disabled, resumed, rewound, dropped
	detail jsonb,
	reason text
);
CREATE INDEX subscription_change_subscription ON failsafe.subscription_change (subscription_id, id);
CREATE SEQUENCE failsafe.subscription_change_id_seq OWNED BY failsafe.subscription_change.id;

-- One row for each subscription and lane.  Its index is not unique: it is found by the
-- remembered place first, and stays flat under a snapshot that is held open.
CREATE TABLE failsafe.position (
	subscription_id int8 NOT NULL,
	lane int2 NOT NULL,
	high int8 NOT NULL,				-- all numbers up to it are decided, but for the open ones
	high_at timestamptz,			-- occurred_at of the newest event that was read
	moved_at timestamptz NOT NULL,
	done int8 NOT NULL,				-- events delivered so far
	open_numbers int8[]				-- first, last, horizon, first, last, horizon ...
) WITH (fillfactor = 50);
CREATE INDEX position_subscription ON failsafe.position (subscription_id);

CREATE TABLE failsafe.delivery (
	id int8 NOT NULL,
	subscription_id int8 NOT NULL,
	seq int8 NOT NULL,
	created_at timestamptz NOT NULL,
	due_at timestamptz NOT NULL,	-- infinity while parked; the end of the lease while leased
	dead_letter_id int8,			-- sent again from this dead letter
	replay_id int8,
	fence int8,						-- of the lease
	event_id uuid NOT NULL,
	attempts int4 NOT NULL,
	lane int2 NOT NULL,
	state text NOT NULL,			-- waiting, parked, leased
	event_type text COLLATE "C" NOT NULL,
	order_key text COLLATE "C" NOT NULL,
	class text,						-- of the last failure
	reason text
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX delivery_id ON failsafe.delivery (id);
CREATE INDEX delivery_due ON failsafe.delivery (subscription_id, due_at);
CREATE INDEX delivery_key ON failsafe.delivery (subscription_id, order_key, lane, seq);
CREATE INDEX delivery_seq ON failsafe.delivery (lane, seq);
CREATE SEQUENCE failsafe.delivery_id_seq OWNED BY failsafe.delivery.id;
CREATE SEQUENCE failsafe.delivery_fence_seq;

CREATE TABLE failsafe.attempt (
	id int8 NOT NULL,
	subscription_id int8 NOT NULL,
	delivery_id int8,
	dead_letter_id int8,
	started_at timestamptz NOT NULL,
	duration_us int8 NOT NULL,
	event_id uuid NOT NULL,
	number int4 NOT NULL,
	status int4,					-- of the protocol, as 503; NULL: no answer
	class text NOT NULL,			-- delivered, temporary, throttled, permanent, unknown, gone
	code text NOT NULL,				-- timeout, refused, http ...
	reason text,
	response text					-- the answer's first bytes
);
CREATE INDEX attempt_event ON failsafe.attempt (event_id, id);
CREATE INDEX attempt_started ON failsafe.attempt (started_at);
CREATE SEQUENCE failsafe.attempt_id_seq OWNED BY failsafe.attempt.id;

CREATE TABLE failsafe.dead_letter (
	id int8 NOT NULL,
	subscription_id int8 NOT NULL,
	replay_id int8,
	died_at timestamptz NOT NULL,
	first_attempt_at timestamptz,
	resolved_at timestamptz,
	resolved_by int8,				-- actor
	occurred_at timestamptz NOT NULL,
	expires_at timestamptz,
	seq int8 NOT NULL,
	event_id uuid NOT NULL,
	attempts int4 NOT NULL,
	tenant_id int4 NOT NULL,
	lane int2 NOT NULL,
	priority int2 NOT NULL,
	state text NOT NULL,			-- dead, replaying, replayed, discarded
	class text NOT NULL,			-- of the last failure; or expired, lag, canceled
	reason text NOT NULL,			-- a sentence that a person understands
	resolution text,				-- why it was discarded
	event_type text COLLATE "C" NOT NULL,
	order_key text COLLATE "C" NOT NULL,
	payload json,					-- as in the outbox: without the envelope
	headers json,
	subject text,
	region text,
	trace_id text,
	traceparent text
);
CREATE UNIQUE INDEX dead_letter_id ON failsafe.dead_letter (id);
CREATE INDEX dead_letter_state ON failsafe.dead_letter (subscription_id, state, id);
CREATE INDEX dead_letter_seq ON failsafe.dead_letter (subscription_id, lane, seq);
CREATE INDEX dead_letter_event ON failsafe.dead_letter (event_id);
CREATE SEQUENCE failsafe.dead_letter_id_seq OWNED BY failsafe.dead_letter.id;

CREATE TABLE failsafe.replay (
	id int8 NOT NULL,
	subscription_id int8 NOT NULL,
	generation int8 NOT NULL,
	created_at timestamptz NOT NULL,
	actor_id int8 NOT NULL,
	not_before timestamptz,
	not_after timestamptz,
	started_at timestamptz,
	paced_from timestamptz,			-- the rate is counted from here: pauses are forgiven
	ended_at timestamptz,
	next_id int8 NOT NULL,			-- dead letters below it have been taken
	total int8 NOT NULL,
	taken int8 NOT NULL,
	done int8 NOT NULL,
	failed int8 NOT NULL,
	rate float8 NOT NULL,			-- events a second
	state text NOT NULL,			-- running, paused, done, canceled
	filter jsonb NOT NULL,
	reason text NOT NULL
);
CREATE UNIQUE INDEX replay_id ON failsafe.replay (id);
CREATE SEQUENCE failsafe.replay_id_seq OWNED BY failsafe.replay.id;

-- What a failure means.  The first rule that fits holds, by position.
CREATE TABLE failsafe.failure_rule (
	position int4 NOT NULL,
	sink text NOT NULL,				-- or *
	status_from int4,
	status_to int4,
	pattern text,					-- LIKE, on the failure's code
	class text NOT NULL,			-- temporary, throttled, permanent, unknown, gone
	note text NOT NULL,
	actor_id int8,					-- NULL: builtin
	changed_at timestamptz,
	builtin bool NOT NULL DEFAULT false
);
CREATE UNIQUE INDEX failure_rule_position ON failsafe.failure_rule (position);
INSERT INTO failsafe.failure_rule (position, sink, status_from, status_to, pattern, class, note, builtin) VALUES
	(1000, '*', NULL, NULL, 'unknown', 'unknown', 'the relay ended before the answer: it may have arrived', true),
	(1010, '*', NULL, NULL, 'timeout', 'temporary', 'no answer in time: it may have arrived', true),
	(1020, '*', NULL, NULL, 'config', 'temporary', 'a certificate, a secret or the configuration cannot be used now', true),
	(1030, '*', NULL, NULL, 'blocked_address', 'permanent', 'the address is inside a range that may not be reached', true),
	(1040, '*', NULL, NULL, 'too_large', 'permanent', 'the destination does not take events of this size', true),
	(1050, 'http', 410, 410, NULL, 'gone', 'the receiver does not want this subscription any more', true),
	(1060, 'http', 429, 429, NULL, 'throttled', 'the receiver asks for a slower pace', true),
	(1070, 'http', 408, 408, NULL, 'temporary', 'the receiver waited too long for the request', true),
	(1080, 'http', 425, 425, NULL, 'temporary', 'too early', true),
	(1090, 'http', 500, 599, NULL, 'temporary', 'the receiver has a problem of its own', true),
	(1100, 'http', 300, 399, NULL, 'permanent', 'redirects are not followed', true),
	(1110, 'http', 400, 499, NULL, 'permanent', 'the receiver refuses this event', true),
	(9000, '*', NULL, NULL, NULL, 'temporary', 'everything else may be tried again', true);
