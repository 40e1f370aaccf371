/*
 * delivery/record.h
 *	  What the files about dead letters and replays share with record.c.
 */
#ifndef FAILSAFE_DELIVERY_RECORD_H
#define FAILSAFE_DELIVERY_RECORD_H

#include "delivery/delivery.h"

typedef struct DeadLetter
{
	int64		subscription_id;
	int64		replay_id;		/* 0: none */
	const char *state;			/* dead, replaying */
	int			attempts;
	const char *class;
	const char *reason;
} DeadLetter;

/* Write a copy of the event; returns its id.  Inside a write scope of statement.h. */
extern int64 dead_letter_insert(const DeadLetter *letter, const DeliveryEvent *event);

/* Give up an event for lag: as delivery_die(), but no event tells about it [R4]. */
extern void delivery_shed(const Delivery *delivery, const DeliveryEvent *event,
						  const char *reason);

/*
 * When the first attempt of this row began, of a replay: in this replay; 0 where none is
 * kept.
 */
extern TimestampTz delivery_first_attempt_at(const Delivery *delivery);

#endif							/* FAILSAFE_DELIVERY_RECORD_H */
