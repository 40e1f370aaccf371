/*
 * delivery/dead_letter.h
 *	  Dead letters, for the worker and for pull consumers.
 */
#ifndef FAILSAFE_DELIVERY_DEAD_LETTER_H
#define FAILSAFE_DELIVERY_DEAD_LETTER_H

#include "delivery/delivery.h"
#include "fmgr.h"

/*
 * The event of a dead letter, to be sent again; texts are in the caller's memory
 * context.  The outbox may have dropped it long ago.  False: no such dead letter.
 */
extern bool dead_letter_fetch(int64 id, DeliveryEvent *event);

/* How every function begins that changes dead letters or replays. */
extern void dead_letter_check_call(const char *function);

/* The argument "reason": required, one line. */
extern char *dead_letter_required_reason(FunctionCallInfo fcinfo, int argument);

#endif							/* FAILSAFE_DELIVERY_DEAD_LETTER_H */
