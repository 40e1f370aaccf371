/*
 * test/unit/unit.c
 *	  Functions under test as SQL functions, one call each.  unit.sql has the
 *	  expectations, unit_fuzz.c the loops.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/currency.h"
#include "base/json.h"
#include "ledger/command.h"

PG_FUNCTION_INFO_V1(unit_money);
PG_FUNCTION_INFO_V1(unit_money_text);
PG_FUNCTION_INFO_V1(unit_money_major);
PG_FUNCTION_INFO_V1(unit_money_same_bytes);
PG_FUNCTION_INFO_V1(unit_infinity);
PG_FUNCTION_INFO_V1(unit_exponent);
PG_FUNCTION_INFO_V1(unit_members);
PG_FUNCTION_INFO_V1(unit_time);
PG_FUNCTION_INFO_V1(unit_time_read);
PG_FUNCTION_INFO_V1(unit_command);
PG_FUNCTION_INFO_V1(unit_options);
PG_FUNCTION_INFO_V1(unit_split);
PG_FUNCTION_INFO_V1(unit_body);

/* "123", or what was wrong. */
static text *
money_answer(MoneyStatus status, int128 minor)
{
	static const char *const names[] = {"", "not finite", "has scale", "too large"};
	char		digits[MONEY_TEXT_SIZE];

	if (status != MONEY_OK)
		return cstring_to_text(names[status]);
	money_to_text(minor, digits);
	return cstring_to_text(digits);
}

Datum
unit_money(PG_FUNCTION_ARGS)
{
	int128		minor = 0;
	MoneyStatus status = money_from_numeric(PG_GETARG_NUMERIC(0), &minor);

	PG_RETURN_TEXT_P(money_answer(status, minor));
}

Datum
unit_money_text(PG_FUNCTION_ARGS)
{
	text	   *input = PG_GETARG_TEXT_PP(0);
	int128		minor = 0;
	MoneyStatus status = money_from_text(VARDATA_ANY(input), VARSIZE_ANY_EXHDR(input), &minor);

	PG_RETURN_TEXT_P(money_answer(status, minor));
}

Datum
unit_money_major(PG_FUNCTION_ARGS)
{
	int128		minor = 0;
	MoneyStatus status = money_from_major(PG_GETARG_NUMERIC(0), PG_GETARG_INT32(1), &minor);

	PG_RETURN_TEXT_P(money_answer(status, minor));
}

/* Does the encoder make the very numeric that came in? */
Datum
unit_money_same_bytes(PG_FUNCTION_ARGS)
{
	Numeric		input = PG_GETARG_NUMERIC(0);
	Numeric		output;
	int128		minor = 0;

	if (money_from_numeric(input, &minor) != MONEY_OK)
		PG_RETURN_BOOL(false);
	output = money_to_numeric(minor);
	PG_RETURN_BOOL(VARSIZE(input) == VARSIZE(output) &&
				   memcmp(input, output, VARSIZE(input)) == 0);
}

Datum
unit_infinity(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(money_numeric_infinity(PG_GETARG_NUMERIC(0)));
}

Datum
unit_exponent(PG_FUNCTION_ARGS)
{
	int			exponent;

	if (!currency_exponent(text_to_cstring(PG_GETARG_TEXT_PP(0)), &exponent))
		PG_RETURN_NULL();
	PG_RETURN_INT32(exponent);
}

/* One object with a member of every kind. */
Datum
unit_members(PG_FUNCTION_ARGS)
{
	StringInfoData out;
	int128		minor = 0;

	if (money_from_numeric(PG_GETARG_NUMERIC(1), &minor) != MONEY_OK)
		elog(ERROR, "not a whole number");
	initStringInfo(&out);
	appendStringInfoChar(&out, '{');
	json_member_text(&out, "absent", NULL);
	json_member_text(&out, "text", text_to_cstring(PG_GETARG_TEXT_PP(0)));
	json_member_int64(&out, "lowest", PG_INT64_MIN);
	json_member_money(&out, "money", minor, PG_GETARG_INT32(2));
	json_member_bool(&out, "bool", true);
	json_member_raw(&out, "raw", "[1]");
	appendStringInfoChar(&out, '}');
	PG_RETURN_TEXT_P(cstring_to_text(out.data));
}

Datum
unit_time(PG_FUNCTION_ARGS)
{
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoChar(&out, '{');
	json_member_time(&out, "at", PG_GETARG_TIMESTAMPTZ(0));
	appendStringInfoChar(&out, '}');
	PG_RETURN_TEXT_P(cstring_to_text(out.data));
}

Datum
unit_time_read(PG_FUNCTION_ARGS)
{
	TimestampTz at;

	if (!json_time_from_text(text_to_cstring(PG_GETARG_TEXT_PP(0)), &at))
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(at);
}

static void
show_money(StringInfo out, const char *name, bool given, int128 minor)
{
	char		digits[MONEY_TEXT_SIZE];

	if (!given)
		return;
	money_to_text(minor, digits);
	appendStringInfo(out, " %s=%s", name, digits);
}

static void
show_text(StringInfo out, const char *name, const char *value)
{
	if (value != NULL)
		appendStringInfo(out, " %s=%s", name, value);
}

static void
show_time(StringInfo out, const char *name, TimestampTz at)
{
	if (at != 0)
		appendStringInfo(out, " %s=%s", name, timestamptz_to_str(at));
}

/* A command on one line: its fault, or everything that is set. */
static text *
show_command(const LedgerCommand *command)
{
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoString(&out, ledger_command_names[command->type]);
	if (command->fault != FAILSAFE_OK)
	{
		appendStringInfo(&out, " ! %s", error_info(command->fault)->name);
		show_text(&out, "field", command->fault_field);
		show_text(&out, "text", command->fault_text);
		return cstring_to_text(out.data);
	}
	show_text(&out, "account", command->account);
	show_text(&out, "counterparty", command->counterparty);
	show_money(&out, "amount", command->has_amount, command->amount_minor);
	show_text(&out, "currency", command->currency);
	show_text(&out, "key", command->key);
	show_text(&out, "target", command->target);
	if (!command->final)
		show_text(&out, "final", "false");
	if (command->expires_in != NULL)
		show_text(&out, "expires_in", DatumGetCString(DirectFunctionCall1(interval_out,
																		  IntervalPGetDatum(command->expires_in))));
	show_text(&out, "reference", command->reference);
	show_text(&out, "reason", command->reason);
	if (command->metadata != NULL)
		show_text(&out, "metadata", JsonbToCString(NULL, &command->metadata->root, 0));
	if (!command->records_declines)
		show_text(&out, "on_decline", "raise");
	for (int i = 0; i < command->leg_count; i++)
	{
		show_text(&out, "leg", command->legs[i].account);
		show_money(&out, "amount", true, command->legs[i].amount_minor);
		show_text(&out, "currency", command->legs[i].currency);
	}
	if (command->has_expected_version)
		appendStringInfo(&out, " expected_version=" INT64_FORMAT, command->expected_version);
	show_money(&out, "min_available", command->has_min_available, command->min_available_minor);
	show_time(&out, "effective_at", command->effective_at);
	show_time(&out, "deadline", command->deadline);
	show_text(&out, "order_key", command->order_key);
	show_text(&out, "trace_id", command->trace_id);
	show_text(&out, "traceparent", command->traceparent);
	show_text(&out, "region", command->region);
	return cstring_to_text(out.data);
}

/* The argument is bytea, so that invalid text can be sent too. */
Datum
unit_command(PG_FUNCTION_ARGS)
{
	bytea	   *input = PG_GETARG_BYTEA_PP(0);
	LedgerCommand command;

	command_from_json(&command, VARDATA_ANY(input), VARSIZE_ANY_EXHDR(input));
	PG_RETURN_TEXT_P(show_command(&command));
}

Datum
unit_options(PG_FUNCTION_ARGS)
{
	LedgerCommand command;

	command_init(&command, LEDGER_DEBIT);
	command_options(&command, PG_ARGISNULL(0) ? NULL : PG_GETARG_JSONB_P(0));
	PG_RETURN_TEXT_P(show_command(&command));
}

/* The elements of an array, one a line. */
Datum
unit_split(PG_FUNCTION_ARGS)
{
	text	   *input = PG_GETARG_TEXT_PP(0);
	const char **elements;
	int		   *lengths;
	int			count;
	StringInfoData out;

	count = command_split_array(VARDATA_ANY(input), VARSIZE_ANY_EXHDR(input),
								PG_GETARG_INT32(1), &elements, &lengths);
	initStringInfo(&out);
	for (int i = 0; i < count; i++)
		appendStringInfo(&out, "%s%.*s", i > 0 ? "|" : "", lengths[i], elements[i]);
	PG_RETURN_TEXT_P(cstring_to_text(out.data));
}

/* The body of an outcome with every id set. */
Datum
unit_body(PG_FUNCTION_ARGS)
{
	LedgerOutcome outcome = {
		.status = PG_GETARG_INT32(1),
		.code = FAILSAFE_INSUFFICIENT_FUNDS,
		.journal_id = 12,
		.entry_id = 3,
		.hold_id = 7,
		.expires_at = USECS_PER_DAY
	};

	PG_RETURN_TEXT_P(cstring_to_text(outcome_body(PG_GETARG_INT32(0), &outcome)));
}
