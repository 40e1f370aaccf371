/*
 * outbox/emit.c
 *	  outbox_emit(): the application's door to the outbox.
 *
 * Invariants:
 *	M1	Everything is checked before anything is written or waited for; a refused
 *		call leaves no number drawn and no xid assigned.
 *	M2	Types of the extension are out of an application's reach, so a consumer can
 *		trust that a wallet.* event tells about money.
 *	M3	With "ordered", the lock on the order key is taken before the number is
 *		drawn and held until the transaction ends: events of one key then have
 *		numbers in commit order.
 *
 * Lock order: order key, then the leaf (outbox.c).  Two transactions that emit
 * ordered events of the same keys in different orders deadlock like two updates
 * would; PostgreSQL finds it and one gets 40P01.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

#include "base/commit.h"
#include "base/errors.h"
#include "base/fault.h"
#include "base/options.h"
#include "base/settings.h"
#include "base/tenant.h"
#include "base/text.h"
#include "base/version.h"
#include "outbox/outbox.h"

#define ORDER_LOCK_FIELD4	4	/* pg_advisory_lock() has 1 and 2, key locks have 3 */

enum
{
	EMIT_PRIORITY,
	EMIT_DELIVER_AFTER,
	EMIT_EXPIRES_AT,
	EMIT_SUBJECT,
	EMIT_ORDERED,
	EMIT_REGION,
	EMIT_TRACE_ID,
	EMIT_TRACEPARENT,
	EMIT_OPTIONS
};

static const OptionSpec emit_options[EMIT_OPTIONS] = {
	{"priority", OPTION_INT},
	{"deliver_after", OPTION_TIME},
	{"expires_at", OPTION_TIME},
	{"subject", OPTION_TEXT},
	{"ordered", OPTION_BOOL},
	{"region", OPTION_TEXT},
	{"trace_id", OPTION_TEXT},
	{"traceparent", OPTION_TEXT}
};

/* ---------- checks ---------- */

static void
event_refuse(const char *field, const char *problem)
{
	error_raise_field(FAILSAFE_EVENT_INVALID, field, problem);
}

static void
check_event_type(const char *event_type)
{
	if (!outbox_event_type_valid(event_type))
		event_refuse("event_type", "expected are 1 to 128 bytes: two or more words of a-z, 0-9 "
					 "and '_' with dots between");
	if (outbox_event_type_reserved(event_type))
		event_refuse("event_type", "types that begin with wallet., account. and failsafe. "
					 "belong to the extension");
}

static void
check_order_key(const char *order_key)
{
	if (!text_is_clean(order_key, 1, ORDER_KEY_BYTES_MAX))
		event_refuse("order_key", "expected are 1 to 255 bytes without control characters");
}

/*
 * The text of the payload; refuses what is no object, too large, or names the
 * envelope's members.
 */
static const char *
check_payload(Jsonb *payload, int *length)
{
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	member;
	char	   *text;

	Assert(payload != NULL && length != NULL);
	if (!JB_ROOT_IS_OBJECT(payload))
		event_refuse("payload", "an object is expected");
	iterator = JsonbIteratorInit(&payload->root);
	while ((token = JsonbIteratorNext(&iterator, &member, true)) != WJB_DONE)
		if (token == WJB_KEY &&
			outbox_envelope_member(member.val.string.val, member.val.string.len))
			event_refuse(psprintf("payload.%.*s", member.val.string.len, member.val.string.val),
						 "the envelope has a member of this name");
	text = JsonbToCString(NULL, &payload->root, VARSIZE_ANY_EXHDR(payload));
	*length = (int) strlen(text);
	if (*length > setting_event_max_bytes)
		error_raise_field(FAILSAFE_PAYLOAD_TOO_LARGE, "payload",
						  psprintf("%d bytes, failsafe.event_max_bytes allows %d",
								   *length, setting_event_max_bytes));
	return text;
}

/* The text of the headers, or NULL where there are none. */
static const char *
check_headers(Jsonb *headers)
{
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	member;
	char	   *text;

	if (headers == NULL)
		return NULL;
	if (!JB_ROOT_IS_OBJECT(headers))
		event_refuse("headers", "an object is expected");
	if (JB_ROOT_COUNT(headers) == 0)
		return NULL;
	iterator = JsonbIteratorInit(&headers->root);
	while ((token = JsonbIteratorNext(&iterator, &member, true)) != WJB_DONE)
		if (token == WJB_VALUE && member.type != jbvString)
			event_refuse("headers", "every value must be a string");
	text = JsonbToCString(NULL, &headers->root, VARSIZE_ANY_EXHDR(headers));
	if (strlen(text) > HEADERS_BYTES_MAX)
		event_refuse("headers", psprintf("at most %d bytes are allowed", HEADERS_BYTES_MAX));
	return text;
}

static void
check_times(const OutboxEvent *event)
{
	Assert(event->occurred_at != 0);
	if (event->expires_at == 0)
		return;
	if (event->expires_at <= event->occurred_at)
		event_refuse("expires_at", "the time has passed");
	if (event->expires_at <= event->deliver_after)
		event_refuse("expires_at", "the time is not after deliver_after");
}

/* An option of text type: its own value, else the session's setting, else NULL. */
static const char *
option_text(const OptionValue *value, const char *setting)
{
	if (value->given)
		return value->text;
	return setting != NULL && setting[0] != '\0' ? setting : NULL;
}

static void
check_option_texts(const OptionValue *options)
{
	if (options[EMIT_SUBJECT].given &&
		!text_is_clean(options[EMIT_SUBJECT].text, 1, SUBJECT_BYTES_MAX))
		option_refuse("subject", "expected are 1 to 255 bytes without control characters");
	if (options[EMIT_REGION].given &&
		!text_is_clean(options[EMIT_REGION].text, 1, NAMEDATALEN - 1))
		option_refuse("region", "expected are 1 to 63 bytes without control characters");
	if (options[EMIT_TRACE_ID].given &&
		!text_is_clean(options[EMIT_TRACE_ID].text, 1, TRACE_ID_BYTES_MAX))
		option_refuse("trace_id", "expected are 1 to 128 bytes without control characters");
	if (options[EMIT_TRACEPARENT].given &&
		!settings_traceparent_valid(options[EMIT_TRACEPARENT].text))
		option_refuse("traceparent", "no W3C traceparent");
}

static void
read_options(Jsonb *json, OutboxEvent *event, bool *ordered)
{
	OptionValue options[EMIT_OPTIONS];

	Assert(lengthof(emit_options) == EMIT_OPTIONS);
	Assert(event->tenant_id > 0);
	options_read(json, emit_options, EMIT_OPTIONS, options);
	check_option_texts(options);
	event->priority = OUTBOX_PRIORITY_APPLICATION;
	if (options[EMIT_PRIORITY].given)
	{
		if (options[EMIT_PRIORITY].number < OUTBOX_PRIORITY_MIN ||
			options[EMIT_PRIORITY].number > OUTBOX_PRIORITY_MAX)
			option_refuse("priority", "0 (first) to 9 (last) is expected");
		event->priority = (int16) options[EMIT_PRIORITY].number;
	}
	event->deliver_after = options[EMIT_DELIVER_AFTER].time;
	event->expires_at = options[EMIT_EXPIRES_AT].time;
	event->subject = option_text(&options[EMIT_SUBJECT], NULL);
	event->region = option_text(&options[EMIT_REGION], tenant_current_region());
	event->trace_id = option_text(&options[EMIT_TRACE_ID], setting_trace_id);
	event->traceparent = option_text(&options[EMIT_TRACEPARENT], setting_traceparent);
	*ordered = options[EMIT_ORDERED].boolean;
}

/* ---------- the order lock ---------- */

static void
order_lock_context(void *order_key)
{
	errcontext("while waiting for the transaction that emits ordered events of the same key");
}

/* Wait for other transactions that emit ordered events of the key [M3]. */
static void
order_lock(int32 tenant_id, const char *order_key)
{
	uint64		hash = hash_bytes_extended((const unsigned char *) order_key,
										   strlen(order_key), (uint32) tenant_id);
	int			saved_timeout = LockTimeout;
	ErrorContextCallback callback;
	LOCKTAG		tag;

	Assert(tenant_id > 0 && setting_lock_wait_ms > 0);
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (hash >> 32), (uint32) hash,
						 ORDER_LOCK_FIELD4);
	callback.callback = order_lock_context;
	callback.arg = NULL;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	PG_TRY();
	{
		if (LockTimeout == 0 || setting_lock_wait_ms < LockTimeout)
			LockTimeout = setting_lock_wait_ms;
		(void) LockAcquire(&tag, ExclusiveLock, false, false);
	}
	PG_FINALLY();
	{
		LockTimeout = saved_timeout;
	}
	PG_END_TRY();
	error_context_stack = callback.previous;
}

/* ---------- the SQL function ---------- */

static char *
required_text(FunctionCallInfo fcinfo, int argument, const char *name)
{
	if (PG_ARGISNULL(argument))
		error_raise_field(FAILSAFE_VALUE_REQUIRED, name, "the argument is NULL");
	return text_to_cstring(PG_GETARG_TEXT_PP(argument));
}

static Jsonb *
jsonb_or_null(FunctionCallInfo fcinfo, int argument)
{
	return PG_ARGISNULL(argument) ? NULL : PG_GETARG_JSONB_P(argument);
}

static void
emit_write(OutboxEvent *event, bool ordered)
{
	Assert(event->payload != NULL && event->payload_length > 0);
	Assert(!outbox_event_type_reserved(event->event_type));
	if (ordered)
		order_lock(event->tenant_id, event->order_key);
	FAULT_POINT(order_locked);
	commit_write_begin();
	/* after the wait, so that occurred_at follows the order of the numbers */
	event->occurred_at = GetCurrentTimestamp();
	outbox_append(event, 1);
	commit_write_end();
}

PG_FUNCTION_INFO_V1(failsafe_outbox_emit);

/*
 * outbox_emit(event_type text, order_key text, payload jsonb, headers jsonb,
 *		options jsonb) -> uuid
 */
Datum
failsafe_outbox_emit(PG_FUNCTION_ARGS)
{
	OutboxEvent event;
	bool		ordered;
	pg_uuid_t  *event_id;

	version_check();
	PreventCommandIfReadOnly("outbox_emit()");
	PreventCommandIfParallelMode("outbox_emit()");
	memset(&event, 0, sizeof(event));
	event.tenant_id = tenant_current();
	event.occurred_at = GetCurrentTimestamp();
	event.event_type = required_text(fcinfo, 0, "event_type");
	check_event_type(event.event_type);
	event.order_key = required_text(fcinfo, 1, "order_key");
	check_order_key(event.order_key);
	if (PG_ARGISNULL(2))
		error_raise_field(FAILSAFE_VALUE_REQUIRED, "payload", "the argument is NULL");
	event.payload = check_payload(PG_GETARG_JSONB_P(2), &event.payload_length);
	event.headers = check_headers(jsonb_or_null(fcinfo, 3));
	read_options(jsonb_or_null(fcinfo, 4), &event, &ordered);
	check_times(&event);
	Assert(event.priority >= OUTBOX_PRIORITY_MIN && event.priority <= OUTBOX_PRIORITY_MAX);
	if (!settings_event_type_enabled(event.event_type))
		PG_RETURN_NULL();
	emit_write(&event, ordered);
	Assert(event.seq > 0);
	event_id = palloc(sizeof(pg_uuid_t));
	*event_id = event.event_id;
	PG_RETURN_UUID_P(event_id);
}
