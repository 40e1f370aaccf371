/*
 * idempotency/request.c
 *	  Requests of application keys: their fingerprint and what differs.
 *
 * The fingerprint goes over the tokens of the document: for each its kind, then
 * the text of a name or scalar.  Numbers are written without trailing zeros.
 * A request is fingerprinted whole, whatever its size; it is stored only where it
 * is small, to say which member differs.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/numeric.h"

#include "idempotency/request.h"

static void
fingerprint_scalar(Fingerprint *fingerprint, const JsonbValue *value)
{
	fingerprint_int64(fingerprint, value->type);
	switch (value->type)
	{
		case jbvString:
			fingerprint_text(fingerprint, pnstrdup(value->val.string.val,
												   value->val.string.len));
			break;
		case jbvNumeric:
			fingerprint_text(fingerprint, numeric_normalize(value->val.numeric));
			break;
		case jbvBool:
			fingerprint_int64(fingerprint, value->val.boolean);
			break;
		default:
			Assert(value->type == jbvNull);
			break;
	}
}

void
request_fingerprint(Jsonb *request, int16 version, uint8 digest[FINGERPRINT_BYTES])
{
	Fingerprint *fingerprint = fingerprint_begin(version);
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	value;

	Assert(version == FINGERPRINT_VERSION);
	if (request == NULL)
	{
		fingerprint_text(fingerprint, NULL);
		fingerprint_end(fingerprint, digest);
		return;
	}
	iterator = JsonbIteratorInit(&request->root);
	while ((token = JsonbIteratorNext(&iterator, &value, false)) != WJB_DONE)
	{
		fingerprint_int64(fingerprint, token);
		if (token == WJB_BEGIN_ARRAY)	/* a lone scalar is an array of one */
			fingerprint_int64(fingerprint, value.val.array.rawScalar);
		else if (token == WJB_KEY || token == WJB_VALUE || token == WJB_ELEM)
			fingerprint_scalar(fingerprint, &value);
	}
	fingerprint_end(fingerprint, digest);
}

static bool
member_is_equal(JsonbValue *a, JsonbValue *b)
{
	return compareJsonbContainers(&JsonbValueToJsonb(a)->root,
								  &JsonbValueToJsonb(b)->root) == 0;
}

static void
add_name(StringInfo names, int *count, const JsonbValue *name)
{
	Assert(name->type == jbvString);
	if (*count >= REQUEST_DIFFERENCES_MAX)
		return;
	appendStringInfoString(names, *count == 0 ? "" : ",");
	escape_json(names, pnstrdup(name->val.string.val, name->val.string.len));
	(*count)++;
}

/*
 * Add the members of a that b lacks and, unless only_missing, those that have
 * another value there.
 */
static void
add_differences(StringInfo names, int *count, Jsonb *a, Jsonb *b, bool only_missing)
{
	JsonbIterator *iterator = JsonbIteratorInit(&a->root);
	JsonbIteratorToken token;
	JsonbValue	name;
	JsonbValue	value;

	while ((token = JsonbIteratorNext(&iterator, &name, true)) != WJB_DONE)
	{
		JsonbValue	other;
		bool		found;

		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&iterator, &value, true);
		found = getKeyJsonValueFromContainer(&b->root, name.val.string.val,
											 name.val.string.len, &other) != NULL;
		if (!found || (!only_missing && !member_is_equal(&value, &other)))
			add_name(names, count, &name);
	}
}

char *
request_difference(Jsonb *stored, Jsonb *request)
{
	StringInfoData names;
	int			count = 0;

	if (stored == NULL || request == NULL ||
		!JB_ROOT_IS_OBJECT(stored) || !JB_ROOT_IS_OBJECT(request))
		return "[\"request\"]";
	initStringInfo(&names);
	appendStringInfoChar(&names, '[');
	add_differences(&names, &count, request, stored, false);
	add_differences(&names, &count, stored, request, true);
	appendStringInfoChar(&names, ']');
	return names.data;
}
