/*
 * outbox/event.c
 *	  What an event is made of: ids, lanes, slots, names, and the envelope.
 *
 * Everything here is a pure function of its arguments (and of the random bits of
 * an id).  Effects are in outbox.c, the SQL door is in emit.c.
 *
 * Invariants:
 *	E1	An event id that outbox_event_id() made is decoded to the lane and seq that
 *		it was made from.
 *	E2	The envelope never changes a byte of the payload behind its opening brace.
 *	E3	No payload has a member that the envelope adds: outbox_emit() refuses it, and
 *		the ledger writes none.  A consumer's JSON parser so sees no member twice.
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "datatype/timestamp.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/uuid.h"

#include "base/json.h"
#include "outbox/outbox.h"

#define UUID_VERSION_7		0x70
#define UUID_VARIANT		0x80
#define UNIX_EPOCH_OFFSET_S	((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY)

static const char *const envelope_members[] = {
	"event_id", "event_type", "schema_version", "occurred_at", "tenant", "region", "trace_id"
};

static const char *const reserved_prefixes[] = {"wallet.", "account.", "failsafe."};

/* ---------- lanes and slots ---------- */

int
outbox_lane(int priority)
{
	Assert(priority >= OUTBOX_PRIORITY_MIN && priority <= OUTBOX_PRIORITY_MAX);
	if (priority == OUTBOX_PRIORITY_MONEY)
		return 0;
	if (priority < OUTBOX_PRIORITY_APPLICATION)
		return 1;
	if (priority < OUTBOX_PRIORITY_TELEMETRY)
		return 2;
	return 3;
}

/*
 * A lap of the ring lasts twice the retention.  A leaf is full after one period,
 * old enough after nine, and current again after sixteen.
 */
int64
outbox_leaf_period_s(int retention_s)
{
	Assert(retention_s > 0);
	return Max(retention_s / (OUTBOX_RING_LEAVES / 2), OUTBOX_LEAF_PERIOD_S_MIN);
}

int
outbox_slot(int lane, TimestampTz at, int64 period_s)
{
	int64		unix_time_s = at / USECS_PER_SEC + UNIX_EPOCH_OFFSET_S;
	int			leaf;

	Assert(lane >= 0 && lane < OUTBOX_LANES);
	Assert(period_s >= OUTBOX_LEAF_PERIOD_S_MIN);
	/* a clock before 1970 is wrong, but it must not lead outside the ring */
	leaf = (int) (Max(unix_time_s, 0) / period_s % OUTBOX_RING_LEAVES);
	return lane * OUTBOX_RING_LEAVES + leaf;
}

void
outbox_leaf_name(int slot, NameData *name)
{
	int			lane = slot / OUTBOX_RING_LEAVES;
	int			leaf = slot % OUTBOX_RING_LEAVES;
	char	   *text = NameStr(*name);

	Assert(slot >= 0 && slot < OUTBOX_SLOTS && lane < 10 && leaf < 100);
	strcpy(text, "outbox_0_00");	/* by hand: every command asks */
	text[7] += lane;
	text[9] += leaf / 10;
	text[10] += leaf % 10;
}

/* ---------- ids ---------- */

static void
put_bytes(unsigned char *bytes, uint64 value, int count)
{
	for (int i = count - 1; i >= 0; i--)
	{
		bytes[i] = (unsigned char) (value & 0xff);
		value >>= 8;
	}
}

static uint64
get_bytes(const unsigned char *bytes, int count)
{
	uint64		value = 0;

	for (int i = 0; i < count; i++)
		value = (value << 8) | bytes[i];
	return value;
}

void
outbox_event_id(pg_uuid_t *id, TimestampTz at, int lane, int64 seq)
{
	uint64		random = pg_prng_uint64(&pg_global_prng_state);
	int64		unix_time_ms = at / 1000 + UNIX_EPOCH_OFFSET_S * 1000;

	Assert(lane >= 0 && lane < OUTBOX_LANES);
	Assert(seq > 0 && seq <= OUTBOX_SEQ_MAX);
	put_bytes(id->data, (uint64) Max(unix_time_ms, 0), 6);
	put_bytes(id->data + 6, random >> 52, 2);
	put_bytes(id->data + 8, ((uint64) lane << 60) | ((uint64) seq << 14) | (random & 0x3fff), 8);
	id->data[6] |= UUID_VERSION_7;
	id->data[8] |= UUID_VARIANT;
}

bool
outbox_event_id_decode(const pg_uuid_t *id, int *lane, int64 *seq)
{
	uint64		rand_b = get_bytes(id->data + 8, 8);

	if ((id->data[6] & 0xf0) != UUID_VERSION_7 || (id->data[8] & 0xc0) != UUID_VARIANT)
		return false;
	*lane = (int) ((rand_b >> 60) & (OUTBOX_LANES - 1));
	*seq = (int64) ((rand_b >> 14) & (uint64) OUTBOX_SEQ_MAX);
	return *seq > 0;
}

/* ---------- names ---------- */

bool
outbox_event_type_valid(const char *event_type)
{
	int			length = 0;
	int			dots = 0;
	bool		word_is_empty = true;

	Assert(event_type != NULL);
	for (; event_type[length] != '\0'; length++)
	{
		char		c = event_type[length];

		if (length == EVENT_TYPE_BYTES_MAX)
			return false;
		if (c == '.')
		{
			if (word_is_empty)
				return false;
			word_is_empty = true;
			dots++;
		}
		else if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_')
			word_is_empty = false;
		else
			return false;
	}
	return dots > 0 && !word_is_empty;
}

bool
outbox_event_type_reserved(const char *event_type)
{
	Assert(event_type != NULL);
	for (int i = 0; i < lengthof(reserved_prefixes); i++)
		if (strncmp(event_type, reserved_prefixes[i], strlen(reserved_prefixes[i])) == 0)
			return true;
	return false;
}

bool
outbox_envelope_member(const char *name, int length)
{
	Assert(name != NULL && length >= 0);
	for (int i = 0; i < lengthof(envelope_members); i++)
		if (strlen(envelope_members[i]) == length &&
			memcmp(envelope_members[i], name, length) == 0)
			return true;
	return false;
}

/* ---------- the envelope ---------- */

static bool
is_json_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Append the object's text behind its opening brace, after a comma where it has members. */
static void
envelope_splice(StringInfo out, const char *payload, int length)
{
	int			brace = 0;
	int			member;

	while (brace < length && is_json_space(payload[brace]))
		brace++;
	if (brace == length || payload[brace] != '{')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the payload of an event must be a JSON object")));
	member = brace + 1;
	while (member < length && is_json_space(payload[member]))
		member++;
	Assert(member < length);
	if (payload[member] != '}')
		appendStringInfoChar(out, ',');
	appendBinaryStringInfo(out, payload + brace + 1, length - brace - 1);
}

void
outbox_envelope_write(StringInfo out, const OutboxEnvelope *envelope)
{
	Assert(envelope->event_id != NULL && envelope->event_type != NULL);
	Assert(envelope->payload == NULL || envelope->payload_length > 0);
	appendStringInfoChar(out, '{');
	json_member_text(out, "event_id",
					 DatumGetCString(DirectFunctionCall1(uuid_out,
														 UUIDPGetDatum(envelope->event_id))));
	json_member_text(out, "event_type", envelope->event_type);
	json_member_text(out, "schema_version", OUTBOX_SCHEMA_VERSION);
	json_member_time(out, "occurred_at", envelope->occurred_at);
	json_member_text(out, "tenant", envelope->tenant);
	json_member_text(out, "region", envelope->region);
	json_member_text(out, "trace_id", envelope->trace_id);
	if (envelope->payload == NULL)
		appendStringInfoChar(out, '}');
	else
		envelope_splice(out, envelope->payload, envelope->payload_length);
}

static const char *
text_or_null(FunctionCallInfo fcinfo, int argument)
{
	if (PG_ARGISNULL(argument))
		return NULL;
	return text_to_cstring(PG_GETARG_TEXT_PP(argument));
}

PG_FUNCTION_INFO_V1(failsafe_event_envelope);

/*
 * _event_envelope(event_id uuid, event_type text, occurred_at timestamptz,
 *				   tenant text, region text, trace_id text, payload json) -> json
 */
Datum
failsafe_event_envelope(PG_FUNCTION_ARGS)
{
	OutboxEnvelope envelope = {NULL};
	StringInfoData out;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		PG_RETURN_NULL();
	Assert(PG_NARGS() == 7);
	envelope.event_id = PG_GETARG_UUID_P(0);
	envelope.event_type = text_or_null(fcinfo, 1);
	envelope.occurred_at = PG_GETARG_TIMESTAMPTZ(2);
	envelope.tenant = text_or_null(fcinfo, 3);
	envelope.region = text_or_null(fcinfo, 4);
	envelope.trace_id = text_or_null(fcinfo, 5);
	if (!PG_ARGISNULL(6))
	{
		text	   *payload = PG_GETARG_TEXT_PP(6);

		envelope.payload = VARDATA_ANY(payload);
		envelope.payload_length = VARSIZE_ANY_EXHDR(payload);
	}
	initStringInfo(&out);
	outbox_envelope_write(&out, &envelope);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}

PG_FUNCTION_INFO_V1(failsafe_event_position);

/* _event_position(event_id uuid, OUT lane int, OUT seq int8): NULLs for an id not of ours */
Datum
failsafe_event_position(PG_FUNCTION_ARGS)
{
	TupleDesc	descriptor;
	Datum		values[2] = {0};
	bool		nulls[2] = {true, true};
	int			lane;
	int64		seq;

	if (get_call_result_type(fcinfo, NULL, &descriptor) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	Assert(descriptor->natts == 2);
	if (outbox_event_id_decode(PG_GETARG_UUID_P(0), &lane, &seq))
	{
		values[0] = Int32GetDatum(lane);
		values[1] = Int64GetDatum(seq);
		nulls[0] = nulls[1] = false;
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(descriptor), values, nulls)));
}
