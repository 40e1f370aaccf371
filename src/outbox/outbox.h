/*
 * outbox/outbox.h
 *	  Events, written by the transaction that they tell about.
 *
 * Invariants:
 *	O1	An event is one row of a leaf of failsafe.outbox, written once, never updated.
 *	O2	seq numbers of a lane are drawn after the top-level xid exists, and nothing
 *		waits between a draw and its insert [I4, F2].
 *	O3	A leaf is chosen by the clock, never by DDL at run time [F4]; a reader
 *		looks into all leaves of a lane.  The ring is twice as long as the retention,
 *		so a leaf has been empty for a while when its turn comes again; where it has
 *		not, events are just added to it.
 *	O4	A leaf is emptied only when every event in it is older than the
 *		retention and passed by every subscription, proved after its lock.
 */
#ifndef FAILSAFE_OUTBOX_OUTBOX_H
#define FAILSAFE_OUTBOX_OUTBOX_H

#include "lib/stringinfo.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#define OUTBOX_LANES		4
#define OUTBOX_RING_LEAVES	16	/* leaves of a lane */
#define OUTBOX_SLOTS		(OUTBOX_LANES * OUTBOX_RING_LEAVES)
#define OUTBOX_LEAF_PERIOD_S_MIN	60
#define OUTBOX_SEQ_MAX		((INT64CONST(1) << 46) - 1)	/* fits into an event id */
#define OUTBOX_SCHEMA_VERSION "1.0.0"	/* of the envelope, semver */
#define EVENT_TYPE_BYTES_MAX	128
#define ORDER_KEY_BYTES_MAX		255
#define SUBJECT_BYTES_MAX		255
#define HEADERS_BYTES_MAX		16384

#define OUTBOX_PRIORITY_MIN			0
#define OUTBOX_PRIORITY_MONEY		0
#define OUTBOX_PRIORITY_APPLICATION	5
#define OUTBOX_PRIORITY_TELEMETRY	9
#define OUTBOX_PRIORITY_MAX			9

typedef struct OutboxEvent
{
	/* given by the caller */
	int32		tenant_id;
	int16		priority;		/* 0 (first) .. 9 (last) */
	const char *event_type;		/* wallet.debit.committed */
	const char *order_key;		/* events of one key are in order; never NULL */
	const char *payload;		/* JSON object text, or NULL; no member of the envelope */
	int			payload_length; /* bytes */
	const char *headers;		/* JSON object text, or NULL */
	const char *subject;		/* CloudEvents subject, or NULL */
	const char *region;			/* or NULL */
	const char *trace_id;		/* or NULL */
	const char *traceparent;	/* or NULL */
	int64		journal_id;		/* 0 = an application's event */
	TimestampTz occurred_at;
	TimestampTz deliver_after;	/* 0 = at once */
	TimestampTz expires_at;		/* 0 = never */
	/* set by outbox_append() */
	pg_uuid_t	event_id;		/* version 7, carries lane and seq: see outbox_event_id() */
	int64		seq;
} OutboxEvent;

/* outbox.c: effects */

/*
 * Append events in array order: draws their numbers and writes them, by
 * multi-insert.  Types switched off by failsafe.event_types must have been left
 * out by the caller.  The caller has done all its waiting before and is between
 * commit_write_begin() and commit_write_end().
 */
extern void outbox_append(OutboxEvent *events, int count);

/*
 * This transaction has appended events.  Set here, cleared at the end of the
 * transaction by who wakes the worker.
 */
extern bool outbox_appended;

/* event.c: pure */

/* The lane of a priority: 0 -> 0, 1..4 -> 1, 5..8 -> 2, 9 -> 3. */
extern int	outbox_lane(int priority);

/*
 * UUID version 7 (RFC 9562 5.7): 48 bits of milliseconds, 12 random bits in
 * rand_a; rand_b holds 2 bits of lane, 46 bits of seq and 14 random bits, so that
 * an event is found by its id without an index of its own.
 */
extern void outbox_event_id(pg_uuid_t *id, TimestampTz at, int lane, int64 seq);
extern bool outbox_event_id_decode(const pg_uuid_t *id, int *lane, int64 *seq);

/* How long a leaf is the current one of its lane, in seconds; from the retention. */
extern int64 outbox_leaf_period_s(int retention_s);

/* The slot, 0 .. 63, into which a lane's events of this moment go. */
extern int	outbox_slot(int lane, TimestampTz at, int64 period_s);

/* The name of a slot's leaf, in schema failsafe. */
extern void outbox_leaf_name(int slot, NameData *name);

/* 1 to 128 bytes: words of a-z, 0-9 and '_', at least two, with dots between. */
extern bool outbox_event_type_valid(const char *event_type);

/* Does the type belong to the extension (wallet., account., failsafe.)? */
extern bool outbox_event_type_reserved(const char *event_type);

/* What the envelope is made of; NULL: that member is left out. */
typedef struct OutboxEnvelope
{
	const pg_uuid_t *event_id;
	const char *event_type;
	TimestampTz occurred_at;
	const char *tenant;
	const char *region;
	const char *trace_id;
	const char *payload;		/* a JSON object; NULL: the envelope alone */
	int			payload_length;
} OutboxEnvelope;

/* Append the complete event: the envelope's members, then the payload's, byte for byte. */
extern void outbox_envelope_write(StringInfo out, const OutboxEnvelope *envelope);

/* Is this a member that the envelope adds in front of the payload? */
extern bool outbox_envelope_member(const char *name, int length);

#endif							/* FAILSAFE_OUTBOX_OUTBOX_H */
