/*
 * delivery/dispatch.h
 *	  The worker's mind: what goes out now, and what an answer means.
 *
 * What worker.c calls is in worker.h; this is shared by the dispatch files.
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
#include "delivery/worker.h"

#define DISPATCH_ANSWERS_MAX	2000	/* recorded in one transaction */
#define POSITION_INTERVAL_MS	200		/* between two writes of positions */
#define LAG_CHECK_MS			10000
#define OPEN_LOOK_MS			100		/* for open numbers, when nobody announces a commit */
#define LOOK_MS					50		/* for new numbers, the same; below WORKER_TICK_MS */

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
	int64		generation;		/* of subscription_generation_seq, as far as it was read */
	uint64		reload_horizon; /* FullTransactionId; 0: subscriptions are known */
	TimestampTz reload_at;		/* when to read them again; 0: at once */
	TimestampTz look_at;		/* for numbers that were drawn; 0: at once */
	TimestampTz positions_written_at;
	TimestampTz now;			/* of this round */
} Dispatch;

extern Dispatch dispatch;

/* dispatch.c */
extern Flight *flight_find(int64 token);
extern void flight_register(Flight *flight);
extern void flight_unregister(Flight *flight);

extern bool lane_has_more(const ChannelLane *lane, TimestampTz now);

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
