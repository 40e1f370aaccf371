/*
 * base/errors.c
 *	  Owns the catalogue of error codes in memory and the one way in which a
 *	  code becomes an ERROR or a line of the server's log.
 *
 * Invariants:
 *	E1	A code has one catalogue row; the enum's order is the order of checks.
 *	E2	The client's DETAIL is the JSON object as it was built.  What goes to the
 *		server's log is the same object with every idempotency key masked, and
 *		neither the statement nor its context: both may quote the key.
 *	E3	A subject is never a key; messages are logged as they are.
 *	E4	With failsafe.log_refusals = off no refusal reaches the log, whether it
 *		was raised or answered as a value.
 *
 * Takes no locks.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/json.h"

#include "base/errors.h"
#include "base/refusal.h"
#include "base/settings.h"

#define KEY_MASK_CHARACTERS	4

static const FailsafeErrorInfo error_catalog[FAILSAFE_CODE_COUNT] = {
	[FAILSAFE_OK] = {"00000", "OK", FAILSAFE_KIND_REFUSED, false, 200, "", "", ""},
#define FAILSAFE_ERROR(symbol, sqlstate, name, kind, retryable, http, message, meaning, action) \
	[FAILSAFE_##symbol] = {sqlstate, name, kind, retryable, http, message, meaning, action},
#include "base/error_catalog.h"
#undef FAILSAFE_ERROR
};

/*
 * PostgreSQL's own codes that a caller of ours meets and can act on.  They have
 * no place in the order of checks and no frozen message.
 */
typedef struct StandardError
{
	const char *sqlstate;
	const char *name;
	int			http_status;
	const char *meaning;
	const char *action;
} StandardError;

static const StandardError standard_errors[] = {
#define FAILSAFE_STANDARD_ERROR(sqlstate, name, http, meaning, action) \
	{sqlstate, name, http, meaning, action},
#include "base/error_standard.h"
#undef FAILSAFE_STANDARD_ERROR
};

static const char *const kind_names[] = {
	[FAILSAFE_KIND_DECLINED] = "declined",
	[FAILSAFE_KIND_REFUSED] = "refused",
	[FAILSAFE_KIND_FAILURE] = "failure",
};

static emit_log_hook_type previous_emit_log_hook = NULL;

const FailsafeErrorInfo *
error_info(FailsafeCode code)
{
	Assert(code >= FAILSAFE_OK && code < FAILSAFE_CODE_COUNT);
	Assert(error_catalog[code].sqlstate != NULL);
	return &error_catalog[code];
}

FailsafeCode
error_from_name(const char *name)
{
	Assert(name != NULL);
	for (int code = FAILSAFE_OK + 1; code < FAILSAFE_CODE_COUNT; code++)
		if (strcmp(error_catalog[code].name, name) == 0 ||
			strcmp(error_catalog[code].sqlstate, name) == 0)
			return (FailsafeCode) code;
	return FAILSAFE_OK;
}

static int
error_sqlstate(const char *text)
{
	Assert(strlen(text) == 5);
	return MAKE_SQLSTATE(text[0], text[1], text[2], text[3], text[4]);
}

/* ---------- the detail object ---------- */

void
error_detail_begin(StringInfo detail, FailsafeCode code)
{
	const FailsafeErrorInfo *info = error_info(code);

	Assert(code != FAILSAFE_OK);
	initStringInfo(detail);
	appendStringInfo(detail, "{\"code\":\"%s\",\"retryable\":%s",
					 info->name, info->retryable ? "true" : "false");
}

/* What a caller sent is repeated up to a bound: details are logged. */
void
error_detail_text(StringInfo detail, const char *member, const char *value)
{
	int			length;

	if (value == NULL)
		return;
	length = strlen(value);
	if (length > ERROR_DETAIL_TEXT_BYTES_MAX)
		value = psprintf("%.*s...",
						 pg_mbcliplen(value, length, ERROR_DETAIL_TEXT_BYTES_MAX), value);
	appendStringInfo(detail, ",\"%s\":", member);
	escape_json(detail, value);
}

void
error_detail_raw(StringInfo detail, const char *member, const char *value)
{
	if (value == NULL)
		return;
	appendStringInfo(detail, ",\"%s\":%s", member, value);
}

void
error_detail_end(StringInfo detail)
{
	appendStringInfoChar(detail, '}');
}

/* ---------- masking ---------- */

char *
error_key_mask(const char *key)
{
	int			length = (int) strlen(key);
	int			shown = pg_mbcharcliplen(key, length, KEY_MASK_CHARACTERS);

	/* a key of a few characters would be shown whole */
	if (shown >= length)
		shown = 0;
	return psprintf("%.*s...(%d bytes)", shown, key, length);
}

/* The end of the JSON string that begins at text; text points at its quote. */
static const char *
json_string_end(const char *text)
{
	Assert(*text == '"');
	for (text++; *text != '\0' && *text != '"'; text++)
		if (*text == '\\' && text[1] != '\0')
			text++;
	return *text == '"' ? text + 1 : text;
}

static bool
json_string_is_key_member(const char *text, const char *end)
{
	int			length = (int) (end - text);

	return (length == 5 && strncmp(text, "\"key\"", 5) == 0) ||
		(length == 17 && strncmp(text, "\"idempotency_key\"", 17) == 0);
}

/*
 * A copy of the detail with the value of every member "key" and
 * "idempotency_key" masked, at any depth.  The object is one that we built:
 * compact, so a member's value follows its name and one colon.
 */
static char *
error_detail_mask(const char *detail)
{
	StringInfoData masked;

	initStringInfo(&masked);
	while (*detail != '\0')
	{
		const char *end;
		const char *value_end;
		char	   *value;

		if (*detail != '"')
		{
			appendStringInfoChar(&masked, *detail++);
			continue;
		}
		end = json_string_end(detail);
		appendBinaryStringInfo(&masked, detail, end - detail);
		if (json_string_is_key_member(detail, end) && end[0] == ':' && end[1] == '"')
		{
			value_end = json_string_end(end + 1);
			value = pnstrdup(end + 2, Max(value_end - end - 3, 0));
			/* an escape cut in two would be no JSON; show nothing of such a key */
			if (strchr(value, '\\') != NULL)
				appendStringInfo(&masked, ":\"...(%d bytes)\"", (int) strlen(value));
			else
				appendStringInfo(&masked, ":\"%s\"", error_key_mask(value));
			end = value_end;
		}
		detail = end;
	}
	return masked.data;
}

/* ---------- raising and logging ---------- */

static char *
error_message(FailsafeCode code, const char *subject)
{
	const FailsafeErrorInfo *info = error_info(code);

	if (subject == NULL)
		return pstrdup(info->message);
	return psprintf("%s: %s", info->message, subject);
}

/* The shortest detail there is: every refusal has one. */
static const char *
error_detail_plain(FailsafeCode code)
{
	StringInfoData detail;

	error_detail_begin(&detail, code);
	error_detail_end(&detail);
	return detail.data;
}

void
error_raise(FailsafeCode code, const char *subject, const char *detail_json)
{
	const FailsafeErrorInfo *info = error_info(code);
	const char *masked;

	Assert(code != FAILSAFE_OK);
	if (detail_json == NULL)
		detail_json = error_detail_plain(code);
	masked = error_detail_mask(detail_json);
	refusal_note(code, masked);
	ereport(ERROR,
			(errcode(error_sqlstate(info->sqlstate)),
			 errmsg_internal("%s", error_message(code, subject)),
			 errdetail_internal("%s", detail_json),
			 errdetail_log("%s", masked),
			 errhint("%s", info->action),
			 errhidestmt(true),
			 errhidecontext(true)));
}

void
error_raise_field(FailsafeCode code, const char *field, const char *value)
{
	StringInfoData detail;

	error_detail_begin(&detail, code);
	error_detail_text(&detail, "field", field);
	error_detail_text(&detail, "reason", value);
	error_detail_end(&detail);
	error_raise(code, field, detail.data);
}

void
error_log(FailsafeCode code, const char *subject, const char *detail_json)
{
	const FailsafeErrorInfo *info = error_info(code);
	const char *masked;

	Assert(code != FAILSAFE_OK);
	if (detail_json == NULL)
		detail_json = error_detail_plain(code);
	masked = error_detail_mask(detail_json);
	refusal_note(code, masked);
	if (!setting_log_refusals)
		return;
	ereport(LOG_SERVER_ONLY,
			(errcode(error_sqlstate(info->sqlstate)),
			 errmsg_internal("%s", error_message(code, subject)),
			 errdetail_log("%s", masked),
			 errhidestmt(true),
			 errhidecontext(true)));
}

/* Keep raised refusals out of the log when failsafe.log_refusals is off [E4]. */
static void
error_emit_log(ErrorData *edata)
{
	const char *sqlstate = unpack_sql_state(edata->sqlerrcode);

	if (previous_emit_log_hook != NULL)
		previous_emit_log_hook(edata);
	if (!setting_log_refusals && edata->elevel == ERROR &&
		sqlstate[0] == 'S' && sqlstate[1] == 'F')
		edata->output_to_server = false;
}

void
errors_init(void)
{
	for (int code = FAILSAFE_OK + 1; code < FAILSAFE_CODE_COUNT; code++)
		Assert(strncmp(error_catalog[code].sqlstate, "SF", 2) == 0);
	previous_emit_log_hook = emit_log_hook;
	emit_log_hook = error_emit_log;
}

/* ---------- the SQL view ---------- */

#define ERROR_CODES_COLUMNS	9

static void
error_codes_put(ReturnSetInfo *result, const char *sqlstate, const char *name,
				const char *kind, bool retryable, int http_status,
				const char *meaning, const char *action, int check_order,
				const char *message)
{
	Datum		values[ERROR_CODES_COLUMNS];
	bool		nulls[ERROR_CODES_COLUMNS] = {false};

	Assert(sqlstate != NULL && name != NULL);
	values[0] = CStringGetTextDatum(sqlstate);
	values[1] = CStringGetTextDatum(name);
	values[2] = CStringGetTextDatum(kind);
	values[3] = BoolGetDatum(retryable);
	values[4] = Int32GetDatum(http_status);
	values[5] = CStringGetTextDatum(meaning);
	values[6] = CStringGetTextDatum(action);
	values[7] = Int32GetDatum(check_order);
	nulls[7] = check_order == 0;
	values[8] = message != NULL ? CStringGetTextDatum(message) : (Datum) 0;
	nulls[8] = message == NULL;
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

PG_FUNCTION_INFO_V1(failsafe_error_codes);

Datum
failsafe_error_codes(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	Assert(result->setDesc->natts == ERROR_CODES_COLUMNS);
	for (int code = FAILSAFE_OK + 1; code < FAILSAFE_CODE_COUNT; code++)
	{
		const FailsafeErrorInfo *info = &error_catalog[code];

		error_codes_put(result, info->sqlstate, info->name, kind_names[info->kind],
						info->retryable, info->http_status, info->meaning,
						info->action, code, info->message);
	}
	for (int i = 0; i < lengthof(standard_errors); i++)
	{
		const StandardError *error = &standard_errors[i];

		error_codes_put(result, error->sqlstate, error->name, "standard", true,
						error->http_status, error->meaning, error->action, 0, NULL);
	}
	return (Datum) 0;
}
