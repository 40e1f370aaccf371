/*
 * ledger/surface.h
 *	  Shared by the SQL functions: arguments in, wallet_result out.
 */
#ifndef FAILSAFE_LEDGER_SURFACE_H
#define FAILSAFE_LEDGER_SURFACE_H

#include "fmgr.h"

#include "ledger/command.h"

#define WALLET_RESULT_COLUMNS	15

/* Fill the columns of wallet_result; values live in the current context. */
extern void wallet_result_values(const LedgerOutcome *outcome, Datum *values, bool *isnull);

/* Arguments that may be NULL. */
extern char *argument_text(FunctionCallInfo fcinfo, int number);
extern Jsonb *argument_jsonb(FunctionCallInfo fcinfo, int number);
extern void argument_amount(FunctionCallInfo fcinfo, int number, LedgerCommand *command);

/* Settings that stand in for options that were not given. */
extern void command_defaults(LedgerCommand *command);

/* The name of a row type of ours to a blessed descriptor. */
extern TupleDesc surface_descriptor(const char *type_name);

#endif							/* FAILSAFE_LEDGER_SURFACE_H */
