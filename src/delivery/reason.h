/*
 * delivery/reason.h
 *	  Why an event became a dead letter, as one sentence for a person.  Pure.
 */
#ifndef FAILSAFE_DELIVERY_REASON_H
#define FAILSAFE_DELIVERY_REASON_H

#include "delivery/delivery.h"

#define DEAD_LETTER_REASON_BYTES_MAX	1000

/*
 * attempts and elapsed_us (since the first attempt) include the last one.  last may be
 * NULL only where nothing was tried: an event that expired before.  The verdict is not
 * RETRY_LATER.
 */
extern char *dead_letter_reason(RetryVerdict verdict, const char *sink, int attempts,
								int64 elapsed_us, const AttemptResult *last);

/* What to write to dead_letter.class. */
extern const char *dead_letter_class(RetryVerdict verdict, const AttemptResult *last);

#endif							/* FAILSAFE_DELIVERY_REASON_H */
