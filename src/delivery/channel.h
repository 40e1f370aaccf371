/*
 * delivery/channel.h
 *	  What the worker remembers of one subscription: events that were read and are not
 *	  decided yet, their order, and how far the position may move.
 *
 * Pure data: no statement, no socket, no clock.  A crash loses it; it is built again from
 * the tables (D1).
 *
 * Invariants:
 *	H1	Of one key, at most one flight is ready or sent; the others wait in the key's
 *		queue, in the order in which they came.
 *	H2	A number that was read and is not decided is either above the position that
 *		channel_position() gives, or one of its open numbers (D2).
 *	H3	A lane holds at most CHANNEL_QUEUE_MAX flights that were not sent, and at most
 *		CHANNEL_SPAN_MAX numbers between the oldest undecided and the newest read.
 */
#ifndef FAILSAFE_DELIVERY_CHANNEL_H
#define FAILSAFE_DELIVERY_CHANNEL_H

#include "access/xlogdefs.h"
#include "delivery/breaker.h"
#include "delivery/delivery.h"
#include "lib/ilist.h"
#include "lib/stringinfo.h"
#include "utils/hsearch.h"

#define CHANNEL_QUEUE_MAX	512
#define CHANNEL_SPAN_MAX	20000

typedef enum FlightState
{
	FLIGHT_QUEUED,				/* behind another of its key */
	FLIGHT_READY,				/* in its lane's list: may be sent */
	FLIGHT_SENT,
	FLIGHT_ANSWERED				/* the answer waits for the next transaction */
} FlightState;

typedef struct Channel Channel;
typedef struct KeyQueue KeyQueue;

/* One attempt to deliver one event. */
typedef struct Flight
{
	int64		token;			/* its name in frames; the hash key */
	Channel    *channel;
	KeyQueue   *key;			/* NULL: without order */
	FlightState state;
	bool		is_late;		/* its number was an open one */
	bool		from_outbox;	/* no row of failsafe.delivery when it was read */
	bool		holds_key;		/* its row keeps later events of the key back */
	dlist_node	list_node;		/* of the key's queue, the lane's ready list or the answers */
	dlist_node	number_node;	/* of the lane's undecided numbers, when from_outbox */
	Delivery	delivery;
	TimestampTz expires_at;
	TimestampTz occurred_at;
	TimestampTz sent_at;
	XLogRecPtr	durable_lsn;	/* may leave when the log is safe up to here (D3) */
	int			frame_length;
	char	   *frame;			/* encoded; freed when it is sent */
	char	   *order_key;		/* copies, freed with the flight */
	char	   *event_type;
	char	   *answer;			/* the texts of result; freed with the flight; NULL: none */
	AttemptResult result;
} Flight;

struct KeyQueue
{
	char		key[1 + ORDER_KEY_BYTES_MAX + 1];	/* lane and order key; the hash key */
	Flight	   *head;			/* ready, sent or answered; NULL: none */
	dlist_head	queue;			/* those behind it */
	int			queue_length;
	int			row_count;		/* rows of failsafe.delivery that hold the key back */
};

typedef struct ChannelLane
{
	Position	reading;		/* as far as events were read */
	int64		drawn;			/* the last number, as far as somebody has looked */
	dlist_head	undecided;		/* flights from the outbox, in order of reading */
	dlist_head	late;			/* the same, of open numbers */
	dlist_head	ready;
	int			ready_count;
	int			waiting_count;	/* flights not sent: ready or queued */
	TimestampTz look_at;		/* for open numbers; 0: at once */
	bool		is_dirty;		/* the stored position is behind */
} ChannelLane;

struct Channel
{
	MemoryContext context;
	Subscription subscription;	/* copies in context */
	int64		sent_generation;	/* of the destination that the relay knows; 0: none */
	bool		is_open;		/* the relay has taken the destination */
	ChannelLane lanes[OUTBOX_LANES];
	HTAB	   *keys;			/* KeyQueue */
	HTAB	   *rows;			/* ids of deliveries that have a flight */
	HTAB	   *skips;			/* numbers above a stored position that have a row */
	int64		row_count;		/* rows of failsafe.delivery, all states */
	bool		rows_are_left;	/* more of them are due than fit */
	int			sent_count;
	int			sent_low_count; /* of them, of lanes 1 to 3 */
	Destination destination;
	struct DeliveryStats *stats;	/* NULL: no room */
	TimestampTz refused_until;	/* by breaker, throttle or rate; 0: not */
	TimestampTz next_due_at;	/* of rows that wait; infinity: none */
	TimestampTz next_replay_at; /* of a replay's next token; infinity: none */
	TimestampTz started_at;		/* created or rewound: what was older then is not late */
	TimestampTz lag_checked_at;
	bool		lag_warned;
	bool		lag_told;		/* the event about dead letters for lag was emitted */
	dlist_node	node;			/* of the worker's channels */
};

/* A channel for this subscription; positions and rows are given by the caller. */
extern Channel *channel_create(MemoryContext parent, const Subscription *subscription);
extern void channel_free(Channel *channel);

/* A new flight; the texts are copied. */
extern Flight *flight_create(Channel *channel, int64 token, const Delivery *delivery,
							 const DeliveryEvent *event);
extern void flight_free(Flight *flight);

/*
 * Put it in: ready where its key is free, else behind it.  A flight from the outbox
 * keeps the position back until flight_decided().
 */
extern void channel_add(Flight *flight);

/* Must a new event of this key go into a row instead (D5)? */
extern bool channel_key_blocked(Channel *channel, int lane, const char *order_key);

/* The rows of failsafe.delivery that hold a key back were changed by this many. */
extern void channel_key_rows(Channel *channel, int lane, const char *order_key, int change);

/*
 * A number that already has a row or a dead letter, above the stored position: a crash
 * came, or the subscription was changed, while an older number was not decided (D1).
 */
extern void channel_skip(Channel *channel, int lane, int64 seq);
extern bool channel_skips(Channel *channel, int lane, int64 seq);

/*
 * The next flight to send, lanes in order, or NULL; room of low lanes is bounded.
 * Without retries, first tries only.
 */
extern Flight *channel_next(Channel *channel, bool with_retries);
extern void flight_sent(Flight *flight, TimestampTz now);

/* Its time ran out while it was ready: to be recorded without an attempt. */
extern void flight_withdraw(Flight *flight);

/* An answer came: it leaves the count of those on their way. */
extern void flight_answered(Flight *flight);

/*
 * Decided: done, or a row says what happens next.  Its number no longer keeps the
 * position back, and the next of its key becomes ready.  Frees the flight.
 */
extern void flight_decided(Flight *flight);

/* Take the flights behind this one's key out of it, one by one: NULL at the end. */
extern Flight *flight_take_behind(Flight *flight);

/* How many events of the lane may be read now? */
extern int	channel_room(Channel *channel, int lane);

/* As far as events were read, from now on; the open numbers are copied. */
extern void channel_set_reading(Channel *channel, int lane, const Position *position);

/* The position that may be stored; in the current memory context. */
extern void channel_position(Channel *channel, int lane, Position *position);

#endif							/* FAILSAFE_DELIVERY_CHANNEL_H */
