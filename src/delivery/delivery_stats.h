/*
 * delivery/delivery_stats.h
 *	  Numbers of each subscription in shared memory: failsafe.stat_subscriptions.
 *
 * A crash may lose them [I8]; the durable ones are in positions and dead letters.  Only
 * the worker of the database writes them, so nothing is locked.
 */
#ifndef FAILSAFE_DELIVERY_DELIVERY_STATS_H
#define FAILSAFE_DELIVERY_DELIVERY_STATS_H

#include "delivery/breaker.h"

typedef struct DeliveryStats DeliveryStats;

extern void delivery_stats_init(void);

/* The numbers of a subscription of this database; NULL: there is no room. */
extern DeliveryStats *delivery_stats_of(int64 subscription_id);

/* All of these take NULL.  latency_us: from the event's time to the answer. */
extern void delivery_stats_delivered(DeliveryStats *stats, bool was_retry, int64 latency_us);
extern void delivery_stats_failed(DeliveryStats *stats, FailureClass class);
extern void delivery_stats_died(DeliveryStats *stats);
extern void delivery_stats_now(DeliveryStats *stats, int sent, int queued,
							   const Destination *destination);

#endif							/* FAILSAFE_DELIVERY_DELIVERY_STATS_H */
