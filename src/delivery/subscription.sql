-- delivery: subscriptions.

CREATE TYPE failsafe.subscription_info AS (
	name text,
	sink text,
	state text,
	created bool,
	tenant text,
	event_types text[],
	ordering text,
	on_blocked text,
	tenants text[],
	regions text[],
	config jsonb,
	policy jsonb,
	created_at timestamptz
);
COMMENT ON TYPE failsafe.subscription_info IS
'A subscription as it is now. state: active, paused, disabled. created: did this call make it? tenants: NULL = its own, * = all. regions: NULL = all. config: without values of headers and queries of URLs.';

CREATE FUNCTION failsafe._config_shown(config json)
RETURNS jsonb
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'failsafe_config_shown';
COMMENT ON FUNCTION failsafe._config_shown(json) IS
'The config of a sink as it may be shown: references to secrets stay, values of headers and queries of URLs do not.';

CREATE FUNCTION failsafe.subscription_create(
	name text, sink text, config jsonb DEFAULT '{}', event_types text[] DEFAULT '{*}',
	ordering text DEFAULT 'key', options jsonb DEFAULT NULL)
RETURNS failsafe.subscription_info
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'failsafe_subscription_create';
COMMENT ON FUNCTION failsafe.subscription_create(text, text, jsonb, text[], text, jsonb) IS
'Subscribes a sink (http, pull) to the events of the session''s tenant. The same definition again: the row, with created = false; another one: SUBSCRIPTION_CONFLICT. name: 1 to 63 letters, digits, _ - and dots. config of http: url, secret or secrets, mode (binary, structured), headers, ca_file, client_certificate and client_key, oauth2 (token_url, client_id, client_secret, scope), allow_addresses, http2, proxy, insecure_skip_verify; secrets by reference only (file:/path, env:NAME). config of pull: {}. event_types: types, words replaced by * (at the end: all that follow), ! takes away; the last that fits decides. ordering: key (events of one order key one after the other) or none. Options: start (now, beginning, or a time), on_blocked (block: later events of a failing key wait; skip: they do not), tenants (names or *, for members of failsafe_operator), regions, retry {base_ms, cap_ms, attempts, age_s, budget_percent}, breaker {failures, open_ms}, rate (events a second, 0: no limit), in_flight, timeout_ms, max_lag {events, age_s}, schema_version. Errors: SUBSCRIPTION_INVALID, SUBSCRIPTION_CONFLICT, OPTION_INVALID, VALUE_REQUIRED, NOT_ADOPTED, 25006.';

CREATE FUNCTION failsafe.subscription_alter(
	name text, config jsonb DEFAULT NULL, event_types text[] DEFAULT NULL, reason text DEFAULT NULL,
	options jsonb DEFAULT NULL)
RETURNS failsafe.subscription_info
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'failsafe_subscription_alter';
COMMENT ON FUNCTION failsafe.subscription_alter(text, jsonb, text[], text, jsonb) IS
'Changes a subscription; NULL, and an option that is not given, leave a thing as it is. config and event_types are replaced as a whole. Options: those of subscription_create() but start; an empty array of tenants or regions takes the limit away. Events that it has passed stay passed. The reason is required and kept. Errors: SUBSCRIPTION_UNKNOWN, SUBSCRIPTION_INVALID, OPTION_INVALID, VALUE_REQUIRED, TEXT_INVALID, 42501 where it hears other tenants and the caller is no operator, 55P03.';

CREATE FUNCTION failsafe.subscription_pause(name text, reason text, options jsonb DEFAULT NULL)
RETURNS failsafe.subscription_info
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'failsafe_subscription_pause';
COMMENT ON FUNCTION failsafe.subscription_pause(text, text, jsonb) IS
'Stops sending; the position stays, up to max_lag. A disabled subscription stays disabled. The reason is required and kept. Errors: SUBSCRIPTION_UNKNOWN, VALUE_REQUIRED, TEXT_INVALID, OPTION_INVALID, 42501, 55P03.';

CREATE FUNCTION failsafe.subscription_resume(name text, reason text, options jsonb DEFAULT NULL)
RETURNS failsafe.subscription_info
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'failsafe_subscription_resume';
COMMENT ON FUNCTION failsafe.subscription_resume(text, text, jsonb) IS
'Lets a paused or disabled subscription go on where it stopped. The reason is required and kept. Errors: SUBSCRIPTION_UNKNOWN, VALUE_REQUIRED, TEXT_INVALID, OPTION_INVALID, NOT_ADOPTED, 42501, 55P03.';

CREATE FUNCTION failsafe.subscription_drop(
	name text, force bool DEFAULT false, reason text DEFAULT NULL, options jsonb DEFAULT NULL,
	OUT name text, OUT deliveries int8, OUT dead_letters int8, OUT unread bool)
RETURNS record
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'failsafe_subscription_drop';
COMMENT ON FUNCTION failsafe.subscription_drop(text, bool, text, jsonb) IS
'Removes a subscription. While it has deliveries to be tried again, dead letters that nobody has resolved, or events that it has not read yet, SUBSCRIPTION_BUSY, unless force: then its deliveries go with it; the answer and the change''s row count them. Dead letters and attempts stay readable in any case; its running replays are canceled. The reason is required and kept. Errors: SUBSCRIPTION_UNKNOWN, SUBSCRIPTION_BUSY, VALUE_REQUIRED, TEXT_INVALID, OPTION_INVALID, 42501, 55P03.';

CREATE FUNCTION failsafe.subscription_rewind(
	name text, start timestamptz, reason text, options jsonb DEFAULT NULL)
RETURNS failsafe.subscription_info
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'failsafe_subscription_rewind';
COMMENT ON FUNCTION failsafe.subscription_rewind(text, timestamptz, text, jsonb) IS
'Sends again what occurred at start or later and is still in the outbox, also what was delivered before; consumers tell repeats by event_id. start: a time that has passed; -infinity is the beginning. Never moves forward. What waits to be tried again behind the new position is read anew. The reason is required and kept. Errors: SUBSCRIPTION_UNKNOWN, OPTION_INVALID (start), VALUE_REQUIRED, TEXT_INVALID, NOT_ADOPTED, 42501, 55P03.';

CREATE VIEW failsafe.subscriptions WITH (security_barrier) AS
SELECT t.name AS tenant, s.name, s.sink, s.state, s.state_reason, s.event_types, s.ordering, s.on_blocked,
	s.tenants, s.regions, failsafe._config_shown(s.config) AS config, s.policy, s.created_at,
	who.session_user_name, who.role_name
FROM failsafe.subscription AS s
JOIN failsafe.tenant AS t ON t.id = s.tenant_id
LEFT JOIN failsafe.actor AS who ON who.id = s.actor_id
WHERE s.tenant_id = ANY ((SELECT failsafe._report_tenants())::int4[]);
COMMENT ON VIEW failsafe.subscriptions IS
'Subscriptions of the session''s tenant; members of failsafe_operator see those of all tenants.';
COMMENT ON COLUMN failsafe.subscriptions.state IS 'active, paused, disabled';
COMMENT ON COLUMN failsafe.subscriptions.state_reason IS 'why it is paused or disabled';
COMMENT ON COLUMN failsafe.subscriptions.tenants IS 'whose events it hears; NULL: its own tenant''s, *: all';
COMMENT ON COLUMN failsafe.subscriptions.regions IS 'NULL: all';
COMMENT ON COLUMN failsafe.subscriptions.config IS 'without values of headers and queries of URLs';
COMMENT ON COLUMN failsafe.subscriptions.session_user_name IS 'who created it';

CREATE VIEW failsafe.subscription_changes WITH (security_barrier) AS
SELECT t.name AS tenant, c.name AS subscription, c.changed_at, c.action, c.reason, c.detail,
	who.session_user_name, who.role_name, who.client_address, who.application_name
FROM failsafe.subscription_change AS c
JOIN failsafe.tenant AS t ON t.id = c.tenant_id
LEFT JOIN failsafe.actor AS who ON who.id = c.actor_id
WHERE c.tenant_id = ANY ((SELECT failsafe._report_tenants())::int4[]);
COMMENT ON VIEW failsafe.subscription_changes IS
'Who changed which subscription and why, also of those that are gone.';
COMMENT ON COLUMN failsafe.subscription_changes.action IS
'created, altered, paused, disabled, resumed, rewound, dropped; of replays: replay_started, replay_paused, replay_resumed, replay_canceled';
COMMENT ON COLUMN failsafe.subscription_changes.detail IS
'altered: the new values; rewound: where to, and how many deliveries were given up for reading them again; dropped: what went or stayed behind';

COMMENT ON TABLE failsafe.subscription IS
'Which events go to which sink, under which policy. Changed by the subscription functions and the worker alone.';
COMMENT ON COLUMN failsafe.subscription.generation IS 'from subscription_generation_seq, a new one with each change';
COMMENT ON COLUMN failsafe.subscription.tenants IS 'whose events it hears; NULL: its own tenant''s, *: all';
COMMENT ON COLUMN failsafe.subscription.regions IS 'NULL: all';
COMMENT ON COLUMN failsafe.subscription.config IS 'for the sink; secrets are references only';
COMMENT ON COLUMN failsafe.subscription.policy IS 'complete: the defaults of the day when it was made are written down';
COMMENT ON COLUMN failsafe.subscription.state_reason IS 'why it is paused or disabled';
COMMENT ON SEQUENCE failsafe.subscription_id_seq IS 'ids of subscriptions';
COMMENT ON SEQUENCE failsafe.subscription_generation_seq IS
'drawn from at each change; the worker looks at it without a statement';
COMMENT ON TABLE failsafe.subscription_change IS
'Every change of a subscription: who, when, what and why. Append-only.';
COMMENT ON COLUMN failsafe.subscription_change.name IS 'of the subscription, which may be gone';
COMMENT ON COLUMN failsafe.subscription_change.action IS
'created, altered, paused, disabled, resumed, rewound, dropped; of replays: replay_started, replay_paused, replay_resumed, replay_canceled';
COMMENT ON SEQUENCE failsafe.subscription_change_id_seq IS 'order of the changes';
