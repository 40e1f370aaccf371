/*
 * delivery/replay.h
 *	  Replays: dead letters, or old events, sent again at a rate, inside a window.
 */
#ifndef FAILSAFE_DELIVERY_REPLAY_H
#define FAILSAFE_DELIVERY_REPLAY_H

#include <math.h>

#include "delivery/delivery.h"

#define DLQ_REPLAY_MAX			1000000 /* events of one call */
#define REPLAY_RATE_MIN			0.001	/* events a second; at most RATE_MAX */
#define CLASS_RESEND			"resend"	/* class of a copy of an old event */
#define REPLAY_OUTSTANDING_MAX	10000	/* taken and not answered, of one replay [D8] */

/*
 * For the worker and for outbox_claim(): put the next dead letters of the
 * subscription's running replays into failsafe.delivery, at most room of them; returns
 * how many.  Each row is waiting and due now, or parked where an earlier row of its key
 * is there and the subscription blocks keys.  Writes nothing when nothing is due.
 */
extern int	replay_feed(int64 subscription_id, TimestampTz now, int room);

/*
 * When replay_feed() is to be called next, never before now; DT_NOEND: not before the
 * subscription's generation changes.
 */
extern TimestampTz replay_next_due(int64 subscription_id, TimestampTz now);

/* Would replay_feed() do something now?  Writes nothing. */
extern bool replay_is_due(int64 subscription_id, TimestampTz now);

/* What somebody asked for: the part that is the same for every subscription. */
typedef struct ReplayOrder
{
	int64		actor_id;
	double		rate;
	TimestampTz not_before;		/* 0: now */
	TimestampTz not_after;		/* 0: no end */
	const char *filter;			/* JSON text */
	const char *reason;
} ReplayOrder;

/*
 * replay.c, for replay_order.c: inside a write scope of statement.h.  The number is
 * drawn first, the letters are marked with it, the row is written last.
 */
extern int64 replay_draw_id(void);
extern void replay_insert(int64 id, int64 subscription_id, const ReplayOrder *order,
						  int64 total);

/*
 * How many may be taken now so that the rate is kept.  Pure.  *paced_from is where the
 * rate is counted from; 0: not begun, one may go at once.  After a pause what was
 * missed is forgiven but for one second's worth: then *paced_from moves forward.  It
 * moves back where the clock was put back.
 */
static inline int64
replay_allowance(double rate, int64 taken, TimestampTz now, TimestampTz *paced_from)
{
	double		burst = Max(rate, 1.0);
	double		allowed = 1.0;

	Assert(rate > 0 && taken >= 0);
	if (*paced_from != 0)
		allowed = (double) (now - *paced_from) / USECS_PER_SEC * rate - (double) taken;
	/* below -1: more was taken than the clock says there was time for */
	if (*paced_from == 0 || allowed < -1.0 || allowed > burst)
	{
		allowed = *paced_from == 0 ? 1.0 : Min(Max(allowed, 0.0), burst);
		*paced_from = now - (int64) (((double) taken + allowed) / rate * USECS_PER_SEC);
	}
	Assert(allowed <= burst);
	return (int64) floor(Max(allowed, 0.0) + 1e-6);
}

#endif							/* FAILSAFE_DELIVERY_REPLAY_H */
