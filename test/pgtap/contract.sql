-- The public surface: signatures and result columns are frozen once released, every object
-- tells what it is, nothing is open to PUBLIC.  A change here that is not an addition at
-- the end of a result, or of a member of options, breaks callers.
\set ON_ERROR_STOP on
\set QUIET on
SET client_min_messages = warning;
BEGIN;
SELECT plan(16);

CREATE TEMP TABLE frozen (signature text, result text);
INSERT INTO frozen VALUES
	('account_balance(code text, options jsonb DEFAULT NULL)',
	 'failsafe.account_balance_result'),
	('account_balance_at(code text, at timestamp with time zone, by text DEFAULT ''recorded'', options jsonb DEFAULT NULL)',
	 'TABLE(currency text, posted numeric, version bigint, final boolean)'),
	('account_close(code text, reason text, options jsonb DEFAULT NULL)',
	 'failsafe.account_info'),
	('account_freeze(code text, reason text, scope text DEFAULT ''out'', options jsonb DEFAULT NULL)',
	 'failsafe.account_info'),
	('account_open(code text, currency text, kind text DEFAULT ''wallet'', floor numeric DEFAULT 0, ceiling numeric DEFAULT NULL, metadata jsonb DEFAULT ''{}'', options jsonb DEFAULT NULL)',
	 'failsafe.account_info'),
	('account_set_limits(code text, floor numeric, ceiling numeric, reason text, options jsonb DEFAULT NULL)',
	 'failsafe.account_info'),
	('account_statement(code text, since timestamp with time zone DEFAULT NULL, until timestamp with time zone DEFAULT NULL, max_rows integer DEFAULT 100, after text DEFAULT NULL, options jsonb DEFAULT NULL)',
	 'TABLE(entry_id text, transaction_id text, recorded_at timestamp with time zone, effective_at timestamp with time zone, command text, amount numeric, posted numeric, version bigint, counterparty text, reference text, reason text, idempotency_key text, hold_id text, reverses text, trace_id text, metadata jsonb)'),
	('account_unfreeze(code text, reason text, options jsonb DEFAULT NULL)',
	 'failsafe.account_info'),
	('business_key(VARIADIC parts text[])',
	 'text'),
	('currency_add(code text, exponent integer)',
	 'boolean'),
	('doctor()',
	 'TABLE(check_name text, status text, detail text, hint text)'),
	('hold_get(hold text, options jsonb DEFAULT NULL)',
	 'TABLE(hold_id text, account text, currency text, status text, amount numeric, captured numeric, released numeric, remaining numeric, counterparty text, placed_at timestamp with time zone, expires_at timestamp with time zone, reference text, reason text, idempotency_key text, metadata jsonb)'),
	('hold_history(hold text, options jsonb DEFAULT NULL)',
	 'TABLE(recorded_at timestamp with time zone, transaction_id text, command text, status text, code text, amount numeric, released numeric, remaining numeric, expires_at timestamp with time zone, idempotency_key text, reference text, reason text, actor text)'),
	('holds(account text, options jsonb DEFAULT NULL)',
	 'TABLE(hold_id text, currency text, status text, amount numeric, captured numeric, released numeric, remaining numeric, counterparty text, placed_at timestamp with time zone, expires_at timestamp with time zone, reference text, reason text, idempotency_key text, metadata jsonb)'),
	('holds_sweep(max_rows integer DEFAULT 1000)',
	 'integer'),
	('idempotency_claim(key text, request jsonb, scope text DEFAULT ''app'', options jsonb DEFAULT NULL, OUT state text, OUT response jsonb, OUT claimed_at timestamp with time zone)',
	 'record'),
	('idempotency_complete(key text, response jsonb, scope text DEFAULT ''app'', options jsonb DEFAULT NULL)',
	 'boolean'),
	('idempotency_prune(max_rows integer DEFAULT 1000, options jsonb DEFAULT NULL)',
	 'bigint'),
	('idempotency_release(key text, reason text, scope text DEFAULT ''app'', options jsonb DEFAULT NULL)',
	 'void'),
	('idempotency_status(key text, scope text DEFAULT ''wallet'', options jsonb DEFAULT NULL)',
	 'TABLE(state text, first_seen_at timestamp with time zone, transaction_id text)'),
	('ledger_checkpoint(max_accounts integer DEFAULT 1000, options jsonb DEFAULT NULL)',
	 'TABLE(accounts bigint, note text)'),
	('ledger_post(legs failsafe.leg[], idempotency_key text, reference text DEFAULT NULL, reason text DEFAULT NULL, on_decline text DEFAULT ''raise'', metadata jsonb DEFAULT NULL, options jsonb DEFAULT NULL)',
	 'failsafe.wallet_result'),
	('ledger_verify(options jsonb DEFAULT NULL)',
	 'TABLE(rule text, object text, detail text)'),
	('maintain(options jsonb DEFAULT NULL)',
	 'TABLE(task text, done bigint, note text)'),
	('major(amount numeric, currency text)',
	 'numeric'),
	('minor(amount numeric, currency text)',
	 'numeric'),
	('outbox_emit(event_type text, order_key text, payload jsonb, headers jsonb DEFAULT ''{}'', options jsonb DEFAULT NULL)',
	 'uuid'),
	('outbox_get(event_id uuid, options jsonb DEFAULT NULL)',
	 'SETOF failsafe.events'),
	('outbox_retain(max_leaves integer DEFAULT 64, options jsonb DEFAULT NULL, OUT leaf text, OUT events bigint, OUT oldest timestamp with time zone, OUT newest timestamp with time zone, OUT action text)',
	 'SETOF record'),
	('stat_commands_reset()',
	 'void'),
	('tenant_add(tenant text, options jsonb DEFAULT NULL, OUT name text, OUT region text, OUT created boolean)',
	 'record'),
	('trace(id text, options jsonb DEFAULT NULL)',
	 'TABLE(at timestamp with time zone, kind text, object text, summary text, actor text)'),
	('wallet_batch(commands json, atomic boolean DEFAULT false, options jsonb DEFAULT NULL)',
	 'TABLE(n integer, status text, transaction_id text, entry_id text, hold_id text, posted numeric, held numeric, available numeric, code text, replayed boolean, amount numeric, hold_remaining numeric, expires_at timestamp with time zone, version bigint, recorded_at timestamp with time zone, idempotency_key text)'),
	('wallet_command(command json)',
	 'json'),
	('wallet_commit(hold text, idempotency_key text, amount numeric DEFAULT NULL, final boolean DEFAULT true, reference text DEFAULT NULL, reason text DEFAULT NULL, counterparty text DEFAULT NULL, on_decline text DEFAULT ''raise'', metadata jsonb DEFAULT NULL, options jsonb DEFAULT NULL)',
	 'failsafe.wallet_result'),
	('wallet_credit(account text, amount numeric, currency text, idempotency_key text, reference text DEFAULT NULL, reason text DEFAULT NULL, counterparty text DEFAULT NULL, on_decline text DEFAULT ''raise'', metadata jsonb DEFAULT NULL, options jsonb DEFAULT NULL)',
	 'failsafe.wallet_result'),
	('wallet_debit(account text, amount numeric, currency text, idempotency_key text, reference text DEFAULT NULL, reason text DEFAULT NULL, counterparty text DEFAULT NULL, on_decline text DEFAULT ''raise'', metadata jsonb DEFAULT NULL, options jsonb DEFAULT NULL)',
	 'failsafe.wallet_result'),
	('wallet_extend(hold text, idempotency_key text, expires_in interval DEFAULT NULL, reason text DEFAULT NULL, on_decline text DEFAULT ''raise'', options jsonb DEFAULT NULL)',
	 'failsafe.wallet_result'),
	('wallet_hold(account text, amount numeric, currency text, idempotency_key text, expires_in interval DEFAULT NULL, reference text DEFAULT NULL, reason text DEFAULT NULL, counterparty text DEFAULT NULL, on_decline text DEFAULT ''raise'', metadata jsonb DEFAULT NULL, options jsonb DEFAULT NULL)',
	 'failsafe.wallet_result'),
	('wallet_http(command json, OUT http_status integer, OUT replayed boolean, OUT body json)',
	 'record'),
	('wallet_reverse(transaction text, idempotency_key text, amount numeric DEFAULT NULL, reference text DEFAULT NULL, reason text DEFAULT NULL, on_decline text DEFAULT ''raise'', metadata jsonb DEFAULT NULL, options jsonb DEFAULT NULL)',
	 'failsafe.wallet_result'),
	('wallet_rollback(hold text, idempotency_key text, reference text DEFAULT NULL, reason text DEFAULT NULL, on_decline text DEFAULT ''raise'', metadata jsonb DEFAULT NULL, options jsonb DEFAULT NULL)',
	 'failsafe.wallet_result'),
	('adopt(reason text, options jsonb DEFAULT NULL, OUT changed boolean, OUT raised text[])',
	 'record'),
	('delivery_prune(max_rows integer DEFAULT 10000, options jsonb DEFAULT NULL, OUT attempts bigint, OUT dead_letters bigint)',
	 'record'),
	('dlq_discard(ids bigint[], reason text, options jsonb DEFAULT NULL)',
	 'bigint'),
	('dlq_get(id bigint, options jsonb DEFAULT NULL)',
	 'TABLE(dead_letter_id bigint, subscription text, tenant text, event_id uuid, event_type text, order_key text, state text, class text, reason text, attempts integer, first_attempt_at timestamp with time zone, died_at timestamp with time zone, occurred_at timestamp with time zone, resolved_at timestamp with time zone, resolution text, envelope json, headers json, attempt_list json)'),
	('dlq_replay(subscription text DEFAULT NULL, event_type text DEFAULT NULL, since timestamp with time zone DEFAULT NULL, until timestamp with time zone DEFAULT NULL, ids bigint[] DEFAULT NULL[], rate double precision DEFAULT 50, not_before timestamp with time zone DEFAULT NULL, not_after timestamp with time zone DEFAULT NULL, dry_run boolean DEFAULT false, reason text DEFAULT NULL, options jsonb DEFAULT NULL, OUT replay_id bigint, OUT subscription_name text, OUT matching bigint, OUT events_per_second double precision, OUT estimated_seconds bigint, OUT note text)',
	 'SETOF record'),
	('failure_rule_remove(rule integer, options jsonb DEFAULT NULL)',
	 'boolean'),
	('failure_rule_set(rule integer, sink text, status_from integer, status_to integer, pattern text, class text, note text, options jsonb DEFAULT NULL)',
	 'void'),
	('outbox_ack(subscription text, delivery_ids bigint[], fences bigint[], options jsonb DEFAULT NULL, OUT delivery_id bigint, OUT status text)',
	 'SETOF record'),
	('outbox_claim(subscription text, max_events integer DEFAULT 100, lease interval DEFAULT ''00:00:30'', options jsonb DEFAULT NULL, OUT delivery_id bigint, OUT fence bigint, OUT event_id uuid, OUT event_type text, OUT order_key text, OUT attempt integer, OUT lease_until timestamp with time zone, OUT occurred_at timestamp with time zone, OUT envelope json, OUT headers json)',
	 'SETOF record'),
	('outbox_extend(subscription text, delivery_id bigint, fence bigint, lease interval DEFAULT ''00:00:30'', options jsonb DEFAULT NULL)',
	 'timestamp with time zone'),
	('outbox_nack(subscription text, delivery_id bigint, fence bigint, reason text, options jsonb DEFAULT NULL, OUT status text, OUT due_at timestamp with time zone)',
	 'record'),
	('outbox_replay(subscription text, event_type text DEFAULT NULL, since timestamp with time zone DEFAULT NULL, until timestamp with time zone DEFAULT NULL, dry_run boolean DEFAULT false, rate double precision DEFAULT 50, reason text DEFAULT NULL, options jsonb DEFAULT NULL, OUT replay_id bigint, OUT subscription_name text, OUT matching bigint, OUT events_per_second double precision, OUT estimated_seconds bigint, OUT note text)',
	 'SETOF record'),
	('replay_cancel(id bigint, reason text, options jsonb DEFAULT NULL)',
	 'bigint'),
	('replay_pause(id bigint, reason text, options jsonb DEFAULT NULL)',
	 'boolean'),
	('replay_resume(id bigint, reason text, options jsonb DEFAULT NULL)',
	 'boolean'),
	('subscription_alter(name text, config jsonb DEFAULT NULL, event_types text[] DEFAULT NULL[], reason text DEFAULT NULL, options jsonb DEFAULT NULL)',
	 'failsafe.subscription_info'),
	('subscription_create(name text, sink text, config jsonb DEFAULT ''{}'', event_types text[] DEFAULT ''{*}''[], ordering text DEFAULT ''key'', options jsonb DEFAULT NULL)',
	 'failsafe.subscription_info'),
	('subscription_drop(name text, force boolean DEFAULT false, reason text DEFAULT NULL, options jsonb DEFAULT NULL, OUT name text, OUT deliveries bigint, OUT dead_letters bigint, OUT unread boolean)',
	 'record'),
	('subscription_pause(name text, reason text, options jsonb DEFAULT NULL)',
	 'failsafe.subscription_info'),
	('subscription_resume(name text, reason text, options jsonb DEFAULT NULL)',
	 'failsafe.subscription_info'),
	('subscription_rewind(name text, start timestamp with time zone, reason text, options jsonb DEFAULT NULL)',
	 'failsafe.subscription_info'),
	('worker_start(options jsonb DEFAULT NULL)',
	 'text'),
	('worker_stop(options jsonb DEFAULT NULL)',
	 'text'),
	('wallet_transfer(from_account text, to_account text, amount numeric, currency text, idempotency_key text, reference text DEFAULT NULL, reason text DEFAULT NULL, on_decline text DEFAULT ''raise'', metadata jsonb DEFAULT NULL, options jsonb DEFAULT NULL)',
	 'failsafe.wallet_result');

CREATE TEMP VIEW routine AS
SELECT p.oid, p.proname, p.prosecdef, p.proconfig, l.lanname, p.provolatile, p.proacl, p.proowner,
	   p.proname || '(' || regexp_replace(pg_get_function_arguments(p.oid), '::[a-z ]+', '', 'g') || ')' AS signature,
	   pg_get_function_result(p.oid) AS result
FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang
WHERE p.pronamespace = 'failsafe'::regnamespace;

SELECT is_empty(
	$$SELECT f.signature FROM frozen AS f WHERE f.signature NOT IN (SELECT r.signature FROM routine AS r)$$,
	'every function is there as it was: names, types, defaults');
SELECT is_empty(
	$$SELECT r.signature FROM routine AS r
	  WHERE r.proname !~ '^_' AND r.signature NOT IN (SELECT f.signature FROM frozen AS f)$$,
	'and no other; a new function joins the list');
SELECT is_empty(
	$$SELECT r.signature, r.result FROM routine AS r JOIN frozen AS f USING (signature)
	  WHERE NOT starts_with(rtrim(r.result, ')'), rtrim(f.result, ')'))$$,
	'results have the columns they had, new ones only at the end');
SELECT is((SELECT string_agg(a.attname || ' ' || format_type(a.atttypid, NULL), ', ' ORDER BY a.attnum)
		   FROM pg_attribute AS a WHERE a.attrelid = 'failsafe.wallet_result'::regclass AND a.attnum BETWEEN 1 AND 15),
	'status text, transaction_id text, entry_id text, hold_id text, posted numeric, held numeric, '
	'available numeric, code text, replayed boolean, amount numeric, hold_remaining numeric, '
	'expires_at timestamp with time zone, version bigint, recorded_at timestamp with time zone, '
	'idempotency_key text', 'wallet_result');
SELECT is_empty(
	$$SELECT r.proname FROM routine AS r JOIN pg_type AS t ON t.typname = r.proname AND t.typcategory <> 'A'
	  WHERE t.typnamespace = 'failsafe'::regnamespace$$,
	'no type or view shares the name of a function');
SELECT is_empty(
	$$SELECT r.proname FROM routine AS r WHERE r.proname !~ '^_' GROUP BY r.proname HAVING count(*) > 1$$,
	'no function is overloaded');
SELECT is_empty(
	$$SELECT t.typname FROM pg_type AS t WHERE t.typnamespace = 'failsafe'::regnamespace AND t.typtype IN ('d', 'e', 'r', 'm')$$,
	'no domain and no enum: status columns are text');

-- ---- words ----------------------------------------------------------------------------

SELECT is_empty(
	$$SELECT r.signature FROM routine AS r WHERE obj_description(r.oid, 'pg_proc') IS NULL$$,
	'every function has a comment');
SELECT is_empty(
	$$SELECT c.relname FROM pg_class AS c
	  WHERE c.relnamespace = 'failsafe'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'S')
		AND obj_description(c.oid, 'pg_class') IS NULL$$,
	'every table, view and sequence has one');
SELECT is_empty(
	$$SELECT t.typname FROM pg_type AS t JOIN pg_class AS c ON c.oid = t.typrelid
	  WHERE c.relnamespace = 'failsafe'::regnamespace AND c.relkind = 'c'
		AND obj_description(t.oid, 'pg_type') IS NULL$$,
	'every type has one');
SELECT is_empty(
	$$SELECT t.tgrelid::regclass, t.tgname FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
	  WHERE c.relnamespace = 'failsafe'::regnamespace AND obj_description(t.oid, 'pg_trigger') IS NULL$$,
	'every trigger has one');

-- ---- safety ---------------------------------------------------------------------------

SELECT is_empty(
	$$SELECT r.signature FROM routine AS r
	  WHERE (r.lanname <> 'c' OR r.prosecdef)
		AND NOT coalesce(r.proconfig @> ARRAY['search_path=pg_catalog, pg_temp'], false)
		AND r.proname <> '_transaction_legs'$$,
	'functions in SQL and those with the owner''s rights fix their search_path');
SELECT is_empty(
	$$SELECT r.signature FROM routine AS r
	  CROSS JOIN LATERAL aclexplode(coalesce(r.proacl, acldefault('f', r.proowner))) AS g WHERE g.grantee = 0
	  UNION ALL
	  SELECT c.relname FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS g
	  WHERE c.relnamespace = 'failsafe'::regnamespace AND g.grantee = 0$$,
	'nothing is granted to PUBLIC');
SELECT is_empty(
	$$SELECT c.relname, g.grantee::regrole, g.privilege_type
	  FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS g
	  WHERE c.relnamespace = 'failsafe'::regnamespace AND c.relkind IN ('r', 'p', 'S') AND g.grantee <> c.relowner$$,
	'no role has a right on a table or sequence');
SELECT is_empty(
	$$SELECT c.relname FROM pg_class AS c
	  WHERE c.relnamespace = 'failsafe'::regnamespace AND c.relkind = 'v'
		AND NOT coalesce(c.reloptions @> ARRAY['security_barrier=true'], false)
		AND c.relname NOT IN ('error_codes', 'stat_commands')$$,
	'views of tenants'' rows are security barriers');
SELECT is_empty(
	$$SELECT t.tgrelid::regclass, t.tgname FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
	  WHERE c.relnamespace = 'failsafe'::regnamespace AND t.tgname <> 'failsafe_guard'$$,
	'no trigger but the guards: a restore fires none that does something');

SELECT * FROM finish();
ROLLBACK;
