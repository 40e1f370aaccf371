-- Dead letters, for whoever is on call.
--
--   psql -d mydb -f docs/runbooks/dead_letters.sql
--   mydb=> \i docs/runbooks/dead_letters.sql
--
-- Without a terminal (-f) it prints the overview; what else is to be done is said by variables:
--
--   psql -d mydb -v show=4711 -f docs/runbooks/dead_letters.sql
--   psql -d mydb -v subscription=billing -v since='2026-01-31 14:00' -v rate=50 -f ...
--   psql -d mydb -v subscription=billing -v reason='receiver repaired' -f ...
--
--   show           one dead letter: its event and each attempt
--   subscription, event_type, class, order_key, since, until, ids
--                  what to send again; at least one of them, else nothing is
--   rate           events a second (50)
--   reason         why: without it there is only the dry run, with it the replay begins
--   discard        ids, comma separated, to give up for good; needs a reason too
--
-- In an interactive session the filter stays set (\unset it), the reason does not.
-- Needs a role with failsafe_operator.

\set letters_quiet :QUIET
\set QUIET on
\pset null '-'
\pset footer off

\echo
\echo '=== Dead letters by subscription and reason ==='
-- Numbers in a reason (ids, counts) differ from event to event: they are left out.
SELECT coalesce(l.subscription, '(dropped)') AS subscription, l.class, count(*) AS dead,
	min(l.died_at)::timestamptz(0) AS first_died, max(l.died_at)::timestamptz(0) AS last_died,
	min(l.id) AS example,
	left(regexp_replace(regexp_replace(l.reason, '\. Answer: .*$', ''), '[0-9]{4,}', 'N', 'g'), 100) AS reason
FROM failsafe.dlq AS l
WHERE l.state = 'dead'
GROUP BY 1, 2, 7
ORDER BY dead DESC, last_died DESC
LIMIT 30;

\echo '=== Keys that are held up now ==='
SELECT subscription, order_key, parked, since::timestamptz(0) AS since, attempts,
	due_at::timestamptz(0) AS next_try, left(reason, 80) AS reason
FROM failsafe.blocked_keys
ORDER BY parked DESC, since
LIMIT 10;

\echo '=== Replays that run, or ended within a day ==='
SELECT id, subscription, state, total, done, failed, remaining, rate,
	date_trunc('second', remaining_time) AS remaining_time, reason, note
FROM failsafe.replays
WHERE ended_at IS NULL OR ended_at > now() - interval '1 day'
ORDER BY id DESC
LIMIT 10;

\if :{?show}
	\echo '=== Dead letter' :show '==='
	\x on
	SELECT dead_letter_id AS id, subscription, tenant, state, class, reason, attempts, event_type, order_key,
		occurred_at, first_attempt_at, died_at, resolved_at, resolution, event_id, headers, envelope
	FROM failsafe.dlq_get(:'show'::int8);
	\x off
	\echo '=== Its attempts ==='
	SELECT a.number, a.started_at::timestamptz(0) AS started_at, a.duration_ms, a.status, a.class, a.code,
		a.reason, a.response
	FROM failsafe.dlq_get(:'show'::int8) AS d,
		json_to_recordset(d.attempt_list) AS a (number int, started_at timestamptz, duration_ms numeric,
			status int, class text, code text, reason text, response text)
	ORDER BY a.number, a.started_at;
\else
	\echo 'One of them with its attempts:  \\set show ID   and run this file again'
\endif

-- What is not set becomes NULL, so that one statement serves every filter.
SELECT :{?subscription} OR :{?event_type} OR :{?class} OR :{?order_key} OR :{?since} OR :{?until} OR :{?ids}
	AS letters_filtered \gset
\if :letters_filtered
	\if :{?subscription} \else \set subscription '' \set letters_unset_subscription 1 \endif
	\if :{?event_type} \else \set event_type '' \set letters_unset_event_type 1 \endif
	\if :{?class} \else \set class '' \set letters_unset_class 1 \endif
	\if :{?order_key} \else \set order_key '' \set letters_unset_order_key 1 \endif
	\if :{?since} \else \set since '' \set letters_unset_since 1 \endif
	\if :{?until} \else \set until '' \set letters_unset_until 1 \endif
	\if :{?ids} \else \set ids '' \set letters_unset_ids 1 \endif
	\if :{?rate} \else \set rate 50 \set letters_unset_rate 1 \endif

	\echo '=== Dry run: what would be sent again ==='
	SELECT subscription_name AS subscription, matching, events_per_second, estimated_seconds, note
	FROM failsafe.dlq_replay(
		subscription => nullif(:'subscription', ''), event_type => nullif(:'event_type', ''),
		since => nullif(:'since', '')::timestamptz, until => nullif(:'until', '')::timestamptz,
		ids => nullif('{' || :'ids' || '}', '{}')::int8[], rate => :'rate'::float8, dry_run => true,
		options => jsonb_strip_nulls(jsonb_build_object('class', nullif(:'class', ''),
														'order_key', nullif(:'order_key', ''))));
	\if :{?reason}
		\echo '=== Replay ==='
		SELECT replay_id, subscription_name AS subscription, matching, events_per_second, estimated_seconds, note
		FROM failsafe.dlq_replay(
			subscription => nullif(:'subscription', ''), event_type => nullif(:'event_type', ''),
			since => nullif(:'since', '')::timestamptz, until => nullif(:'until', '')::timestamptz,
			ids => nullif('{' || :'ids' || '}', '{}')::int8[], rate => :'rate'::float8, reason => :'reason',
			options => jsonb_strip_nulls(jsonb_build_object('class', nullif(:'class', ''),
															'order_key', nullif(:'order_key', ''))));
		\echo 'Progress: this file again.  Stop it: SELECT failsafe.replay_pause(ID, $$why$$), or replay_cancel'
	\else
		\echo 'Nothing was sent.  To send them:  \\set reason ''why''   and run this file again'
	\endif

	\if :{?letters_unset_subscription} \unset subscription \unset letters_unset_subscription \endif
	\if :{?letters_unset_event_type} \unset event_type \unset letters_unset_event_type \endif
	\if :{?letters_unset_class} \unset class \unset letters_unset_class \endif
	\if :{?letters_unset_order_key} \unset order_key \unset letters_unset_order_key \endif
	\if :{?letters_unset_since} \unset since \unset letters_unset_since \endif
	\if :{?letters_unset_until} \unset until \unset letters_unset_until \endif
	\if :{?letters_unset_ids} \unset ids \unset letters_unset_ids \endif
	\if :{?letters_unset_rate} \unset rate \unset letters_unset_rate \endif
\else
	\echo 'Send some again, first as a dry run:  \\set subscription NAME   (event_type, class, order_key, since, until, ids)'
\endif
\unset letters_filtered

\if :{?discard}
	\if :{?reason}
		\echo '=== Discard ==='
		SELECT failsafe.dlq_discard(('{' || :'discard' || '}')::int8[], :'reason') AS discarded;
	\else
		\echo 'Nothing was discarded.  A reason is needed:  \\set reason ''why'''
	\endif
\endif
-- A reason is for one time only.
\unset reason
\pset null ''
\pset footer on
\set QUIET :letters_quiet
\unset letters_quiet
