/*
 * ledger/gateway.c
 *	  The JSON doors: wallet_command(), wallet_http() and wallet_batch().
 *
 * The argument is json, not jsonb: jsonb drops repeated members before anybody
 * can refuse them.  Every outcome is a value here, so that one bad command of a
 * batch never aborts the others [I5]; waits that are over (55P03), conflicts
 * (40001, 40P01) and a READ ONLY transaction (25006) are errors at every door.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"
#include "utils/typcache.h"

#include "base/options.h"
#include "base/settings.h"
#include "ledger/apply.h"
#include "ledger/surface.h"

PG_FUNCTION_INFO_V1(failsafe_wallet_command);
PG_FUNCTION_INFO_V1(failsafe_wallet_http);
PG_FUNCTION_INFO_V1(failsafe_wallet_batch);

#define HTTP_OK		200

/*
 * Apply one command.  A caller that asks for on_decline 'raise' gets an error for
 * a decline that was not recorded: as a value it would look like the answer for
 * ever, and it is not.
 */
static void
gateway_apply(FunctionCallInfo fcinfo, LedgerCommand *command, LedgerOutcome *outcome)
{
	text	   *json;

	if (PG_ARGISNULL(0))
	{
		command_init(command, LEDGER_DEBIT);
		command_fault(command, FAILSAFE_VALUE_REQUIRED, "command", NULL);
	}
	else
	{
		json = PG_GETARG_TEXT_PP(0);
		command_from_json(command, VARDATA_ANY(json), VARSIZE_ANY_EXHDR(json));
	}
	command_defaults(command);
	ledger_apply(command, outcome, 1, LEDGER_DOOR_VALUES, -1);
	if (outcome->status == LEDGER_DECLINED && !command->records_declines)
		outcome_raise(outcome);
	Assert((outcome->code == FAILSAFE_OK) ==
		   (outcome->status != LEDGER_DECLINED && outcome->status != LEDGER_REFUSED));
}

Datum
failsafe_wallet_command(PG_FUNCTION_ARGS)
{
	LedgerCommand command;
	LedgerOutcome outcome;

	gateway_apply(fcinfo, &command, &outcome);
	PG_RETURN_TEXT_P(cstring_to_text(outcome_body(command.type, &outcome)));
}

Datum
failsafe_wallet_http(PG_FUNCTION_ARGS)
{
	LedgerCommand command;
	LedgerOutcome outcome;
	TupleDesc	descriptor;
	Datum		values[3];
	bool		isnull[3] = {false, false, false};

	gateway_apply(fcinfo, &command, &outcome);
	if (get_call_result_type(fcinfo, NULL, &descriptor) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = Int32GetDatum(outcome.code == FAILSAFE_OK ? HTTP_OK :
							  error_info(outcome.code)->http_status);
	values[1] = BoolGetDatum(outcome.replayed);
	values[2] = CStringGetTextDatum(outcome_body(command.type, &outcome));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(descriptor),
													  values, isnull)));
}

/* ---------- batch ---------- */

/* Read the commands; in a batch that is not atomic every decline is recorded. */
static LedgerCommand *
batch_read(text *json, bool atomic, int *count)
{
	const char **elements;
	int		   *lengths;
	LedgerCommand *commands;

	*count = command_split_array(VARDATA_ANY(json), VARSIZE_ANY_EXHDR(json),
								 BATCH_COMMANDS_MAX, &elements, &lengths);
	commands = palloc0(Max(*count, 1) * sizeof(LedgerCommand));
	for (int i = 0; i < *count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		command_from_json(&commands[i], elements[i], lengths[i]);
		command_defaults(&commands[i]);
		commands[i].records_declines = !atomic;
	}
	return commands;
}

static void
batch_return(FunctionCallInfo fcinfo, const LedgerOutcome *outcomes, int count)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Datum		values[1 + WALLET_RESULT_COLUMNS];
	bool		isnull[1 + WALLET_RESULT_COLUMNS];

	Assert(result->setDesc->natts == 1 + WALLET_RESULT_COLUMNS);
	for (int i = 0; i < count; i++)
	{
		values[0] = Int32GetDatum(i);
		isnull[0] = false;
		wallet_result_values(&outcomes[i], &values[1], &isnull[1]);
		tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
	}
}

/* wallet_batch(commands, atomic, options): all is done before the first row. */
Datum
failsafe_wallet_batch(PG_FUNCTION_ARGS)
{
	bool		atomic = !PG_ARGISNULL(1) && PG_GETARG_BOOL(1);
	LedgerCommand *commands;
	LedgerOutcome *outcomes;
	int			count;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		error_raise_field(FAILSAFE_VALUE_REQUIRED, "commands", NULL);
	options_read(argument_jsonb(fcinfo, 2), NULL, 0, NULL);
	commands = batch_read(PG_GETARG_TEXT_PP(0), atomic, &count);
	outcomes = palloc0(Max(count, 1) * sizeof(LedgerOutcome));
	ledger_apply(commands, outcomes, count,
				 atomic ? LEDGER_DOOR_RAISES : LEDGER_DOOR_VALUES, 0);
	batch_return(fcinfo, outcomes, count);
	return (Datum) 0;
}
