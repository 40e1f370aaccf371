-- What an exporter asks, as plain queries: one row of numbers for each set of labels.
-- Run them with a role that has failsafe_operator, to see all tenants; failsafe_reader sees
-- its own.  They are cheap, but for events_oldest in a large outbox: every 15 to 60 seconds.
--
-- For sql_exporter, postgres_exporter (custom queries) and others; monitoring/sql_exporter.yml
-- holds the same for sql_exporter.

-- failsafe_subscription_*: labels tenant, subscription, sink, state
SELECT tenant, subscription, sink, state,
	delivered,
	coalesce(failed, 0) AS failed,
	coalesce(retried, 0) AS retried,
	dead_letters,
	coalesce(in_flight, 0) AS in_flight,
	waiting, parked, leased,
	lag_events,
	coalesce(extract(epoch FROM lag), 0)::float8 AS lag_seconds,
	(breaker IS NOT DISTINCT FROM 'open')::int AS breaker_open,
	(state = 'active')::int AS active,
	coalesce(p50_ms, 0) AS p50_ms, coalesce(p95_ms, 0) AS p95_ms, coalesce(p99_ms, 0) AS p99_ms
FROM failsafe.stat_subscriptions;

-- failsafe_blocked_*: labels tenant, subscription
SELECT tenant, subscription, count(*) AS keys, sum(parked) AS events,
	extract(epoch FROM clock_timestamp() - min(since))::float8 AS oldest_seconds
FROM failsafe.blocked_keys
GROUP BY tenant, subscription;

-- failsafe_dead_letters_*: labels tenant, subscription, class
SELECT tenant, coalesce(subscription, '(dropped)') AS subscription, class, count(*) AS dead,
	extract(epoch FROM clock_timestamp() - min(died_at))::float8 AS oldest_seconds
FROM failsafe.dlq
WHERE state = 'dead'
GROUP BY tenant, subscription, class;

-- failsafe_worker_*: labels database, state
SELECT database, state, (pid IS NOT NULL)::int AS up, (relay_pid IS NOT NULL)::int AS relay_up,
	errors, relay_restarts, rounds
FROM failsafe.stat_workers;

-- failsafe_doctor: labels check_name, status
SELECT check_name, status, count(*) AS checks
FROM failsafe.doctor()
WHERE status IN ('warning', 'error')
GROUP BY check_name, status;

-- failsafe_commands_*: labels command, outcome, code
SELECT command, outcome, code, count, p95_us
FROM failsafe.stat_commands;
