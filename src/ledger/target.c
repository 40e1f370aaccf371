/*
 * ledger/target.c
 *	  From what a command names to accounts, holds and transactions; its
 *	  fingerprint; and which fields differ when a key is used again.
 *
 * Takes no lock but that of a currency's first use of its world account: before
 * the keys when a command names it, after them when it is the default.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/snapmgr.h"

#include "base/currency.h"
#include "base/json.h"
#include "ledger/apply.h"
#include "ledger/snapshot.h"

/* A positive number after a prefix of two characters; 0 when it is none. */
static int64
designator_number(const char *text)
{
	int64		number = 0;

	for (text += 2; *text >= '0' && *text <= '9'; text++)
		if (number > (PG_INT64_MAX - 9) / 10)
			return 0;
		else
			number = number * 10 + (*text - '0');
	return *text == '\0' ? number : 0;
}

/* The journal row of h_... t_... e_... or key:...; NULL when there is none. */
static JournalRow *
target_row(Segment *segment, const char *target, Snapshot snapshot)
{
	int64		id = 0;
	int			leg = -1;
	JournalRow *row;

	if (strncmp(target, "key:", 4) == 0)
	{
		KeyClaim	claim = {.key = target + 4, .tenant_id = segment->tenant_id};
		KeyClaim   *claims[1] = {&claim};

		if (key_validate(claim.key) != FAILSAFE_OK)
			return NULL;
		key_claim(claims, 1, false);
		id = claim.journal_id;
	}
	else if (strncmp(target, "h_", 2) == 0 || strncmp(target, "t_", 2) == 0)
		id = designator_number(target);
	else if (strncmp(target, "e_", 2) == 0)
	{
		id = designator_number(target);
		leg = id % ENTRY_LEGS_MAX;
		id = id / ENTRY_LEGS_MAX;
	}
	row = id == 0 ? NULL : journal_read(id, snapshot);
	if (row != NULL && (row->tenant_id != segment->tenant_id || leg >= journal_entry_count(row)))
		return NULL;
	return row;
}

/* Naming the world account of a known currency is a use of it, too. */
static Account *
find_or_open_world(Segment *segment, const char *code, const char *currency)
{
	Account    *account = account_find(segment->tenant_id, code);
	int			exponent;

	if (account != NULL || currency == NULL || !account_code_is_world(code) ||
		strcmp(code + strlen("world:"), currency) != 0 ||
		strlen(currency) > CURRENCY_BYTES_MAX || !currency_exponent(currency, &exponent))
		return account;
	return account_world(segment->tenant_id, currency);
}

static FailsafeCode
resolve_account(Segment *segment, const char *code, const char *currency, const char *name,
				Account **account, const char **field, const char **value)
{
	int			exponent;

	*account = find_or_open_world(segment, code, currency);
	*field = name;
	*value = code;
	if (*account == NULL)
		return FAILSAFE_ACCOUNT_UNKNOWN;
	if (currency == NULL || strcmp((*account)->currency, currency) == 0)
		return FAILSAFE_OK;
	*field = "currency";
	*value = currency;
	return strlen(currency) <= CURRENCY_BYTES_MAX && currency_exponent(currency, &exponent) ?
		FAILSAFE_CURRENCY_MISMATCH : FAILSAFE_CURRENCY_UNKNOWN;
}

/* 'world:' of the command's own currency is the default: the same as nothing. */
static void
drop_default_counterparty(LedgerCommand *command, const char *currency)
{
	if (command->counterparty != NULL && command->type != LEDGER_TRANSFER &&
		account_code_is_world(command->counterparty) &&
		strcmp(command->counterparty + strlen("world:"), currency) == 0)
		command->counterparty = NULL;
}

static FailsafeCode
resolve_two_sides(Segment *segment, Work *work, const char **field, const char **value)
{
	LedgerCommand *command = work->command;
	bool		transfer = command->type == LEDGER_TRANSFER;
	FailsafeCode code;

	code = resolve_account(segment, command->account, command->currency,
						   transfer ? "from_account" : "account", &work->account, field, value);
	if (code != FAILSAFE_OK)
		return code;
	drop_default_counterparty(command, work->account->currency);
	if (command->counterparty != NULL)
		code = resolve_account(segment, command->counterparty, command->currency,
							   transfer ? "to_account" : "counterparty",
							   &work->counterparty, field, value);
	else if (account_code_is_world(command->account) && command->type != LEDGER_HOLD)
	{
		/* its own default counterparty */
		*field = "counterparty";
		*value = command->account;
		return FAILSAFE_ACCOUNT_SAME;
	}
	if (code == FAILSAFE_OK && work->account->is_system &&
		(command->type == LEDGER_HOLD || command->has_expected_version ||
		 command->has_min_available))
	{
		*field = transfer ? "from_account" : "account";
		*value = command->account;
		return FAILSAFE_ACCOUNT_KIND;
	}
	return code;
}

static FailsafeCode
resolve_hold(Segment *segment, Work *work, Snapshot snapshot, const char **field,
			 const char **value)
{
	LedgerCommand *command = work->command;
	Hold	   *hold;

	*field = "hold";
	*value = command->target;
	work->target_row = target_row(segment, command->target, snapshot);
	if (work->target_row == NULL || work->target_row->hold_id == 0 ||
		(strncmp(command->target, "h_", 2) == 0 &&
		 work->target_row->hold_id != work->target_row->id))
		return FAILSAFE_HOLD_UNKNOWN;
	hold = hold_read(work->target_row->hold_id, snapshot);
	if (hold == NULL)
		return FAILSAFE_HOLD_UNKNOWN;
	work->account = account_find_id(hold->account_id);
	Assert(work->account != NULL && !work->account->is_system);
	if (command->type != LEDGER_COMMIT)
		return FAILSAFE_OK;
	drop_default_counterparty(command, work->account->currency);
	if (command->counterparty != NULL)
	{
		FailsafeCode code = resolve_account(segment, command->counterparty,
											work->account->currency, "counterparty",
											&work->counterparty, field, value);

		if (code != FAILSAFE_OK)
			return code;
	}
	else if (hold->counterparty_id != 0)
		work->counterparty = account_find_id(hold->counterparty_id);
	if (work->counterparty == work->account)
	{
		*field = "counterparty";
		*value = command->counterparty;
		return FAILSAFE_ACCOUNT_SAME;
	}
	return FAILSAFE_OK;
}

static FailsafeCode
resolve_reversal(Segment *segment, Work *work, Snapshot snapshot, const char **field,
				 const char **value)
{
	LedgerCommand *command = work->command;
	JournalRow *row;

	*field = "transaction";
	*value = command->target;
	row = work->target_row = target_row(segment, command->target, snapshot);
	if (row == NULL)
		return strncmp(command->target, "h_", 2) == 0 ?
			FAILSAFE_REVERSAL_NOT_ALLOWED : FAILSAFE_TRANSACTION_UNKNOWN;
	if (row->status != LEDGER_COMMITTED || row->command == LEDGER_REVERSE ||
		strncmp(command->target, "h_", 2) == 0)
		return FAILSAFE_REVERSAL_NOT_ALLOWED;
	if (row->leg_count > 2 && command->has_amount)
	{
		*field = "amount";
		*value = "a transaction with more than two legs is reversed whole";
		return FAILSAFE_REVERSAL_NOT_ALLOWED;
	}
	if (row->leg_count == 0)
	{
		work->account = account_find_id(row->account_id);
		work->counterparty = account_find_id(row->counterparty_id);
	}
	else
	{
		work->leg_accounts = palloc(row->leg_count * sizeof(Account *));
		for (int i = 0; i < row->leg_count; i++)
			work->leg_accounts[i] = account_find_id(row->leg_account_ids[i]);
	}
	if ((command->has_expected_version || command->has_min_available) &&
		(work->account == NULL || work->account->is_system))
		return FAILSAFE_ACCOUNT_KIND;
	return FAILSAFE_OK;
}

static FailsafeCode
resolve_post(Segment *segment, Work *work, const char **field, const char **value)
{
	LedgerCommand *command = work->command;

	work->leg_accounts = palloc(command->leg_count * sizeof(Account *));
	for (int i = 0; i < command->leg_count; i++)
	{
		FailsafeCode code = resolve_account(segment, command->legs[i].account,
											command->legs[i].currency, "legs.account",
											&work->leg_accounts[i], field, value);

		if (code != FAILSAFE_OK)
			return code;
	}
	return FAILSAFE_OK;
}

/*
 * JSON answers with numbers where the currency has at most 8 decimal places, and
 * a number beyond 2^53 - 1 is not safe in every language: it does not come in.
 */
static FailsafeCode
judge_json_amount(const Work *work, const Account *account, int128 amount,
				  const char *name, const char **field, const char **value)
{
	if (!work->command->from_json || account == NULL ||
		account->exponent > JSON_NUMBER_EXPONENT_MAX ||
		(amount <= JSON_NUMBER_MAX && amount >= -JSON_NUMBER_MAX))
		return FAILSAFE_OK;
	*field = name;
	*value = NULL;
	return FAILSAFE_AMOUNT_TOO_LARGE;
}

static FailsafeCode
judge_json_amounts(const Work *work, const char **field, const char **value)
{
	const LedgerCommand *command = work->command;
	FailsafeCode code = FAILSAFE_OK;

	if (command->has_amount)
		code = judge_json_amount(work, work->account, command->amount_minor, "amount",
								 field, value);
	for (int i = 0; i < command->leg_count && code == FAILSAFE_OK; i++)
		code = judge_json_amount(work, work->leg_accounts[i], command->legs[i].amount_minor,
								 "legs.amount", field, value);
	return code;
}

static FailsafeCode
resolve_parts(Segment *segment, Work *work, const char **field, const char **value)
{
	Snapshot	snapshot;
	FailsafeCode code;

	switch (work->command->type)
	{
		case LEDGER_DEBIT:
		case LEDGER_CREDIT:
		case LEDGER_TRANSFER:
		case LEDGER_HOLD:
			return resolve_two_sides(segment, work, field, value);
		case LEDGER_POST:
			return resolve_post(segment, work, field, value);
		default:
			break;
	}
	snapshot = snapshot_fresh();
	if (work->command->type == LEDGER_REVERSE)
		code = resolve_reversal(segment, work, snapshot, field, value);
	else
		code = resolve_hold(segment, work, snapshot, field, value);
	UnregisterSnapshot(snapshot);
	return code;
}

FailsafeCode
work_resolve(Segment *segment, Work *work, const char **field, const char **value)
{
	FailsafeCode code = resolve_parts(segment, work, field, value);

	if (code == FAILSAFE_OK)
		code = judge_json_amounts(work, field, value);
	return code;
}

/* The default counterparty; it may be opened here, so the key is claimed first. */
void
work_world(Segment *segment, Work *work)
{
	LedgerCommandType type = work->command->type;

	if (work->counterparty == NULL &&
		(type == LEDGER_DEBIT || type == LEDGER_CREDIT || type == LEDGER_COMMIT))
		work->counterparty = account_world_of(work->account);
}

/* ---------- fingerprint ---------- */

/*
 * Contract 6: the fields that make two commands the same.  Texts as given, but
 * targets as resolved, so that h_7 and key:... of the same hold agree.
 */
void
work_fingerprint(Work *work, uint8 digest[FINGERPRINT_BYTES])
{
	const LedgerCommand *command = work->command;
	Fingerprint *fingerprint = fingerprint_begin(FINGERPRINT_VERSION);
	bool		names_hold = command->type == LEDGER_EXTEND ||
	command->type == LEDGER_COMMIT || command->type == LEDGER_ROLLBACK;

	fingerprint_text(fingerprint, ledger_command_names[command->type]);
	fingerprint_text(fingerprint, command->account);
	fingerprint_text(fingerprint, command->counterparty);
	fingerprint_money(fingerprint, command->has_amount, command->amount_minor);
	fingerprint_text(fingerprint, command->currency);
	fingerprint_int64(fingerprint, work->target_row == NULL ? 0 :
					  names_hold ? work->target_row->hold_id : work->target_row->id);
	fingerprint_int64(fingerprint, command->final);
	fingerprint_int64(fingerprint, command->expires_in != NULL);
	if (command->expires_in != NULL)
	{
		fingerprint_int64(fingerprint, command->expires_in->month);
		fingerprint_int64(fingerprint, command->expires_in->day);
		fingerprint_int64(fingerprint, command->expires_in->time);
	}
	fingerprint_text(fingerprint, command->reference);
	fingerprint_text(fingerprint, command->reason);
	fingerprint_int64(fingerprint, command->effective_at);
	fingerprint_int64(fingerprint, command->leg_count);
	for (int i = 0; i < command->leg_count; i++)
	{
		fingerprint_text(fingerprint, command->legs[i].account);
		fingerprint_money(fingerprint, true, command->legs[i].amount_minor);
		fingerprint_text(fingerprint, command->legs[i].currency);
	}
	fingerprint_end(fingerprint, digest);
}

static bool
text_differs(const char *a, const char *b)
{
	if (a == NULL || b == NULL)
		return a != b;
	return strcmp(a, b) != 0;
}

/* Append a field name to a JSON array. */
static void
mismatch_add(StringInfo fields, const char *name)
{
	appendStringInfo(fields, "%s\"%s\"", fields->len > 1 ? "," : "", name);
}

/*
 * The names of the fields in which the command differs from the stored one, as a
 * JSON array.  What the journal does not keep as it was asked (final, expires_in,
 * the default amount and counterparty) is named when nothing else differs.
 */
char *
work_mismatch(const Work *work, const JournalRow *stored, Snapshot snapshot)
{
	const LedgerCommand *command = work->command;
	StringInfoData fields;
	bool		two_sides = work->account != NULL;

	initStringInfo(&fields);
	appendStringInfoChar(&fields, '[');
	if (stored->command != command->type)
		mismatch_add(&fields, "command");
	if (two_sides && stored->account_id != 0 && stored->account_id != work->account->id)
		mismatch_add(&fields, command->type == LEDGER_TRANSFER ? "from_account" :
					 command->type == LEDGER_REVERSE ? "transaction" :
					 command->target != NULL ? "hold" : "account");
	if (two_sides && command->counterparty != NULL && work->counterparty != NULL &&
		stored->counterparty_id != work->counterparty->id)
		mismatch_add(&fields, command->type == LEDGER_TRANSFER ? "to_account" : "counterparty");
	if (command->has_amount && stored->has_amount &&
		stored->amount_minor != command->amount_minor)
		mismatch_add(&fields, "amount");
	if (command->type == LEDGER_REVERSE && work->target_row != NULL &&
		stored->reverses != work->target_row->id)
		mismatch_add(&fields, "transaction");
	if (command->type != LEDGER_REVERSE && command->target != NULL &&
		work->target_row != NULL && stored->hold_id != work->target_row->hold_id)
		mismatch_add(&fields, "hold");
	if (text_differs(stored->reference, command->reference))
		mismatch_add(&fields, "reference");
	if (text_differs(stored->reason, command->reason))
		mismatch_add(&fields, "reason");
	if (stored->effective_at != command->effective_at)
		mismatch_add(&fields, "effective_at");
	if (fields.len == 1)
	{
		if (command->type == LEDGER_POST)
			mismatch_add(&fields, "legs");
		else if (two_sides && command->target == NULL && command->counterparty == NULL &&
				 stored->counterparty_id != 0)
			mismatch_add(&fields, "counterparty");
		else if (command->type == LEDGER_HOLD || command->type == LEDGER_EXTEND)
			mismatch_add(&fields, "expires_in");
		else if (command->type == LEDGER_COMMIT && command->has_amount)
			mismatch_add(&fields, "final");
		else
			mismatch_add(&fields, "amount");
	}
	appendStringInfoChar(&fields, ']');
	return fields.data;
}
