/*
 * delivery/worker_slot.c
 *	  Owns the shared memory of the workers: their slots, the holds that keep them
 *	  out of a database, the hints to the launcher, and what a commit wakes.
 *
 * Invariants:
 *	W1	A slot belongs to one database until the launcher frees it; at most one
 *		process is its worker.
 *	W2	What a commit touches is read and written without locks, and nothing there
 *		throws or allocates [F35].
 *	W3	A wake-up is a hint: process numbers may be out of date, and then a stranger
 *		wakes up once for nothing [I8].
 *	W4	A hold is visible before its owner looks for a worker, and a worker is
 *		visible before it looks for a hold: at least one of the two sees the other.
 *	W5	No pointer and no descriptor of a process is in here.
 *
 * Lock order: the lock of this segment is the last one, and is held for copies only.
 */
#include "postgres.h"

#include <signal.h>

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "utils/wait_event.h"

#include "base/commit.h"
#include "base/compat.h"
#include "delivery/delivery.h"
#include "delivery/worker_slot.h"
#include "outbox/outbox.h"

#define SEGMENT_NAME		"pg_failsafe workers"
#define HOLD_ASK_MS			500	/* then the worker is terminated */
#define HOLD_GIVE_UP_MS		5000
#define HOLD_STEP_MS		10

WorkerShared *workers = NULL;

const char *const worker_state_names[] = {
	"starting", "running", "off", "not_adopted", "version_skew",
	"no_extension", "yielded", "stopped", "ended"
};
StaticAssertDecl(lengthof(worker_state_names) == WORKER_STATE_COUNT, "each state has a name");

static bool attach_failed = false;
static shmem_request_hook_type previous_shmem_request_hook = NULL;
static shmem_startup_hook_type previous_shmem_startup_hook = NULL;

/* What the running transaction owes at its end. */
static bool wake_due = false;
static bool hint_due = false;
static bool rescan_due = false;
static int	my_hold = -1;

/* ---------- the segment ---------- */

static void
workers_request(void)
{
	if (previous_shmem_request_hook != NULL)
		previous_shmem_request_hook();
	RequestAddinShmemSpace(MAXALIGN(sizeof(WorkerShared)));
}

static void
slot_init(WorkerSlot *slot)
{
	pg_atomic_init_u32(&slot->database_id, InvalidOid);
	pg_atomic_init_u32(&slot->process, WORKER_NO_PROCESS);
	pg_atomic_init_u32(&slot->leave, WORKER_STAY);
	pg_atomic_init_u32(&slot->nudges, 0);
	pg_atomic_init_u64(&slot->rounds, 0);
	pg_atomic_init_u64(&slot->last_round_at, 0);
	memset(&slot->facts, 0, sizeof(slot->facts));
}

static void
workers_fill(WorkerShared *shared)
{
	LWLockInitialize(&shared->lock, LWLockNewTrancheId());
	pg_atomic_init_u32(&shared->launcher, WORKER_NO_PROCESS);
	pg_atomic_init_u32(&shared->launcher_pid, 0);
	pg_atomic_init_u32(&shared->rescan, 0);
	pg_atomic_init_u32(&shared->hints_lost, 0);
	pg_atomic_init_u64(&shared->starved_at, 0);
	pg_atomic_init_u64(&shared->full_at, 0);
	for (int i = 0; i < WORKER_HINTS_MAX; i++)
		pg_atomic_init_u32(&shared->hints[i], InvalidOid);
	for (int i = 0; i < WORKER_HOLDS_MAX; i++)
		pg_atomic_init_u64(&shared->holds[i], 0);
	for (int i = 0; i < WORKER_SLOTS_MAX; i++)
		slot_init(&shared->slots[i]);
}

/* Find the segment or make it; raises when there is no room. */
static void
workers_open(void)
{
	WorkerShared *shared;
	bool		found;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct(SEGMENT_NAME, sizeof(WorkerShared), &found);
	if (!found)
		workers_fill(shared);
	LWLockRelease(AddinShmemInitLock);
	LWLockRegisterTranche(shared->lock.tranche, "pg_failsafe_workers");
	workers = shared;
}

static void
workers_startup(void)
{
	if (previous_shmem_startup_hook != NULL)
		previous_shmem_startup_hook();
	workers = NULL;
	workers_open();
}

bool
worker_slots_attach(void)
{
	MemoryContext context = CurrentMemoryContext;
	uint32		held = InterruptHoldoffCount;

	if (workers != NULL)
		return true;
	if (attach_failed)
		return false;
	PG_TRY();
	{
		workers_open();
	}
	PG_CATCH();
	{
		/* the error dropped the hold that belongs to the lock */
		InterruptHoldoffCount = held + 1;
		LWLockRelease(AddinShmemInitLock);
		MemoryContextSwitchTo(context);
		FlushErrorState();
		attach_failed = true;
	}
	PG_END_TRY();
	Assert(workers != NULL || attach_failed);
	return workers != NULL;
}

/* ---------- slots ---------- */

WorkerSlot *
worker_slot_find(Oid database_id)
{
	if (workers == NULL || !OidIsValid(database_id))
		return NULL;
	for (int i = 0; i < WORKER_SLOTS_MAX; i++)
		if (pg_atomic_read_u32(&workers->slots[i].database_id) == database_id)
			return &workers->slots[i];
	return NULL;
}

/* Where no launcher frees slots, one whose worker has left may be used again. */
static WorkerSlot *
slot_find_free(void)
{
	for (int i = 0; i < WORKER_SLOTS_MAX; i++)
		if (pg_atomic_read_u32(&workers->slots[i].database_id) == InvalidOid)
			return &workers->slots[i];
	if (pg_atomic_read_u32(&workers->launcher) != WORKER_NO_PROCESS)
		return NULL;
	for (int i = 0; i < WORKER_SLOTS_MAX; i++)
		if (workers->slots[i].facts.pid == 0)
			return &workers->slots[i];
	return NULL;
}

WorkerSlot *
worker_slot_make(Oid database_id)
{
	WorkerSlot *slot;

	Assert(workers != NULL && OidIsValid(database_id));
	LWLockAcquire(&workers->lock, LW_EXCLUSIVE);
	slot = worker_slot_find(database_id);
	if (slot == NULL && (slot = slot_find_free()) != NULL)
	{
		memset(&slot->facts, 0, sizeof(slot->facts));
		pg_atomic_write_u32(&slot->process, WORKER_NO_PROCESS);
		pg_atomic_write_u32(&slot->leave, WORKER_STAY);
		pg_atomic_write_u64(&slot->rounds, 0);
		pg_atomic_write_u64(&slot->last_round_at, 0);
		pg_atomic_write_u32(&slot->database_id, database_id);
	}
	LWLockRelease(&workers->lock);
	return slot;
}

void
worker_slot_free(WorkerSlot *slot)
{
	LWLockAcquire(&workers->lock, LW_EXCLUSIVE);
	/* one that started late has claimed it meanwhile */
	if (slot->facts.pid == 0)
		pg_atomic_write_u32(&slot->database_id, InvalidOid);
	LWLockRelease(&workers->lock);
}

bool
worker_slot_claim(WorkerSlot *slot)
{
	bool		claimed;

	Assert(MyProcPid != 0 && MyProc != NULL);
	LWLockAcquire(&workers->lock, LW_EXCLUSIVE);
	claimed = slot->facts.pid == 0;
	if (claimed)
	{
		slot->facts.pid = MyProcPid;
		slot->facts.state = WORKER_STARTING;
		slot->facts.starts++;
		slot->facts.started_at = GetCurrentTimestamp();
		slot->facts.relay_pid = 0;
		slot->facts.note[0] = '\0';
		pg_atomic_write_u32(&slot->leave, WORKER_STAY);
		pg_atomic_write_u32(&slot->process, backend_number_compat());
	}
	LWLockRelease(&workers->lock);
	return claimed;
}

void
worker_slot_leave(WorkerSlot *slot, WorkerState state)
{
	LWLockAcquire(&workers->lock, LW_EXCLUSIVE);
	Assert(slot->facts.pid == MyProcPid);
	slot->facts.pid = 0;
	slot->facts.relay_pid = 0;
	slot->facts.state = state;
	slot->facts.ended_at = GetCurrentTimestamp();
	pg_atomic_write_u32(&slot->process, WORKER_NO_PROCESS);
	LWLockRelease(&workers->lock);
	launcher_wake();
}

void
worker_slot_set_state(WorkerSlot *slot, WorkerState state, const char *note)
{
	LWLockAcquire(&workers->lock, LW_EXCLUSIVE);
	slot->facts.state = state;
	strlcpy(slot->facts.note, note != NULL ? note : "", WORKER_NOTE_BYTES_MAX);
	LWLockRelease(&workers->lock);
}

void
worker_slot_note_error(WorkerSlot *slot, const char *message)
{
	char		kept[WORKER_ERROR_BYTES_MAX];
	int			length = strlen(message);

	length = pg_mbcliplen(message, length, WORKER_ERROR_BYTES_MAX - 1);
	memcpy(kept, message, length);
	kept[length] = '\0';
	LWLockAcquire(&workers->lock, LW_EXCLUSIVE);
	slot->facts.errors++;
	slot->facts.last_error_at = GetCurrentTimestamp();
	strlcpy(slot->facts.last_error, kept, WORKER_ERROR_BYTES_MAX);
	LWLockRelease(&workers->lock);
}

void
worker_slot_note_relay(WorkerSlot *slot, int pid, bool lost)
{
	Assert(!lost || pid == 0);
	LWLockAcquire(&workers->lock, LW_EXCLUSIVE);
	slot->facts.relay_pid = pid;
	if (pid != 0)
		slot->facts.relay_started_at = GetCurrentTimestamp();
	if (lost)
		slot->facts.relay_restarts++;
	LWLockRelease(&workers->lock);
}

void
worker_slot_note_maintenance(WorkerSlot *slot)
{
	LWLockAcquire(&workers->lock, LW_EXCLUSIVE);
	slot->facts.maintained_at = GetCurrentTimestamp();
	LWLockRelease(&workers->lock);
}

void
worker_slot_facts(WorkerSlot *slot, WorkerFacts *facts)
{
	LWLockAcquire(&workers->lock, LW_SHARED);
	*facts = slot->facts;
	LWLockRelease(&workers->lock);
}

/* ---------- waking ---------- */

/* Set the latch of a process by its number, which may be out of date [W3]. */
static void
process_wake(uint32 process)
{
	if (process < ProcGlobal->allProcCount)
		SetLatch(&GetPGProcByNumber(process)->procLatch);
}

void
launcher_wake(void)
{
	if (workers != NULL)
		process_wake(pg_atomic_read_u32(&workers->launcher));
}

static void
slot_wake(WorkerSlot *slot)
{
	process_wake(pg_atomic_read_u32(&slot->process));
}

void
worker_slot_ask(WorkerSlot *slot, WorkerLeave leave)
{
	pg_atomic_write_u32(&slot->leave, leave);
	pg_memory_barrier();
	slot_wake(slot);
}

void
worker_wake(void)
{
	WorkerSlot *slot = worker_slot_find(MyDatabaseId);

	if (slot != NULL)
		slot_wake(slot);
}

void
worker_wake_at_commit(void)
{
	wake_due = true;
}

void
worker_hint_at_commit(void)
{
	hint_due = true;
}

void
worker_rescan_at_commit(void)
{
	rescan_due = true;
}

void
launcher_hint(Oid database_id)
{
	Assert(OidIsValid(database_id));
	if (workers == NULL)
		return;
	for (int i = 0; i < WORKER_HINTS_MAX; i++)
	{
		uint32		empty = InvalidOid;

		if (pg_atomic_read_u32(&workers->hints[i]) == database_id ||
			pg_atomic_compare_exchange_u32(&workers->hints[i], &empty, database_id))
		{
			launcher_wake();
			return;
		}
	}
	pg_atomic_write_u32(&workers->hints_lost, 1);
	launcher_wake();
}

/* The worker of this database shall look at everything again; where none is, start one. */
static void
worker_nudge(void)
{
	WorkerSlot *slot = worker_slot_find(MyDatabaseId);

	if (slot != NULL)
	{
		(void) pg_atomic_fetch_add_u32(&slot->nudges, 1);
		slot_wake(slot);
	}
	else
		launcher_hint(MyDatabaseId);
}

static void
hold_release(void)
{
	if (my_hold < 0)
		return;
	pg_atomic_write_u64(&workers->holds[my_hold], 0);
	my_hold = -1;
	launcher_wake();
}

/* Runs at the end of every transaction: nothing here throws or allocates [W2]. */
static void
workers_transaction_end(bool committed)
{
	if (my_hold >= 0)
		hold_release();
	if (committed && workers != NULL)
	{
		if (rescan_due)
		{
			pg_atomic_write_u32(&workers->rescan, 1);
			launcher_wake();
		}
		if (hint_due)
			launcher_hint(MyDatabaseId);
		if (wake_due || hint_due)
			worker_nudge();
		else if (outbox_appended)
			worker_wake();
	}
	wake_due = hint_due = rescan_due = outbox_appended = false;
}

/* ---------- holds ---------- */

bool
worker_hold_exists(Oid database_id)
{
	for (int i = 0; workers != NULL && i < WORKER_HOLDS_MAX; i++)
		if ((Oid) (pg_atomic_read_u64(&workers->holds[i]) >> 32) == database_id)
			return true;
	return false;
}

/* Without a free place the worker still sees the statement's lock on the database. */
static void
hold_take(Oid database_id)
{
	uint64		value = ((uint64) database_id << 32) | (uint32) MyProcPid;

	Assert(OidIsValid(database_id) && my_hold < 0);
	for (int i = 0; i < WORKER_HOLDS_MAX; i++)
	{
		uint64		empty = 0;

		if (pg_atomic_compare_exchange_u64(&workers->holds[i], &empty, value))
		{
			my_hold = i;
			return;
		}
	}
}

/* Wait until the worker with this pid has left the slot, or give up. */
static void
hold_wait(WorkerSlot *slot, int pid)
{
	TimestampTz began_at = GetCurrentTimestamp();
	WorkerFacts facts;
	bool		terminated = false;

	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();

		worker_slot_facts(slot, &facts);
		if (facts.pid != pid || TimestampDifferenceExceeds(began_at, now, HOLD_GIVE_UP_MS))
			return;
		if (!terminated && TimestampDifferenceExceeds(began_at, now, HOLD_ASK_MS))
		{
			/* it is inside a statement */
			terminated = true;
			(void) kill(pid, SIGTERM);
		}
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 HOLD_STEP_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

void
worker_hold_database(Oid database_id)
{
	WorkerSlot *slot;
	WorkerFacts facts;

	if (workers == NULL || my_hold >= 0)
		return;
	hold_take(database_id);
	slot = worker_slot_find(database_id);
	if (slot == NULL)
		return;
	worker_slot_facts(slot, &facts);
	if (facts.pid == 0 || facts.pid == MyProcPid)
		return;
	worker_slot_ask(slot, WORKER_LEAVE_YIELD);
	hold_wait(slot, facts.pid);
}

void
worker_holds_sweep(void)
{
	for (int i = 0; i < WORKER_HOLDS_MAX; i++)
	{
		uint64		value = pg_atomic_read_u64(&workers->holds[i]);

		if (value != 0 && BackendPidGetProc((int) (uint32) value) == NULL)
			(void) pg_atomic_compare_exchange_u64(&workers->holds[i], &value, 0);
	}
}

void
worker_slots_init(void)
{
	commit_add_hook(workers_transaction_end);
	if (!process_shared_preload_libraries_in_progress)
		return;
	previous_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = workers_request;
	previous_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = workers_startup;
}
