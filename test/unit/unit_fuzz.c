/*
 * test/unit/unit_fuzz.c
 *	  Loops over random input, with the server's own functions as oracles.  Each
 *	  returns the number of things that were wrong and warns about the first few.
 *	  The seed is an argument: a failure can be repeated.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/json.h"
#include "ledger/command.h"

#define WARNINGS_MAX		10
#define FUZZ_BYTES_MAX		4096
#define MUTATIONS_MAX		6

PG_FUNCTION_INFO_V1(unit_fuzz_money);
PG_FUNCTION_INFO_V1(unit_fuzz_major);
PG_FUNCTION_INFO_V1(unit_fuzz_time);
PG_FUNCTION_INFO_V1(unit_fuzz_command);

static int64
random_below(pg_prng_state *random, int64 limit)
{
	return (int64) pg_prng_uint64_range(random, 0, limit - 1);
}

static void
wrong(int64 *count, const char *what, const char *input)
{
	if (++*count <= WARNINGS_MAX)
		elog(WARNING, "%s: %s", what, input);
}

static Numeric
numeric_of(const char *text)
{
	return DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(text),
											   ObjectIdGetDatum(InvalidOid),
											   Int32GetDatum(-1)));
}

/* 1 to 38 digits, often with runs of zeros; returns the end. */
static char *
random_digits(pg_prng_state *random, char *end)
{
	int			length = 1 + random_below(random, 38);
	int			zeros_from = random_below(random, 2 * length);

	*end++ = '1' + random_below(random, 9);
	for (int i = 1; i < length; i++)
		*end++ = i >= zeros_from || random_below(random, 3) == 0 ?
			'0' : '0' + random_below(random, 10);
	*end = '\0';
	return end;
}

/* A whole number, sometimes negative; returns the end. */
static char *
random_number(pg_prng_state *random, char *text)
{
	if (random_below(random, 3) == 0)
		*text++ = '-';
	return random_digits(random, text);
}

/* numeric -> int128 -> numeric and text, against the text that it all came from. */
static void
check_number(const char *text, int64 *failures)
{
	Numeric		value = numeric_of(text);
	Numeric		made;
	char		digits[MONEY_TEXT_SIZE];
	int128		minor = 0;
	int128		from_text = 0;

	if (money_from_numeric(value, &minor) != MONEY_OK)
	{
		wrong(failures, "money_from_numeric() refused", text);
		return;
	}
	money_to_text(minor, digits);
	if (strcmp(digits, text) != 0)
		wrong(failures, digits, text);
	if (money_from_text(text, strlen(text), &from_text) != MONEY_OK || from_text != minor)
		wrong(failures, "money_from_text() differs", text);
	made = money_to_numeric(minor);
	if (VARSIZE(made) != VARSIZE(value) || memcmp(made, value, VARSIZE(value)) != 0)
		wrong(failures, "money_to_numeric() differs from numeric_in()", text);
	if (strcmp(DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(made))), text) != 0)
		wrong(failures, "numeric_out() differs", text);
}

Datum
unit_fuzz_money(PG_FUNCTION_ARGS)
{
	pg_prng_state random;
	int64		failures = 0;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "fuzz",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext previous = MemoryContextSwitchTo(context);

	pg_prng_seed(&random, PG_GETARG_INT64(1));
	for (int i = 0; i < PG_GETARG_INT32(0); i++)
	{
		char		text[64];

		random_number(&random, text);
		check_number(text, &failures);
		MemoryContextReset(context);
		CHECK_FOR_INTERRUPTS();
	}
	MemoryContextSwitchTo(previous);
	MemoryContextDelete(context);
	PG_RETURN_INT64(failures);
}

/*
 * value * 10^exponent by the server's numeric arithmetic: the status and number
 * that money_from_major() should give.
 */
static MoneyStatus
major_oracle(const char *text, int exponent, char *digits)
{
	char		power[32];
	Datum		product;
	Datum		whole;
	char	   *printed;

	snprintf(power, sizeof(power), "1e%d", exponent);
	product = DirectFunctionCall2(numeric_mul, NumericGetDatum(numeric_of(text)),
								  NumericGetDatum(numeric_of(power)));
	whole = DirectFunctionCall2(numeric_trunc, product, Int32GetDatum(0));
	if (!DatumGetBool(DirectFunctionCall2(numeric_eq, product, whole)))
		return MONEY_HAS_SCALE;
	printed = DatumGetCString(DirectFunctionCall1(numeric_out, whole));
	if (strlen(printed) - (*printed == '-') > 38)
		return MONEY_TOO_LARGE;
	strcpy(digits, printed);
	return MONEY_OK;
}

Datum
unit_fuzz_major(PG_FUNCTION_ARGS)
{
	pg_prng_state random;
	int64		failures = 0;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "fuzz",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext previous = MemoryContextSwitchTo(context);

	pg_prng_seed(&random, PG_GETARG_INT64(1));
	for (int i = 0; i < PG_GETARG_INT32(0); i++)
	{
		char		text[96];
		char	   *end;
		char		expected[MONEY_TEXT_SIZE] = "";
		char		digits[MONEY_TEXT_SIZE];
		int			exponent = random_below(&random, CURRENCY_EXPONENT_MAX + 1);
		int128		minor = 0;
		MoneyStatus status;

		end = random_number(&random, text);
		if (random_below(&random, 4) > 0)
		{
			*end++ = '.';
			random_digits(&random, end);
		}
		status = money_from_major(numeric_of(text), exponent, &minor);
		if (status != major_oracle(text, exponent, expected))
			wrong(&failures, "money_from_major() has another status", text);
		else if (status == MONEY_OK)
		{
			money_to_text(minor, digits);
			if (strcmp(digits, expected) != 0)
				wrong(&failures, digits, expected);
		}
		MemoryContextReset(context);
		CHECK_FOR_INTERRUPTS();
	}
	MemoryContextSwitchTo(previous);
	MemoryContextDelete(context);
	PG_RETURN_INT64(failures);
}

/* Written times read back, and are what timestamptz_in() makes of the text. */
Datum
unit_fuzz_time(PG_FUNCTION_ARGS)
{
	pg_prng_state random;
	int64		failures = 0;
	const TimestampTz lowest = -INT64CONST(63082281600) * USECS_PER_SEC;	/* year 1 */
	const TimestampTz highest = INT64CONST(252455615999) * USECS_PER_SEC;	/* year 9999 */
	StringInfoData out;

	initStringInfo(&out);
	pg_prng_seed(&random, PG_GETARG_INT64(1));
	for (int i = 0; i < PG_GETARG_INT32(0); i++)
	{
		TimestampTz at = lowest + random_below(&random, highest - lowest);
		TimestampTz read = 0;
		char	   *text;

		resetStringInfo(&out);
		appendStringInfoChar(&out, '{');
		json_member_time(&out, "t", at);
		out.data[out.len - 1] = '\0';
		text = out.data + strlen("{\"t\":\"");
		if (!json_time_from_text(text, &read) || read != at)
			wrong(&failures, "json_time_from_text() differs", text);
		read = DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(text),
													   ObjectIdGetDatum(InvalidOid),
													   Int32GetDatum(-1)));
		if (read != at)
			wrong(&failures, "timestamptz_in() differs", text);
		CHECK_FOR_INTERRUPTS();
	}
	PG_RETURN_INT64(failures);
}

/* Change a few bytes of the input: replace, drop, double, splice. */
static int
mutate(pg_prng_state *random, char *bytes, int length)
{
	static const char *const snippets[] = {
		"\"", "\\", "{", "}", "[", "]", ",", ":", "null", "true", "1e9", "-", "0.5", "\\u0000",
		"\\ud800", "\\u00e9", "\xff", "\xc3", "9007199254740992", "\"amount\":1", "\"legs\":[",
		"PT15M", "1 day", "P1Y", "infinity", "now", "2026-01-31T12:00:00Z", "99999999999999999999999",
		"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["
	};
	int			count = random_below(random, MUTATIONS_MAX);

	for (int i = 0; i < count && length > 1; i++)
	{
		int			at = random_below(random, length);
		const char *snippet = snippets[random_below(random, lengthof(snippets))];
		int			added = strlen(snippet);

		switch (random_below(random, 5))
		{
			case 0:
				bytes[at] = (char) random_below(random, 256);
				break;
			case 1:
				memmove(bytes + at, bytes + at + 1, length - at - 1);
				length--;
				break;
			case 2:
				length = at + 1;
				break;
			default:
				if (length + added >= FUZZ_BYTES_MAX)
					break;
				memmove(bytes + at + added, bytes + at, length - at);
				memcpy(bytes + at, snippet, added);
				length += added;
				break;
		}
	}
	return length;
}

/* Is the text JSON to the server's own parser, which builds nothing here? */
static bool
is_json(const char *bytes, int length)
{
	JsonLexContext *lexer = json_lexer_compat(bytes, length, GetDatabaseEncoding(), true);
	JsonSemAction actions = {0};
	bool		valid = pg_parse_json(lexer, &actions) == JSON_SUCCESS;

	json_lexer_free_compat(lexer);
	return valid;
}

/* A command without a fault came from valid JSON and has what its type requires. */
static void
check_command(const char *bytes, int length, int64 *failures, int64 *accepted)
{
	LedgerCommand command;
	char	   *copy = palloc(Max(length, 1));

	/* An allocation of its own: a read past the end shows under valgrind. */
	memcpy(copy, bytes, length);
	command_from_json(&command, copy, length);
	if (command.fault != FAILSAFE_OK)
		return;
	++*accepted;
	if (!is_json(copy, length))
		wrong(failures, "accepted what is not JSON", pnstrdup(bytes, length));
	if (command.key == NULL || command.type >= LEDGER_EXPIRE)
		wrong(failures, "accepted without a key or type", pnstrdup(bytes, length));
	if (command.type == LEDGER_DEBIT &&
		(command.account == NULL || !command.has_amount || command.currency == NULL))
		wrong(failures, "accepted an incomplete debit", pnstrdup(bytes, length));
	if (command.metadata != NULL && !JB_ROOT_IS_OBJECT(command.metadata))
		wrong(failures, "accepted metadata that is no object", pnstrdup(bytes, length));
}

/*
 * unit_fuzz_command(seeds text[], rounds, seed): an ERROR would end the statement,
 * which is the point.  At least one input in a hundred must have been accepted,
 * else the loop tested little.
 */
Datum
unit_fuzz_command(PG_FUNCTION_ARGS)
{
	pg_prng_state random;
	Datum	   *seeds;
	int			seed_count;
	int			rounds = PG_GETARG_INT32(1);
	int64		failures = 0;
	int64		accepted = 0;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "fuzz",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext previous;

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), TEXTOID, -1, false, TYPALIGN_INT,
					  &seeds, NULL, &seed_count);
	pg_prng_seed(&random, PG_GETARG_INT64(2));
	previous = MemoryContextSwitchTo(context);
	for (int i = 0; i < rounds; i++)
	{
		text	   *seed = DatumGetTextPP(seeds[random_below(&random, seed_count)]);
		char		bytes[FUZZ_BYTES_MAX];
		int			length = Min(VARSIZE_ANY_EXHDR(seed), FUZZ_BYTES_MAX);

		memcpy(bytes, VARDATA_ANY(seed), length);
		length = mutate(&random, bytes, length);
		check_command(bytes, length, &failures, &accepted);
		MemoryContextReset(context);
		CHECK_FOR_INTERRUPTS();
	}
	MemoryContextSwitchTo(previous);
	MemoryContextDelete(context);
	if (accepted < rounds / 100)
		wrong(&failures, "too few inputs were accepted", "all");
	PG_RETURN_INT64(failures);
}
