/*
 * ledger/command_json.c
 *	  The JSON door: a command from its text, an outcome as a body.
 *
 * Owns: which member belongs to which command, and which are required.  Members
 * are named as the SQL arguments; changing the table changes the public contract.
 *
 * Invariants:
 *	D1	command_from_json() raises for nothing but a failing allocation.
 *	D2	Every member of the text was either read, or is the fault: nothing that a
 *		caller sends is dropped in silence.
 *	D3	A member that is null counts as not given, as NULL does in SQL; given
 *		twice is a fault even then.
 *	D4	A body depends on the outcome alone, so it is the same for ever for a key.
 *
 * Takes no locks.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "base/settings.h"
#include "ledger/command_value.h"

#define COMMAND_BYTES_MAX		(1024 * 1024)
#define COMMAND_MEMBERS_MAX		32
#define LEG_MEMBERS_MAX			8

/* Sets of command types. */
#define IN(type)		(1 << LEDGER_##type)
#define IN_ALL			((1 << LEDGER_EXPIRE) - 1)
#define IN_NONE			0
#define IN_ONE_ACCOUNT	(IN(DEBIT) | IN(CREDIT) | IN(HOLD))
#define IN_MOVES		(IN_ONE_ACCOUNT | IN(TRANSFER))
#define IN_OF_HOLD		(IN(EXTEND) | IN(COMMIT) | IN(ROLLBACK))

typedef enum MemberKind
{
	MEMBER_COMMAND,
	MEMBER_TEXT,
	MEMBER_AMOUNT,
	MEMBER_INTERVAL,
	MEMBER_FINAL,
	MEMBER_ON_DECLINE,
	MEMBER_METADATA,
	MEMBER_LEGS,
	MEMBER_OPTIONS
} MemberKind;

typedef struct MemberRule
{
	const char *name;
	MemberKind	kind;
	int			allowed;		/* set of command types */
	int			required;
	size_t		offset;			/* of the text in LedgerCommand */
} MemberRule;

/* In the order in which a missing one is named: the arguments' order. */
static const MemberRule rules[] = {
	{"command", MEMBER_COMMAND, IN_ALL, IN_ALL, 0},
	{"account", MEMBER_TEXT, IN_ONE_ACCOUNT, IN_ONE_ACCOUNT,
	offsetof(LedgerCommand, account)},
	{"from_account", MEMBER_TEXT, IN(TRANSFER), IN(TRANSFER),
	offsetof(LedgerCommand, account)},
	{"to_account", MEMBER_TEXT, IN(TRANSFER), IN(TRANSFER),
	offsetof(LedgerCommand, counterparty)},
	{"hold", MEMBER_TEXT, IN_OF_HOLD, IN_OF_HOLD, offsetof(LedgerCommand, target)},
	{"transaction", MEMBER_TEXT, IN(REVERSE), IN(REVERSE), offsetof(LedgerCommand, target)},
	{"legs", MEMBER_LEGS, IN(POST), IN(POST), 0},
	{"amount", MEMBER_AMOUNT, IN_MOVES | IN(COMMIT) | IN(REVERSE), IN_MOVES, 0},
	{"currency", MEMBER_TEXT, IN_MOVES, IN_MOVES, offsetof(LedgerCommand, currency)},
	{"idempotency_key", MEMBER_TEXT, IN_ALL, IN_ALL, offsetof(LedgerCommand, key)},
	{"expires_in", MEMBER_INTERVAL, IN(HOLD) | IN(EXTEND), IN_NONE, 0},
	{"final", MEMBER_FINAL, IN(COMMIT), IN_NONE, 0},
	{"reference", MEMBER_TEXT, IN_ALL & ~IN(EXTEND), IN_NONE,
	offsetof(LedgerCommand, reference)},
	{"reason", MEMBER_TEXT, IN_ALL, IN_NONE, offsetof(LedgerCommand, reason)},
	{"counterparty", MEMBER_TEXT, IN_ONE_ACCOUNT | IN(COMMIT), IN_NONE,
	offsetof(LedgerCommand, counterparty)},
	{"on_decline", MEMBER_ON_DECLINE, IN_ALL, IN_NONE, 0},
	{"metadata", MEMBER_METADATA, IN_ALL & ~IN(EXTEND), IN_NONE, 0},
	{"options", MEMBER_OPTIONS, IN_ALL, IN_NONE, 0},
};

static const MemberRule *
find_rule(const char *name)
{
	Assert(name != NULL);

	for (int i = 0; i < lengthof(rules); i++)
		if (strcmp(rules[i].name, name) == 0)
			return &rules[i];
	return NULL;
}

/* The member of this name, or NULL where it is absent or null. */
static const JsonMember *
find_member(const JsonList *list, const char *name)
{
	Assert(list->kind == JSON_MEMBER_OBJECT);

	for (int i = 0; i < list->count; i++)
		if (list->members[i].kind != JSON_MEMBER_NULL &&
			strcmp(list->members[i].name, name) == 0)
			return &list->members[i];
	return NULL;
}

/* Was there an earlier member of the same name, null or not? */
static bool
is_repeated(const JsonList *list, int position)
{
	Assert(position < list->count);

	for (int i = 0; i < position; i++)
		if (strcmp(list->members[i].name, list->members[position].name) == 0)
			return true;
	return false;
}

/*
 * The type that the member "command" names; a fault and LEDGER_DEBIT when it
 * names none.  An expiry is the ledger's own command, nobody asks for it.
 */
static bool
read_type(LedgerCommand *command, const JsonList *list)
{
	const JsonMember *member = find_member(list, "command");

	if (member == NULL)
	{
		command_fault(command, FAILSAFE_VALUE_REQUIRED, "command", "is missing");
		return false;
	}
	if (member->kind != JSON_MEMBER_TEXT)
	{
		command_fault(command, FAILSAFE_COMMAND_INVALID, "command", "must be a string");
		return false;
	}
	for (int type = LEDGER_DEBIT; type < LEDGER_EXPIRE; type++)
		if (strcmp(member->text, ledger_command_names[type]) == 0)
		{
			command->type = type;
			return true;
		}
	command_fault(command, FAILSAFE_COMMAND_INVALID, "command",
				  "must be debit, credit, transfer, hold, extend, commit, rollback, reverse or post");
	return false;
}

static void
read_on_decline(LedgerCommand *command, const JsonMember *member)
{
	bool		is_text = member->kind == JSON_MEMBER_TEXT;

	Assert(!is_text || member->text != NULL);

	if (is_text && strcmp(member->text, "raise") == 0)
		command->records_declines = false;
	else if (is_text && strcmp(member->text, "record") == 0)
		command->records_declines = true;
	else
		command_fault(command, FAILSAFE_COMMAND_INVALID, "on_decline",
					  "must be raise or record");
}

/* json_read() has checked all that jsonb_in() could object to [J3]. */
static void
read_metadata(LedgerCommand *command, const JsonMember *member)
{
	char	   *text;

	Assert(command->metadata == NULL);

	if (member->kind != JSON_MEMBER_OBJECT)
	{
		command_fault(command, FAILSAFE_COMMAND_INVALID, "metadata", "must be an object");
		return;
	}
	text = pnstrdup(member->raw, member->raw_length);
	command->metadata = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
	pfree(text);
}

static void
read_options(LedgerCommand *command, const JsonMember *member)
{
	JsonList	list;
	const char *error;

	if (member->kind != JSON_MEMBER_OBJECT)
	{
		command_fault(command, FAILSAFE_OPTION_INVALID, "options", "must be an object");
		return;
	}
	error = json_read(member->raw, member->raw_length, COMMAND_MEMBERS_MAX, &list);
	if (error != NULL || list.count > COMMAND_MEMBERS_MAX)
	{
		command_fault(command, FAILSAFE_OPTION_INVALID, "options",
					  error != NULL ? error : "has too many members");
		return;
	}

	Assert(list.kind == JSON_MEMBER_OBJECT);
	for (int i = 0; i < list.count; i++)
	{
		const JsonMember *option = &list.members[i];

		if (is_repeated(&list, i))
			command_fault(command, FAILSAFE_OPTION_INVALID, option->name, "is repeated");
		else
			command_read_option(command, FAILSAFE_OPTION_INVALID, option->name, option);
	}
}

/* One leg's member into the leg. */
static void
read_leg_member(LedgerCommand *command, LedgerLeg *leg, const char *field,
				const JsonMember *member)
{
	Assert(member->kind != JSON_MEMBER_NULL);

	if (strcmp(member->name, "account") == 0)
		command_read_text(command, FAILSAFE_COMMAND_INVALID, field, member, &leg->account);
	else if (strcmp(member->name, "currency") == 0)
		command_read_text(command, FAILSAFE_COMMAND_INVALID, field, member, &leg->currency);
	else if (strcmp(member->name, "amount") == 0)
		command_read_money(command, FAILSAFE_COMMAND_INVALID, field, member,
						   &leg->amount_minor);
}

static void
read_leg(LedgerCommand *command, LedgerLeg *leg, int position, const JsonMember *element)
{
	static const char *const names[] = {"account", "amount", "currency"};
	JsonList	list;
	const char *error;

	Assert(position >= 0 && position < POST_LEGS_MAX);
	memset(leg, 0, sizeof(*leg));

	error = json_read(element->raw, element->raw_length, LEG_MEMBERS_MAX, &list);
	if (error == NULL && list.kind != JSON_MEMBER_OBJECT)
		error = "must be an object";
	if (error == NULL && list.count > LEG_MEMBERS_MAX)
		error = "has too many members";
	if (error != NULL)
	{
		command_fault(command, element->kind == JSON_MEMBER_NULL ?
					  FAILSAFE_LEGS_INVALID : FAILSAFE_COMMAND_INVALID,
					  psprintf("legs[%d]", position), error);
		return;
	}

	for (int i = 0; i < list.count; i++)
	{
		const JsonMember *member = &list.members[i];
		const char *field = psprintf("legs[%d].%s", position, member->name);
		bool		known = false;

		for (int j = 0; j < lengthof(names); j++)
			known |= strcmp(member->name, names[j]) == 0;
		if (!known)
			command_fault(command, FAILSAFE_COMMAND_INVALID, field, "is not known");
		else if (is_repeated(&list, i))
			command_fault(command, FAILSAFE_COMMAND_INVALID, field, "is repeated");
		else if (member->kind != JSON_MEMBER_NULL)
			read_leg_member(command, leg, field, member);
	}
	for (int j = 0; j < lengthof(names); j++)
		if (find_member(&list, names[j]) == NULL)
			command_fault(command, FAILSAFE_VALUE_REQUIRED,
						  psprintf("legs[%d].%s", position, names[j]), "is missing");
}

static void
read_legs(LedgerCommand *command, const JsonMember *member)
{
	JsonList	list;
	const char *error;

	Assert(command->legs == NULL);

	if (member->kind != JSON_MEMBER_ARRAY)
	{
		command_fault(command, FAILSAFE_COMMAND_INVALID, "legs", "must be an array");
		return;
	}
	error = json_read(member->raw, member->raw_length, POST_LEGS_MAX, &list);
	if (error != NULL || list.count > POST_LEGS_MAX)
	{
		command_fault(command, error != NULL ? FAILSAFE_COMMAND_INVALID : FAILSAFE_BATCH_TOO_LARGE,
					  "legs", error != NULL ? error : "has more than 1000 elements");
		return;
	}

	Assert(list.kind == JSON_MEMBER_ARRAY);
	command->leg_count = list.count;
	command->legs = palloc_array(LedgerLeg, Max(list.count, 1));
	for (int i = 0; i < list.count; i++)
		read_leg(command, &command->legs[i], i, &list.members[i]);
}

/* A member that is known, allowed here and not null, into the command. */
static void
read_member(LedgerCommand *command, const MemberRule *rule, const JsonMember *member)
{
	Assert(rule != NULL);
	Assert(member->kind != JSON_MEMBER_NULL);

	switch (rule->kind)
	{
		case MEMBER_COMMAND:
			break;				/* read_type() did */
		case MEMBER_TEXT:
			command_read_text(command, FAILSAFE_COMMAND_INVALID, rule->name, member,
							  (const char **) ((char *) command + rule->offset));
			break;
		case MEMBER_AMOUNT:
			command->has_amount =
				command_read_money(command, FAILSAFE_COMMAND_INVALID, rule->name, member,
								   &command->amount_minor);
			break;
		case MEMBER_INTERVAL:
			command_read_interval(command, FAILSAFE_COMMAND_INVALID, rule->name, member,
								  &command->expires_in);
			break;
		case MEMBER_FINAL:
			command_read_bool(command, FAILSAFE_COMMAND_INVALID, rule->name, member,
							  &command->final);
			break;
		case MEMBER_ON_DECLINE:
			read_on_decline(command, member);
			break;
		case MEMBER_METADATA:
			read_metadata(command, member);
			break;
		case MEMBER_LEGS:
			read_legs(command, member);
			break;
		case MEMBER_OPTIONS:
			read_options(command, member);
			break;
	}
}

/* Sort one member of the command out: unknown, misplaced, repeated, null, or read. */
static void
take_member(LedgerCommand *command, bool type_known, const JsonList *list, int position)
{
	const JsonMember *member = &list->members[position];
	const MemberRule *rule = find_rule(member->name);

	Assert(member->name != NULL);

	if (rule == NULL && !command_option_is_top_level(member->name))
		command_fault(command, FAILSAFE_COMMAND_INVALID, member->name, "is not known");
	else if (is_repeated(list, position))
		command_fault(command, FAILSAFE_COMMAND_INVALID, member->name, "is repeated");
	else if (rule != NULL && type_known && !(rule->allowed & (1 << command->type)))
		command_fault(command, FAILSAFE_COMMAND_INVALID, member->name,
					  psprintf("does not belong to the command %s",
							   ledger_command_names[command->type]));
	else if (member->kind == JSON_MEMBER_NULL)
		return;
	else if (rule == NULL)
		command_read_option(command, FAILSAFE_COMMAND_INVALID, member->name, member);
	else if (type_known || rule->kind == MEMBER_TEXT)

		/*
		 * With the type unknown the texts are read all the same: the answer to
		 * a refused command still names its key.
		 */
		read_member(command, rule, member);
}

static void
require_members(LedgerCommand *command, const JsonList *list)
{
	Assert(list->kind == JSON_MEMBER_OBJECT);
	Assert(command->type < LEDGER_EXPIRE);

	for (int i = 0; i < lengthof(rules); i++)
	{
		if (!(rules[i].required & (1 << command->type)) ||
			find_member(list, rules[i].name) != NULL)
			continue;

		/* A missing key has a code of its own. */
		command_fault(command, rules[i].offset == offsetof(LedgerCommand, key) ?
					  FAILSAFE_KEY_REQUIRED : FAILSAFE_VALUE_REQUIRED,
					  rules[i].name, "is missing");
	}
}

void
command_from_json(LedgerCommand *command, const char *json, int length)
{
	JsonList	list;
	const char *error;
	bool		type_known;

	Assert(command != NULL && json != NULL);
	Assert(length >= 0);

	command_init(command, LEDGER_DEBIT);
	command->records_declines = true;
	command->from_json = true;

	if (length > COMMAND_BYTES_MAX)
	{
		command_fault(command, FAILSAFE_COMMAND_INVALID, NULL, "is longer than 1048576 bytes");
		return;
	}
	error = json_read(json, length, COMMAND_MEMBERS_MAX, &list);
	if (error == NULL && list.kind != JSON_MEMBER_OBJECT)
		error = "must be an object";
	if (error == NULL && list.count > COMMAND_MEMBERS_MAX)
		error = "has too many members";
	if (error != NULL)
	{
		command_fault(command, FAILSAFE_COMMAND_INVALID, NULL, error);
		return;
	}

	type_known = read_type(command, &list);
	for (int i = 0; i < list.count; i++)
		take_member(command, type_known, &list, i);
	if (type_known)
		require_members(command, &list);
}

int
command_split_array(const char *json, int length, int max,
					const char ***elements, int **lengths)
{
	JsonList	list;
	const char *error;

	Assert(json != NULL && length >= 0);
	Assert(max > 0);

	error = json_read_array(json, length, max, &list);
	if (error != NULL)
		error_raise_field(FAILSAFE_COMMAND_INVALID, "commands", error);
	if (list.count > max)
		error_raise_field(FAILSAFE_BATCH_TOO_LARGE, "commands",
						  psprintf("%d commands", list.count));

	*elements = palloc_array(const char *, Max(list.count, 1));
	*lengths = palloc_array(int, Max(list.count, 1));
	for (int i = 0; i < list.count; i++)
	{
		(*elements)[i] = list.members[i].raw;
		(*lengths)[i] = list.members[i].raw_length;
	}
	pfree(list.members);
	return list.count;
}

/* The ids that an accepted command answers with. */
static void
append_ids(StringInfo body, LedgerCommandType type, const LedgerOutcome *outcome)
{
	switch (type)
	{
		case LEDGER_DEBIT:
		case LEDGER_CREDIT:
		case LEDGER_TRANSFER:
		case LEDGER_REVERSE:
			json_member_id(body, "entry_id", 'e', outcome->entry_id);
			break;
		case LEDGER_COMMIT:
			json_member_id(body, "entry_id", 'e', outcome->entry_id);
			json_member_id(body, "hold_id", 'h', outcome->hold_id);
			break;
		case LEDGER_HOLD:
		case LEDGER_EXTEND:
			json_member_id(body, "hold_id", 'h', outcome->hold_id);
			if (outcome->expires_at != 0)
				json_member_time(body, "expires_at", outcome->expires_at);
			break;
		case LEDGER_ROLLBACK:
		case LEDGER_EXPIRE:
			json_member_id(body, "hold_id", 'h', outcome->hold_id);
			break;
		case LEDGER_POST:
			json_member_id(body, "transaction_id", 't', outcome->journal_id);
			break;
	}
}

/*
 * What went wrong.  A refusal names the field at fault; a decline is stored and
 * answers with the catalogue's message alone, the same for ever.
 */
static const char *
error_text(const LedgerOutcome *outcome)
{
	const char *message = error_info(outcome->code)->message;
	const char *field = NULL;
	const char *value = NULL;

	if (outcome->status == LEDGER_REFUSED && outcome->detail != NULL)
	{
		field = json_find_text(outcome->detail, "field");
		value = json_find_text(outcome->detail, "value");
	}
	return psprintf("%s%s%s%s%s", message, field != NULL ? ": " : "", field != NULL ? field : "",
					value != NULL ? ": " : "", value != NULL ? value : "");
}

char *
outcome_body(LedgerCommandType type, const LedgerOutcome *outcome)
{
	StringInfoData body;

	Assert(outcome != NULL);
	Assert(outcome->status <= LEDGER_EXPIRED);

	initStringInfo(&body);
	appendStringInfoChar(&body, '{');
	json_member_text(&body, "status", ledger_status_names[outcome->status]);
	if (outcome->status == LEDGER_DECLINED || outcome->status == LEDGER_REFUSED)
	{
		json_member_text(&body, "code", error_info(outcome->code)->name);
		json_member_text(&body, "error", error_text(outcome));
	}
	else
		append_ids(&body, type, outcome);
	appendStringInfoChar(&body, '}');
	return body.data;
}
