/*
 * idempotency/request.h
 *	  Requests of application keys: are two of them the same?  Pure.
 */
#ifndef FAILSAFE_IDEMPOTENCY_REQUEST_H
#define FAILSAFE_IDEMPOTENCY_REQUEST_H

#include "idempotency/key.h"
#include "utils/jsonb.h"

/*
 * The fingerprint of a request, NULL included.  Equal for what jsonb's own "="
 * calls equal: the order of members and the zeros behind 1.50 do not count.
 */
extern void request_fingerprint(Jsonb *request, int16 version,
								uint8 digest[FINGERPRINT_BYTES]);

/*
 * A JSON array with the names of the top-level members that differ, the first
 * REQUEST_DIFFERENCES_MAX of them; ["request"] where the two cannot be compared
 * member by member.
 */
extern char *request_difference(Jsonb *stored, Jsonb *request);

#define REQUEST_DIFFERENCES_MAX	16

#endif							/* FAILSAFE_IDEMPOTENCY_REQUEST_H */
