-- delivery: what a failure means.

CREATE FUNCTION failsafe.failure_rule_set(
	rule int4, sink text, status_from int4, status_to int4, pattern text, class text, note text,
	options jsonb DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'failsafe_failure_rule_set';
COMMENT ON FUNCTION failsafe.failure_rule_set(int4, text, int4, int4, text, text, text, jsonb) IS
'Adds a failure rule, or replaces the one at this place. rule: its place, 1 to 999 before the builtin rules or 2000 to 8999 after them; the first rule that fits decides. sink: its name, or *. status_from, status_to: of the protocol, as 500 and 599, or NULL for any. pattern: LIKE on the code of the failure (status, dns, refused, timeout, tls, closed ...), or NULL for any. class: temporary (try again), throttled (and slower), unknown (it may have arrived; try again), permanent (this event never), gone (no event any more: the subscription is disabled). note: why, for those who read it. Sessions and workers follow at once. Errors: FAILURE_RULE_INVALID, SUBSCRIPTION_INVALID (sink), VALUE_REQUIRED, TEXT_INVALID, OPTION_INVALID.';

CREATE FUNCTION failsafe.failure_rule_remove(rule int4, options jsonb DEFAULT NULL)
RETURNS bool
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'failsafe_failure_rule_remove';
COMMENT ON FUNCTION failsafe.failure_rule_remove(int4, jsonb) IS
'Removes the failure rule at this place; false: there was none. Builtin rules stay: a rule before them overrides them. Errors: FAILURE_RULE_INVALID, VALUE_REQUIRED, OPTION_INVALID.';

CREATE FUNCTION failsafe._failure_class(sink text, status int4, code text)
RETURNS text
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'failsafe_failure_class';
COMMENT ON FUNCTION failsafe._failure_class(text, int4, text) IS
'The class that the rules give to a failure of a sink with this status and code.';

CREATE VIEW failsafe.failure_rules WITH (security_barrier) AS
SELECT r.position AS rule, r.sink, r.status_from, r.status_to, r.pattern, r.class, r.note, r.builtin,
	r.changed_at, who.session_user_name, who.role_name
FROM failsafe.failure_rule AS r
LEFT JOIN failsafe.actor AS who ON who.id = r.actor_id;
COMMENT ON VIEW failsafe.failure_rules IS
'What a failure means; the first rule that fits decides, in the order of rule. They hold for all tenants.';
COMMENT ON COLUMN failsafe.failure_rules.rule IS 'its place';
COMMENT ON COLUMN failsafe.failure_rules.pattern IS 'LIKE, on the code of the failure; NULL: any';
COMMENT ON COLUMN failsafe.failure_rules.class IS
'temporary: try again; throttled: and slower; unknown: it may have arrived, try again; permanent: this event never; gone: the subscription is disabled';
COMMENT ON COLUMN failsafe.failure_rules.builtin IS 'made by the extension; another rule can be put before it';

COMMENT ON TABLE failsafe.failure_rule IS
'What a failure means. The first rule that fits holds, by position. Changed by failure_rule_set() and failure_rule_remove() alone.';
COMMENT ON COLUMN failsafe.failure_rule.sink IS 'name of a sink, or * for all';
COMMENT ON COLUMN failsafe.failure_rule.status_from IS 'of the protocol, as 500; NULL: any, also none';
COMMENT ON COLUMN failsafe.failure_rule.pattern IS 'LIKE, on the code of the failure; NULL: any';
COMMENT ON COLUMN failsafe.failure_rule.builtin IS 'made by the extension, left out of dumps';
COMMENT ON COLUMN failsafe.failure_rule.actor_id IS 'who set it; NULL: builtin';
