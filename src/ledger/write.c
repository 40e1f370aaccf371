/*
 * ledger/write.c
 *	  Write what a segment has decided.
 *
 * Order [I4]: changed balances, holds and reversal sums first (their rows are
 * locked by us); the actor's row; then the entry numbers are drawn, and the
 * entries and journal rows that hold them inserted; then the event numbers, and
 * the events.  Nothing waits between a draw and its insert.
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
#include "ledger/apply.h"

/* Draw the pairs of one command and put its legs into the entries array. */
static int
draw_entries(Work *work, EntryRow *entries)
{
	int			pairs = (work->leg_count + 1) / 2;
	bool		is_post = work->account == NULL;
	TimestampTz effective_at = work->command->effective_at;

	Assert(work->leg_count >= 2);
	work->entry_blocks = is_post ? palloc(pairs * sizeof(int64)) : NULL;
	for (int pair = 0; pair < pairs; pair++)
	{
		int64		first = row_sequence_next("entry_id_seq");

		Assert(first % 2 == 1);
		if (pair == 0)
			work->entry_id = first;
		if (is_post)
			work->entry_blocks[pair] = first;
		for (int i = pair * 2; i < Min(pair * 2 + 2, work->leg_count); i++)
		{
			Leg		   *leg = &work->legs[i];
			EntryRow   *entry = &entries[i];

			entry->id = first + i % 2;
			entry->account_id = leg->balance->account->id;
			entry->journal_id = work->claim.journal_id;
			entry->version = leg->version;
			entry->effective_at = effective_at != 0 && effective_at < work->recorded_at ?
				effective_at : 0;
			entry->amount_minor = leg->amount_minor;
			entry->has_posted = leg->version != 0;
			entry->posted_minor = leg->posted_minor;
		}
	}
	return work->leg_count;
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
	row->entry_id = work->entry_id;
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
	if (work->account == NULL && work->leg_count > 0)
	{
		row->leg_count = work->leg_count;
		row->entry_blocks = work->entry_blocks;
		row->leg_account_ids = palloc(work->leg_count * sizeof(int64));
		for (int i = 0; i < work->leg_count; i++)
			row->leg_account_ids[i] = work->legs[i].balance->account->id;
	}
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
			entry_count += draw_entries(work, &entries[entry_count]);
		row_from_work(&rows[row_count], segment, work);
		outcome_from_row(work->outcome, &rows[row_count++]);
	}
	Assert(entry_count == leg_total && row_count <= segment->count + expiry_count);
	FAULT_POINT(entries_drawn);
	if (entry_count > 0)
		entries_write(entries, entry_count);
	FAULT_POINT(entries_written);
	if (row_count > 0)
		journal_write(rows, row_count);
	FAULT_POINT(journal_written);
	segment_events(segment, rows);
}
