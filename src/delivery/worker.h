/*
 * delivery/worker.h
 *	  The worker's frame around dispatch.c: what each calls of the other.
 *
 * The worker is one process, and calls one after the other.  dispatch_round() may raise
 * an error: it is logged, the transaction is undone, and after a pause the next round
 * comes; what dispatch keeps in memory must be right then, too.  An error of any other of
 * these functions ends the worker, and the launcher starts another.
 *
 * All of them are called in a memory context that is emptied at each turn of the loop, so
 * what shall stay is put elsewhere.
 */
#ifndef FAILSAFE_DELIVERY_WORKER_H
#define FAILSAFE_DELIVERY_WORKER_H

#include "delivery/courier.h"
#include "utils/timestamp.h"

/* ---------- dispatch.c, called by the worker ---------- */

/* Once in a worker's life, when it is allowed to deliver; no transaction is open. */
extern void dispatch_begin(void);

/*
 * Is there anything to do for dispatch_round() now?  No statement.  Called at least
 * every WORKER_TICK_MS, without a transaction; an error that it raises inside of a
 * transaction of its own is treated like one of dispatch_round().
 */
extern bool dispatch_has_work(TimestampTz now);

/*
 * The part with SQL: records answers, reads and sends events.  Opens and ends its own
 * transactions.  Called again at once while dispatch_has_work() says so.
 */
extern void dispatch_round(void);

/* A commit woke the worker: numbers that were open may be events now.  No SQL. */
extern void dispatch_woken(void);

/* Hand over what may go; called in each turn.  No SQL. */
extern void dispatch_send(TimestampTz now);

/* After dispatch_round() failed: forget everything, and read it again from the tables. */
extern void dispatch_forget(void);

/* Before the worker ends: one last round that stores positions, so that less is sent twice. */
extern void dispatch_end(void);

/* A frame of the relay: RESULT or DESTINATION_STATE.  No SQL. */
extern void dispatch_result(RelayFrameType type, const FrameFields *fields);

/* When there will be something to do for sure; DT_NOEND: not known, an event will tell. */
extern TimestampTz dispatch_next_due(void);

/* Is there a subscription that needs the relay?  No statement. */
extern bool dispatch_needs_relay(void);

/*
 * The relay was ended, or ended: nothing that is on its way will be answered.  No SQL.
 * A new one knows no destination.
 */
extern void dispatch_courier_lost(void);

/* ---------- worker.c ---------- */

#define WORKER_TICK_MS		100

/* How the process is started; travels in bgw_extra. */
typedef struct WorkerStart
{
	Oid			database_id;
	bool		by_hand;		/* worker_start() without a launcher */
} WorkerStart;

/* Register the worker of a database; false: no background worker is to be had. */
struct BackgroundWorkerHandle;
extern bool worker_register(const WorkerStart *start, struct BackgroundWorkerHandle **handle);

/* ---------- launcher.c ---------- */

extern void launcher_init(void);

/* ---------- worker_hook.c ---------- */

extern void worker_hook_init(void);

#endif							/* FAILSAFE_DELIVERY_WORKER_H */
