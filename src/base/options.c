/*
 * base/options.c
 *	  The last argument of the SQL functions: options jsonb DEFAULT NULL.
 *
 * Invariants:
 *	P1	Nothing in the object is ignored: a member is either read or refused.
 *	P2	A bad value is refused with OPTION_INVALID and the member's name, never with
 *		the error of some input function.
 */
#include "postgres.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#include "base/errors.h"
#include "base/json.h"
#include "base/options.h"

#define OPTION_NAME_SHOWN_BYTES	64

void
option_refuse(const char *name, const char *problem)
{
	Assert(name != NULL && problem != NULL);
	error_raise_field(FAILSAFE_OPTION_INVALID, name, problem);
}

/* A whole number of 32 bits; a number with decimal places is none, also 5.0. */
static bool
option_number_parse(Numeric numeric, int32 *number)
{
	char	   *text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(numeric)));
	char	   *end;
	long		value;

	errno = 0;
	value = strtol(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' ||
		value < PG_INT32_MIN || value > PG_INT32_MAX)
		return false;
	*number = (int32) value;
	return true;
}

static void
option_read(const OptionSpec *spec, const JsonbValue *json, OptionValue *value)
{
	Assert(!value->given);
	if (json->type == jbvNull)
		return;
	switch (spec->type)
	{
		case OPTION_BOOL:
			if (json->type != jbvBool)
				option_refuse(spec->name, "true or false is expected");
			value->boolean = json->val.boolean;
			break;
		case OPTION_INT:
			if (json->type != jbvNumeric ||
				!option_number_parse(json->val.numeric, &value->number))
				option_refuse(spec->name, "a whole number is expected");
			break;
		case OPTION_TEXT:
		case OPTION_TIME:
			if (json->type != jbvString)
				option_refuse(spec->name, "a string is expected");
			value->text = pnstrdup(json->val.string.val, json->val.string.len);
			if (spec->type == OPTION_TIME && !json_time_from_text(value->text, &value->time))
				option_refuse(spec->name, "a date and time with a time zone is expected");
			break;
	}
	value->given = true;
}

static int
option_find(const OptionSpec *specs, int count, const JsonbValue *name)
{
	for (int i = 0; i < count; i++)
		if (strlen(specs[i].name) == name->val.string.len &&
			memcmp(specs[i].name, name->val.string.val, name->val.string.len) == 0)
			return i;
	return -1;
}

void
options_read(Jsonb *options, const OptionSpec *specs, int count, OptionValue *values)
{
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	json;
	int			current = -1;

	Assert(count == 0 || (specs != NULL && values != NULL));
	if (count > 0)
		memset(values, 0, count * sizeof(OptionValue));
	if (options == NULL)
		return;
	if (!JB_ROOT_IS_OBJECT(options))
		option_refuse("options", "an object is expected");
	iterator = JsonbIteratorInit(&options->root);
	while ((token = JsonbIteratorNext(&iterator, &json, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			current = option_find(specs, count, &json);
			if (current < 0)
				option_refuse(pnstrdup(json.val.string.val,
									   pg_mbcliplen(json.val.string.val, json.val.string.len,
													OPTION_NAME_SHOWN_BYTES)),
							  "the option is not known");
		}
		else if (token == WJB_VALUE)
		{
			Assert(current >= 0);
			option_read(&specs[current], &json, &values[current]);
		}
	}
}

PG_FUNCTION_INFO_V1(failsafe_options_none);

/* _options_none(options jsonb): raises for any member */
Datum
failsafe_options_none(PG_FUNCTION_ARGS)
{
	Assert(PG_NARGS() == 1);
	if (!PG_ARGISNULL(0))
		options_read(PG_GETARG_JSONB_P(0), NULL, 0, NULL);
	PG_RETURN_VOID();
}
