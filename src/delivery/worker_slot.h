/*
 * delivery/worker_slot.h
 *	  What the launcher, the workers and all other backends tell each other through
 *	  shared memory: who works where, who shall wake up, leave or stay away.
 */
#ifndef FAILSAFE_DELIVERY_WORKER_SLOT_H
#define FAILSAFE_DELIVERY_WORKER_SLOT_H

#include "port/atomics.h"
#include "storage/lwlock.h"
#include "utils/timestamp.h"

#define WORKER_SLOTS_MAX		64	/* databases of one server that have a worker */
#define WORKER_HOLDS_MAX		16	/* statements at once that need a database empty */
#define WORKER_HINTS_MAX		16	/* databases that the launcher shall look at */
#define WORKER_ERROR_BYTES_MAX	200
#define WORKER_NOTE_BYTES_MAX	128
#define WORKER_NO_PROCESS		PG_UINT32_MAX

typedef enum WorkerState
{
	WORKER_STARTING,			/* registered, or not yet past its first look */
	WORKER_RUNNING,
	WORKER_OFF,					/* waits: failsafe.delivery is off */
	WORKER_NOT_ADOPTED,			/* waits: this database was not told to deliver */
	WORKER_VERSION_SKEW,		/* waits: library and extension differ */
	WORKER_NO_EXTENSION,		/* has left: nothing to do here */
	WORKER_YIELDED,				/* has left: somebody needs the database empty */
	WORKER_STOPPED,				/* has left: worker_stop() */
	WORKER_ENDED,				/* has left: a failure, or it was terminated */
	WORKER_STATE_COUNT
} WorkerState;

extern const char *const worker_state_names[];

/* A request to leave; the worker looks at it each time it wakes. */
typedef enum WorkerLeave
{
	WORKER_STAY,
	WORKER_LEAVE_YIELD,
	WORKER_LEAVE_STOP
} WorkerLeave;

/* What anybody may read of a worker; the worker writes it, under the lock. */
typedef struct WorkerFacts
{
	WorkerState state;
	int			pid;			/* 0: none runs */
	int64		starts;
	TimestampTz started_at;
	TimestampTz ended_at;
	TimestampTz maintained_at;
	int64		errors;
	TimestampTz last_error_at;
	char		last_error[WORKER_ERROR_BYTES_MAX];
	char		note[WORKER_NOTE_BYTES_MAX];	/* why it waits */
	int			relay_pid;
	TimestampTz relay_started_at;
	int64		relay_restarts; /* after it was lost */
} WorkerFacts;

typedef struct WorkerSlot
{
	/* read and written without the lock, also while a transaction commits */
	pg_atomic_uint32 database_id;	/* 0: the slot is free */
	pg_atomic_uint32 process;	/* the worker's PGPROC number, or WORKER_NO_PROCESS */
	pg_atomic_uint32 leave;		/* WorkerLeave */
	pg_atomic_uint32 nudges;	/* grows: look at the extension and its adoption again */
	pg_atomic_uint64 rounds;
	pg_atomic_uint64 last_round_at;

	WorkerFacts facts;			/* under the lock */
} WorkerSlot;

typedef struct WorkerShared
{
	LWLock		lock;
	pg_atomic_uint32 launcher;	/* the launcher's PGPROC number, or WORKER_NO_PROCESS */
	pg_atomic_uint32 launcher_pid;
	pg_atomic_uint32 rescan;	/* not 0: look at the list of databases */
	pg_atomic_uint32 hints_lost;	/* not 0: look into every database again */
	pg_atomic_uint32 hints[WORKER_HINTS_MAX];	/* databases to look into, 0: free */
	pg_atomic_uint64 holds[WORKER_HOLDS_MAX];	/* database << 32 | pid, 0: free */
	pg_atomic_uint64 starved_at;	/* since when no background worker is to be had */
	pg_atomic_uint64 full_at;	/* since when all slots are taken */
	WorkerSlot	slots[WORKER_SLOTS_MAX];
} WorkerShared;

/* NULL: not preloaded, and not attached in this backend. */
extern WorkerShared *workers;

extern void worker_slots_init(void);

/* Attach without preload; false: no room is left in shared memory. */
extern bool worker_slots_attach(void);

/* The slot of a database, or NULL. */
extern WorkerSlot *worker_slot_find(Oid database_id);

/* The same, made where there is none; NULL: all are taken. */
extern WorkerSlot *worker_slot_make(Oid database_id);

extern void worker_slot_free(WorkerSlot *slot);

/* This process becomes the worker of the slot; false: another one is. */
extern bool worker_slot_claim(WorkerSlot *slot);

/* The worker has gone, in this state; wakes the launcher.  For its exit callback. */
extern void worker_slot_leave(WorkerSlot *slot, WorkerState state);

extern void worker_slot_set_state(WorkerSlot *slot, WorkerState state, const char *note);
extern void worker_slot_note_error(WorkerSlot *slot, const char *message);
extern void worker_slot_note_relay(WorkerSlot *slot, int pid, bool lost);
extern void worker_slot_note_maintenance(WorkerSlot *slot);
extern void worker_slot_facts(WorkerSlot *slot, WorkerFacts *facts);

/* Ask the worker to leave and wake it. */
extern void worker_slot_ask(WorkerSlot *slot, WorkerLeave leave);

/* Is somebody's statement in need of an empty database? */
extern bool worker_hold_exists(Oid database_id);

/*
 * Keep workers out of the database until this transaction ends, and wait, not
 * for ever, until the one that is there has left.
 */
extern void worker_hold_database(Oid database_id);

/* Forget holds of processes that are gone; for the launcher. */
extern void worker_holds_sweep(void);

/* At commit: the launcher shall look into this database, or at their list. */
extern void worker_hint_at_commit(void);
extern void worker_rescan_at_commit(void);
extern void launcher_wake(void);

/* Is there a worker, or will the launcher see to it?  Then a hint is not lost. */
extern void launcher_hint(Oid database_id);

#endif							/* FAILSAFE_DELIVERY_WORKER_SLOT_H */
