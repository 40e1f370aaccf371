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
