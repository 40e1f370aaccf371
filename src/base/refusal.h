/*
 * base/refusal.h
 *	  The last refusals of the server, in shared memory: failsafe.last_refusals.
 */
#ifndef FAILSAFE_BASE_REFUSAL_H
#define FAILSAFE_BASE_REFUSAL_H

#include "base/errors.h"

/* Request shared memory; works without preload too, with fewer places. */
extern void refusal_init(void);

/*
 * Note a refusal or a decline.  detail_json has its keys masked.  Counts also when the
 * transaction rolls back; never throws, never waits but for a copy of one entry.
 */
extern void refusal_note(FailsafeCode code, const char *detail_json);

#endif							/* FAILSAFE_BASE_REFUSAL_H */
