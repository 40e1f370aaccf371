/*
 * delivery/dispatch.h
 *	  The worker's mind: what goes out now, and what an answer means.
 *
 * worker.c calls the first part; the rest is shared by the dispatch files.
 *
 * Invariants:
 *	P1	Statements run only inside dispatch_round(), which leaves no transaction
 *		open (D4).  Frames are handed over outside of it.
 *	P2	A flight leaves the memory only in, or after, the transaction that decided it;
 *		one that arrived at the first try needs no row, only the position.
 *	P3	After an error everything is forgotten and read again from the tables: what was
 *		on its way is sent once more, under the same id.  dispatch_forget().
 *	P4	Answers to tokens that are not known are ignored.
 */
#ifndef FAILSAFE_DELIVERY_DISPATCH_H
#define FAILSAFE_DELIVERY_DISPATCH_H

#include "delivery/channel.h"
#include "relay/frame.h"

/* ---- for worker.c ---- */

/* At the start of the worker's life, outside of a transaction. */
extern void dispatch_begin(void);

/* Must a round run now?  No statement [F22]. */
extern bool dispatch_has_work(TimestampTz now);

/* Record answers, read what is due and new, commit.  Raises what SQL raises. */
extern void dispatch_round(void);

/* Hand over what may go; no statement.  Called in each turn of the loop. */
extern void dispatch_send(TimestampTz now);

/* A frame from the relay; malformed ones were refused before. */
extern void dispatch_frame(int type, const FrameFields *fields);

/* When something is due that nobody will announce; infinity: never. */
extern TimestampTz dispatch_next_due(void);

/* The relay is gone: all that was on its way counts as unknown. */
extern void dispatch_courier_lost(void);

/* Before the worker ends: one last round, so that less is sent twice. */
extern void dispatch_end(void);

/* After an error [P3]. */
extern void dispatch_forget(void);

/* ---- between the dispatch files ---- */

#define DISPATCH_ANSWERS_MAX	2000	/* recorded in one transaction */
#define POSITION_INTERVAL_MS	200		/* between two writes of positions */

typedef struct FlightEntry
{
	int64		token;
	Flight	   *flight;
} FlightEntry;

typedef struct Dispatch
{
	MemoryContext context;		/* all below; reset by dispatch_forget() */
	dlist_head	channels;
	HTAB	   *flights;		/* by token */
	dlist_head	answers;		/* flights that wait for the next transaction */
	int			answer_count;
	int64		next_token;
	int64		courier_epoch;	/* the relay that knows the destinations */
	int64		generation;		/* of subscription_generation_seq, as far as it was read */
	uint64		reload_horizon; /* FullTransactionId; 0: subscriptions are known */
	TimestampTz positions_written_at;
	TimestampTz now;			/* of this round */
} Dispatch;

extern Dispatch dispatch;

/* dispatch.c */
extern Flight *flight_find(int64 token);
extern void flight_register(Flight *flight);
extern void flight_unregister(Flight *flight);

/* dispatch_read.c: in a transaction, with SPI connected */
extern void dispatch_read_channel(Channel *channel, Snapshot snapshot, XLogRecPtr durable_lsn);
extern void dispatch_load_rows(Channel *channel);
extern void dispatch_shed(Channel *channel, Snapshot snapshot);

/* dispatch_record.c: in a transaction, with SPI connected */
extern void dispatch_record_answers(void);

/* dispatch_send.c: no statement */
extern void flight_encode(Flight *flight, const DeliveryEvent *event);
extern void dispatch_answer(Flight *flight);

#endif							/* FAILSAFE_DELIVERY_DISPATCH_H */
