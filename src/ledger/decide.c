/*
 * ledger/decide.c
 *	  Judge a command against the balances in memory and change them.  No row is
 *	  read or written here, no lock is taken, nothing is raised.
 *
 * Invariants:
 *	D1	A command that is declined or refused changes nothing.
 *	D2	Money out needs posted - held >= floor afterwards; money in needs posted
 *		<= ceiling afterwards.  Out is never refused for a ceiling, in never for a
 *		floor.  A posting is judged by its net on each account.
 *	D3	A capture is never refused for funds: the hold reserved them.
 *	D4	The checks run in the documented order (base/error_catalog.h).
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "ledger/apply.h"

Balance *
segment_balance(Segment *segment, const Account *account)
{
	int			low = 0;
	int			high = segment->balance_count - 1;

	while (low <= high)
	{
		int			middle = (low + high) / 2;
		Balance    *balance = segment->balances[middle];

		if (balance->account->id == account->id)
			return balance;
		if (balance->account->id < account->id)
			low = middle + 1;
		else
			high = middle - 1;
	}
	return NULL;
}

/* ---------- judging a set of legs ---------- */

static void
net_clear(Work *work)
{
	for (int i = 0; i < work->leg_count; i++)
		work->legs[i].balance->net_minor = 0;
}

/* Closed and frozen accounts; net 0 of a posting counts as money in. */
static FailsafeCode
judge_status(const Balance *balance, bool releases_hold)
{
	if (balance->status == ACCOUNT_STATUS_CLOSED)
		return FAILSAFE_ACCOUNT_CLOSED;
	if (balance->status == ACCOUNT_STATUS_FROZEN_ALL)
		return FAILSAFE_ACCOUNT_FROZEN;
	if (balance->status == ACCOUNT_STATUS_FROZEN_OUT && balance->net_minor < 0 &&
		!releases_hold)
		return FAILSAFE_ACCOUNT_FROZEN;
	return FAILSAFE_OK;
}

static FailsafeCode
judge_limits(const Balance *balance, bool releases_hold)
{
	int128		posted = balance->posted_minor + balance->net_minor;

	if (balance->account->is_system)
		return FAILSAFE_OK;
	if (balance->net_minor < 0 && !releases_hold && balance->has_floor &&
		posted - balance->held_minor < balance->floor_minor)
		return FAILSAFE_INSUFFICIENT_FUNDS;
	if (balance->net_minor > 0 && balance->has_ceiling && posted > balance->ceiling_minor)
		return FAILSAFE_CEILING_EXCEEDED;
	return FAILSAFE_OK;
}

/*
 * Judge all legs together.  releases_hold: the first leg's account pays from a
 * hold, so that it is judged neither for a freeze 'out' nor for funds [D3].
 */
static FailsafeCode
judge_legs(Work *work, bool releases_hold)
{
	FailsafeCode code = FAILSAFE_OK;

	net_clear(work);
	for (int i = 0; i < work->leg_count; i++)
	{
		Leg		   *leg = &work->legs[i];
		int128		posted;

		work->judged = leg->balance;
		if (!money_add(leg->balance->net_minor, leg->amount_minor, &leg->balance->net_minor) ||
			!money_add(leg->balance->posted_minor, leg->balance->net_minor, &posted))
			return FAILSAFE_BALANCE_OVERFLOW;
	}
	for (int i = 0; i < work->leg_count && code == FAILSAFE_OK; i++)
	{
		work->judged = work->legs[i].balance;
		code = judge_status(work->judged, releases_hold && i == 0);
	}
	for (int i = 0; i < work->leg_count && code == FAILSAFE_OK; i++)
	{
		work->judged = work->legs[i].balance;
		code = judge_limits(work->judged, releases_hold && i == 0);
	}
	return code;
}

/* Move the money of judged legs: balances in memory, versions, running totals. */
static void
move_legs(Segment *segment, Work *work)
{
	work->recorded_at = segment->now;
	for (int i = 0; i < work->leg_count; i++)
		if (!work->legs[i].balance->account->is_system)
			work->recorded_at = Max(work->recorded_at, work->legs[i].balance->recorded_at);
	for (int i = 0; i < work->leg_count; i++)
	{
		Leg		   *leg = &work->legs[i];
		Balance    *balance = leg->balance;

		leg->version = 0;
		if (balance->account->is_system)
			continue;
		balance->posted_minor += leg->amount_minor;
		balance->version++;
		balance->recorded_at = work->recorded_at;	/* B3 */
		balance->changed = true;
		leg->version = balance->version;
		leg->posted_minor = balance->posted_minor;
	}
}

static void
two_legs(Segment *segment, Work *work, int128 amount_minor)
{
	work->leg_count = 2;
	work->legs = palloc0(2 * sizeof(Leg));
	work->legs[0].balance = segment_balance(segment, work->account);
	work->legs[0].amount_minor = amount_minor;
	work->legs[1].balance = segment_balance(segment, work->counterparty);
	work->legs[1].amount_minor = -amount_minor;
	Assert(work->legs[0].balance != NULL && work->legs[1].balance != NULL);
	Assert(work->legs[0].balance != work->legs[1].balance);
}

/* ---------- conditions of the account named first ---------- */

static FailsafeCode
judge_version(const Segment *segment, const Work *work, const Balance *balance)
{
	const LedgerCommand *command = work->command;

	if (command->deadline != 0 && segment->now >= command->deadline)
		return FAILSAFE_DEADLINE_EXCEEDED;
	if (command->has_expected_version && command->expected_version != balance->version)
		return FAILSAFE_VERSION_MISMATCH;
	return FAILSAFE_OK;
}

/* change_minor: what the command takes from (-) or gives to (+) posted - held. */
static FailsafeCode
judge_min_available(Work *work, Balance *balance, int128 change_minor)
{
	int128		available;

	if (!work->command->has_min_available)
		return FAILSAFE_OK;
	work->judged = balance;
	(void) balance_available(balance, &available);
	return available + change_minor < work->command->min_available_minor ?
		FAILSAFE_MIN_AVAILABLE : FAILSAFE_OK;
}

static void
describe(Work *work, const Balance *balance)
{
	work->after = *balance;
	work->has_after = true;
}

/* ---------- the commands ---------- */

static FailsafeCode
decide_move(Segment *segment, Work *work)
{
	Balance    *balance = segment_balance(segment, work->account);
	int128		amount = work->command->amount_minor;
	FailsafeCode code;

	two_legs(segment, work, work->command->type == LEDGER_CREDIT ? amount : -amount);
	code = judge_version(segment, work, balance);
	if (code == FAILSAFE_OK)
		code = judge_legs(work, false);
	if (code == FAILSAFE_OK)
		code = judge_min_available(work, balance, work->legs[0].amount_minor);
	if (code != FAILSAFE_OK)
		return code;
	move_legs(segment, work);
	work->status = LEDGER_COMMITTED;
	describe(work, balance);
	return FAILSAFE_OK;
}

static FailsafeCode
decide_hold(Segment *segment, Work *work)
{
	Balance    *balance = segment_balance(segment, work->account);
	int128		amount = work->command->amount_minor;
	FailsafeCode code = judge_version(segment, work, balance);
	int128		held;
	Hold	   *hold;

	if (code != FAILSAFE_OK)
		return code;
	balance->net_minor = -amount;
	work->judged = balance;
	if (!money_add(balance->held_minor, amount, &held) ||
		!money_subtract(balance->posted_minor, held, &held))
		return FAILSAFE_BALANCE_OVERFLOW;
	code = judge_status(balance, false);
	if (code == FAILSAFE_OK)
		code = judge_limits(balance, false);
	if (code == FAILSAFE_OK)
		code = judge_min_available(work, balance, -amount);
	if (code != FAILSAFE_OK)
		return code;

	hold = palloc0(sizeof(Hold));
	hold->id = work->claim.journal_id;
	hold->account_id = work->account->id;
	hold->counterparty_id = work->counterparty != NULL ? work->counterparty->id : 0;
	hold->tenant_id = segment->tenant_id;
	hold->is_new = true;
	hold->status = HOLD_OPEN;
	hold->placed_at = segment->now;
	hold->expires_at = command_hold_expiry(work->command, segment->now);
	hold->amount_minor = amount;
	segment->holds = lappend(segment->holds, hold);
	work->hold = hold;
	balance->held_minor += amount;
	if (balance->next_hold_expiry == 0 || hold->expires_at < balance->next_hold_expiry)
		balance->next_hold_expiry = hold->expires_at;	/* B4 */
	balance->changed = true;
	work->status = LEDGER_HELD;
	work->expires_at = hold->expires_at;
	work->has_hold_remaining = true;
	work->hold_remaining_minor = amount;
	describe(work, balance);
	return FAILSAFE_OK;
}

/* Open and in time?  The clock, never the transaction's start [H4]. */
static FailsafeCode
judge_hold_open(const Segment *segment, const Hold *hold)
{
	if (hold->status == HOLD_EXPIRED)
		return FAILSAFE_HOLD_EXPIRED;
	if (hold->status != HOLD_OPEN)
		return FAILSAFE_HOLD_RESOLVED;
	Assert(segment->now < hold->expires_at);	/* due holds were expired before */
	return FAILSAFE_OK;
}

static FailsafeCode
decide_extend(Segment *segment, Work *work)
{
	Balance    *balance = segment_balance(segment, work->account);
	Hold	   *hold = work->hold;
	FailsafeCode code = judge_version(segment, work, balance);

	if (code == FAILSAFE_OK)
		code = judge_hold_open(segment, hold);
	if (code == FAILSAFE_OK)
	{
		balance->net_minor = 0;
		work->judged = balance;
		code = judge_status(balance, true);
	}
	if (code != FAILSAFE_OK)
		return code;
	hold->expires_at = command_hold_expiry(work->command, segment->now);
	hold->changed = true;
	balance->next_hold_expiry = Min(balance->next_hold_expiry, hold->expires_at);
	balance->changed = true;	/* B5 */
	work->status = LEDGER_HELD;
	work->amount_minor = hold->amount_minor;
	work->has_amount = true;
	work->expires_at = hold->expires_at;
	work->has_hold_remaining = true;
	work->hold_remaining_minor = hold_rest(hold);
	describe(work, balance);
	return FAILSAFE_OK;
}

static FailsafeCode
decide_commit(Segment *segment, Work *work)
{
	Balance    *balance = segment_balance(segment, work->account);
	Hold	   *hold = work->hold;
	int128		rest = hold_rest(hold);
	int128		amount = work->command->has_amount ? work->command->amount_minor : rest;
	bool		final = work->command->final || amount == rest;
	int128		released = final ? rest - amount : 0;
	FailsafeCode code = judge_version(segment, work, balance);

	if (code == FAILSAFE_OK)
		code = judge_hold_open(segment, hold);
	if (code == FAILSAFE_OK && amount > rest)
		code = FAILSAFE_HOLD_EXCEEDED;
	if (code != FAILSAFE_OK)
		return code;
	two_legs(segment, work, -amount);
	code = judge_legs(work, true);
	if (code == FAILSAFE_OK)
		code = judge_min_available(work, balance, released);
	if (code != FAILSAFE_OK)
		return code;

	hold->captured_minor += amount;
	hold->released_minor += released;
	if (final)
		hold->status = HOLD_COMMITTED;
	hold->changed = true;
	Assert((hold->status == HOLD_OPEN) == (hold_rest(hold) > 0));
	balance->held_minor -= amount + released;
	Assert(balance->held_minor >= 0);
	move_legs(segment, work);
	work->status = LEDGER_COMMITTED;
	work->amount_minor = amount;
	work->has_amount = true;
	work->released_minor = released;
	work->has_released = true;
	work->final = final;
	work->expires_at = final ? 0 : hold->expires_at;
	work->has_hold_remaining = true;
	work->hold_remaining_minor = hold_rest(hold);
	describe(work, balance);
	return FAILSAFE_OK;
}

static FailsafeCode
decide_rollback(Segment *segment, Work *work)
{
	Balance    *balance = segment_balance(segment, work->account);
	Hold	   *hold = work->hold;
	int128		rest = hold_rest(hold);
	FailsafeCode code = judge_version(segment, work, balance);

	if (code != FAILSAFE_OK)
		return code;
	if (hold->status == HOLD_COMMITTED && hold->captured_minor == hold->amount_minor)
		return FAILSAFE_HOLD_RESOLVED;
	if (hold->status == HOLD_OPEN)
	{
		hold->released_minor += rest;
		hold->status = HOLD_ROLLED_BACK;
		hold->changed = true;
		balance->held_minor -= rest;
		balance->changed = true;
	}
	Assert(hold_rest(hold) == 0 && balance->held_minor >= 0);
	work->status = LEDGER_ROLLED_BACK;
	work->amount_minor = rest;	/* 0 when it was released before */
	work->has_amount = true;
	work->released_minor = rest;
	work->has_released = true;
	work->has_hold_remaining = true;
	work->hold_remaining_minor = 0;
	describe(work, balance);
	return FAILSAFE_OK;
}

/* The legs that undo amount of the target. */
static void
reversal_legs(Segment *segment, Work *work, int128 amount)
{
	const JournalRow *target = work->reversal->target;

	if (target->leg_count == 0)
	{
		two_legs(segment, work, target->command == LEDGER_CREDIT ? -amount : amount);
		return;
	}
	work->leg_count = target->leg_count;
	work->legs = palloc0(work->leg_count * sizeof(Leg));
	for (int i = 0; i < work->leg_count; i++)
	{
		int128		moved = work->reversal->leg_amounts[i];

		work->legs[i].balance = segment_balance(segment, work->leg_accounts[i]);
		if (work->leg_count == 2)
			moved = moved < 0 ? -amount : amount;
		work->legs[i].amount_minor = -moved;
	}
}

static FailsafeCode
decide_reverse(Segment *segment, Work *work)
{
	Reversal   *reversal = work->reversal;
	bool		is_post = reversal->target->leg_count > 0;
	Balance    *balance = is_post ? NULL : segment_balance(segment, work->account);
	int128		rest = reversal->moved_minor - reversal->reversed_minor;
	int128		amount = work->command->has_amount ? work->command->amount_minor : rest;
	FailsafeCode code = FAILSAFE_OK;

	Assert(rest >= 0);			/* J5 */
	if (balance != NULL)
		code = judge_version(segment, work, balance);
	else if (work->command->deadline != 0 && segment->now >= work->command->deadline)
		code = FAILSAFE_DEADLINE_EXCEEDED;
	if (code == FAILSAFE_OK && (amount > rest || rest == 0))
		code = FAILSAFE_REVERSAL_EXCEEDED;
	if (code != FAILSAFE_OK)
		return code;
	reversal_legs(segment, work, amount);
	code = judge_legs(work, false);
	if (code == FAILSAFE_OK && balance != NULL)
		code = judge_min_available(work, balance, work->legs[0].amount_minor);
	if (code != FAILSAFE_OK)
		return code;
	reversal->reversed_minor += amount;
	reversal->changed = true;
	move_legs(segment, work);
	work->status = LEDGER_COMMITTED;
	if (reversal->target->leg_count <= 2)
	{
		work->amount_minor = amount;
		work->has_amount = true;
	}
	if (balance != NULL)
		describe(work, balance);
	return FAILSAFE_OK;
}

static FailsafeCode
decide_post(Segment *segment, Work *work)
{
	const LedgerCommand *command = work->command;
	FailsafeCode code;

	if (command->deadline != 0 && segment->now >= command->deadline)
		return FAILSAFE_DEADLINE_EXCEEDED;
	work->leg_count = command->leg_count;
	work->legs = palloc0(work->leg_count * sizeof(Leg));
	for (int i = 0; i < work->leg_count; i++)
	{
		work->legs[i].balance = segment_balance(segment, work->leg_accounts[i]);
		work->legs[i].amount_minor = command->legs[i].amount_minor;
	}
	code = judge_legs(work, false);
	if (code != FAILSAFE_OK)
		return code;
	move_legs(segment, work);
	work->status = LEDGER_COMMITTED;
	return FAILSAFE_OK;
}

FailsafeCode
work_decide(Segment *segment, Work *work)
{
	FailsafeCode code = FAILSAFE_COMMAND_INVALID;

	Assert(work->claimed && segment->now != 0);
	work->recorded_at = segment->now;
	work->amount_minor = work->command->amount_minor;
	work->has_amount = work->command->has_amount;
	switch (work->command->type)
	{
		case LEDGER_DEBIT:
		case LEDGER_CREDIT:
		case LEDGER_TRANSFER:
			code = decide_move(segment, work);
			break;
		case LEDGER_HOLD:
			code = decide_hold(segment, work);
			break;
		case LEDGER_EXTEND:
			code = decide_extend(segment, work);
			break;
		case LEDGER_COMMIT:
			code = decide_commit(segment, work);
			break;
		case LEDGER_ROLLBACK:
			code = decide_rollback(segment, work);
			break;
		case LEDGER_REVERSE:
			code = decide_reverse(segment, work);
			break;
		case LEDGER_POST:
			code = decide_post(segment, work);
			break;
		case LEDGER_EXPIRE:
			break;
	}
	if (code != FAILSAFE_OK)
		work->leg_count = 0;	/* D1 */
	return code;
}

/* Set the rest of a due hold free. */
void
hold_expire(Segment *segment, Balance *balance, Hold *hold)
{
	int128		rest = hold_rest(hold);

	Assert(hold->status == HOLD_OPEN && rest > 0 && hold->expires_at <= segment->now);
	Assert(balance->account->id == hold->account_id);
	hold->released_minor += rest;
	hold->status = HOLD_EXPIRED;
	hold->changed = true;
	balance->held_minor -= rest;
	balance->changed = true;
	Assert(balance->held_minor >= 0);
	segment->holds = lappend(segment->holds, hold);
	segment->expired = lappend(segment->expired, hold);
}
