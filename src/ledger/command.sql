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
