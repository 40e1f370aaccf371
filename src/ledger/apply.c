/*
 * ledger/apply.c
 *	  The write path: segments, keys, locks, decisions [I1, I4, I5].
 *
 * Invariants:
 *	P1	Locks are taken in one order: keys (sorted), journal rows to be reversed
 *		(by id), balances (by account id).  A batch of several segments takes
 *		them again for each; two such batches may deadlock (40P01), never err.
 *	P2	The clock is read after the locks.
 *	P3	Every due hold of a locked account is expired before the first command
 *		of the segment is decided.
 *	P4	Where a call raises, it has changed nothing; where it answers a value,
 *		exactly the commands with a stored outcome have changed something.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/commit.h"
#include "base/fault.h"
#include "base/settings.h"
#include "base/stats.h"
#include "base/tenant.h"
#include "base/version.h"
#include "ledger/apply.h"
#include "ledger/snapshot.h"

/* ---------- first part: nothing is locked ---------- */

static void
segment_validate(Segment *segment)
{
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < segment->count; i++)
	{
		Work	   *work = &segment->works[i];
		const char *field;
		const char *value;
		FailsafeCode code = command_validate(work->command, now, &field, &value);

		if (code == FAILSAFE_OK)
			code = work_resolve(segment, work, &field, &value);
		if (code != FAILSAFE_OK)
			outcome_refuse(segment, work, code, field, value);
	}
}

static int
compare_claims(const void *a, const void *b)
{
	return strcmp((*(KeyClaim *const *) a)->key, (*(KeyClaim *const *) b)->key);
}

static void
segment_claim(Segment *segment)
{
	KeyClaim  **claims = palloc(segment->count * sizeof(KeyClaim *));
	int			count = 0;

	for (int i = 0; i < segment->count; i++)
	{
		Work	   *work = &segment->works[i];

		if (work->settled)
			continue;
		work->claim.key = work->command->key;
		work->claim.tenant_id = segment->tenant_id;
		work_fingerprint(work, work->claim.fingerprint);
		claims[count++] = &work->claim;
	}
	if (count > 1)
		qsort(claims, count, sizeof(KeyClaim *), compare_claims);
	key_claim(claims, count, true);
	FAULT_POINT(keys_claimed);
}

/* A key that was used before: its answer, or what differs. */
static void
work_replay(Segment *segment, Work *work)
{
	Snapshot	snapshot = snapshot_fresh();
	JournalRow *row = journal_read(work->claim.journal_id, snapshot);

	if (row == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the journal row of an idempotency key is missing"),
				 errhint("Run failsafe.ledger_verify().")));
	commit_wait_durable(row->xmin);
	FAULT_POINT(replay_read);
	if (work->claim.matches)
	{
		outcome_from_row(work->outcome, row);
		work->outcome->replayed = true;
		work->settled = true;
	}
	else
	{
		outcome_refuse(segment, work, FAILSAFE_KEY_MISMATCH, NULL, NULL);
		work->outcome->detail =
			outcome_detail_mismatch(segment, work, work_mismatch(work, row, snapshot), row);
	}
	UnregisterSnapshot(snapshot);
}

/* ---------- second part: locks ---------- */

static Reversal *
segment_reversal(Segment *segment, Work *work)
{
	ListCell   *cell;
	Reversal   *reversal;

	foreach(cell, segment->reversals)
	{
		reversal = lfirst(cell);
		if (reversal->target->id == work->target_row->id)
			return reversal;
	}
	reversal = palloc0(sizeof(Reversal));
	reversal->target = work->target_row;
	segment->reversals = lappend(segment->reversals, reversal);
	return reversal;
}

static int
compare_reversals(const ListCell *a, const ListCell *b)
{
	int64		left = ((Reversal *) lfirst(a))->target->id;
	int64		right = ((Reversal *) lfirst(b))->target->id;

	return left < right ? -1 : left > right;
}

/* What the target of a reversal moved; the journal never changes, so any time will do. */
static void
reversal_load(Reversal *reversal, Snapshot snapshot)
{
	const JournalRow *target = reversal->target;

	if (target->leg_count == 0)
	{
		reversal->moved_minor = target->amount_minor;
		return;
	}
	reversal->leg_amounts = palloc0(target->leg_count * sizeof(int128));
	for (int i = 0; i < target->leg_count; i++)
		if (!entry_amount(target, i, snapshot, &reversal->leg_amounts[i]))
			elog(ERROR, "an entry of journal row %lld is missing", (long long) target->id);
	reversal->moved_minor = 1;
	if (target->leg_count == 2)
		reversal->moved_minor = Max(reversal->leg_amounts[0], -reversal->leg_amounts[0]);
	Assert(reversal->moved_minor > 0);
}

static void
segment_lock_reversals(Segment *segment)
{
	Snapshot	snapshot;
	ListCell   *cell;

	for (int i = 0; i < segment->count; i++)
	{
		Work	   *work = &segment->works[i];

		if (!work->settled && work->command->type == LEDGER_REVERSE)
			work->reversal = segment_reversal(segment, work);
	}
	if (segment->reversals == NIL)
		return;
	list_sort(segment->reversals, compare_reversals);
	commit_write_begin();
	snapshot = snapshot_fresh();
	foreach(cell, segment->reversals)
	{
		Reversal   *reversal = lfirst(cell);

		journal_lock(reversal->target, snapshot);
		reversal->reversed_minor = reversible_read(reversal->target->id, &reversal->tid);
		reversal_load(reversal, snapshot);
		Assert(reversal->reversed_minor <= reversal->moved_minor);
	}
	FAULT_POINT(reversals_locked);
	UnregisterSnapshot(snapshot);
}

static int
compare_accounts(const void *a, const void *b)
{
	int64		left = (*(Account *const *) a)->id;
	int64		right = (*(Account *const *) b)->id;

	return left < right ? -1 : left > right;
}

/* Every account that an undecided command touches, once, by id. */
static void
segment_collect(Segment *segment)
{
	Account   **accounts;
	Balance    *balances;
	int			count = 0;
	int			room = 0;

	for (int i = 0; i < segment->count; i++)
		room += 2 + segment->works[i].command->leg_count +
			(segment->works[i].reversal ? segment->works[i].reversal->target->leg_count : 0);
	accounts = palloc(room * sizeof(Account *));
	for (int i = 0; i < segment->count; i++)
	{
		Work	   *work = &segment->works[i];
		int			legs = work->reversal ? work->reversal->target->leg_count :
		work->command->leg_count;

		if (work->settled)
			continue;
		if (work->account != NULL)
			accounts[count++] = work->account;
		if (work->counterparty != NULL && work->command->type != LEDGER_HOLD)
			accounts[count++] = work->counterparty;
		for (int j = 0; work->leg_accounts != NULL && j < legs; j++)
			accounts[count++] = work->leg_accounts[j];
	}
	Assert(count <= room);
	if (count > 1)
		qsort(accounts, count, sizeof(Account *), compare_accounts);
	balances = palloc0(Max(count, 1) * sizeof(Balance));
	segment->balances = palloc(Max(count, 1) * sizeof(Balance *));
	segment->balance_count = 0;
	for (int i = 0; i < count; i++)
	{
		if (i > 0 && accounts[i]->id == accounts[i - 1]->id)
			continue;
		balances[segment->balance_count].account = accounts[i];
		segment->balances[segment->balance_count] = &balances[segment->balance_count];
		segment->balance_count++;
	}
}

/* The segment's one copy of a hold. */
static Hold *
segment_hold(Segment *segment, int64 hold_id)
{
	ListCell   *cell;
	Hold	   *hold;

	foreach(cell, segment->holds)
	{
		hold = lfirst(cell);
		if (hold->id == hold_id)
			return hold;
	}
	hold = hold_read(hold_id, segment->snapshot);
	if (hold == NULL)
		elog(ERROR, "hold %lld vanished", (long long) hold_id);
	segment->holds = lappend(segment->holds, hold);
	return hold;
}

/* Expire what is due on the locked accounts [P3]; load the holds that are named. */
static void
segment_load_holds(Segment *segment)
{
	for (int i = 0; i < segment->balance_count; i++)
	{
		Balance    *balance = segment->balances[i];
		ListCell   *cell;
		List	   *due;

		if (balance->next_hold_expiry == 0 || balance->next_hold_expiry > segment->now)
			continue;
		due = hold_read_due(balance->account->id, segment->now, segment->snapshot);
		foreach(cell, due)
			hold_expire(segment, balance, lfirst(cell));
		FAULT_POINT(holds_expired);
		balance->next_hold_expiry =
			hold_next_expiry_after(balance->account->id, segment->now, segment->snapshot);
		balance->changed = true;
	}
	for (int i = 0; i < segment->count; i++)
	{
		Work	   *work = &segment->works[i];
		LedgerCommandType type = work->command->type;

		if (!work->settled && (type == LEDGER_EXTEND || type == LEDGER_COMMIT ||
							   type == LEDGER_ROLLBACK))
			work->hold = segment_hold(segment, work->target_row->hold_id);
	}
}

static bool
segment_needs_holds(const Segment *segment)
{
	for (int i = 0; i < segment->count; i++)
		if (!segment->works[i].settled && segment->works[i].command->target != NULL &&
			segment->works[i].command->type != LEDGER_REVERSE)
			return true;
	for (int i = 0; i < segment->balance_count; i++)
		if (segment->balances[i]->next_hold_expiry != 0 &&
			segment->balances[i]->next_hold_expiry <= segment->now)
			return true;
	return false;
}

static void
segment_lock(Segment *segment)
{
	balances_lock(segment->balances, segment->balance_count);
	segment->now = GetCurrentTimestamp();	/* P2 */
	if (!segment_needs_holds(segment))
		return;
	segment->snapshot = snapshot_fresh();
	segment_load_holds(segment);
	UnregisterSnapshot(segment->snapshot);
	segment->snapshot = NULL;
}

/*
 * One command that moves money between one wallet and system accounts needs no
 * lock before its update: the update itself fails when the balance that was
 * judged is not the current one.  Saves a WAL record and a page change.  NULL: lock.
 */
static RowTable *
segment_peek(Segment *segment)
{
	LedgerCommandType type = segment->works[0].command->type;
	RowTable   *table;

	if (segment->count != 1 || (type != LEDGER_DEBIT && type != LEDGER_CREDIT &&
								type != LEDGER_TRANSFER))
		return NULL;
	table = balances_peek(segment->balances, segment->balance_count);
	if (table == NULL)
		return NULL;
	FAULT_POINT(balance_peeked);
	segment->now = GetCurrentTimestamp();
	if (!segment_needs_holds(segment))
		return table;
	balances_peek_end(table);
	return NULL;
}

/* ---------- third part: decide and write ---------- */

/* A command that did not succeed: decline it, refuse it or raise it. */
static void
work_fail(Segment *segment, Work *work, FailsafeCode code)
{
	bool		records = error_info(code)->kind == FAILSAFE_KIND_DECLINED &&
	work->command->records_declines;

	if (records)
	{
		work->status = LEDGER_DECLINED;
		work->code = code;
		work->recorded_at = segment->now;
		work->amount_minor = work->command->amount_minor;
		work->has_amount = work->command->has_amount;
		/* now: later commands of the segment change the balances */
		work->detail = outcome_detail(segment, work, code, NULL, NULL);
		return;
	}
	outcome_refuse(segment, work, code,
				   code == FAILSAFE_DEADLINE_EXCEEDED ? "deadline" : NULL, NULL);
	if (error_info(code)->kind == FAILSAFE_KIND_DECLINED)
		work->outcome->status = LEDGER_DECLINED;

	/* the refusal rests on balances of others: they must be durable [F18] */
	for (int i = 0; i < segment->balance_count; i++)
		if (!segment->balances[i]->account->is_system)
			commit_wait_durable(segment->balances[i]->xmin);
	if (segment->door == LEDGER_DOOR_VALUES)
		key_unclaim(&work->claim);
}

static void
count_outcome(const Work *work, uint64 elapsed_us)
{
	const LedgerOutcome *outcome = work->outcome;
	StatsOutcome kind = STATS_ACCEPTED;

	if (outcome->replayed)
		kind = STATS_REPLAYED;
	else if (outcome->code == FAILSAFE_KEY_MISMATCH)
		kind = STATS_MISMATCHED;
	else if (outcome->status == LEDGER_DECLINED)
		kind = STATS_DECLINED;
	else if (outcome->status == LEDGER_REFUSED)
		kind = STATS_REFUSED;
	stats_count((StatsCommand) work->command->type, kind, outcome->code, elapsed_us);
}

/* At the raising door, an outcome that is no success and not recorded is an error. */
static void
segment_raise(Segment *segment, uint64 elapsed_us)
{
	for (int i = 0; i < segment->count; i++)
	{
		Work	   *work = &segment->works[i];
		LedgerOutcome *outcome = work->outcome;

		if (!work->settled || outcome->code == FAILSAFE_OK ||
			(outcome->replayed && work->command->records_declines))
			continue;
		count_outcome(work, elapsed_us);
		if (segment->first_index >= 0)
			outcome->detail = outcome_detail_index(outcome->detail, segment->first_index + i);
		outcome_raise(outcome);
	}
}

static int
segment_unsettled(const Segment *segment)
{
	int			count = 0;

	for (int i = 0; i < segment->count; i++)
		count += !segment->works[i].settled;
	return count;
}

static void
segment_decide(Segment *segment)
{
	for (int i = 0; i < segment->count; i++)
	{
		Work	   *work = &segment->works[i];
		FailsafeCode code;

		if (work->settled)
			continue;
		code = work_decide(segment, work);
		if (code != FAILSAFE_OK)
			work_fail(segment, work, code);
	}
	FAULT_POINT(decided);
}

/*
 * Decide on the balance that was peeked at and write it.  False: it is not free, or
 * it had changed meanwhile; nothing is written, and the work is as it was before.  A
 * decline needs no write: the balance was the current one when it was read.
 */
static bool
segment_decide_unlocked(Segment *segment)
{
	Work	   *work = &segment->works[0];
	Work		before = *work;
	RowTable   *table = segment_peek(segment);
	bool		written = true;

	if (table == NULL)
		return false;
	Assert(segment->count == 1 && !work->settled);
	segment_decide(segment);
	for (int i = 0; i < segment->balance_count && written; i++)
		if (segment->balances[i]->changed)
			written = balance_try_write(table, segment->balances[i]);
	balances_peek_end(table);
	if (!written)
		*work = before;
	return written;
}

static void
segment_apply(Segment *segment)
{
	instr_time	start;
	instr_time	elapsed;

	INSTR_TIME_SET_CURRENT(start);
	segment_validate(segment);
	if (segment_unsettled(segment) > 0)
		segment_claim(segment);
	for (int i = 0; i < segment->count; i++)
	{
		Work	   *work = &segment->works[i];

		if (work->settled)
			continue;
		if (work->claim.state == KEY_FOUND)
			work_replay(segment, work);
		else
		{
			work->claimed = true;
			work_world(segment, work);
		}
	}
	if (segment_unsettled(segment) > 0)
	{
		segment_lock_reversals(segment);
		segment_collect(segment);
		if (!segment_decide_unlocked(segment))
		{
			segment_lock(segment);
			segment_decide(segment);
		}
	}
	INSTR_TIME_SET_CURRENT(elapsed);
	INSTR_TIME_SUBTRACT(elapsed, start);
	if (segment->door == LEDGER_DOOR_RAISES)
		segment_raise(segment, INSTR_TIME_GET_MICROSEC(elapsed));
	if (segment_unsettled(segment) > 0 || segment->expired != NIL)
		segment_write(segment);
	INSTR_TIME_SET_CURRENT(elapsed);
	INSTR_TIME_SUBTRACT(elapsed, start);
	for (int i = 0; i < segment->count; i++)
	{
		const LedgerOutcome *outcome = segment->works[i].outcome;

		count_outcome(&segment->works[i], INSTR_TIME_GET_MICROSEC(elapsed) / segment->count);
		if (outcome->code != FAILSAFE_OK && !outcome->replayed)
			error_log(outcome->code, NULL, outcome->detail);
	}
}

/* ---------- the call ---------- */

/*
 * How many commands from the first on can go through together: their keys are
 * distinct, and none names another by its key.
 */
static int
segment_length(LedgerCommand *commands, int count)
{
	HASHCTL		control = {.keysize = KEY_BYTES_MAX + 1, .entrysize = KEY_BYTES_MAX + 1,
	.hcxt = CurrentMemoryContext};
	HTAB	   *keys;
	int			length;

	if (count == 1)
		return 1;
	keys = hash_create("pg_failsafe keys of a batch", count, &control,
					   HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	for (length = 0; length < count; length++)
	{
		const LedgerCommand *command = &commands[length];
		bool		found = false;

		if (key_validate(command->key) != FAILSAFE_OK)
			continue;			/* will be refused */
		if (command->target != NULL && strncmp(command->target, "key:", 4) == 0 &&
			key_validate(command->target + 4) == FAILSAFE_OK &&
			hash_search(keys, command->target + 4, HASH_FIND, NULL) != NULL)
			break;
		hash_search(keys, command->key, HASH_ENTER, &found);
		if (found)
			break;
	}
	hash_destroy(keys);
	Assert(length > 0);
	return length;
}

void
ledger_apply(LedgerCommand *commands, LedgerOutcome *outcomes, int count,
			 LedgerDoor door, int first_index)
{
	int32		tenant_id;

	PreventCommandIfReadOnly("a ledger command");
	PreventCommandDuringRecovery("a ledger command");
	version_check();
	tenant_id = tenant_current();
	account_cache_pin();
	for (int done = 0; done < count;)
	{
		Segment		segment = {.tenant_id = tenant_id, .door = door,
		.first_index = first_index < 0 ? -1 : first_index + done};

		CHECK_FOR_INTERRUPTS();
		segment.count = segment_length(commands + done, count - done);
		segment.works = palloc0(segment.count * sizeof(Work));
		for (int i = 0; i < segment.count; i++)
		{
			segment.works[i].command = &commands[done + i];
			segment.works[i].outcome = &outcomes[done + i];
		}
		segment_apply(&segment);
		if (commit_is_writing())
			commit_write_end(); /* later segments and calls see these rows */
		done += segment.count;
	}
}

static int
compare_int64(const void *a, const void *b)
{
	int64		left = *(const int64 *) a;
	int64		right = *(const int64 *) b;

	return left < right ? -1 : left > right;
}

/* One account's due holds, as a segment without commands. */
int
ledger_expire_account(int64 account_id)
{
	Account    *account = account_find_id(account_id);
	Balance		balance = {.account = account};
	Balance    *balances[1] = {&balance};
	Segment		segment = {.tenant_id = account->tenant_id, .balances = balances,
	.balance_count = 1, .first_index = -1};

	Assert(!account->is_system);
	commit_write_begin();
	balances_lock(balances, 1);
	segment.now = GetCurrentTimestamp();
	segment.snapshot = snapshot_fresh();
	segment_load_holds(&segment);
	UnregisterSnapshot(segment.snapshot);
	segment_write(&segment);
	commit_write_end();
	return list_length(segment.expired);
}

int
ledger_expire_due(int max_holds)
{
	int64	   *account_ids;
	int			account_count;
	int			expired = 0;

	PreventCommandIfReadOnly("holds_sweep");
	PreventCommandDuringRecovery("holds_sweep");
	version_check();
	account_cache_pin();
	account_ids = palloc(max_holds * sizeof(int64));
	account_count = hold_due_accounts(GetCurrentTimestamp(), max_holds, account_ids);
	qsort(account_ids, account_count, sizeof(int64), compare_int64);
	for (int i = 0; i < account_count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (i > 0 && account_ids[i] == account_ids[i - 1])
			continue;
		expired += ledger_expire_account(account_ids[i]);
	}
	return expired;
}
