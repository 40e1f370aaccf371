/*
 * base/errors.h
 *	  The one catalogue of error codes, and how a code becomes an ERROR.
 *
 * Every outcome that is not a success has a FailsafeCode.  The catalogue
 * (error_catalog.h) gives each code its SQLSTATE (class SF), its name, whether
 * it is declined (business, can be recorded) or refused (never stored), whether
 * a retry may help, the HTTP status of the gateway, a frozen message and a hint.
 * failsafe.error_codes and docs/errors.md are made from the same table.
 */
#ifndef FAILSAFE_BASE_ERRORS_H
#define FAILSAFE_BASE_ERRORS_H

#include "base/compat.h"
#include "lib/stringinfo.h"

typedef enum FailsafeCode
{
	FAILSAFE_OK = 0,
#define FAILSAFE_ERROR(symbol, sqlstate, name, kind, retryable, http, message, meaning, action) \
	FAILSAFE_##symbol,
#include "base/error_catalog.h"
#undef FAILSAFE_ERROR
	FAILSAFE_CODE_COUNT
} FailsafeCode;

/* How an outcome ends; the text in the catalogue's "kind" column. */
typedef enum FailsafeKind
{
	FAILSAFE_KIND_DECLINED,		/* business; may be recorded as the answer */
	FAILSAFE_KIND_REFUSED,		/* never stored; the key stays free */
	FAILSAFE_KIND_FAILURE		/* the installation or the server says no */
} FailsafeKind;

typedef struct FailsafeErrorInfo
{
	const char *sqlstate;		/* five characters */
	const char *name;			/* INSUFFICIENT_FUNDS */
	FailsafeKind kind;
	bool		retryable;		/* may the same call succeed later? */
	int			http_status;
	const char *message;		/* lower case, frozen once released */
	const char *meaning;		/* one or two sentences for the manual */
	const char *action;			/* what to do: the hint */
} FailsafeErrorInfo;

/* The catalogue row of a code; never NULL for a valid code. */
extern const FailsafeErrorInfo *error_info(FailsafeCode code);

/* The code whose name or SQLSTATE is this text; FAILSAFE_OK when there is none. */
extern FailsafeCode error_from_name(const char *name);

/*
 * Raise a code as ERROR.  detail_json is one compact JSON object (NULL: code and
 * retryable alone) and becomes DETAIL as it is; in the server's log its keys are
 * masked.  The message is the catalogue's, followed by ": subject" when subject
 * is not NULL; a subject must not be a key, because messages are logged as they
 * are.  Never returns.
 */
pg_noreturn extern void error_raise(FailsafeCode code, const char *subject,
						const char *detail_json);

/*
 * Build DETAIL: error_detail_begin() writes {"code":"NAME","retryable":…, and
 * the add functions append members; a NULL value appends nothing.  A text is cut
 * after ERROR_DETAIL_TEXT_BYTES_MAX bytes, more than any valid key or code has.
 */
#define ERROR_DETAIL_TEXT_BYTES_MAX	256

extern void error_detail_begin(StringInfo detail, FailsafeCode code);
extern void error_detail_text(StringInfo detail, const char *member, const char *value);
extern void error_detail_raw(StringInfo detail, const char *member, const char *value);
extern void error_detail_end(StringInfo detail);

/*
 * Log a refusal that is answered as a value (JSON, batch): one entry, keys
 * masked, nothing when failsafe.log_refusals is off.  error_raise() needs no such
 * call, its entry is PostgreSQL's own.
 */
extern void error_log(FailsafeCode code, const char *subject, const char *detail_json);

/* A key as it may be written to a log: first 4 characters and its length. */
extern char *error_key_mask(const char *key);

/* Convenience: raise with only a field and a text that says what is wrong. */
pg_noreturn extern void error_raise_field(FailsafeCode code, const char *field,
							  const char *value);

/* Called once from _PG_init. */
extern void errors_init(void);

#endif							/* FAILSAFE_BASE_ERRORS_H */
