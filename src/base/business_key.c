/*
 * base/business_key.c
 *	  business_key(): an idempotency key out of the parts of a business operation.
 *
 * Owns: the form of such keys.  It is frozen: an application that builds the same
 * key tomorrow must hit the operation that it made today.
 *
 * Invariants:
 *	B1	Different lists of parts give different keys.  Parts are joined by ':',
 *		and inside a part ':' and '%' are written as %3A and %25.
 *	B2	What comes out is a valid key: blanks and control characters are written
 *		in the same way, and more than 255 bytes are refused.
 *
 * Takes no locks.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "base/errors.h"
#include "base/settings.h"

PG_FUNCTION_INFO_V1(failsafe_business_key);

#define PART_SEPARATOR	':'

static inline bool
needs_escape(unsigned char c)
{
	return c <= ' ' || c == 0x7F || c == '%' || c == PART_SEPARATOR;
}

/*
 * Append one part.  In every encoding of a server the bytes of a longer character
 * are above 0x7F, so a byte is never mistaken for one that needs an escape.
 */
static void
append_part(StringInfo key, const char *part, int length)
{
	Assert(length > 0);
	Assert(key->len == 0 || key->data[key->len - 1] == PART_SEPARATOR);

	for (int i = 0; i < length; i++)
	{
		unsigned char c = (unsigned char) part[i];

		if (needs_escape(c))
			appendStringInfo(key, "%%%02X", c);
		else
			appendStringInfoCharMacro(key, c);
	}
}

static void
refuse_part(int position, const char *what)
{
	error_raise_field(FAILSAFE_KEY_INVALID, psprintf("parts[%d]", position + 1), what);
}

/* business_key(VARIADIC parts text[]) returns text */
Datum
failsafe_business_key(PG_FUNCTION_ARGS)
{
	ArrayType  *parts;
	Datum	   *values;
	bool	   *nulls;
	int			count;
	StringInfoData key;

	if (PG_ARGISNULL(0))
		error_raise_field(FAILSAFE_KEY_INVALID, "parts", "is NULL");
	parts = PG_GETARG_ARRAYTYPE_P(0);
	if (ARR_NDIM(parts) != 1)
		error_raise_field(FAILSAFE_KEY_INVALID, "parts", "must be a list of at least one part");

	deconstruct_array(parts, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, &count);
	initStringInfo(&key);
	for (int i = 0; i < count; i++)
	{
		text	   *part;

		if (nulls[i])
			refuse_part(i, "is NULL");
		part = DatumGetTextPP(values[i]);
		if (VARSIZE_ANY_EXHDR(part) == 0)
			refuse_part(i, "is empty");
		if (VARSIZE_ANY_EXHDR(part) > KEY_BYTES_MAX)
			refuse_part(i, "makes the key longer than 255 bytes");
		if (i > 0)
			appendStringInfoChar(&key, PART_SEPARATOR);
		append_part(&key, VARDATA_ANY(part), VARSIZE_ANY_EXHDR(part));
		if (key.len > KEY_BYTES_MAX)
			refuse_part(i, "makes the key longer than 255 bytes");
	}

	Assert(count > 0 && key.len > 0);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(key.data, key.len));
}
