/*
 * ledger/command_value.h
 *	  One member of a command's JSON into one field of the command.  Shared by
 *	  the two files that read commands; nobody else needs it.
 */
#ifndef FAILSAFE_LEDGER_COMMAND_VALUE_H
#define FAILSAFE_LEDGER_COMMAND_VALUE_H

#include "base/json.h"
#include "ledger/command.h"

/*
 * Each takes a member that is not null and stores it into the field, or notes a
 * fault: `code` (COMMAND_INVALID or OPTION_INVALID) for a value of the wrong type,
 * `code` or a more exact one for a wrong value.
 */
extern void command_read_text(LedgerCommand *command, FailsafeCode code, const char *field,
							  const JsonMember *member, const char **text);
extern void command_read_bool(LedgerCommand *command, FailsafeCode code, const char *field,
							  const JsonMember *member, bool *value);
extern void command_read_time(LedgerCommand *command, FailsafeCode code, const char *field,
							  const JsonMember *member, TimestampTz *at);
extern void command_read_interval(LedgerCommand *command, FailsafeCode code, const char *field,
								  const JsonMember *member, Interval **interval);

/*
 * A whole number of minor units, |value| <= AMOUNT_MINOR_MAX: as a number up to
 * 2^53 - 1, as a string of digits beyond.
 */
extern bool command_read_money(LedgerCommand *command, FailsafeCode code, const char *field,
							   const JsonMember *member, int128 *minor);

/* One member of the options object, or one that may stand beside it. */
extern void command_read_option(LedgerCommand *command, FailsafeCode code, const char *field,
								const JsonMember *member);

/* Is the option known, and may it stand at the top level of a JSON command too? */
extern bool command_option_is_top_level(const char *name);

#endif							/* FAILSAFE_LEDGER_COMMAND_VALUE_H */
