/*
 * ledger/command_value.c
 *	  The typed values inside a command: texts, amounts, times, intervals.
 *
 * Owns: the rules of what a JSON value may look like (contract of the gateway).
 * Lengths, characters and signs are no matter of this file: they are checked once,
 * where every door's commands are validated.
 *
 * Invariants:
 *	V1	Nothing here raises for a bad value; the fault is in the command.
 *	V2	A number and a string of the same digits are the same amount, and a time
 *		or interval is what SQL reads from the same text: doors mix.
 *
 * Takes no locks.
 */
#include "postgres.h"

#include "utils/datetime.h"

#include "ledger/command_value.h"

#define INTERVAL_BYTES_MAX	256		/* of an interval's text, as in SQL */

/* The kinds of options, by how they are read. */
typedef enum OptionKind
{
	TEXT_OPTION,
	TIME_OPTION,
	VERSION_OPTION,
	MONEY_OPTION
} OptionKind;

typedef struct Option
{
	const char *name;
	OptionKind	kind;
	bool		top_level;		/* may stand beside "options" in JSON */
	size_t		offset;			/* of the field in LedgerCommand */
} Option;

static const Option options[] = {
	{"expected_version", VERSION_OPTION, false, offsetof(LedgerCommand, expected_version)},
	{"min_available", MONEY_OPTION, false, offsetof(LedgerCommand, min_available_minor)},
	{"effective_at", TIME_OPTION, false, offsetof(LedgerCommand, effective_at)},
	{"deadline", TIME_OPTION, false, offsetof(LedgerCommand, deadline)},
	{"order_key", TEXT_OPTION, false, offsetof(LedgerCommand, order_key)},
	{"trace_id", TEXT_OPTION, true, offsetof(LedgerCommand, trace_id)},
	{"traceparent", TEXT_OPTION, true, offsetof(LedgerCommand, traceparent)},
	{"region", TEXT_OPTION, true, offsetof(LedgerCommand, region)},
};

static const Option *
find_option(const char *name)
{
	Assert(name != NULL);

	for (int i = 0; i < lengthof(options); i++)
		if (strcmp(options[i].name, name) == 0)
			return &options[i];
	return NULL;
}

bool
command_option_is_top_level(const char *name)
{
	const Option *option = find_option(name);

	return option != NULL && option->top_level;
}

void
command_read_text(LedgerCommand *command, FailsafeCode code, const char *field,
				  const JsonMember *member, const char **text)
{
	Assert(member->kind != JSON_MEMBER_NULL);
	Assert((member->kind == JSON_MEMBER_TEXT) <= (member->text != NULL));

	if (member->kind == JSON_MEMBER_TEXT)
		*text = member->text;
	else
		command_fault(command, code, field, "must be a string");
}

void
command_read_bool(LedgerCommand *command, FailsafeCode code, const char *field,
				  const JsonMember *member, bool *value)
{
	Assert(member->kind != JSON_MEMBER_NULL);

	if (member->kind == JSON_MEMBER_TRUE || member->kind == JSON_MEMBER_FALSE)
		*value = member->kind == JSON_MEMBER_TRUE;
	else
		command_fault(command, code, field, "must be true or false");
}

/* The more exact fault of an amount; options keep their own code. */
static void
fault_money(LedgerCommand *command, FailsafeCode code, const char *field,
			FailsafeCode exact, const char *text)
{
	command_fault(command, code == FAILSAFE_OPTION_INVALID ? code : exact, field, text);
}

bool
command_read_money(LedgerCommand *command, FailsafeCode code, const char *field,
				   const JsonMember *member, int128 *minor)
{
	bool		is_number = member->kind == JSON_MEMBER_NUMBER;
	int128		value = 0;

	if (!is_number && member->kind != JSON_MEMBER_TEXT)
	{
		command_fault(command, code, field, "must be a number or a string of digits");
		return false;
	}
	Assert(member->text != NULL);

	switch (money_from_text(member->text, strlen(member->text), &value))
	{
		case MONEY_OK:
			break;
		case MONEY_HAS_SCALE:
			fault_money(command, code, field, FAILSAFE_AMOUNT_HAS_FRACTION,
						"must be whole minor units, without a decimal point or exponent");
			return false;
		case MONEY_NOT_FINITE:
			fault_money(command, code, field, FAILSAFE_AMOUNT_INVALID,
						"must be a number or a string of digits");
			return false;
		case MONEY_TOO_LARGE:
			fault_money(command, code, field, FAILSAFE_AMOUNT_TOO_LARGE,
						"is beyond 10^36 - 1");
			return false;
	}
	if (is_number && (value > JSON_NUMBER_MAX || value < -JSON_NUMBER_MAX))
	{
		fault_money(command, code, field, FAILSAFE_AMOUNT_TOO_LARGE,
					"a JSON number is at most 9007199254740991; send a string");
		return false;
	}
	if (value > AMOUNT_MINOR_MAX || value < -AMOUNT_MINOR_MAX)
	{
		fault_money(command, code, field, FAILSAFE_AMOUNT_TOO_LARGE, "is beyond 10^36 - 1");
		return false;
	}
	*minor = value;
	return true;
}

/* A version is a count: a number from 0 up. */
static void
read_version(LedgerCommand *command, FailsafeCode code, const char *field,
			 const JsonMember *member)
{
	int128		value = 0;

	Assert(!command->has_expected_version);

	if (member->kind != JSON_MEMBER_NUMBER ||
		money_from_text(member->text, strlen(member->text), &value) != MONEY_OK ||
		value < 0 || value > JSON_NUMBER_MAX)
	{
		command_fault(command, code, field, "must be a whole number from 0 up");
		return;
	}
	command->has_expected_version = true;
	command->expected_version = (int64) value;
}

void
command_read_time(LedgerCommand *command, FailsafeCode code, const char *field,
				  const JsonMember *member, TimestampTz *at)
{
	TimestampTz value;

	Assert(*at == 0);

	if (member->kind != JSON_MEMBER_TEXT || !json_time_from_text(member->text, &value))
		command_fault(command, code, field,
					  "must be an ISO 8601 time with a zone, such as 2026-01-31T12:00:00Z");
	else if (value == 0)

		/*
		 * In a LedgerCommand 0 stands for "not given".  To drop a value in
		 * silence would be worse than to refuse one microsecond of history.
		 */
		command_fault(command, code, field,
					  "cannot be exactly 2000-01-01T00:00:00Z; use a microsecond later");
	else
		*at = value;
}

/*
 * What interval_in() does, by the same functions of the server; they answer by
 * error codes, interval_in() raises.
 */
static bool
interval_from_text(const char *text, Interval *interval)
{
	char		copy[INTERVAL_BYTES_MAX];
	char		work[INTERVAL_BYTES_MAX];
	char	   *fields[MAXDATEFIELDS];
	int			field_types[MAXDATEFIELDS];
	int			field_count = 0;
	int			type = DTK_DELTA;
	struct pg_itm_in parts = {0};
	int			error;

	Assert(text != NULL && interval != NULL);

	if (strlcpy(copy, text, sizeof(copy)) >= sizeof(copy))
		return false;
	error = ParseDateTime(copy, work, sizeof(work), fields, field_types,
						  MAXDATEFIELDS, &field_count);
	if (error == 0)
		error = DecodeInterval(fields, field_types, field_count, INTERVAL_FULL_RANGE,
							   &type, &parts);
	if (error == DTERR_BAD_FORMAT)
		error = DecodeISO8601Interval(copy, &type, &parts);
	return error == 0 && type == DTK_DELTA && itmin2interval(&parts, interval) == 0;
}

void
command_read_interval(LedgerCommand *command, FailsafeCode code, const char *field,
					  const JsonMember *member, Interval **interval)
{
	Interval	value = {0};

	Assert(*interval == NULL);

	if (member->kind != JSON_MEMBER_TEXT)
	{
		command_fault(command, code, field, "must be a string, such as 7 days or PT15M");
		return;
	}
	if (!interval_from_text(member->text, &value))
	{
		command_fault(command, FAILSAFE_EXPIRY_INVALID, field,
					  "is no interval; 7 days, 01:30:00 and PT15M are");
		return;
	}
	*interval = palloc_object(Interval);
	**interval = value;
}

/* Was the option read before?  JSON has two places for some of them. */
static bool
is_given(const LedgerCommand *command, const Option *option)
{
	const char *field = (const char *) command + option->offset;

	switch (option->kind)
	{
		case TEXT_OPTION:
			return *(const char *const *) field != NULL;
		case TIME_OPTION:
			return *(const TimestampTz *) field != 0;
		case VERSION_OPTION:
			return command->has_expected_version;
		case MONEY_OPTION:
			return command->has_min_available;
	}
	return false;
}

void
command_read_option(LedgerCommand *command, FailsafeCode code, const char *field,
					const JsonMember *member)
{
	const Option *option = find_option(member->name);
	char	   *target;

	Assert(code == FAILSAFE_COMMAND_INVALID || code == FAILSAFE_OPTION_INVALID);

	if (option == NULL)
	{
		command_fault(command, code, field, "is not known");
		return;
	}
	if (member->kind == JSON_MEMBER_NULL)
		return;
	if (is_given(command, option))
	{
		command_fault(command, code, field, "is repeated");
		return;
	}

	target = (char *) command + option->offset;
	switch (option->kind)
	{
		case TEXT_OPTION:
			command_read_text(command, code, field, member, (const char **) target);
			break;
		case TIME_OPTION:
			command_read_time(command, code, field, member, (TimestampTz *) target);
			break;
		case VERSION_OPTION:
			read_version(command, code, field, member);
			break;
		case MONEY_OPTION:
			command->has_min_available =
				command_read_money(command, code, field, member, (int128 *) target);
			break;
	}
}
