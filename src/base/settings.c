/*
 * base/settings.c
 *	  Owns every failsafe.* setting: its variable, bounds, check and description.
 *
 * Invariants:
 *	S1	A value that a setting has is valid; what cannot be checked without the
 *		catalogs (does the tenant exist?) is checked at use.
 *	S2	Whatever switches a safety off, or says whose money it is, can be set by
 *		superusers only, or by roles that were granted SET on it.
 *	S3	A check hook has no side effect and raises nothing.
 *
 * Takes no locks.
 */
#include "postgres.h"

#include <ctype.h>
#include <limits.h>

#include "miscadmin.h"
#include "port.h"
#include "utils/guc.h"

#include "base/settings.h"

#define NAME_BYTES_MAX			63
#define TRACEPARENT_BYTES		55	/* version 00 */
#define LIBRARY_PREFIX			"$libdir/"
#define RELAY_PATH_DEFAULT		LIBRARY_PREFIX "pg_failsafe_relay"

char	   *setting_tenant = "";
char	   *setting_region = "";
char	   *setting_trace_id = "";
char	   *setting_traceparent = "";
int			setting_key_wait_ms = WAIT_TIMEOUT_MS_DEFAULT;
int			setting_lock_wait_ms = WAIT_TIMEOUT_MS_DEFAULT;
int			setting_hold_expiry_s = HOLD_EXPIRY_S_DEFAULT;
int			setting_event_retention_s = EVENT_RETENTION_S_DEFAULT;
int			setting_event_max_bytes = EVENT_BYTES_DEFAULT;
int			setting_application_key_retention_s = APPLICATION_KEY_RETENTION_S_DEFAULT;
int			setting_attempt_retention_s = ATTEMPT_RETENTION_S_DEFAULT;
int			setting_dead_letter_retention_s = DEAD_LETTER_RETENTION_S_DEFAULT;
char	   *setting_event_types = "*";
int			setting_early_lock_release = EARLY_LOCK_RELEASE_OWN;
int			setting_early_lock_release_when = EARLY_LOCK_RELEASE_WAITED;
bool		setting_allow_prepare = false;
bool		setting_allow_drop = false;
bool		setting_log_refusals = true;
bool		setting_delivery = true;
bool		setting_maintenance = true;
char	   *setting_relay_path = RELAY_PATH_DEFAULT;

/* read by the install script alone (base/roles.sql), with current_setting() */
static bool setting_adopt_roles = false;

static const struct config_enum_entry early_lock_release_options[] = {
	{"off", EARLY_LOCK_RELEASE_OFF, false},
	{"own", EARLY_LOCK_RELEASE_OWN, false},
	{"all", EARLY_LOCK_RELEASE_ALL, false},
	{NULL, 0, false}
};

static const struct config_enum_entry early_lock_release_when_options[] = {
	{"waited", EARLY_LOCK_RELEASE_WAITED, false},
	{"always", EARLY_LOCK_RELEASE_ALWAYS, false},
	{NULL, 0, false}
};

/* ---------- checks ---------- */

/* Letters, digits and the given others; 0 to NAME_BYTES_MAX bytes. */
static bool
text_is_name(const char *text, const char *others)
{
	int			length = 0;

	for (; text[length] != '\0'; length++)
	{
		unsigned char c = (unsigned char) text[length];

		if (length == NAME_BYTES_MAX)
			return false;
		if (!(c < 128 && isalnum(c)) && strchr(others, c) == NULL)
			return false;
	}
	return true;
}

static bool
check_name(char **value, void **extra, GucSource source)
{
	if (text_is_name(*value, "_-."))
		return true;
	GUC_check_errdetail("A name has at most %d letters, digits, '_', '-' and '.'.",
						NAME_BYTES_MAX);
	return false;
}

static bool
check_trace_id(char **value, void **extra, GucSource source)
{
	const char *text = *value;
	int			length = 0;

	for (; text[length] != '\0'; length++)
	{
		unsigned char c = (unsigned char) text[length];

		if (c < 0x20 || c == 0x7f || length == TRACE_ID_BYTES_MAX)
		{
			GUC_check_errdetail("A trace id has at most %d bytes and no control characters.",
								TRACE_ID_BYTES_MAX);
			return false;
		}
	}
	return true;
}

/* One field of a traceparent: that many lower-case hex digits, not all zero unless allowed. */
static bool
traceparent_field(const char *text, int digits, bool zero_allowed)
{
	bool		zero = true;

	for (int i = 0; i < digits; i++)
	{
		if (!(text[i] >= '0' && text[i] <= '9') && !(text[i] >= 'a' && text[i] <= 'f'))
			return false;
		if (text[i] != '0')
			zero = false;
	}
	return zero_allowed || !zero;
}

bool
settings_traceparent_valid(const char *text)
{
	/* version-traceid-parentid-flags: 2, 32, 16 and 2 digits */
	if (strlen(text) < TRACEPARENT_BYTES)
		return false;
	if (!traceparent_field(text, 2, true) || text[2] != '-' ||
		!traceparent_field(text + 3, 32, false) || text[35] != '-' ||
		!traceparent_field(text + 36, 16, false) || text[52] != '-' ||
		!traceparent_field(text + 53, 2, true))
		return false;
	if (strncmp(text, "ff", 2) == 0)
		return false;
	/* later versions may be longer, but only after another dash */
	if (strncmp(text, "00", 2) == 0)
		return text[TRACEPARENT_BYTES] == '\0';
	return text[TRACEPARENT_BYTES] == '\0' ||
		(text[TRACEPARENT_BYTES] == '-' && strlen(text) <= TRACE_ID_BYTES_MAX);
}

static bool
check_traceparent(char **value, void **extra, GucSource source)
{
	if (**value == '\0' || settings_traceparent_valid(*value))
		return true;
	GUC_check_errdetail("A traceparent is VERSION-TRACEID-PARENTID-FLAGS in lower-case hexadecimal digits.");
	return false;
}

/* A program that is executed is named in full. */
static bool
check_relay_path(char **value, void **extra, GucSource source)
{
	if (is_absolute_path(*value) ||
		strncmp(*value, LIBRARY_PREFIX, strlen(LIBRARY_PREFIX)) == 0)
		return true;
	GUC_check_errdetail("An absolute path is expected, or one that begins with \"%s\".",
						LIBRARY_PREFIX);
	return false;
}

char *
settings_relay_path(void)
{
	size_t		prefix = strlen(LIBRARY_PREFIX);

	Assert(setting_relay_path != NULL);
	if (strncmp(setting_relay_path, LIBRARY_PREFIX, prefix) != 0)
		return pstrdup(setting_relay_path);
	return psprintf("%s/%s", pkglib_path, setting_relay_path + prefix);
}

/* ---------- event types ---------- */

/*
 * The next item of a comma separated list: its bounds without blanks.  Returns
 * the place after it, NULL at the end of the list.
 */
static const char *
event_types_item(const char *list, const char **item, int *length)
{
	const char *end;

	if (*list == '\0')
		return NULL;
	end = strchr(list, ',');
	if (end == NULL)
		end = list + strlen(list);
	*item = list;
	*length = (int) (end - list);
	while (*length > 0 && isspace((unsigned char) **item))
	{
		(*item)++;
		(*length)--;
	}
	while (*length > 0 && isspace((unsigned char) (*item)[*length - 1]))
		(*length)--;
	return *end == ',' ? end + 1 : end;
}

static bool
event_types_item_valid(const char *item, int length)
{
	if (length > 0 && *item == '!')
	{
		item++;
		length--;
	}
	if (length == 0 || length > 128)
		return false;
	for (int i = 0; i < length; i++)
	{
		unsigned char c = (unsigned char) item[i];

		if (c == '*' && i == length - 1)
			continue;
		if (c <= 0x20 || c == 0x7f || c == '*' || c == '!')
			return false;
	}
	return true;
}

static bool
check_event_types(char **value, void **extra, GucSource source)
{
	const char *rest = *value;
	const char *item;
	int			length;

	while ((rest = event_types_item(rest, &item, &length)) != NULL)
	{
		if (event_types_item_valid(item, length))
			continue;
		GUC_check_errdetail("\"%.*s\" is neither an event type nor a prefix followed by \"*\", with or without \"!\" before it.",
							length, item);
		return false;
	}
	return true;
}

static bool
event_types_item_matches(const char *item, int length, const char *event_type)
{
	if (length > 0 && item[length - 1] == '*')
		return strncmp(item, event_type, length - 1) == 0;
	return strncmp(item, event_type, length) == 0 && event_type[length] == '\0';
}

bool
settings_event_type_enabled(const char *event_type)
{
	const char *rest = setting_event_types;
	const char *item;
	int			length;
	bool		enabled = false;

	Assert(event_type != NULL && rest != NULL);
	if (rest[0] == '*' && rest[1] == '\0')
		return true;
	while ((rest = event_types_item(rest, &item, &length)) != NULL)
	{
		bool		negated = length > 0 && *item == '!';

		Assert(event_types_item_valid(item, length));
		if (event_types_item_matches(item + negated, length - negated, event_type))
			enabled = !negated;
	}
	return enabled;
}

/* ---------- definitions ---------- */

static void
settings_define_who(void)
{
	DefineCustomStringVariable("failsafe.tenant",
							   "The tenant whose accounts this session works with.",
							   "Usually set for a role by ALTER ROLE ... SET. Empty means the only tenant there is.",
							   &setting_tenant, "", PGC_SUSET, 0,
							   check_name, NULL, NULL);
	DefineCustomStringVariable("failsafe.region",
							   "The region that transactions and events of this session name.",
							   "Empty means the tenant's region, or none.",
							   &setting_region, "", PGC_USERSET, 0,
							   check_name, NULL, NULL);
	DefineCustomStringVariable("failsafe.trace_id",
							   "The trace id that is stored with transactions and events.",
							   "Any printable text of at most 128 bytes; it is not parsed.",
							   &setting_trace_id, "", PGC_USERSET, 0,
							   check_trace_id, NULL, NULL);
	DefineCustomStringVariable("failsafe.traceparent",
							   "The W3C traceparent that is stored with transactions and events.",
							   NULL,
							   &setting_traceparent, "", PGC_USERSET, 0,
							   check_traceparent, NULL, NULL);
}

static void
settings_define_times(void)
{
	DefineCustomIntVariable("failsafe.key_wait",
							"How long a call waits for a running call with the same idempotency key.",
							"Afterwards it fails with SQLSTATE 55P03 and can be repeated.",
							&setting_key_wait_ms, WAIT_TIMEOUT_MS_DEFAULT,
							WAIT_TIMEOUT_MS_MIN, WAIT_TIMEOUT_MS_MAX,
							PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("failsafe.lock_wait",
							"How long a call waits for an account that another transaction changes.",
							"Afterwards it fails with SQLSTATE 55P03 and can be repeated.",
							&setting_lock_wait_ms, WAIT_TIMEOUT_MS_DEFAULT,
							WAIT_TIMEOUT_MS_MIN, WAIT_TIMEOUT_MS_MAX,
							PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("failsafe.hold_expiry",
							"When a hold expires that was placed without expires_in.",
							NULL,
							&setting_hold_expiry_s, HOLD_EXPIRY_S_DEFAULT,
							HOLD_EXPIRY_S_MIN, HOLD_EXPIRY_S_MAX,
							PGC_USERSET, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("failsafe.event_retention",
							"How long an event stays in the outbox at least.",
							NULL,
							&setting_event_retention_s, EVENT_RETENTION_S_DEFAULT,
							EVENT_RETENTION_S_MIN, EVENT_RETENTION_S_MAX,
							PGC_SUSET, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("failsafe.application_key_retention",
							"How long a completed application key is remembered.",
							"Wallet keys never expire.",
							&setting_application_key_retention_s,
							APPLICATION_KEY_RETENTION_S_DEFAULT,
							APPLICATION_KEY_RETENTION_S_MIN, APPLICATION_KEY_RETENTION_S_MAX,
							PGC_SUSET, GUC_UNIT_S, NULL, NULL, NULL);
}

static void
settings_define_deliveries(void)
{
	DefineCustomIntVariable("failsafe.attempt_retention",
							"How long attempts to deliver an event are kept.",
							"A dead letter keeps their number, its reason and the time of the first.",
							&setting_attempt_retention_s, ATTEMPT_RETENTION_S_DEFAULT,
							ATTEMPT_RETENTION_S_MIN, ATTEMPT_RETENTION_S_MAX,
							PGC_SUSET, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("failsafe.dead_letter_retention",
							"How long a dead letter is kept after it was replayed or discarded.",
							"One that is dead is never removed by its age.",
							&setting_dead_letter_retention_s, DEAD_LETTER_RETENTION_S_DEFAULT,
							DEAD_LETTER_RETENTION_S_MIN, DEAD_LETTER_RETENTION_S_MAX,
							PGC_SUSET, GUC_UNIT_S, NULL, NULL, NULL);
}

static void
settings_define_events(void)
{
	DefineCustomIntVariable("failsafe.event_max_bytes",
							"The largest payload that outbox_emit() takes.",
							NULL,
							&setting_event_max_bytes, EVENT_BYTES_DEFAULT,
							EVENT_BYTES_MIN, EVENT_BYTES_MAX,
							PGC_SUSET, GUC_UNIT_BYTE, NULL, NULL, NULL);
	DefineCustomStringVariable("failsafe.event_types",
							   "Which types of events are written to the outbox.",
							   "A comma separated list of types, prefixes followed by \"*\", or either with \"!\" before it; the last match wins.",
							   &setting_event_types, "*", PGC_SUSET, 0,
							   check_event_types, NULL, NULL);
}

static void
settings_define_safety(void)
{
	DefineCustomEnumVariable("failsafe.early_lock_release",
							 "Which transactions release their locks before their commit is flushed.",
							 "off: none; own: those in which only pg_failsafe wrote; all: every transaction in which it wrote. The client is answered after the flush in any case.",
							 &setting_early_lock_release, EARLY_LOCK_RELEASE_OWN,
							 early_lock_release_options, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("failsafe.early_lock_release_when",
							 "Sets when locks are dropped before the flush: when somebody waited, or always.",
							 NULL,
							 &setting_early_lock_release_when, EARLY_LOCK_RELEASE_WAITED,
							 early_lock_release_when_options, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("failsafe.allow_prepare",
							 "Allows PREPARE TRANSACTION after a command of pg_failsafe.",
							 "A prepared transaction keeps its keys and accounts locked until somebody resolves it.",
							 &setting_allow_prepare, false, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("failsafe.allow_drop",
							 "Allows dropping the extension while the ledger holds rows.",
							 NULL,
							 &setting_allow_drop, false, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("failsafe.log_refusals",
							 "Writes one entry to the server's log for each refused or declined command.",
							 "Idempotency keys are masked there.",
							 &setting_log_refusals, true, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("failsafe.adopt_roles",
							 "Lets CREATE EXTENSION use existing roles named failsafe_... that can log in or have members.",
							 "Such roles would receive the extension's privileges in this database.",
							 &setting_adopt_roles, false, PGC_SUSET, 0, NULL, NULL, NULL);
}

static void
settings_define_delivery(void)
{
	DefineCustomBoolVariable("failsafe.delivery",
							 "Lets the workers deliver events.",
							 "Set it off where a copy of a database must send nothing, before the copy is started.",
							 &setting_delivery, true, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("failsafe.maintenance",
							 "Lets the workers do what maintain() does, about once a minute.",
							 NULL,
							 &setting_maintenance, true, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("failsafe.relay_path",
							   "The program that carries events to their destinations.",
							   "$libdir is the directory of the server's libraries.",
							   &setting_relay_path, RELAY_PATH_DEFAULT, PGC_SIGHUP,
							   GUC_SUPERUSER_ONLY, check_relay_path, NULL, NULL);
}

void
settings_init(void)
{
	settings_define_who();
	settings_define_times();
	settings_define_deliveries();
	settings_define_events();
	settings_define_safety();
	settings_define_delivery();
	MarkGUCPrefixReserved("failsafe");
}
