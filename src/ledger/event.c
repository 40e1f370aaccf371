/*
 * ledger/event.c
 *	  The events of the ledger (contract 7): one for each command that has an
 *	  outcome, and one for each expired hold.
 *
 * The payload leaves out what the outbox row has in columns of its own
 * (event_id, event_type, occurred_at, tenant, region, trace_id): they are put in
 * front of it when it is read or sent, and the row stays small.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/json.h"
#include "base/settings.h"
#include "ledger/apply.h"
#include "outbox/outbox.h"

#define EVENT_TYPE_BYTES	40	/* longest: wallet.rollback.rolled_back */

static void
payload_entries(StringInfo payload, const Work *work)
{
	appendStringInfoString(payload, ",\"entries\":[");
	for (int i = 0; i < work->leg_count; i++)
	{
		const Leg  *leg = &work->legs[i];

		appendStringInfoString(payload, i > 0 ? ",{" : "{");
		json_member_id(payload, "entry_id", 'e', entry_id_of_leg(work->claim.journal_id, i));
		json_member_text(payload, "account_id", leg->balance->account->code);
		json_member_money(payload, "amount_minor", leg->amount_minor,
						  leg->balance->account->exponent);
		json_member_text(payload, "currency", leg->balance->account->currency);
		if (leg->version != 0)
			json_member_int64(payload, "account_version", leg->version);
		appendStringInfoChar(payload, '}');
	}
	appendStringInfoChar(payload, ']');
}

static void
payload_hold(StringInfo payload, const Work *work, int exponent)
{
	if (work->hold == NULL)
		return;
	json_member_id(payload, "hold_id", 'h', work->hold->id);
	if (work->expires_at != 0)
		json_member_time(payload, "expires_at", work->expires_at);
	if (work->command->type == LEDGER_COMMIT && work->status == LEDGER_COMMITTED)
		json_member_bool(payload, "final", work->final);
	if (work->has_hold_remaining)
		json_member_money(payload, "hold_remaining", work->hold_remaining_minor, exponent);
	if (work->has_released)
		json_member_money(payload, "released_minor", work->released_minor, exponent);
}

static void
payload_of_work(StringInfo payload, const Work *work)
{
	const LedgerCommand *command = work->command;
	const Account *account = work->account;
	int			exponent = account != NULL ? account->exponent : 0;

	appendStringInfoChar(payload, '{');
	if (account != NULL)
	{
		json_member_text(payload, "account_id", account->code);
		if (work->has_amount)
			json_member_money(payload, "amount_minor", work->amount_minor, exponent);
		json_member_text(payload, "currency", account->currency);
	}
	json_member_text(payload, "reference_id", command->reference);
	json_member_text(payload, "idempotency_key", command->key);
	json_member_id(payload, "transaction_id", 't', work->claim.journal_id);
	json_member_text(payload, "reason", command->reason);
	if (account != NULL && work->leg_count > 0)
		json_member_id(payload, "entry_id", 'e', entry_id_of_leg(work->claim.journal_id, 0));
	if (work->has_after && !account->is_system)
		json_member_int64(payload, "account_version", work->after.version);
	if (command->effective_at != 0)
		json_member_time(payload, "effective_at", command->effective_at);
	if (account != NULL && work->counterparty != NULL)
	{
		json_member_text(payload, "counterparty_id", work->counterparty->code);
		if (work->leg_count == 2 && work->legs[1].version != 0)
			json_member_int64(payload, "counterparty_version", work->legs[1].version);
	}
	payload_hold(payload, work, exponent);
	if (work->reversal != NULL)
		json_member_id(payload, "reverses", 't', work->reversal->target->id);
	if (work->status == LEDGER_DECLINED)
		json_member_text(payload, "code", error_info(work->code)->name);
	if (account == NULL && work->leg_count > 0)
		payload_entries(payload, work);
	appendStringInfoChar(payload, '}');
}

/* The account named first orders the events; a posting's is that of its first leg. */
static const char *
order_key_of_work(const Work *work)
{
	if (work->command->order_key != NULL)
		return work->command->order_key;
	if (work->account != NULL)
		return work->account->code;
	return work->leg_accounts[0]->code;
}

/* Texts like wallet.debit.committed, made once. */
static const char *
event_type_of_work(const Work *work)
{
	static char types[LEDGER_COMMAND_TYPES][LEDGER_EXPIRED + 1][EVENT_TYPE_BYTES];
	char	   *type = types[work->command->type][work->status];

	Assert(work->status <= LEDGER_EXPIRED);
	if (type[0] == '\0')
		snprintf(type, EVENT_TYPE_BYTES, "wallet.%s.%s",
				 ledger_command_names[work->command->type],
				 ledger_status_names[work->status]);
	return type;
}

static bool
event_of_work(OutboxEvent *event, const Segment *segment, const Work *work)
{
	StringInfoData payload;

	memset(event, 0, sizeof(*event));
	event->event_type = event_type_of_work(work);
	if (!settings_event_type_enabled(event->event_type))
		return false;
	initStringInfo(&payload);
	payload_of_work(&payload, work);
	event->tenant_id = segment->tenant_id;
	event->priority = OUTBOX_PRIORITY_MONEY;
	event->order_key = order_key_of_work(work);
	event->payload = payload.data;
	event->payload_length = payload.len;
	event->region = work->command->region;
	event->trace_id = work->command->trace_id;
	event->traceparent = work->command->traceparent;
	event->journal_id = work->claim.journal_id;
	event->occurred_at = work->recorded_at;
	return true;
}

static bool
event_of_expiry(OutboxEvent *event, const Hold *hold, const JournalRow *row)
{
	StringInfoData payload;
	const Account *account = account_find_id(hold->account_id);

	Assert(row->command == LEDGER_EXPIRE && row->hold_id == hold->id);
	memset(event, 0, sizeof(*event));
	event->event_type = "wallet.hold.expired";
	if (!settings_event_type_enabled(event->event_type))
		return false;
	initStringInfo(&payload);
	appendStringInfoChar(&payload, '{');
	json_member_text(&payload, "account_id", account->code);
	json_member_money(&payload, "amount_minor", row->amount_minor, account->exponent);
	json_member_text(&payload, "currency", account->currency);
	json_member_id(&payload, "transaction_id", 't', row->id);
	json_member_id(&payload, "hold_id", 'h', hold->id);
	json_member_time(&payload, "expires_at", hold->expires_at);
	json_member_money(&payload, "hold_remaining", 0, account->exponent);
	json_member_money(&payload, "released_minor", row->released_minor, account->exponent);
	appendStringInfoChar(&payload, '}');
	event->tenant_id = row->tenant_id;
	event->priority = OUTBOX_PRIORITY_MONEY;
	event->order_key = account->code;
	event->payload = payload.data;
	event->payload_length = payload.len;
	event->journal_id = row->id;
	event->occurred_at = row->recorded_at;
	return true;
}

void
segment_events(Segment *segment, const JournalRow *expiries)
{
	OutboxEvent *events = palloc((segment->count + list_length(segment->expired)) *
								 sizeof(OutboxEvent));
	int			count = 0;
	int			i = 0;
	ListCell   *cell;

	foreach(cell, segment->expired)
		if (event_of_expiry(&events[count], lfirst(cell), &expiries[i++]))
			count++;
	for (i = 0; i < segment->count; i++)
		if (!segment->works[i].settled &&
			event_of_work(&events[count], segment, &segment->works[i]))
			count++;
	if (count > 0)
		outbox_append(events, count);
}
