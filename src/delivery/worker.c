/*
 * delivery/worker.c
 *	  The worker of one database: its loop, its waits, its end; upkeep once a minute.
 *
 * Invariants:
 *	L1	No transaction is open while the loop waits [D4], and no lock is held but one
 *		session lock that nobody else asks for: it makes the worker the only one.
 *	L2	Each wait has the latch, the postmaster's death and a timeout; after each come
 *		CHECK_FOR_INTERRUPTS() and a look at who wants the worker to leave [I10].
 *	L3	The worker waits for no lock longer than a second, and never for a standby or a
 *		flush: it commits with synchronous_commit = off [D10, F19].  What a crash takes of
 *		its own bookkeeping is sent again; events leave only when they are safe [D3].
 *	L4	It works only where the extension is installed in the library's version, and in
 *		a database that was adopted [I10, D9].  It looks again when functions of the
 *		database change, when it is told to, and once a minute.
 *	L5	Whoever locks the database itself, to drop, rename, move or copy it, finds the
 *		worker gone within a second, also where no hook saw the statement.
 *	L6	While there is nothing to do, no statement runs and no transaction begins, but
 *		for upkeep.
 *	L7	An error in a round, a look or upkeep is logged and undone, then comes a pause that
 *		doubles up to BACKOFF_MAX_MS.  An error outside of a transaction ends the
 *		process, because nothing cleans up there.
 *
 * Lock order: the session lock, then what dispatch.c and upkeep take.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "executor/spi.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/sinval.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/wait_event.h"

#include "base/compat.h"
#include "base/settings.h"
#include "base/version.h"
#include "delivery/courier.h"
#include "delivery/delivery.h"
#include "delivery/worker.h"
#include "delivery/worker_slot.h"

#define WORKER_LOCK_FIELD4	7	/* pg_advisory_lock() has 1 and 2, other locks of ours 3 to 6 */
#define WAITING_TICK_MS		1000	/* while it may not deliver */
#define UPKEEP_EVERY_MS		60000
#define WAIT_SOCKET			2	/* its place in the set, after latch and death */
#define BACKOFF_MIN_MS		1000
#define BACKOFF_MAX_MS		30000

PGDLLEXPORT void failsafe_worker_main(Datum argument);

/* What the worker knows; one worker a process. */
typedef struct Worker
{
	WorkerStart start;
	WorkerSlot *slot;
	WorkerState state;			/* as the slot shows it */
	WorkerState left_as;		/* what the slot will say when the process ends */
	bool		left;			/* it says so already */
	uint32		nudges;			/* seen so far */
	bool		look_due;		/* at the extension and its adoption */
	TimestampTz look_at;
	bool		begun;			/* dispatch_begin() was called */
	bool		had_work;		/* the last turn found something to do */
	int			failures;		/* rounds that failed, in a row */
	TimestampTz rounds_after;	/* the pause after a failure */
	int			upkeep_step;
	TimestampTz upkeep_at;
	bool		report_due;		/* counts that the statistics have not seen */
	MemoryContext context;		/* of a turn of the loop */
	WaitEventSet *wait_set;
	int			wait_relay;		/* the relay whose socket is in it, 0: none */
	uint32		wait_events;	/* what is waited for there */
} Worker;

static Worker worker;
static volatile sig_atomic_t terminate_requested = false;

static void worker_look(void);
static bool worker_try(void (*step) (void));

/* ---------- registering ---------- */

bool
worker_register(const WorkerStart *start, BackgroundWorkerHandle **handle)
{
	BackgroundWorker registration;

	Assert(OidIsValid(start->database_id));
	StaticAssertStmt(sizeof(WorkerStart) <= BGW_EXTRALEN, "the start fits");
	memset(&registration, 0, sizeof(registration));
	registration.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	registration.bgw_start_time = BgWorkerStart_RecoveryFinished;
	registration.bgw_restart_time = BGW_NEVER_RESTART;
	registration.bgw_notify_pid = MyProcPid;
	snprintf(registration.bgw_library_name, sizeof(registration.bgw_library_name), "pg_failsafe");
	snprintf(registration.bgw_function_name, sizeof(registration.bgw_function_name),
			 "failsafe_worker_main");
	snprintf(registration.bgw_name, BGW_MAXLEN, "pg_failsafe worker of database %u",
			 start->database_id);
	snprintf(registration.bgw_type, BGW_MAXLEN, "pg_failsafe worker");
	memcpy(registration.bgw_extra, start, sizeof(*start));
	return RegisterDynamicBackgroundWorker(&registration, handle);
}

/* ---------- leaving ---------- */

static void
worker_exit(int code, Datum argument)
{
	if (!worker.left)
		worker_slot_leave(worker.slot, worker.left_as);
	worker.left = true;
}

/*
 * End the process; the slot tells why.  Without a launcher nobody would bring back a
 * worker that made room, so it leaves a successor: that one waits in line for the
 * database before it is connected, and is in nobody's way.
 */
static void
worker_leave(WorkerState state)
{
	Assert(!IsTransactionState());
	worker.left_as = state;
	if (worker.begun && worker.state == WORKER_RUNNING && state != WORKER_NO_EXTENSION)
	{
		/* told once already: the last round is not to be interrupted by that */
		ProcDiePending = false;
		(void) worker_try(dispatch_end);
	}
	courier_stop();
	if (state == WORKER_YIELDED && worker.start.by_hand)
	{
		BackgroundWorkerHandle *handle;

		worker_exit(0, (Datum) 0);
		if (!worker_register(&worker.start, &handle))
			ereport(LOG,
					(errmsg("pg_failsafe worker: it left database %u and cannot come back",
							worker.start.database_id),
					 errhint("Increase max_worker_processes, then call worker_start().")));
	}
	proc_exit(0);
}

/* SIGTERM: inside of a statement like any backend, between two turns without a word. */
static void
worker_handle_terminate(SIGNAL_ARGS)
{
	int			saved_errno = errno;

	terminate_requested = true;
	die(postgres_signal_arg);
	errno = saved_errno;
}

/* Does somebody lock this database, or stand in line for it? [L5] */
static bool
database_is_locked(void)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, MyDatabaseId, 0);
	if (LockAcquire(&tag, RowExclusiveLock, true, true) == LOCKACQUIRE_NOT_AVAIL)
		return true;
	(void) LockRelease(&tag, RowExclusiveLock, true);
	return false;
}

/* Between two turns: must this process go? */
static void
leave_if_asked(void)
{
	if (terminate_requested || ShutdownRequestPending)
		worker_leave(WORKER_ENDED);
	switch ((WorkerLeave) pg_atomic_read_u32(&worker.slot->leave))
	{
		case WORKER_STAY:
			break;
		case WORKER_LEAVE_YIELD:
			worker_leave(WORKER_YIELDED);
			break;
		case WORKER_LEAVE_STOP:
			worker_leave(WORKER_STOPPED);
			break;
	}
	if (worker_hold_exists(MyDatabaseId) || database_is_locked())
		worker_leave(WORKER_YIELDED);
}

/* ---------- errors ---------- */

/* Log an error with the fixed prefix. */
static void
worker_log_error(const ErrorData *error)
{
	ereport(LOG,
			(errcode(error->sqlerrcode),
			 errmsg("pg_failsafe worker: %s", error->message),
			 error->detail_log != NULL ? errdetail_internal("%s", error->detail_log) :
			 error->detail != NULL ? errdetail_internal("%s", error->detail) : 0,
			 error->hint != NULL ? errhint("%s", error->hint) : 0,
			 error->context != NULL ? (errcontext("%s", error->context)) : 0));
	worker_slot_note_error(worker.slot, error->message);
}

/* In the middle of an error: undo its transaction, and return what it was [L7]. */
static ErrorData *
worker_undo(void)
{
	bool		in_transaction = IsTransactionOrTransactionBlock();
	ErrorData  *error;

	HOLD_INTERRUPTS();
	QueryCancelPending = false;
	MemoryContextSwitchTo(worker.context);
	error = CopyErrorData();
	FlushErrorState();
	AbortCurrentTransaction();
	MemoryContextSwitchTo(worker.context);
	if (!in_transaction)
	{
		worker_log_error(error);
		proc_exit(1);
	}
	pgstat_report_activity(STATE_IDLE, NULL);
	RESUME_INTERRUPTS();
	return error;
}

/*
 * Run one step; false: it failed, which is logged and undone.  Where it failed because
 * the extension is gone, nothing is wrong, and the worker leaves.
 */
static bool
worker_try(void (*step) (void))
{
	ErrorData  *volatile error = NULL;

	Assert(!IsTransactionState());
	PG_TRY();
	{
		step();
	}
	PG_CATCH();
	{
		error = worker_undo();
	}
	PG_END_TRY();
	/* a transaction leaves another context behind */
	MemoryContextSwitchTo(worker.context);
	Assert(!IsTransactionState());
	if (error == NULL)
		return true;
	if (step != worker_look)
		(void) worker_try(worker_look);
	worker_log_error(error);
	return false;
}

/* ---------- may it deliver? ---------- */

static void
functions_changed(Datum argument, int cache_id, uint32 hash_value)
{
	worker.look_due = true;
}

static void
worker_set_state(WorkerState state, const char *note)
{
	worker.state = state;
	worker_slot_set_state(worker.slot, state, note);
	pgstat_report_activity(STATE_IDLE, state == WORKER_RUNNING ? "waiting for events" :
						   psprintf("waiting: %s", note != NULL ? note :
									worker_state_names[state]));
}

/* Look whether this database has the extension and was told to deliver; in a transaction. */
static WorkerState
look_inside(const char **note)
{
	*note = NULL;
	switch (version_look())
	{
		case VERSION_ABSENT:
			return WORKER_NO_EXTENSION;
		case VERSION_SKEWED:
			*note = "the library and the extension have different versions";
			return WORKER_VERSION_SKEW;
		case VERSION_SAME:
			break;
	}
	if (!instance_is_adopted(note))
		return WORKER_NOT_ADOPTED;
	if (!setting_delivery)
	{
		*note = "failsafe.delivery is off";
		return WORKER_OFF;
	}
	return WORKER_RUNNING;
}

static void
worker_look(void)
{
	const char *note;
	WorkerState state;

	/* before it looks: what changes from now on is looked at again */
	worker.look_due = false;
	worker.nudges = pg_atomic_read_u32(&worker.slot->nudges);
	worker.look_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), UPKEEP_EVERY_MS);
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	state = look_inside(&note);
	if (note != NULL)
		note = MemoryContextStrdup(worker.context, note);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(worker.context);
	if (state == WORKER_NO_EXTENSION)
		worker_leave(state);
	if (state != worker.state || state != WORKER_RUNNING)
		worker_set_state(state, note);
}

static bool
look_is_due(TimestampTz now)
{
	/* what other sessions changed arrives with the transactions, or here [L6] */
	AcceptInvalidationMessages();
	return worker.look_due || now >= worker.look_at ||
		worker.nudges != pg_atomic_read_u32(&worker.slot->nudges);
}

/* ---------- upkeep ---------- */

typedef struct Upkeep
{
	const char *activity;
	const char *statement;
} Upkeep;

/* Checkpoints come first: a transaction that has written holds their horizon back. */
static const Upkeep upkeep[] = {
	{"upkeep: checkpoints of system accounts", "SELECT failsafe.ledger_checkpoint()"},
	{"upkeep: expired holds", "SELECT failsafe.holds_sweep(1000)"},
	{"upkeep: old application keys", "SELECT failsafe.idempotency_prune(10000)"},
	{"upkeep: old attempts and dead letters", "SELECT failsafe.delivery_prune()"},
	{"upkeep: old events", "SELECT failsafe.outbox_retain()"}
};

static void
upkeep_run(void)
{
	const Upkeep *task = &upkeep[worker.upkeep_step];

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	PushActiveSnapshot(GetTransactionSnapshot());
	pgstat_report_activity(STATE_RUNNING, task->activity);
	(void) SPI_execute(task->statement, false, 0);
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_activity(STATE_IDLE, "waiting for events");
	worker.report_due = true;
}

/* One task a turn, so that events do not wait for all of them. */
static void
upkeep_turn(TimestampTz now)
{
	if (worker.upkeep_step == 0 && (now < worker.upkeep_at || !setting_maintenance))
		return;
	if (worker.upkeep_step == 0)
		worker.upkeep_at = TimestampTzPlusMilliseconds(now, UPKEEP_EVERY_MS);
	(void) worker_try(upkeep_run);
	worker.upkeep_step = (worker.upkeep_step + 1) % lengthof(upkeep);
	if (worker.upkeep_step == 0)
		worker_slot_note_maintenance(worker.slot);
}

/* ---------- the relay ---------- */

static const char *
courier_source(void)
{
	static char *source = NULL;

	if (source == NULL)
		source = MemoryContextStrdup(TopMemoryContext,
									 psprintf("/pg_failsafe/" UINT64_FORMAT "/%u",
											  GetSystemIdentifier(), MyDatabaseId));
	return source;
}

static void
relay_turn(void)
{
	if (!courier_pump(dispatch_result))
	{
		dispatch_courier_lost();
		worker_slot_note_relay(worker.slot, 0, true);
	}
	if (!courier_is_up() && dispatch_needs_relay() && courier_start(courier_source()))
		worker_slot_note_relay(worker.slot, courier_pid(), false);
}

static void
relay_end(void)
{
	if (!courier_is_up())
		return;
	courier_stop();
	worker_slot_note_relay(worker.slot, 0, false);
	dispatch_courier_lost();
}

/* ---------- rounds ---------- */

static void
round_failed(TimestampTz now)
{
	int			pause_ms = BACKOFF_MAX_MS;

	if (worker.failures < 5)
		pause_ms = BACKOFF_MIN_MS << worker.failures;
	worker.failures++;
	dispatch_forget();
	worker.rounds_after = TimestampTzPlusMilliseconds(now, pause_ms);
	worker.look_due = true;
}

static void
round_run(void)
{
	TimestampTz now = GetCurrentTimestamp();

	if (!dispatch_has_work(now))
		return;
	worker.had_work = true;
	SetCurrentStatementStartTimestamp();
	pgstat_report_activity(STATE_RUNNING, "delivering events");
	dispatch_round();
	pgstat_report_activity(STATE_IDLE, "waiting for events");
	(void) pg_atomic_fetch_add_u64(&worker.slot->rounds, 1);
	pg_atomic_write_u64(&worker.slot->last_round_at, (uint64) now);
	worker.report_due = true;
	worker.failures = 0;
}

static void
round_turn(TimestampTz now)
{
	worker.had_work = false;
	if (now >= worker.rounds_after && !worker_try(round_run))
		round_failed(GetCurrentTimestamp());
}

/* One turn of the loop: everything that is due now. */
static void
worker_turn(void)
{
	TimestampTz now = GetCurrentTimestamp();

	if (look_is_due(now) && !worker_try(worker_look))
		worker.look_at = TimestampTzPlusMilliseconds(now, BACKOFF_MIN_MS);
	if (worker.state == WORKER_RUNNING)
	{
		if (!worker.begun)
			dispatch_begin();
		worker.begun = true;
		relay_turn();
		round_turn(now);
		dispatch_send(GetCurrentTimestamp());
		/* what the round wants to send goes out now */
		relay_turn();
	}
	else
		relay_end();
	if (worker.state == WORKER_RUNNING || worker.state == WORKER_OFF)
		upkeep_turn(now);
	if (worker.report_due)
		worker.report_due = pgstat_report_stat(false) != 0;
}

/* ---------- waiting ---------- */

/* Milliseconds until the loop has to turn again. */
static long
wait_ms(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz due;

	if (worker.upkeep_step > 0)
		return 0;
	if (worker.state != WORKER_RUNNING)
		return WAITING_TICK_MS;
	if (now < worker.rounds_after)
		return WORKER_TICK_MS;
	if (worker.had_work)
		return 0;
	due = dispatch_next_due();
	return Min(WORKER_TICK_MS, TimestampDifferenceMilliseconds(now, due));
}

/* The set of what is waited for: made anew with each relay, changed as there is to write. */
static void
wait_set_prepare(void)
{
	pgsocket	socket = courier_socket();
	uint32		events = WL_SOCKET_READABLE |
		(courier_wants_write() ? WL_SOCKET_WRITEABLE : 0);

	/* not told by the socket: the next relay's may have the same number */
	if (worker.wait_set != NULL && courier_pid() == worker.wait_relay)
	{
		if (socket != PGINVALID_SOCKET && events != worker.wait_events)
			ModifyWaitEvent(worker.wait_set, WAIT_SOCKET, events, NULL);
		worker.wait_events = events;
		return;
	}
	if (worker.wait_set != NULL)
		FreeWaitEventSet(worker.wait_set);
	worker.wait_set = wait_set_create_compat(TopMemoryContext, 3);
	AddWaitEventToSet(worker.wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(worker.wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	if (socket != PGINVALID_SOCKET)
		AddWaitEventToSet(worker.wait_set, events, socket, NULL, NULL);
	worker.wait_relay = courier_pid();
	worker.wait_events = events;
}

static void
worker_wait(void)
{
	WaitEvent	event;

	Assert(!IsTransactionState());
	wait_set_prepare();
	if (WaitEventSetWait(worker.wait_set, wait_ms(), &event, 1, PG_WAIT_EXTENSION) == 0 ||
		(event.events & WL_LATCH_SET) == 0)
		return;
	/* only a latch that was seen: one that is set beside the socket is seen next time */
	ResetLatch(MyLatch);
	dispatch_woken();
}

static void
worker_loop(void)
{
	for (;;)
	{
		MemoryContextReset(worker.context);
		MemoryContextSwitchTo(worker.context);
		leave_if_asked();
		/* nobody's statement: there is nothing to cancel */
		QueryCancelPending = false;
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			worker.look_due = true;
		}
		worker_turn();
		worker_wait();
	}
}

/* ---------- the beginning ---------- */

/* What a database or role sets for its sessions must not change how the worker works. */
static void
worker_settings(void)
{
	static const char *const settings[][2] = {
		{"application_name", "pg_failsafe worker"},
		{"search_path", "pg_catalog, pg_temp"},
		{"synchronous_commit", "off"},
		{"lock_timeout", "1s"},
		{"statement_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"idle_session_timeout", "0"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"session_replication_role", "origin"},
		{"row_security", "on"},
		{"client_min_messages", "error"},
		{"log_statement", "none"},
		{"log_min_duration_statement", "-1"},
		{"log_min_duration_sample", "-1"},
		{"log_transaction_sample_rate", "0"},
		{"zero_damaged_pages", "off"},
		{"jit", "off"}
	};

	for (int i = 0; i < lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_OVERRIDE);
}

/* Be the only one, also where shared memory was made anew [L1]. */
static bool
worker_lock(void)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0, 0, WORKER_LOCK_FIELD4);
	return LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
}

/* Take the slot of the database, before anything can fail; false: there is another worker. */
static bool
worker_enter(void)
{
	if (!worker_slots_attach())
		return false;
	worker.slot = worker_slot_make(worker.start.database_id);
	if (worker.slot == NULL || !worker_slot_claim(worker.slot))
		return false;
	worker.left_as = WORKER_ENDED;
	before_shmem_exit(worker_exit, (Datum) 0);
	return true;
}

void
failsafe_worker_main(Datum argument)
{
	memcpy(&worker.start, MyBgworkerEntry->bgw_extra, sizeof(worker.start));
	pqsignal(SIGTERM, worker_handle_terminate);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	if (!worker_enter())
		proc_exit(0);
	BackgroundWorkerInitializeConnectionByOid(worker.start.database_id, InvalidOid, 0);
	worker_settings();
	worker.context = AllocSetContextCreate(TopMemoryContext, "pg_failsafe worker",
										   ALLOCSET_DEFAULT_SIZES);
	worker.state = WORKER_STARTING;
	worker.look_due = true;
	worker.upkeep_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), UPKEEP_EVERY_MS / 6);
	CacheRegisterSyscacheCallback(PROCOID, functions_changed, (Datum) 0);
	if (!worker_lock())
		worker_leave(WORKER_ENDED);
	courier_init();
	worker_loop();
}
