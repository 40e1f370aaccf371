/*
 * base/json.c
 *	  Writing and reading JSON on top of the server's own lexer and parser.
 *
 * Owns: the members of json.h.
 *
 * Invariants:
 *	J1	What is written is one member, well formed, with the comma that it needs.
 *	J2	json_read() answers by value.  The server's parser raises in two cases
 *		(too little stack; before 16 an escape that the database's encoding
 *		cannot hold), and both are found before it is called.
 *	J3	A value that json_read() let pass converts to jsonb without an error:
 *		bytes, escapes, depth and the size of numbers have been checked.
 *
 * Takes no locks.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"

#include "base/compat.h"
#include "base/json.h"
#include "base/text.h"

#define EXPONENT_DIGITS_MAX	3	/* 1e999 is a big number already */
#define ZONE_HOURS_MAX		15
#define FIND_MEMBERS_MAX	32	/* more than any object has that is searched by name */
#define ERROR_BYTES_MAX		200	/* of a parser's message, which may quote the input */

/* ---- writing ---- */

/* The comma, if there is one to write, and "name": */
static void
begin_member(StringInfo out, const char *name)
{
	Assert(out->len > 0);
	Assert(strpbrk(name, "\"\\") == NULL);

	if (out->data[out->len - 1] != '{')
		appendStringInfoCharMacro(out, ',');
	appendStringInfoCharMacro(out, '"');
	appendStringInfoString(out, name);
	appendBinaryStringInfo(out, "\":", 2);
}

/* Most texts need no escape: copying them whole is several times faster. */
static void
append_text(StringInfo out, const char *value)
{
	const char *c = value;

	while ((unsigned char) *c >= ' ' && *c != '"' && *c != '\\')
		c++;
	if (*c != '\0')
	{
		escape_json(out, value);
		return;
	}
	appendStringInfoCharMacro(out, '"');
	appendBinaryStringInfo(out, value, (int) (c - value));
	appendStringInfoCharMacro(out, '"');
}

void
json_member_text(StringInfo out, const char *name, const char *value)
{
	if (value == NULL)
		return;
	begin_member(out, name);
	append_text(out, value);
}

void
json_member_raw(StringInfo out, const char *name, const char *json)
{
	if (json == NULL)
		return;
	begin_member(out, name);
	appendStringInfoString(out, json);
}

void
json_member_bool(StringInfo out, const char *name, bool value)
{
	json_member_raw(out, name, value ? "true" : "false");
}

void
json_member_int64(StringInfo out, const char *name, int64 value)
{
	char		digits[MAXINT8LEN + 1];

	begin_member(out, name);
	appendBinaryStringInfo(out, digits, pg_lltoa(value, digits));
}

void
json_member_id(StringInfo out, const char *name, char letter, int64 id)
{
	char		text[TEXT_ID_BYTES];

	if (id != 0)
		json_member_text(out, name, text_id(text, letter, id));
}

void
json_member_money(StringInfo out, const char *name, int128 minor, int exponent)
{
	char		digits[MONEY_TEXT_SIZE];
	int			length = money_to_text(minor, digits);
	bool		quoted = exponent > JSON_NUMBER_EXPONENT_MAX;

	Assert(exponent >= 0 && exponent <= CURRENCY_EXPONENT_MAX);

	begin_member(out, name);
	if (quoted)
		appendStringInfoCharMacro(out, '"');
	appendBinaryStringInfo(out, digits, length);
	if (quoted)
		appendStringInfoCharMacro(out, '"');
}

/* Write number with exactly width digits; returns the end. */
static char *
put_digits(char *target, int number, int width)
{
	Assert(number >= 0 && width > 0);

	for (int i = width - 1; i >= 0; i--)
	{
		target[i] = (char) ('0' + number % 10);
		number /= 10;
	}
	Assert(number == 0);
	return target + width;
}

void
json_append_time(StringInfo out, TimestampTz at)
{
	char		text[48];
	char	   *end = text;
	int64		day = at / USECS_PER_DAY;
	int64		usec = at % USECS_PER_DAY;
	int			year;
	int			month;
	int			dom;

	Assert(!TIMESTAMP_NOT_FINITE(at));

	if (usec < 0)
	{
		usec += USECS_PER_DAY;
		day--;
	}
	j2date((int) (day + POSTGRES_EPOCH_JDATE), &year, &month, &dom);

	if (year < 0 || year > 9999)
		*end++ = year < 0 ? '-' : '+';
	end = put_digits(end, abs(year), year > 9999 ? 6 : 4);
	*end++ = '-';
	end = put_digits(end, month, 2);
	*end++ = '-';
	end = put_digits(end, dom, 2);
	*end++ = 'T';
	end = put_digits(end, (int) (usec / USECS_PER_HOUR), 2);
	*end++ = ':';
	end = put_digits(end, (int) (usec / USECS_PER_MINUTE % MINS_PER_HOUR), 2);
	*end++ = ':';
	end = put_digits(end, (int) (usec / USECS_PER_SEC % SECS_PER_MINUTE), 2);
	*end++ = '.';
	end = put_digits(end, (int) (usec % USECS_PER_SEC), 6);
	*end++ = 'Z';
	Assert(end - text < sizeof(text));
	appendBinaryStringInfo(out, text, (int) (end - text));
}

void
json_member_time(StringInfo out, const char *name, TimestampTz at)
{
	begin_member(out, name);
	appendStringInfoChar(out, '"');
	json_append_time(out, at);
	appendStringInfoChar(out, '"');
}

/* ---- times ---- */

/* Read exactly width digits at *text, a value of low .. high, and step over them. */
static bool
take_number(const char **text, int width, int low, int high, int *number)
{
	int			value = 0;

	Assert(width > 0 && width <= 4 && low <= high);

	for (int i = 0; i < width; i++, (*text)++)
	{
		if (**text < '0' || **text > '9')
			return false;
		value = value * 10 + (**text - '0');
	}
	*number = value;
	return value >= low && value <= high;
}

static bool
take_char(const char **text, char c)
{
	if (**text != c)
		return false;
	(*text)++;
	return true;
}

/* hh:mm, perhaps :ss, perhaps a fraction: microseconds of the day. */
static bool
take_time_of_day(const char **text, int64 *usec)
{
	int			hour;
	int			minute;
	int			second = 0;
	int			scale = USECS_PER_SEC / 10;

	if (!take_number(text, 2, 0, HOURS_PER_DAY - 1, &hour) || !take_char(text, ':') ||
		!take_number(text, 2, 0, MINS_PER_HOUR - 1, &minute))
		return false;
	if (take_char(text, ':') && !take_number(text, 2, 0, SECS_PER_MINUTE - 1, &second))
		return false;

	*usec = hour * USECS_PER_HOUR + minute * USECS_PER_MINUTE + second * USECS_PER_SEC;
	if (!take_char(text, '.'))
		return true;
	if (**text < '0' || **text > '9')
		return false;
	for (; **text >= '0' && **text <= '9'; (*text)++, scale /= 10)
		*usec += (**text - '0') * scale;

	Assert(*usec >= 0 && *usec < USECS_PER_DAY);
	return true;
}

/* Z or a distance from UTC, in seconds. */
static bool
take_zone(const char **text, int *east_s)
{
	int			hours;
	int			minutes = 0;
	int			sign = **text == '-' ? -1 : 1;

	if (take_char(text, 'Z') || take_char(text, 'z'))
	{
		*east_s = 0;
		return true;
	}
	if (!take_char(text, '+') && !take_char(text, '-'))
		return false;
	if (!take_number(text, 2, 0, ZONE_HOURS_MAX, &hours))
		return false;
	if ((take_char(text, ':') || **text != '\0') &&
		!take_number(text, 2, 0, MINS_PER_HOUR - 1, &minutes))
		return false;

	*east_s = sign * (hours * SECS_PER_HOUR + minutes * SECS_PER_MINUTE);
	return true;
}

bool
json_time_from_text(const char *text, TimestampTz *at)
{
	int			year;
	int			month;
	int			dom;
	int64		usec;
	int			east_s;

	Assert(text != NULL && at != NULL);

	if (!take_number(&text, 4, 1, 9999, &year) || !take_char(&text, '-') ||
		!take_number(&text, 2, 1, MONTHS_PER_YEAR, &month) || !take_char(&text, '-') ||
		!take_number(&text, 2, 1, day_tab[isleap(year)][month - 1], &dom))
		return false;
	if (!take_char(&text, 'T') && !take_char(&text, 't') && !take_char(&text, ' '))
		return false;
	if (!take_time_of_day(&text, &usec) || !take_zone(&text, &east_s) || *text != '\0')
		return false;

	*at = (date2j(year, month, dom) - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY +
		usec - east_s * USECS_PER_SEC;
	Assert(IS_VALID_TIMESTAMP(*at));
	return true;
}

/* ---- reading ---- */

/* State of one json_read(); the parser calls the functions below with it. */
typedef struct JsonReader
{
	JsonLexContext *lexer;
	JsonList   *list;
	int			members_max;
	int			members_size;	/* of the array */
	const char *error;			/* first thing found wrong by us */
} JsonReader;

/* Is the current token, which begins a value, a member's (not deeper)? */
static inline bool
at_member(const JsonReader *reader)
{
	return reader->lexer->lex_level == 1;
}

static JsonMemberKind
kind_of_token(JsonTokenType token)
{
	switch (token)
	{
		case JSON_TOKEN_OBJECT_START:
			return JSON_MEMBER_OBJECT;
		case JSON_TOKEN_ARRAY_START:
			return JSON_MEMBER_ARRAY;
		case JSON_TOKEN_STRING:
			return JSON_MEMBER_TEXT;
		case JSON_TOKEN_NUMBER:
			return JSON_MEMBER_NUMBER;
		case JSON_TOKEN_TRUE:
			return JSON_MEMBER_TRUE;
		case JSON_TOKEN_FALSE:
			return JSON_MEMBER_FALSE;
		default:

			/*
			 * null, or a token that the parser is about to refuse: then nobody
			 * looks at the member.
			 */
			return JSON_MEMBER_NULL;
	}
}

/* Room for one more member; NULL when the caller wants no more of them. */
static JsonMember *
add_member(JsonReader *reader)
{
	JsonList   *list = reader->list;

	Assert(list->count >= 0);
	Assert(reader->members_size <= reader->members_max);

	if (list->count++ >= reader->members_max)
		return NULL;
	if (list->count > reader->members_size)
	{
		reader->members_size = Min(reader->members_max, reader->members_size * 2);
		list->members = repalloc_array(list->members, JsonMember, reader->members_size);
	}
	return &list->members[list->count - 1];
}

static void
begin_value(JsonReader *reader, const char *name)
{
	JsonMember *member;

	if (!at_member(reader) || (member = add_member(reader)) == NULL)
		return;
	member->name = name;
	member->kind = kind_of_token(reader->lexer->token_type);
	member->text = NULL;
	member->raw = reader->lexer->token_start;
	member->raw_length = 0;
}

static void
end_value(JsonReader *reader)
{
	JsonList   *list = reader->list;
	JsonMember *member;

	if (!at_member(reader) || list->count > reader->members_max)
		return;
	Assert(list->count > 0);
	member = &list->members[list->count - 1];
	member->raw_length = (int) (reader->lexer->prev_token_terminator - member->raw);
	Assert(member->raw_length > 0);
}

static JSON_ACTION_RESULT_COMPAT
on_field_start(void *state, char *name, bool is_null)
{
	begin_value(state, name);
	json_action_done_compat();
}

static JSON_ACTION_RESULT_COMPAT
on_field_end(void *state, char *name, bool is_null)
{
	end_value(state);
	json_action_done_compat();
}

static JSON_ACTION_RESULT_COMPAT
on_element_start(void *state, bool is_null)
{
	begin_value(state, NULL);
	json_action_done_compat();
}

static JSON_ACTION_RESULT_COMPAT
on_element_end(void *state, bool is_null)
{
	end_value(state);
	json_action_done_compat();
}

static JSON_ACTION_RESULT_COMPAT
on_object_start(void *state)
{
	JsonReader *reader = state;

	if (reader->lexer->lex_level == 0)
		reader->list->kind = JSON_MEMBER_OBJECT;
	json_action_done_compat();
}

static JSON_ACTION_RESULT_COMPAT
on_array_start(void *state)
{
	JsonReader *reader = state;

	if (reader->lexer->lex_level == 0)
		reader->list->kind = JSON_MEMBER_ARRAY;
	json_action_done_compat();
}

/* Would numeric_in() take the number?  It raises where digits or exponent are many. */
static bool
number_is_bounded(const char *number)
{
	const char *exponent = strpbrk(number, "eE");

	if (strlen(number) > JSON_NUMBER_LENGTH_MAX)
		return false;
	if (exponent == NULL)
		return true;
	exponent++;
	if (*exponent == '+' || *exponent == '-')
		exponent++;
	return strlen(exponent) <= EXPONENT_DIGITS_MAX;
}

static JSON_ACTION_RESULT_COMPAT
on_scalar(void *state, char *token, JsonTokenType type)
{
	JsonReader *reader = state;
	JsonList   *list = reader->list;

	if (type == JSON_TOKEN_NUMBER && !number_is_bounded(token) && reader->error == NULL)
		reader->error = "a number has too many digits";

	if (reader->lexer->lex_level == 0)
		list->kind = kind_of_token(type);
	else if (at_member(reader) && list->count <= reader->members_max &&
			 (type == JSON_TOKEN_STRING || type == JSON_TOKEN_NUMBER))
		list->members[list->count - 1].text = token;
	json_action_done_compat();
}

/* A message of the parser, cut to a size that fits into an error's detail. */
static const char *
parser_error(JsonParseErrorType error, JsonLexContext *lexer)
{
	const char *text = json_errdetail(error, lexer);

	return pnstrdup(text, pg_mbcliplen(text, strlen(text), ERROR_BYTES_MAX));
}

/* Run the server's parser over the text. */
static const char *
parse(const char *json, int length, int members_max, bool texts, JsonList *list)
{
	JsonReader	reader = {.list = list, .members_max = members_max};
	JsonSemAction actions = {
		.semstate = &reader,
		.object_start = on_object_start,
		.array_start = on_array_start,
		.object_field_start = on_field_start,
		.object_field_end = on_field_end,
		.array_element_start = on_element_start,
		.array_element_end = on_element_end,
		.scalar = texts ? on_scalar : NULL
	};
	JsonParseErrorType error;

	Assert(members_max > 0);

	reader.lexer = json_lexer_compat(json, length, GetDatabaseEncoding(), texts);
	reader.members_size = Min(members_max, 16);
	list->kind = JSON_MEMBER_NULL;
	list->count = 0;
	list->members = palloc_array(JsonMember, reader.members_size);

	error = pg_parse_json(reader.lexer, &actions);
	if (error != JSON_SUCCESS)
		reader.error = parser_error(error, reader.lexer);
	json_lexer_free_compat(reader.lexer);
	return reader.error;
}

/* Does the text have an escape \uXXXX beyond ASCII? */
static bool
has_wide_escape(const char *json, int length)
{
	for (int i = 0; i + 1 < length; i++)
	{
		if (json[i] != '\\')
			continue;
		i++;
		if (json[i] == 'u' && (i + 3 >= length || json[i + 1] != '0' ||
							   json[i + 2] != '0' || json[i + 3] > '7'))
			return true;
	}
	return false;
}

/* Is anything nested deeper than JSON_DEPTH_MAX?  Brackets in texts don't count. */
static bool
is_too_deep(const char *json, int length)
{
	int			depth = 0;
	bool		in_text = false;

	for (int i = 0; i < length; i++)
	{
		char		c = json[i];

		if (in_text)
		{
			if (c == '\\')
				i++;
			else if (c == '"')
				in_text = false;
		}
		else if (c == '"')
			in_text = true;
		else if (c == '{' || c == '[')
		{
			if (++depth > JSON_DEPTH_MAX)
				return true;
		}
		else if (c == '}' || c == ']')
			depth--;
	}
	return false;
}

const char *
json_read(const char *json, int length, int members_max, JsonList *list)
{
	int			encoding = GetDatabaseEncoding();

	Assert(json != NULL && length >= 0);

	list->kind = JSON_MEMBER_NULL;
	list->count = 0;
	list->members = NULL;

	if (pg_encoding_verifymbstr(encoding, json, length) != length)
		return "the text is not valid in the database's encoding";
	if (is_too_deep(json, length))
		return "objects and arrays are nested too deeply";
	if (JSON_ESCAPES_RAISE_COMPAT && encoding != PG_UTF8 && has_wide_escape(json, length))
		return "an escape stands for a character beyond ASCII, and the database's encoding is not UTF8";
	return parse(json, length, members_max, true, list);
}

const char *
json_find_text(const char *json, const char *name)
{
	JsonList	list;

	Assert(json != NULL && name != NULL);
	if (json_read(json, strlen(json), FIND_MEMBERS_MAX, &list) != NULL ||
		list.kind != JSON_MEMBER_OBJECT)
		return NULL;
	for (int i = 0; i < Min(list.count, FIND_MEMBERS_MAX); i++)
		if (strcmp(list.members[i].name, name) == 0)
			return list.members[i].kind == JSON_MEMBER_TEXT ? list.members[i].text : NULL;
	return NULL;
}

const char *
json_read_array(const char *json, int length, int elements_max, JsonList *list)
{
	const char *error;

	Assert(json != NULL && length >= 0);

	error = parse(json, length, elements_max, false, list);
	if (error == NULL && list->kind != JSON_MEMBER_ARRAY)
		error = "an array was expected";
	return error;
}
