/*
 * outbox/outbox.c
 *	  Writes events into the leaves of failsafe.outbox.
 *
 * Invariants O1-O4 are in outbox.h.  Lock order: outbox leaves come last, after
 * keys, reversible rows and balances; RowExclusiveLock on a leaf meets only the
 * AccessExclusiveLock of retention, which waits for nobody.  All leaves of a call
 * are opened before the first number is drawn [O2].
 *
 * A crash or an error between draw and insert leaves a hole in the numbers of the
 * lane, nothing else.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "base/fault.h"
#include "base/row.h"
#include "base/settings.h"
#include "outbox/outbox.h"

/* Rows of one multi-insert: bounds the slots that stay with the backend. */
#define APPEND_ROWS_MAX		1000

enum
{
	EVENT_SEQ,
	EVENT_JOURNAL_ID,
	EVENT_OCCURRED_AT,
	EVENT_DELIVER_AFTER,
	EVENT_EXPIRES_AT,
	EVENT_EVENT_ID,
	EVENT_TENANT_ID,
	EVENT_SLOT,
	EVENT_PRIORITY,
	EVENT_EVENT_TYPE,
	EVENT_ORDER_KEY,
	EVENT_PAYLOAD,
	EVENT_HEADERS,
	EVENT_SUBJECT,
	EVENT_REGION,
	EVENT_TRACE_ID,
	EVENT_TRACEPARENT,
	EVENT_COLUMNS
};

static const RowColumn event_columns[EVENT_COLUMNS] = {
	{"seq", INT8OID},
	{"journal_id", INT8OID},
	{"occurred_at", TIMESTAMPTZOID},
	{"deliver_after", TIMESTAMPTZOID},
	{"expires_at", TIMESTAMPTZOID},
	{"event_id", UUIDOID},
	{"tenant_id", INT4OID},
	{"slot", INT2OID},
	{"priority", INT2OID},
	{"event_type", TEXTOID},
	{"order_key", TEXTOID},
	{"payload", JSONOID},
	{"headers", JSONOID},
	{"subject", TEXTOID},
	{"region", TEXTOID},
	{"trace_id", TEXTOID},
	{"traceparent", TEXTOID}
};

/* NULL: the leaves' indexes have names of their own, so the first one is meant */
static const char *const leaf_indexes[] = {NULL};

static const RowTableSpec leaf_spec = {
	"outbox", EVENT_COLUMNS, event_columns, lengthof(leaf_indexes), leaf_indexes
};

static const char *const lane_sequences[OUTBOX_LANES] = {
	"outbox_seq_0", "outbox_seq_1", "outbox_seq_2", "outbox_seq_3"
};

bool		outbox_appended = false;

static void
put_text(TupleTableSlot *slot, int column, const char *value)
{
	slot->tts_isnull[column] = value == NULL;
	if (value != NULL)
		slot->tts_values[column] = CStringGetTextDatum(value);
}

static void
put_time(TupleTableSlot *slot, int column, TimestampTz value)
{
	slot->tts_isnull[column] = value == 0;
	slot->tts_values[column] = TimestampTzGetDatum(value);
}

static void
fill_slot(TupleTableSlot *slot, OutboxEvent *event, int leaf_slot)
{
	Assert(event->seq > 0 && event->tenant_id > 0);
	Assert(event->event_type != NULL && event->order_key != NULL);
	memset(slot->tts_isnull, false, EVENT_COLUMNS);
	slot->tts_values[EVENT_SEQ] = Int64GetDatum(event->seq);
	slot->tts_values[EVENT_JOURNAL_ID] = Int64GetDatum(event->journal_id);
	slot->tts_isnull[EVENT_JOURNAL_ID] = event->journal_id == 0;
	slot->tts_values[EVENT_OCCURRED_AT] = TimestampTzGetDatum(event->occurred_at);
	put_time(slot, EVENT_DELIVER_AFTER, event->deliver_after);
	put_time(slot, EVENT_EXPIRES_AT, event->expires_at);
	slot->tts_values[EVENT_EVENT_ID] = UUIDPGetDatum(&event->event_id);
	slot->tts_values[EVENT_TENANT_ID] = Int32GetDatum(event->tenant_id);
	slot->tts_values[EVENT_SLOT] = Int16GetDatum((int16) leaf_slot);
	slot->tts_values[EVENT_PRIORITY] = Int16GetDatum(event->priority);
	put_text(slot, EVENT_EVENT_TYPE, event->event_type);
	put_text(slot, EVENT_ORDER_KEY, event->order_key);
	slot->tts_isnull[EVENT_PAYLOAD] = event->payload == NULL;
	if (event->payload != NULL)
		slot->tts_values[EVENT_PAYLOAD] =
			PointerGetDatum(cstring_to_text_with_len(event->payload, event->payload_length));
	put_text(slot, EVENT_HEADERS, event->headers);
	put_text(slot, EVENT_SUBJECT, event->subject);
	put_text(slot, EVENT_REGION, event->region);
	put_text(slot, EVENT_TRACE_ID, event->trace_id);
	put_text(slot, EVENT_TRACEPARENT, event->traceparent);
	row_slot_store(slot);
}

/* Draw the event's number and make its id. */
static void
draw_number(OutboxEvent *event, int lane)
{
	event->seq = row_sequence_next(lane_sequences[lane]);
	if (event->seq > OUTBOX_SEQ_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_SEQUENCE_GENERATOR_LIMIT_EXCEEDED),
				 errmsg("sequence \"failsafe.%s\" is beyond its last usable number",
						lane_sequences[lane])));
	outbox_event_id(&event->event_id, event->occurred_at, lane, event->seq);
}

/* Write all events of one lane; its leaf is open and nothing is waited for any more. */
static void
append_lane(RowTable *leaf, int lane, int leaf_slot, OutboxEvent *events, int count)
{
	int			filled = 0;

	Assert(lane >= 0 && lane < OUTBOX_LANES);
	Assert(leaf_slot / OUTBOX_RING_LEAVES == lane);
	for (int i = 0; i < count; i++)
	{
		if (outbox_lane(events[i].priority) != lane)
			continue;
		draw_number(&events[i], lane);
		fill_slot(row_slot(leaf, filled++), &events[i], leaf_slot);
		if (filled == APPEND_ROWS_MAX)
		{
			row_insert(leaf, filled);
			filled = 0;
		}
	}
	FAULT_POINT(events_drawn);
	row_insert(leaf, filled);
	FAULT_POINT(events_written);
}

static RowTable *
open_leaf(int leaf_slot)
{
	NameData	name;

	outbox_leaf_name(leaf_slot, &name);
	return row_open_oid(&leaf_spec, row_relation_id(NameStr(name)));
}

void
outbox_append(OutboxEvent *events, int count)
{
	RowTable   *leaves[OUTBOX_LANES] = {NULL};
	int			slots[OUTBOX_LANES];
	TimestampTz now = GetCurrentTimestamp();
	int64		period_s = outbox_leaf_period_s(setting_event_retention_s);

	Assert(count >= 0 && (count == 0 || events != NULL));
	Assert(count == 0 || TransactionIdIsValid(GetTopTransactionIdIfAny()));
	outbox_appended |= count > 0;
	for (int i = 0; i < count; i++)
	{
		int			lane = outbox_lane(events[i].priority);

		if (leaves[lane] != NULL)
			continue;
		slots[lane] = outbox_slot(lane, now, period_s);
		leaves[lane] = open_leaf(slots[lane]);
	}
	for (int lane = 0; lane < OUTBOX_LANES; lane++)
	{
		if (leaves[lane] == NULL)
			continue;
		append_lane(leaves[lane], lane, slots[lane], events, count);
		row_close(leaves[lane]);
	}
}
