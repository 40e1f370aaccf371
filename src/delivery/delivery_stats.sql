-- delivery: what is delivered, how fast, and what is behind.

CREATE FUNCTION failsafe._stat_deliveries(
	OUT subscription_id int8, OUT delivered int8, OUT retried int8, OUT failed int8,
	OUT dead int8, OUT in_flight int4, OUT queued int4, OUT breaker text,
	OUT refused_until timestamptz, OUT p50_ms float8, OUT p95_ms float8, OUT p99_ms float8)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'failsafe_stat_deliveries';
COMMENT ON FUNCTION failsafe._stat_deliveries() IS 'the counters of stat_subscriptions';

-- What a subscription has not been told yet.  SECURITY DEFINER: the tables are nobody's.
CREATE FUNCTION failsafe._subscription_lag(
	subscription_id int8, OUT numbers int8, OUT waiting int8, OUT parked int8, OUT leased int8,
	OUT dead_letters int8, OUT done int8, OUT oldest timestamptz)
RETURNS record
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
WITH lanes AS (
	SELECT p.lane, p.high, p.done, drawn.last
	FROM failsafe.position AS p
	JOIN (SELECT 0 AS lane, CASE WHEN is_called THEN last_value ELSE 0 END AS last FROM failsafe.outbox_seq_0
		  UNION ALL SELECT 1, CASE WHEN is_called THEN last_value ELSE 0 END FROM failsafe.outbox_seq_1
		  UNION ALL SELECT 2, CASE WHEN is_called THEN last_value ELSE 0 END FROM failsafe.outbox_seq_2
		  UNION ALL SELECT 3, CASE WHEN is_called THEN last_value ELSE 0 END FROM failsafe.outbox_seq_3) AS drawn
		ON drawn.lane = p.lane
	WHERE p.subscription_id = _subscription_lag.subscription_id
), rows AS (
	SELECT count(*) FILTER (WHERE d.state = 'waiting') AS waiting,
		   count(*) FILTER (WHERE d.state = 'parked') AS parked,
		   count(*) FILTER (WHERE d.state = 'leased') AS leased,
		   min(d.created_at) AS oldest
	FROM failsafe.delivery AS d
	WHERE d.subscription_id = _subscription_lag.subscription_id
)
SELECT (SELECT sum(greatest(l.last - l.high, 0)) FROM lanes AS l)::int8,
	   r.waiting, r.parked, r.leased,
	   (SELECT count(*) FROM failsafe.dead_letter AS x
		WHERE x.subscription_id = _subscription_lag.subscription_id AND x.state = 'dead'),
	   (SELECT sum(l.done) FROM lanes AS l)::int8,
	   least(r.oldest,
			 (SELECT min(next.occurred_at)
			  FROM lanes AS l
			  CROSS JOIN LATERAL (
				SELECT o.occurred_at FROM failsafe.outbox AS o
				WHERE o.slot BETWEEN l.lane * 16 AND l.lane * 16 + 15 AND o.seq > l.high
				ORDER BY o.seq LIMIT 1) AS next))
FROM rows AS r
$body$;
COMMENT ON FUNCTION failsafe._subscription_lag(int8) IS 'what a subscription has not been told yet';

CREATE VIEW failsafe.stat_subscriptions WITH (security_barrier) AS
SELECT t.name AS tenant, s.name AS subscription, s.sink, s.state,
	lag.done AS delivered, c.failed, c.retried, lag.dead_letters,
	c.in_flight, c.queued, lag.waiting, lag.parked, lag.leased,
	lag.numbers + lag.waiting + lag.parked AS lag_events,
	pg_catalog.clock_timestamp() - lag.oldest AS lag,
	lag.oldest, c.breaker, c.refused_until,
	c.p50_ms, c.p95_ms, c.p99_ms
FROM failsafe.subscription AS s
JOIN failsafe.tenant AS t ON t.id = s.tenant_id
LEFT JOIN failsafe._stat_deliveries() AS c ON c.subscription_id = s.id
CROSS JOIN LATERAL failsafe._subscription_lag(s.id) AS lag
WHERE CASE WHEN (SELECT pg_catalog.pg_has_role('failsafe_operator', 'USAGE')) THEN true
	ELSE s.tenant_id = (SELECT failsafe._tenant_id()) END;
COMMENT ON VIEW failsafe.stat_subscriptions IS
'One row for each subscription: what was delivered, what waits, how far it is behind. Operators see all tenants. Numbers that a crash may lose (failed, retried, in_flight, queued, breaker, the quantiles) count since the server started, and are NULL while no worker has served the subscription.';
COMMENT ON COLUMN failsafe.stat_subscriptions.delivered IS 'events that arrived, since the subscription was made';
COMMENT ON COLUMN failsafe.stat_subscriptions.failed IS 'attempts that failed';
COMMENT ON COLUMN failsafe.stat_subscriptions.retried IS 'events that arrived, but not at the first try';
COMMENT ON COLUMN failsafe.stat_subscriptions.waiting IS 'deliveries that wait for their next try';
COMMENT ON COLUMN failsafe.stat_subscriptions.parked IS 'deliveries that wait for an earlier one of their key';
COMMENT ON COLUMN failsafe.stat_subscriptions.leased IS 'deliveries that a pulling program has claimed';
COMMENT ON COLUMN failsafe.stat_subscriptions.lag_events IS 'numbers not read yet, and deliveries that wait: at most so many events are behind';
COMMENT ON COLUMN failsafe.stat_subscriptions.oldest IS 'when the oldest event that is not delivered occurred';
COMMENT ON COLUMN failsafe.stat_subscriptions.breaker IS 'closed, open, half_open: whether the destination gets events';
COMMENT ON COLUMN failsafe.stat_subscriptions.refused_until IS 'no event is sent before: an open breaker, or the receiver asked for a pause';
COMMENT ON COLUMN failsafe.stat_subscriptions.p50_ms IS 'milliseconds from the event to its acknowledgement, median';

COMMENT ON TABLE failsafe.position IS
'How far each subscription has read each lane: every number up to high is decided, but for the open ones.';
COMMENT ON COLUMN failsafe.position.high IS 'the last number that is decided: delivered, not wanted, or a row of delivery or dead_letter';
COMMENT ON COLUMN failsafe.position.high_at IS 'when the newest event that was read occurred';
COMMENT ON COLUMN failsafe.position.done IS 'events that arrived';
COMMENT ON COLUMN failsafe.position.open_numbers IS 'numbers up to high that may still become events: first, last, horizon, and again';
