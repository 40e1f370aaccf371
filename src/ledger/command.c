/*
 * ledger/command.c
 *	  Commands as values: their names, defaults, faults and options.
 *
 * Owns: struct LedgerCommand until ledger_apply() takes it.
 *
 * Invariants:
 *	C1	A command has at most one fault: of all that were noted, the one that the
 *		error catalogue lists first, and of those with one code the earliest.
 *	C2	A command without a fault has values of the right type, and nothing else
 *		is promised about them.
 *
 * Takes no locks.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "ledger/command_value.h"

#define FIELD_BYTES_MAX		64	/* of a member's name that is shown in an error */

const char *const ledger_command_names[LEDGER_COMMAND_TYPES] = {
	[LEDGER_DEBIT] = "debit",
	[LEDGER_CREDIT] = "credit",
	[LEDGER_TRANSFER] = "transfer",
	[LEDGER_HOLD] = "hold",
	[LEDGER_EXTEND] = "extend",
	[LEDGER_COMMIT] = "commit",
	[LEDGER_ROLLBACK] = "rollback",
	[LEDGER_REVERSE] = "reverse",
	[LEDGER_POST] = "post",
	[LEDGER_EXPIRE] = "expire",
};

const char *const ledger_status_names[LEDGER_EXPIRED + 1] = {
	[LEDGER_COMMITTED] = "committed",
	[LEDGER_HELD] = "held",
	[LEDGER_ROLLED_BACK] = "rolled_back",
	[LEDGER_DECLINED] = "declined",
	[LEDGER_REFUSED] = "refused",
	[LEDGER_EXPIRED] = "expired",
};

void
command_init(LedgerCommand *command, LedgerCommandType type)
{
	Assert(command != NULL);
	Assert(type >= LEDGER_DEBIT && type <= LEDGER_EXPIRE);

	memset(command, 0, sizeof(*command));
	command->type = type;
	command->final = true;
	command->fault = FAILSAFE_OK;
}

void
command_fault(LedgerCommand *command, FailsafeCode code, const char *field,
			  const char *text)
{
	Assert(command != NULL);
	Assert(code > FAILSAFE_OK && code < FAILSAFE_CODE_COUNT);

	if (command->fault != FAILSAFE_OK && command->fault <= code)
		return;
	command->fault = code;
	command->fault_field = field;
	command->fault_text = text;

	/* A name that came from outside can be as long as the command. */
	if (field != NULL && strlen(field) > FIELD_BYTES_MAX)
		command->fault_field = pnstrdup(field, pg_mbcliplen(field, strlen(field),
															FIELD_BYTES_MAX));
}

/* A value inside a jsonb object as a member; containers have no text. */
static void
member_from_jsonb(JsonMember *member, const char *name, const JsonbValue *value)
{
	*member = (JsonMember) {.name = name};
	switch (value->type)
	{
		case jbvNull:
			member->kind = JSON_MEMBER_NULL;
			break;
		case jbvBool:
			member->kind = value->val.boolean ? JSON_MEMBER_TRUE : JSON_MEMBER_FALSE;
			break;
		case jbvString:
			member->kind = JSON_MEMBER_TEXT;
			member->text = pnstrdup(value->val.string.val, value->val.string.len);
			break;
		case jbvNumeric:
			member->kind = JSON_MEMBER_NUMBER;
			member->text =
				DatumGetCString(DirectFunctionCall1(numeric_out,
													NumericGetDatum(value->val.numeric)));
			break;
		default:
			Assert(value->type == jbvBinary);
			member->kind = JsonContainerIsArray(value->val.binary.data) ?
				JSON_MEMBER_ARRAY : JSON_MEMBER_OBJECT;
			break;
	}
}

void
command_options(LedgerCommand *command, Jsonb *options)
{
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	value;
	const char *name = NULL;

	Assert(command != NULL);

	if (options == NULL)
		return;
	if (!JB_ROOT_IS_OBJECT(options))
	{
		command_fault(command, FAILSAFE_OPTION_INVALID, "options", "must be an object");
		return;
	}

	iterator = JsonbIteratorInit(&options->root);
	token = JsonbIteratorNext(&iterator, &value, false);
	Assert(token == WJB_BEGIN_OBJECT);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		JsonMember	member;

		if (token == WJB_KEY)
			name = pnstrdup(value.val.string.val, value.val.string.len);
		if (token != WJB_VALUE)
			continue;
		Assert(name != NULL);
		member_from_jsonb(&member, name, &value);
		command_read_option(command, FAILSAFE_OPTION_INVALID, name, &member);
	}
}
