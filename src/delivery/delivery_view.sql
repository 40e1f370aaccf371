-- delivery: what waits, what was tried, what died, what is sent again.
--
-- A dead letter is its event's tenant's; deliveries, attempts and replays are their
-- subscription's.

CREATE VIEW failsafe.dlq WITH (security_barrier) AS
SELECT l.id, s.name AS subscription, t.name AS tenant, l.event_id, l.event_type, l.order_key,
	l.state, l.class, l.reason, l.attempts, l.first_attempt_at, l.died_at, l.occurred_at,
	pg_catalog.clock_timestamp() - l.died_at AS age, l.expires_at, l.lane::int4 AS lane, l.seq,
	l.priority::int4 AS priority, l.subject, l.region, l.trace_id, l.replay_id,
	l.resolved_at, a.session_user_name AS resolved_by, l.resolution
FROM failsafe.dead_letter AS l
JOIN failsafe.tenant AS t ON t.id = l.tenant_id
LEFT JOIN failsafe.subscription AS s ON s.id = l.subscription_id
LEFT JOIN failsafe.actor AS a ON a.id = l.resolved_by
WHERE CASE WHEN (SELECT pg_catalog.pg_has_role('failsafe_operator', 'USAGE')) THEN true
	ELSE l.tenant_id = (SELECT failsafe._tenant_id()) END;
COMMENT ON VIEW failsafe.dlq IS
'Dead letters: events that could not be delivered, of the session''s tenant; members of failsafe_operator see those of all tenants. Those that are still to be looked at have the state dead.';
COMMENT ON COLUMN failsafe.dlq.id IS 'what dlq_get(), dlq_replay() and dlq_discard() take';
COMMENT ON COLUMN failsafe.dlq.subscription IS 'NULL: it was dropped';
COMMENT ON COLUMN failsafe.dlq.state IS 'dead, replaying, replayed or discarded';
COMMENT ON COLUMN failsafe.dlq.class IS
'of the last failure: temporary, throttled, unknown, permanent, gone; or expired, lag, canceled; or resend: an old event that is sent again on request';
COMMENT ON COLUMN failsafe.dlq.reason IS 'why it died, as a sentence';
COMMENT ON COLUMN failsafe.dlq.attempts IS 'tries in all, those of replays too';
COMMENT ON COLUMN failsafe.dlq.first_attempt_at IS 'NULL: it was never tried';
COMMENT ON COLUMN failsafe.dlq.age IS 'since it died the last time';
COMMENT ON COLUMN failsafe.dlq.replay_id IS 'the last replay that had it';
COMMENT ON COLUMN failsafe.dlq.resolution IS 'replayed, or why it was discarded';

CREATE VIEW failsafe.deliveries WITH (security_barrier) AS
SELECT d.id, s.name AS subscription, t.name AS tenant, d.event_id, d.event_type, d.order_key,
	d.state, d.due_at, d.attempts, d.class, d.reason, d.created_at, d.lane::int4 AS lane, d.seq,
	d.dead_letter_id, d.replay_id
FROM failsafe.delivery AS d
JOIN failsafe.subscription AS s ON s.id = d.subscription_id
JOIN failsafe.tenant AS t ON t.id = s.tenant_id
WHERE CASE WHEN (SELECT pg_catalog.pg_has_role('failsafe_operator', 'USAGE')) THEN true
	ELSE s.tenant_id = (SELECT failsafe._tenant_id()) END;
COMMENT ON VIEW failsafe.deliveries IS
'Events that wait for another attempt, or for an earlier event of their key, or that a pull consumer has; of the session''s tenant, for members of failsafe_operator of all. An event that is delivered at the first attempt is never here.';
COMMENT ON COLUMN failsafe.deliveries.state IS
'waiting (until due_at), parked (behind an earlier event of its key) or leased (to a pull consumer, until due_at)';
COMMENT ON COLUMN failsafe.deliveries.due_at IS 'infinity while parked';
COMMENT ON COLUMN failsafe.deliveries.attempts IS 'tries so far; of a replay, in this replay';
COMMENT ON COLUMN failsafe.deliveries.class IS
'of the last failure; delayed: it waits for its deliver_after; NULL: it was not tried';
COMMENT ON COLUMN failsafe.deliveries.dead_letter_id IS 'sent again from this dead letter; NULL: from the outbox';

CREATE VIEW failsafe.attempts WITH (security_barrier) AS
SELECT a.id, s.name AS subscription, t.name AS tenant, a.event_id, a.number, a.started_at,
	pg_catalog.round(a.duration_us / 1000.0, 3) AS duration_ms, a.status, a.class, a.code, a.reason, a.response,
	a.delivery_id, a.dead_letter_id
FROM failsafe.attempt AS a
JOIN failsafe.subscription AS s ON s.id = a.subscription_id
JOIN failsafe.tenant AS t ON t.id = s.tenant_id
WHERE CASE WHEN (SELECT pg_catalog.pg_has_role('failsafe_operator', 'USAGE')) THEN true
	ELSE s.tenant_id = (SELECT failsafe._tenant_id()) END;
COMMENT ON VIEW failsafe.attempts IS
'Attempts to deliver events, kept for failsafe.attempt_retention; of the session''s tenant, for members of failsafe_operator of all. A first attempt that succeeds is not recorded.';
COMMENT ON COLUMN failsafe.attempts.number IS '1 is the first try of the event for the subscription; replays count on';
COMMENT ON COLUMN failsafe.attempts.status IS 'of the protocol, as 503; NULL: there was no answer';
COMMENT ON COLUMN failsafe.attempts.class IS 'delivered, temporary, throttled, unknown, permanent or gone';
COMMENT ON COLUMN failsafe.attempts.code IS 'what failed: status, dns, refused, timeout, tls ...; empty where delivered';
COMMENT ON COLUMN failsafe.attempts.response IS 'the first bytes of the answer';

CREATE VIEW failsafe.blocked_keys WITH (security_barrier) AS
SELECT k.subscription, k.tenant, k.lane, k.order_key, k.since, k.parked, k.state, k.due_at, k.attempts,
	k.event_id, k.class, k.reason
FROM (
	SELECT s.name AS subscription, t.name AS tenant, d.lane::int4 AS lane, d.order_key,
		pg_catalog.min(d.created_at) OVER of_key AS since,
		pg_catalog.count(*) FILTER (WHERE d.state = 'parked') OVER of_key AS parked,
		pg_catalog.row_number() OVER (PARTITION BY d.subscription_id, d.lane, d.order_key
			ORDER BY d.state = 'parked', d.seq, d.id) AS place,
		d.state, d.due_at, d.attempts, d.event_id, d.class, d.reason
	FROM failsafe.delivery AS d
	JOIN failsafe.subscription AS s ON s.id = d.subscription_id
	JOIN failsafe.tenant AS t ON t.id = s.tenant_id
	WHERE s.ordering = 'key' AND s.on_blocked = 'block'
		AND (d.state <> 'waiting' OR d.class IS DISTINCT FROM 'delayed')
		AND CASE WHEN (SELECT pg_catalog.pg_has_role('failsafe_operator', 'USAGE')) THEN true
			ELSE s.tenant_id = (SELECT failsafe._tenant_id()) END
	WINDOW of_key AS (PARTITION BY d.subscription_id, d.lane, d.order_key)
) AS k
WHERE k.place = 1 AND (k.parked > 0 OR k.state = 'waiting' AND k.attempts > 0);
COMMENT ON VIEW failsafe.blocked_keys IS
'Keys whose events wait because an earlier one of the key has not been delivered, in subscriptions that block; of the session''s tenant, for members of failsafe_operator of all.';
COMMENT ON COLUMN failsafe.blocked_keys.since IS 'when the oldest of the waiting events came to wait';
COMMENT ON COLUMN failsafe.blocked_keys.parked IS 'events that wait behind the one that blocks the key';
COMMENT ON COLUMN failsafe.blocked_keys.state IS 'of the event that blocks the key; due_at, attempts, event_id, class and reason are its own too';

CREATE VIEW failsafe.replays WITH (security_barrier) AS
SELECT r.id, s.name AS subscription, t.name AS tenant, r.state, r.total, r.taken, r.done, r.failed,
	r.total - r.taken AS remaining, r.taken - r.done - r.failed AS on_the_way, r.rate,
	CASE WHEN r.state IN ('running', 'paused')
		THEN pg_catalog.make_interval(secs => (r.total - r.taken) / r.rate) END AS remaining_time,
	r.created_at, r.not_before, r.not_after, r.started_at, r.ended_at, a.session_user_name AS created_by,
	r.reason, r.filter,
	CASE WHEN r.state = 'canceled' AND r.ended_at >= r.not_after THEN 'its window ended'
		WHEN r.state <> 'running' THEN NULL
		WHEN s.state <> 'active' THEN 'waits: the subscription is ' || s.state
		WHEN r.not_before > pg_catalog.clock_timestamp() THEN 'waits for not_before'
		WHEN r.taken = r.total THEN 'waits for the last answers' END AS note
FROM failsafe.replay AS r
JOIN failsafe.subscription AS s ON s.id = r.subscription_id
JOIN failsafe.tenant AS t ON t.id = s.tenant_id
JOIN failsafe.actor AS a ON a.id = r.actor_id
WHERE CASE WHEN (SELECT pg_catalog.pg_has_role('failsafe_operator', 'USAGE')) THEN true
	ELSE s.tenant_id = (SELECT failsafe._tenant_id()) END;
COMMENT ON VIEW failsafe.replays IS
'Replays and their progress; of subscriptions of the session''s tenant, for members of failsafe_operator of all.';
COMMENT ON COLUMN failsafe.replays.state IS 'running, paused, done or canceled';
COMMENT ON COLUMN failsafe.replays.taken IS 'given to the subscription; each is then done, failed or on the way';
COMMENT ON COLUMN failsafe.replays.failed IS 'dead again';
COMMENT ON COLUMN failsafe.replays.remaining IS 'not taken; of a canceled replay: given back';
COMMENT ON COLUMN failsafe.replays.rate IS 'events a second, at most';
COMMENT ON COLUMN failsafe.replays.remaining_time IS 'until the last one is taken, at this rate';
COMMENT ON COLUMN failsafe.replays.filter IS 'what was asked for';

CREATE FUNCTION failsafe.dlq_get(id int8, options jsonb DEFAULT NULL)
RETURNS TABLE (
	dead_letter_id int8, subscription text, tenant text, event_id uuid, event_type text,
	order_key text, state text, class text, reason text, attempts int4,
	first_attempt_at timestamptz, died_at timestamptz, occurred_at timestamptz,
	resolved_at timestamptz, resolution text, envelope json, headers json, attempt_list json)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
#variable_conflict use_column
DECLARE
	visible int4[] := failsafe._report_tenants();
BEGIN
	PERFORM failsafe._options_none(options);
	RETURN QUERY
		SELECT l.id, s.name, t.name, l.event_id, l.event_type, l.order_key, l.state, l.class,
			l.reason, l.attempts, l.first_attempt_at, l.died_at, l.occurred_at, l.resolved_at,
			l.resolution,
			failsafe._event_envelope(l.event_id, l.event_type, l.occurred_at, t.name, l.region,
									 l.trace_id, l.payload),
			l.headers,
			(SELECT coalesce(json_agg(json_build_object(
						'number', a.number, 'started_at', a.started_at,
						'duration_ms', round(a.duration_us / 1000.0, 3), 'status', a.status,
						'class', a.class, 'code', a.code, 'reason', a.reason,
						'response', a.response) ORDER BY a.id), '[]')
			 FROM failsafe.attempt AS a
			 WHERE a.event_id = l.event_id AND a.subscription_id = l.subscription_id)
		FROM failsafe.dead_letter AS l
		JOIN failsafe.tenant AS t ON t.id = l.tenant_id
		LEFT JOIN failsafe.subscription AS s ON s.id = l.subscription_id
		WHERE l.id = dlq_get.id AND l.tenant_id = ANY (visible);
	PERFORM failsafe._wait_durable_all();
END
$body$;
COMMENT ON FUNCTION failsafe.dlq_get(int8, jsonb) IS
'One dead letter with the complete event, as its consumer would have got it, its headers, and its attempts, oldest first, as long as they are kept. No row where it is unknown, of another tenant, or no longer kept.';

COMMENT ON TABLE failsafe.delivery IS
'Events for a subscription that were not delivered at the first attempt, that wait behind one of their key, or that a pull consumer has. The row goes when the event is done or dead.';
COMMENT ON COLUMN failsafe.delivery.due_at IS 'infinity while parked; the end of the lease while leased';
COMMENT ON COLUMN failsafe.delivery.dead_letter_id IS 'sent again from this dead letter; NULL: from the outbox';
COMMENT ON COLUMN failsafe.delivery.fence IS 'of the lease: whoever has an older one has lost it';
COMMENT ON COLUMN failsafe.delivery.attempts IS 'tries so far; of a replay, in this replay';
COMMENT ON COLUMN failsafe.delivery.state IS 'waiting, parked or leased';
COMMENT ON COLUMN failsafe.delivery.class IS 'of the last failure; delayed: it waits for deliver_after';
COMMENT ON SEQUENCE failsafe.delivery_id_seq IS 'ids of deliveries';
COMMENT ON SEQUENCE failsafe.delivery_fence_seq IS 'fences of leases: each lease has a higher one than those before';
COMMENT ON TABLE failsafe.attempt IS
'Attempts to deliver, but for first ones that succeed. Append-only; removed by age.';
COMMENT ON COLUMN failsafe.attempt.number IS '1 is the first try of the event for the subscription; replays count on';
COMMENT ON COLUMN failsafe.attempt.status IS 'of the protocol; NULL: there was no answer';
COMMENT ON COLUMN failsafe.attempt.response IS 'the first bytes of the answer';
COMMENT ON SEQUENCE failsafe.attempt_id_seq IS 'ids of attempts';
COMMENT ON TABLE failsafe.dead_letter IS
'Events that could not be delivered, copied, with why. Only those that were replayed or discarded are ever removed.';
COMMENT ON COLUMN failsafe.dead_letter.replay_id IS 'the last replay that had it';
COMMENT ON COLUMN failsafe.dead_letter.first_attempt_at IS 'NULL: it was never tried';
COMMENT ON COLUMN failsafe.dead_letter.resolved_by IS 'the actor who discarded it, or who started the replay that delivered it';
COMMENT ON COLUMN failsafe.dead_letter.state IS 'dead, replaying, replayed or discarded';
COMMENT ON COLUMN failsafe.dead_letter.payload IS 'without the envelope, which other columns hold';
COMMENT ON SEQUENCE failsafe.dead_letter_id_seq IS 'ids of dead letters';
COMMENT ON TABLE failsafe.replay IS 'Replays: who had what sent again, why, and how far it is.';
COMMENT ON COLUMN failsafe.replay.generation IS 'a number that each change draws, so that the worker looks again';
COMMENT ON COLUMN failsafe.replay.paced_from IS 'the rate is counted from here; NULL: not begun, or just resumed';
COMMENT ON COLUMN failsafe.replay.next_id IS 'dead letters below it have been taken';
COMMENT ON COLUMN failsafe.replay.done IS 'delivered';
COMMENT ON COLUMN failsafe.replay.failed IS 'dead again';
COMMENT ON COLUMN failsafe.replay.filter IS 'what was asked for';
COMMENT ON SEQUENCE failsafe.replay_id_seq IS 'ids of replays';
