/*
 * delivery/pull.h
 *	  What pull.c (claims) and pull_answer.c (answers) share.  The invariants U1 to U5 are
 *	  in pull.c.
 */
#ifndef FAILSAFE_DELIVERY_PULL_H
#define FAILSAFE_DELIVERY_PULL_H

#include "fmgr.h"
#include "nodes/execnodes.h"
#include "utils/hsearch.h"

#include "delivery/delivery.h"

typedef struct PullCall
{
	const Subscription *subscription;
	MemoryContext context;		/* of the call, outside of SPI */
	TimestampTz now;
	Snapshot	snapshot;		/* of the claim; NULL: none yet */
	Position	positions[OUTBOX_LANES];

	/* of a claim */
	ReturnSetInfo *result;
	TimestampTz lease_until;
	int64		fence;
	int			wanted;
	int			claimed;
	int			parked_left;	/* rows that may still be parked */
	HTAB	   *keys;			/* KeyState; NULL: not ordered */
} PullCall;

/* Arguments that must not be NULL. */
extern char *pull_text(FunctionCallInfo fcinfo, int argument, const char *name);
extern int64 pull_int64(FunctionCallInfo fcinfo, int argument, const char *name);
extern int64 pull_lease(FunctionCallInfo fcinfo, int argument); /* microseconds */

/* Refuse what cannot write, and snapshots that may be older than the lock. */
extern void pull_check_call(const char *function);

/* Find the subscription; then, when there is something to do, lock its positions [U1]. */
extern void pull_begin(PullCall *call, const char *name);
extern void pull_lock(PullCall *call);

/* A row of this subscription; false: there is none of that id. */
extern bool pull_delivery(PullCall *call, int64 id, Delivery *delivery);

/* What the consumer, or the end of its lease, says about an attempt. */
extern void pull_result(const PullCall *call, FailureClass class, const char *code,
						const char *reason, AttemptResult *result);

/* Try again or give up; true: it waits, false: it is a dead letter. */
extern bool pull_failed(PullCall *call, Delivery *delivery, const AttemptResult *result,
						TimestampTz due_at);

/* The row went, or waits for another try: the turn of the next one of its key [U3]. */
extern void pull_key_release(PullCall *call, const Delivery *delivery);

#endif							/* FAILSAFE_DELIVERY_PULL_H */
