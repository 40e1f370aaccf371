/*
 * ledger/outcome.c
 *	  Outcomes: from a stored journal row, from a refusal, and on to an ERROR.
 */
#include "postgres.h"

#include "base/json.h"
#include "base/settings.h"
#include "ledger/apply.h"

/* The stored answer, exactly as it was given [J2]. */
void
outcome_from_row(LedgerOutcome *outcome, const JournalRow *row)
{
	Assert(row->id > 0 && row->status != LEDGER_REFUSED);
	memset(outcome, 0, sizeof(*outcome));
	outcome->status = row->status;
	outcome->code = row->code;
	outcome->journal_id = row->id;
	if (row->account_id != 0 && journal_entry_count(row) > 0)	/* a posting names none */
		outcome->entry_id = entry_id_of_leg(row->id, 0);
	outcome->hold_id = row->hold_id;
	outcome->has_balances = row->has_balances;
	outcome->has_held = row->has_held;
	outcome->has_available = row->has_available;
	outcome->posted_minor = row->posted_minor;
	outcome->held_minor = row->held_minor;
	outcome->available_minor = row->available_minor;
	outcome->has_amount = row->has_amount;
	outcome->amount_minor = row->amount_minor;
	outcome->has_hold_remaining = row->has_hold_remaining;
	outcome->hold_remaining_minor = row->hold_remaining_minor;
	outcome->expires_at = row->expires_at;
	outcome->version = row->version;
	outcome->recorded_at = row->recorded_at;
	outcome->key = row->key;
	outcome->detail = row->detail;
}

/* What the case adds to DETAIL: the numbers that the decision rested on. */
static void
detail_numbers(StringInfo detail, const Segment *segment, const Work *work,
			   FailsafeCode code)
{
	const Balance *balance = work->judged;
	int			exponent = work->account == NULL ? 0 : work->account->exponent;
	int128		available;

	if (balance == NULL && work->account != NULL && segment->balance_count > 0)
		balance = segment_balance((Segment *) segment, work->account);

	if (work->command->has_amount)
		json_member_money(detail, "amount_minor", work->command->amount_minor, exponent);
	if (code == FAILSAFE_HOLD_EXCEEDED && work->hold != NULL)
		json_member_money(detail, "hold_remaining", hold_rest(work->hold), exponent);
	if (code == FAILSAFE_REVERSAL_EXCEEDED && work->reversal != NULL)
		json_member_money(detail, "reversible",
						  work->reversal->moved_minor - work->reversal->reversed_minor, exponent);
	if (balance == NULL || balance->account->is_system)
		return;
	if (code == FAILSAFE_VERSION_MISMATCH)
		json_member_int64(detail, "version", balance->version);
	if (code != FAILSAFE_INSUFFICIENT_FUNDS && code != FAILSAFE_MIN_AVAILABLE &&
		code != FAILSAFE_CEILING_EXCEEDED)
		return;
	exponent = balance->account->exponent;
	json_member_money(detail, "posted", balance->posted_minor, exponent);
	json_member_money(detail, "held", balance->held_minor, exponent);
	if (balance_available(balance, &available))
		json_member_money(detail, "available", available, exponent);
}

char *
outcome_detail(const Segment *segment, const Work *work, FailsafeCode code,
			   const char *field, const char *value)
{
	const LedgerCommand *command = work->command;
	StringInfoData detail;

	error_detail_begin(&detail, code);
	error_detail_text(&detail, "trace_id", command->trace_id);
	error_detail_text(&detail, "key", command->key);
	error_detail_text(&detail, "account",
					  work->judged != NULL ? work->judged->account->code :
					  work->account != NULL ? work->account->code : command->account);
	error_detail_text(&detail, "reference", command->reference);
	error_detail_text(&detail, "field", field);
	error_detail_text(&detail, "value", value);
	detail_numbers(&detail, segment, work, code);
	error_detail_end(&detail);
	return detail.data;
}

char *
outcome_detail_mismatch(const Segment *segment, const Work *work, const char *fields,
						const JournalRow *stored)
{
	const LedgerCommand *command = work->command;
	StringInfoData detail;

	Assert(fields[0] == '[');
	error_detail_begin(&detail, FAILSAFE_KEY_MISMATCH);
	error_detail_text(&detail, "trace_id", command->trace_id);
	error_detail_text(&detail, "key", command->key);
	error_detail_text(&detail, "account",
					  work->account != NULL ? work->account->code : command->account);
	error_detail_text(&detail, "reference", command->reference);
	error_detail_raw(&detail, "fields", fields);
	error_detail_text(&detail, "transaction_id",
					  psprintf("t_%lld", (long long) stored->id));
	error_detail_end(&detail);
	return detail.data;
}

char *
outcome_detail_index(const char *detail, int index)
{
	int			length = strlen(detail);

	Assert(length > 1 && detail[length - 1] == '}');
	return psprintf("%.*s,\"index\":%d}", length - 1, detail, index);
}

void
outcome_refuse(Segment *segment, Work *work, FailsafeCode code,
			   const char *field, const char *value)
{
	LedgerOutcome *outcome = work->outcome;

	Assert(code != FAILSAFE_OK && !work->settled);
	memset(outcome, 0, sizeof(*outcome));
	outcome->status = LEDGER_REFUSED;
	outcome->code = code;
	outcome->key = work->command->key;
	outcome->detail = outcome_detail(segment, work, code, field, value);
	work->settled = true;
}

/* The detail of a stored decline names the account that it was about. */
void
outcome_raise(const LedgerOutcome *outcome)
{
	const char *subject = NULL;
	const char *account;

	Assert(outcome->code != FAILSAFE_OK);
	Assert(outcome->status == LEDGER_DECLINED || outcome->status == LEDGER_REFUSED);
	if (outcome->status == LEDGER_DECLINED && outcome->detail != NULL)
	{
		account = json_find_text(outcome->detail, "account");
		if (account != NULL)
			subject = psprintf("account \"%s\"", account);
	}
	error_raise(outcome->code, subject, outcome->detail);
}
