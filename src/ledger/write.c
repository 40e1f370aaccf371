/*
 * ledger/write.c
 *	  Write what a segment has decided.
 *
 * Order [I4]: changed balances, holds and reversal sums first (their rows are
 * locked by us); the actor's row; then the entries and journal rows, whose
 * numbers were drawn at the claim; then the event numbers are drawn, and the
 * events inserted.  Nothing waits between a draw of those and its insert.
 *
 * A crash at any step leaves nothing: one transaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/timestamp.h"

#include "base/actor.h"
#include "base/commit.h"
#include "base/fault.h"
#include "base/row.h"
#include "base/settings.h"
#include "ledger/apply.h"

/* Put the legs of one command into the entries array. */
static int
make_entries(const Work *work, EntryRow *entries)
{
	int64		journal_id = work->claim.journal_id;
	TimestampTz effective_at = work->command->effective_at;

	StaticAssertStmt(POST_LEGS_MAX <= ENTRY_LEGS_MAX, "legs must fit into entry ids");
	Assert(work->leg_count >= 2 && work->leg_count <= POST_LEGS_MAX);
	for (int i = 0; i < work->leg_count; i++)
	{
		Leg		   *leg = &work->legs[i];
		EntryRow   *entry = &entries[i];

		entry->id = entry_id_of_leg(journal_id, i);
		entry->account_id = leg->balance->account->id;
		entry->journal_id = journal_id;
		entry->version = leg->version;
		entry->effective_at = effective_at != 0 && effective_at < work->recorded_at ?
			effective_at : 0;
		entry->amount_minor = leg->amount_minor;
		entry->has_posted = leg->version != 0;
		entry->posted_minor = leg->posted_minor;
	}
	return work->leg_count;
}

/* Which entries the row has: accounts and versions find them [J6]. */
static void
row_from_legs(JournalRow *row, const Work *work)
{
	if (work->leg_count == 0)
		return;
	if (work->account != NULL)
	{
		Assert(work->leg_count == 2 && work->legs[0].version == row->version);
		row->counterparty_version = work->legs[1].version;
		return;
	}
	row->leg_count = work->leg_count;
	row->leg_account_ids = palloc(work->leg_count * sizeof(int64));
	row->leg_versions = palloc(work->leg_count * sizeof(int64));
	for (int i = 0; i < work->leg_count; i++)
	{
		row->leg_account_ids[i] = work->legs[i].balance->account->id;
		row->leg_versions[i] = work->legs[i].version;
	}
}

static void
row_from_after(JournalRow *row, const Work *work)
{
	const Balance *after = &work->after;

	if (!work->has_after)
		return;
	row->has_held = true;
	row->held_minor = after->held_minor;
	if (after->account->is_system)
		return;
	row->has_balances = true;
	row->posted_minor = after->posted_minor;
	row->has_available = balance_available(after, &row->available_minor);
	row->version = after->version;
}

static void
row_from_work(JournalRow *row, const Segment *segment, const Work *work)
{
	const LedgerCommand *command = work->command;

	memset(row, 0, sizeof(*row));
	row->id = work->claim.journal_id;
	row->tenant_id = segment->tenant_id;
	row->command = command->type;
	row->status = work->status;
	row->code = work->code;
	row->key = command->key;
	row->account_id = work->account != NULL ? work->account->id : 0;
	row->counterparty_id = work->counterparty != NULL ? work->counterparty->id : 0;
	row->hold_id = work->hold != NULL ? work->hold->id : 0;
	row->reverses = work->reversal != NULL ? work->reversal->target->id : 0;
	row->recorded_at = work->recorded_at;
	row->effective_at = command->effective_at;
	row->expires_at = work->expires_at;
	row->has_amount = work->has_amount;
	row->amount_minor = work->amount_minor;
	row->has_released = work->has_released;
	row->released_minor = work->released_minor;
	row->has_hold_remaining = work->has_hold_remaining;
	row->hold_remaining_minor = work->hold_remaining_minor;
	row->reference = command->reference;
	row->reason = command->reason;
	row->trace_id = command->trace_id;
	row->traceparent = command->traceparent;
	row->region = command->region;
	row->metadata = command->metadata;
	row_from_after(row, work);
	row->detail = work->detail;
	row_from_legs(row, work);
}

/* The expiry of a hold: a row without a key. */
static void
row_from_expiry(JournalRow *row, Segment *segment, const Hold *hold)
{
	Assert(hold->status == HOLD_EXPIRED && hold_rest(hold) == 0);
	memset(row, 0, sizeof(*row));
	row->id = row_sequence_next("journal_id_seq");
	row->tenant_id = hold->tenant_id;
	row->command = LEDGER_EXPIRE;
	row->status = LEDGER_EXPIRED;
	row->account_id = hold->account_id;
	row->hold_id = hold->id;
	row->recorded_at = segment->now;
	row->expires_at = hold->expires_at;
	row->has_amount = row->has_released = true;
	row->amount_minor = row->released_minor =
		hold->amount_minor - hold->captured_minor;
	row->has_hold_remaining = true;
}

static void
reversals_write(Segment *segment)
{
	ListCell   *cell;

	foreach(cell, segment->reversals)
	{
		Reversal   *reversal = lfirst(cell);

		if (!reversal->changed)
			continue;
		Assert(reversal->reversed_minor <= reversal->moved_minor);	/* J5 */
		reversible_write(reversal->target->id, &reversal->tid, reversal->reversed_minor);
	}
}

void
segment_write(Segment *segment)
{
	int			expiry_count = list_length(segment->expired);
	JournalRow *rows = palloc0((segment->count + expiry_count) * sizeof(JournalRow));
	EntryRow   *entries;
	int			entry_count = 0;
	int			row_count = 0;
	int			leg_total = 0;
	ListCell   *cell;

	(void) actor_current();		/* may insert its row: before any draw */
	commit_write_begin();
	balances_write(segment->balances, segment->balance_count);
	holds_write(segment->holds);
	reversals_write(segment);

	for (int i = 0; i < segment->count; i++)
		if (!segment->works[i].settled)
			leg_total += segment->works[i].leg_count;
	entries = palloc0(Max(leg_total, 1) * sizeof(EntryRow));
	foreach(cell, segment->expired)
		row_from_expiry(&rows[row_count++], segment, lfirst(cell));
	for (int i = 0; i < segment->count; i++)
	{
		Work	   *work = &segment->works[i];

		if (work->settled)
			continue;
		if (work->leg_count > 0)
			entry_count += make_entries(work, &entries[entry_count]);
		row_from_work(&rows[row_count], segment, work);
		outcome_from_row(work->outcome, &rows[row_count++]);
	}
	Assert(entry_count == leg_total && row_count <= segment->count + expiry_count);
	FAULT_POINT(entries_made);
	if (entry_count > 0)
		entries_write(entries, entry_count);
	FAULT_POINT(entries_written);
	if (row_count > 0)
		journal_write(rows, row_count);
	FAULT_POINT(journal_written);
	segment_events(segment, rows);
}
