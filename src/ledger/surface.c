/*
 * ledger/surface.c
 *	  The SQL functions of the commands: wallet_debit() ... ledger_post().
 *
 * Each reads its arguments into a LedgerCommand, calls ledger_apply() and makes
 * a row of the outcome.  Arguments may be NULL everywhere: what is missing is
 * said by the validation, with its name.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "base/row.h"
#include "base/settings.h"
#include "base/text.h"
#include "ledger/apply.h"
#include "ledger/surface.h"

PG_FUNCTION_INFO_V1(failsafe_wallet_debit);
PG_FUNCTION_INFO_V1(failsafe_wallet_credit);
PG_FUNCTION_INFO_V1(failsafe_wallet_transfer);
PG_FUNCTION_INFO_V1(failsafe_wallet_hold);
PG_FUNCTION_INFO_V1(failsafe_wallet_extend);
PG_FUNCTION_INFO_V1(failsafe_wallet_commit);
PG_FUNCTION_INFO_V1(failsafe_wallet_rollback);
PG_FUNCTION_INFO_V1(failsafe_wallet_reverse);
PG_FUNCTION_INFO_V1(failsafe_ledger_post);
PG_FUNCTION_INFO_V1(failsafe_holds_sweep);

/* ---------- arguments ---------- */

char *
argument_text(FunctionCallInfo fcinfo, int number)
{
	Assert(number < PG_NARGS());
	return PG_ARGISNULL(number) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(number));
}

Jsonb *
argument_jsonb(FunctionCallInfo fcinfo, int number)
{
	Assert(number < PG_NARGS());
	return PG_ARGISNULL(number) ? NULL : PG_GETARG_JSONB_P(number);
}

/* The faults of a numeric as an amount, by the names of the catalogue. */
static FailsafeCode
amount_fault(MoneyStatus status)
{
	switch (status)
	{
		case MONEY_OK:
			return FAILSAFE_OK;
		case MONEY_NOT_FINITE:
			return FAILSAFE_AMOUNT_INVALID;
		case MONEY_HAS_SCALE:
			return FAILSAFE_AMOUNT_HAS_FRACTION;
		case MONEY_TOO_LARGE:
			return FAILSAFE_AMOUNT_TOO_LARGE;
	}
	return FAILSAFE_AMOUNT_INVALID;
}

void
argument_amount(FunctionCallInfo fcinfo, int number, LedgerCommand *command)
{
	Numeric		amount;
	FailsafeCode fault;

	if (PG_ARGISNULL(number))
		return;
	amount = PG_GETARG_NUMERIC(number);
	fault = amount_fault(money_from_numeric(amount, &command->amount_minor));
	command->has_amount = fault == FAILSAFE_OK;
	if (fault != FAILSAFE_OK)
		command_fault(command, fault, "amount",
					  DatumGetCString(DirectFunctionCall1(numeric_out,
														  NumericGetDatum(amount))));
}

/* raise (the default of SQL) or record */
static void
argument_on_decline(FunctionCallInfo fcinfo, int number, LedgerCommand *command)
{
	char	   *value = argument_text(fcinfo, number);

	if (value == NULL || strcmp(value, "raise") == 0)
		command->records_declines = false;
	else if (strcmp(value, "record") == 0)
		command->records_declines = true;
	else
		command_fault(command, FAILSAFE_COMMAND_INVALID, "on_decline", value);
}

static const char *
setting_or_null(const char *setting)
{
	return setting != NULL && setting[0] != '\0' ? setting : NULL;
}

void
command_defaults(LedgerCommand *command)
{
	if (command->trace_id == NULL)
		command->trace_id = setting_or_null(setting_trace_id);
	if (command->traceparent == NULL)
		command->traceparent = setting_or_null(setting_traceparent);
	if (command->region == NULL)
		command->region = setting_or_null(setting_region);
}

/* The arguments that most commands end with: on_decline, metadata, options. */
static void
arguments_last(FunctionCallInfo fcinfo, int on_decline, LedgerCommand *command)
{
	argument_on_decline(fcinfo, on_decline, command);
	command->metadata = argument_jsonb(fcinfo, on_decline + 1);
	command_options(command, argument_jsonb(fcinfo, on_decline + 2));
	command_defaults(command);
	Assert(on_decline + 3 == PG_NARGS());
}

/* ---------- results ---------- */

TupleDesc
surface_descriptor(const char *type_name)
{
	Oid			type_id = get_rel_type_id(row_relation_id(type_name));

	Assert(OidIsValid(type_id));
	return lookup_rowtype_tupdesc(type_id, -1);
}

static void
put_text(Datum *values, bool *isnull, int column, const char *value)
{
	isnull[column] = value == NULL;
	if (value != NULL)
		values[column] = CStringGetTextDatum(value);
}

static void
put_id(Datum *values, bool *isnull, int column, char letter, int64 id)
{
	char		text[TEXT_ID_BYTES];

	isnull[column] = id == 0;
	if (id != 0)
		values[column] = CStringGetTextDatum(text_id(text, letter, id));
}

static void
put_money(Datum *values, bool *isnull, int column, bool given, int128 minor)
{
	isnull[column] = !given;
	if (given)
		values[column] = NumericGetDatum(money_to_numeric(minor));
}

void
wallet_result_values(const LedgerOutcome *outcome, Datum *values, bool *isnull)
{
	int			column = 0;

	memset(isnull, false, WALLET_RESULT_COLUMNS * sizeof(bool));
	put_text(values, isnull, column++, ledger_status_names[outcome->status]);
	put_id(values, isnull, column++, 't', outcome->journal_id);
	put_id(values, isnull, column++, 'e', outcome->entry_id);
	put_id(values, isnull, column++, 'h', outcome->hold_id);
	put_money(values, isnull, column++, outcome->has_balances, outcome->posted_minor);
	put_money(values, isnull, column++, outcome->has_held, outcome->held_minor);
	put_money(values, isnull, column++, outcome->has_available, outcome->available_minor);
	put_text(values, isnull, column++,
			 outcome->code == FAILSAFE_OK ? NULL : error_info(outcome->code)->name);
	values[column++] = BoolGetDatum(outcome->replayed);
	put_money(values, isnull, column++, outcome->has_amount, outcome->amount_minor);
	put_money(values, isnull, column++, outcome->has_hold_remaining,
			  outcome->hold_remaining_minor);
	isnull[column] = outcome->expires_at == 0;
	values[column++] = TimestampTzGetDatum(outcome->expires_at);
	isnull[column] = outcome->version == 0 && !outcome->has_balances;
	values[column++] = Int64GetDatum(outcome->version);
	isnull[column] = outcome->recorded_at == 0;
	values[column++] = TimestampTzGetDatum(outcome->recorded_at);
	put_text(values, isnull, column++, outcome->key);
	Assert(column == WALLET_RESULT_COLUMNS);
}

/* Apply one command at the raising door and return its row. */
static Datum
surface_apply(LedgerCommand *command)
{
	LedgerOutcome outcome;
	Datum		values[WALLET_RESULT_COLUMNS];
	bool		isnull[WALLET_RESULT_COLUMNS];
	TupleDesc	descriptor;
	HeapTuple	tuple;

	ledger_apply(command, &outcome, 1, LEDGER_DOOR_RAISES, -1);
	Assert(outcome.status != LEDGER_REFUSED);
	wallet_result_values(&outcome, values, isnull);
	descriptor = surface_descriptor("wallet_result");
	tuple = heap_form_tuple(descriptor, values, isnull);
	ReleaseTupleDesc(descriptor);
	return HeapTupleGetDatum(tuple);
}

/* ---------- the commands ---------- */

/* account, amount, currency, key, reference, reason, counterparty, on_decline ... */
static Datum
debit_or_credit(FunctionCallInfo fcinfo, LedgerCommandType type)
{
	LedgerCommand command;

	command_init(&command, type);
	command.account = argument_text(fcinfo, 0);
	argument_amount(fcinfo, 1, &command);
	command.currency = argument_text(fcinfo, 2);
	command.key = argument_text(fcinfo, 3);
	command.reference = argument_text(fcinfo, 4);
	command.reason = argument_text(fcinfo, 5);
	command.counterparty = argument_text(fcinfo, 6);
	arguments_last(fcinfo, 7, &command);
	return surface_apply(&command);
}

Datum
failsafe_wallet_debit(PG_FUNCTION_ARGS)
{
	return debit_or_credit(fcinfo, LEDGER_DEBIT);
}

Datum
failsafe_wallet_credit(PG_FUNCTION_ARGS)
{
	return debit_or_credit(fcinfo, LEDGER_CREDIT);
}

Datum
failsafe_wallet_transfer(PG_FUNCTION_ARGS)
{
	LedgerCommand command;

	command_init(&command, LEDGER_TRANSFER);
	command.account = argument_text(fcinfo, 0);
	command.counterparty = argument_text(fcinfo, 1);
	argument_amount(fcinfo, 2, &command);
	command.currency = argument_text(fcinfo, 3);
	command.key = argument_text(fcinfo, 4);
	command.reference = argument_text(fcinfo, 5);
	command.reason = argument_text(fcinfo, 6);
	arguments_last(fcinfo, 7, &command);
	return surface_apply(&command);
}

Datum
failsafe_wallet_hold(PG_FUNCTION_ARGS)
{
	LedgerCommand command;

	command_init(&command, LEDGER_HOLD);
	command.account = argument_text(fcinfo, 0);
	argument_amount(fcinfo, 1, &command);
	command.currency = argument_text(fcinfo, 2);
	command.key = argument_text(fcinfo, 3);
	command.expires_in = PG_ARGISNULL(4) ? NULL : PG_GETARG_INTERVAL_P(4);
	command.reference = argument_text(fcinfo, 5);
	command.reason = argument_text(fcinfo, 6);
	command.counterparty = argument_text(fcinfo, 7);
	arguments_last(fcinfo, 8, &command);
	return surface_apply(&command);
}

/* hold, key, expires_in, reason, on_decline, options */
Datum
failsafe_wallet_extend(PG_FUNCTION_ARGS)
{
	LedgerCommand command;

	command_init(&command, LEDGER_EXTEND);
	command.target = argument_text(fcinfo, 0);
	command.key = argument_text(fcinfo, 1);
	command.expires_in = PG_ARGISNULL(2) ? NULL : PG_GETARG_INTERVAL_P(2);
	command.reason = argument_text(fcinfo, 3);
	argument_on_decline(fcinfo, 4, &command);
	command_options(&command, argument_jsonb(fcinfo, 5));
	command_defaults(&command);
	return surface_apply(&command);
}

/* hold, key, amount, final, reference, reason, counterparty, on_decline ... */
Datum
failsafe_wallet_commit(PG_FUNCTION_ARGS)
{
	LedgerCommand command;

	command_init(&command, LEDGER_COMMIT);
	command.target = argument_text(fcinfo, 0);
	command.key = argument_text(fcinfo, 1);
	argument_amount(fcinfo, 2, &command);
	command.final = PG_ARGISNULL(3) || PG_GETARG_BOOL(3);
	command.reference = argument_text(fcinfo, 4);
	command.reason = argument_text(fcinfo, 5);
	command.counterparty = argument_text(fcinfo, 6);
	arguments_last(fcinfo, 7, &command);
	return surface_apply(&command);
}

/* hold, key, reference, reason, on_decline ... */
Datum
failsafe_wallet_rollback(PG_FUNCTION_ARGS)
{
	LedgerCommand command;

	command_init(&command, LEDGER_ROLLBACK);
	command.target = argument_text(fcinfo, 0);
	command.key = argument_text(fcinfo, 1);
	command.reference = argument_text(fcinfo, 2);
	command.reason = argument_text(fcinfo, 3);
	arguments_last(fcinfo, 4, &command);
	return surface_apply(&command);
}

/* transaction, key, amount, reference, reason, on_decline ... */
Datum
failsafe_wallet_reverse(PG_FUNCTION_ARGS)
{
	LedgerCommand command;

	command_init(&command, LEDGER_REVERSE);
	command.target = argument_text(fcinfo, 0);
	command.key = argument_text(fcinfo, 1);
	argument_amount(fcinfo, 2, &command);
	command.reference = argument_text(fcinfo, 3);
	command.reason = argument_text(fcinfo, 4);
	arguments_last(fcinfo, 5, &command);
	return surface_apply(&command);
}

/* One element of leg[]: (account, amount, currency). */
static void
argument_leg(LedgerCommand *command, LedgerLeg *leg, HeapTupleHeader header)
{
	bool		isnull;
	Datum		value = GetAttributeByNum(header, 1, &isnull);

	if (!isnull)
		leg->account = TextDatumGetCString(value);
	value = GetAttributeByNum(header, 2, &isnull);
	if (isnull)
		command_fault(command, FAILSAFE_VALUE_REQUIRED, "legs.amount", NULL);
	else
	{
		FailsafeCode fault = amount_fault(money_from_numeric(DatumGetNumeric(value),
															 &leg->amount_minor));

		if (fault != FAILSAFE_OK)
			command_fault(command, fault, "legs.amount",
						  DatumGetCString(DirectFunctionCall1(numeric_out, value)));
	}
	value = GetAttributeByNum(header, 3, &isnull);
	if (!isnull)
		leg->currency = TextDatumGetCString(value);
}

static void
argument_legs(FunctionCallInfo fcinfo, int number, LedgerCommand *command)
{
	ArrayType  *array;
	Datum	   *elements;
	bool	   *isnull;
	int			count;

	if (PG_ARGISNULL(number))
	{
		command_fault(command, FAILSAFE_VALUE_REQUIRED, "legs", NULL);
		return;
	}
	array = PG_GETARG_ARRAYTYPE_P(number);
	deconstruct_array(array, ARR_ELEMTYPE(array), -1, false, TYPALIGN_DOUBLE,
					  &elements, &isnull, &count);
	if (count > POST_LEGS_MAX)
	{
		command_fault(command, FAILSAFE_BATCH_TOO_LARGE, "legs", NULL);
		return;
	}
	command->leg_count = count;
	command->legs = palloc0(Max(count, 1) * sizeof(LedgerLeg));
	for (int i = 0; i < count; i++)
		if (isnull[i])
			command_fault(command, FAILSAFE_LEGS_INVALID, "legs", "a leg is NULL");
		else
			argument_leg(command, &command->legs[i], DatumGetHeapTupleHeader(elements[i]));
}

/* legs, key, reference, reason, on_decline ... */
Datum
failsafe_ledger_post(PG_FUNCTION_ARGS)
{
	LedgerCommand command;

	command_init(&command, LEDGER_POST);
	argument_legs(fcinfo, 0, &command);
	command.key = argument_text(fcinfo, 1);
	command.reference = argument_text(fcinfo, 2);
	command.reason = argument_text(fcinfo, 3);
	arguments_last(fcinfo, 4, &command);
	return surface_apply(&command);
}

/* holds_sweep(max_rows) */
Datum
failsafe_holds_sweep(PG_FUNCTION_ARGS)
{
	int			max_rows = PG_ARGISNULL(0) ? 0 : PG_GETARG_INT32(0);

	if (max_rows < 1 || max_rows > BATCH_COMMANDS_MAX)
		error_raise_field(FAILSAFE_OPTION_INVALID, "max_rows",
						  psprintf("must be between 1 and %d", BATCH_COMMANDS_MAX));
	PG_RETURN_INT32(ledger_expire_due(max_rows));
}
