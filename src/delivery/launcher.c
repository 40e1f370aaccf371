/*
 * delivery/launcher.c
 *	  The launcher: one process a server, which sees to it that each database that has
 *	  the extension has its worker.
 *
 * Invariants:
 *	N1	It is connected to no database, so it is in nobody's way; all it reads is
 *		pg_database, and only when that changed.
 *	N2	Whether a database has the extension is found out by a worker that looks and
 *		leaves.  Each database is looked into once, then only after a hint.
 *	N3	Templates, databases that allow no connections and invalid ones have no worker,
 *		not even one that looks.
 *	N4	No worker starts in a database that somebody holds.
 *	N5	A worker that ended without a reason comes back, after a pause that doubles.
 *	N6	Where there is no background worker to be had, that is logged once, and tried
 *		again for ever.
 *	N7	After an end of the launcher the next one finds the workers in their slots.
 *
 * On a standby there is none; promotion starts it [I10].
 *
 * Lock order: pg_database, for the time of a look.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/sinval.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/wait_event.h"

#include "base/compat.h"
#include "delivery/delivery.h"
#include "delivery/worker.h"
#include "delivery/worker_slot.h"

#define LAUNCHER_RESTART_S	5
#define LOOK_EVERY_MS		10000
#define STARTS_AT_ONCE		4	/* workers that have not had their first look */
#define RETRY_MS			1000
#define NO_ROOM_RETRY_MS	10000
#define BACKOFF_MIN_MS		1000
#define BACKOFF_MAX_MS		60000
#define HEALTHY_AFTER_MS	60000	/* lived so long: the next failure is a first one */

PGDLLEXPORT void failsafe_launcher_main(Datum argument);

typedef enum DatabaseState
{
	DATABASE_START,				/* a worker starts when its time has come */
	DATABASE_AT_WORK,			/* one is registered, or runs */
	DATABASE_WITHOUT,			/* no extension there; a hint changes that */
	DATABASE_STOPPED			/* by worker_stop() */
} DatabaseState;

/* What the launcher knows of a database. */
typedef struct Database
{
	Oid			id;				/* key */
	bool		eligible;		/* in the last list, and may have a worker */
	bool		hinted;			/* while a worker was there: look again */
	DatabaseState state;
	TimestampTz start_at;
	int			failures;		/* in a row */
	WorkerSlot *slot;
	BackgroundWorkerHandle *handle; /* of the last registration, or NULL */
} Database;

static HTAB *databases = NULL;
static MemoryContext launcher_context = NULL;
static bool databases_changed = true;

/* ---------- the list of databases ---------- */

static void
database_row_changed(Datum argument, int cache_id, uint32 hash_value)
{
	databases_changed = true;
}

/* May it have a worker?  Pure [N3]. */
static bool
database_is_eligible(Form_pg_database row)
{
	return row->datallowconn && !row->datistemplate && row->datconnlimit >= -1;
}

static Database *
database_enter(Oid id)
{
	bool		found;
	Database   *database = hash_search(databases, &id, HASH_ENTER, &found);

	if (!found)
	{
		memset(database, 0, sizeof(*database));
		database->id = id;
		database->state = DATABASE_START;
		database->slot = worker_slot_find(id);
		/* one that a launcher before this one has started */
		if (database->slot != NULL)
			database->state = DATABASE_AT_WORK;
	}
	return database;
}

/* Read pg_database; new ones are looked into now. */
static void
databases_read(void)
{
	HASH_SEQ_STATUS all;
	Database   *database;
	Relation	relation;
	TableScanDesc scan;
	HeapTuple	tuple;

	databases_changed = false;
	hash_seq_init(&all, databases);
	while ((database = hash_seq_search(&all)) != NULL)
		database->eligible = false;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	relation = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(relation, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database row = (Form_pg_database) GETSTRUCT(tuple);

		if (database_is_eligible(row))
			database_enter(row->oid)->eligible = true;
	}
	table_endscan(scan);
	table_close(relation, AccessShareLock);
	CommitTransactionCommand();
}

static void
database_hint(Database *database)
{
	if (database->state == DATABASE_AT_WORK)
		database->hinted = true;
	else
	{
		database->state = DATABASE_START;
		database->start_at = 0;
		database->failures = 0;
	}
}

/* Hints that did not fit, or databases that are not known yet: look at everything. */
static void
hints_take(void)
{
	HASH_SEQ_STATUS all;
	Database   *database;

	for (int i = 0; i < WORKER_HINTS_MAX; i++)
	{
		Oid			id = pg_atomic_exchange_u32(&workers->hints[i], InvalidOid);

		if (!OidIsValid(id))
			continue;
		database = hash_search(databases, &id, HASH_FIND, NULL);
		if (database != NULL)
			database_hint(database);
		else
			databases_changed = true;
	}
	if (pg_atomic_exchange_u32(&workers->rescan, 0) != 0)
		databases_changed = true;
	if (pg_atomic_exchange_u32(&workers->hints_lost, 0) == 0)
		return;
	databases_changed = true;
	hash_seq_init(&all, databases);
	while ((database = hash_seq_search(&all)) != NULL)
		database_hint(database);
}

/* ---------- one database ---------- */

static void
database_start_later(Database *database, int pause_ms)
{
	database->state = DATABASE_START;
	database->start_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), pause_ms);
}

/* Its worker ended for no good reason: again, later and later [N5]. */
static void
database_failed(Database *database, const WorkerFacts *facts)
{
	int			pause_ms = BACKOFF_MAX_MS;

	if (facts->started_at != 0 &&
		TimestampDifferenceExceeds(facts->started_at, facts->ended_at, HEALTHY_AFTER_MS))
		database->failures = 0;
	if (database->failures < 6)
		pause_ms = BACKOFF_MIN_MS << database->failures;
	database->failures++;
	database_start_later(database, Min(pause_ms, BACKOFF_MAX_MS));
}

/* Its worker has left: why, and what next? */
static void
database_left(Database *database, const WorkerFacts *facts)
{
	bool		hinted = database->hinted;

	Assert(database->state == DATABASE_AT_WORK && facts->pid == 0);
	if (database->handle != NULL)
		pfree(database->handle);
	database->handle = NULL;
	database->hinted = false;
	switch (facts->state)
	{
		case WORKER_NO_EXTENSION:
			database->failures = 0;
			database->state = DATABASE_WITHOUT;
			break;
		case WORKER_STOPPED:
			database->state = DATABASE_STOPPED;
			break;
		case WORKER_YIELDED:
			database_start_later(database, RETRY_MS);
			break;
		default:
			database_failed(database, facts);
			break;
	}
	if (hinted)
		database_hint(database);
	if (database->state == DATABASE_WITHOUT)
	{
		worker_slot_free(database->slot);
		database->slot = NULL;
	}
}

/* Is the registered process still to come, or there but not in its slot yet? */
static bool
database_worker_is_coming(Database *database)
{
	pid_t		pid;
	BgwHandleStatus status;

	if (database->handle == NULL)
		return false;
	status = GetBackgroundWorkerPid(database->handle, &pid);
	return status == BGWH_NOT_YET_STARTED || status == BGWH_STARTED;
}

static void
database_look(Database *database)
{
	WorkerFacts facts;

	if (database->state != DATABASE_AT_WORK)
		return;
	Assert(database->slot != NULL);
	worker_slot_facts(database->slot, &facts);
	if (facts.pid == 0)
	{
		if (!database_worker_is_coming(database))
			database_left(database, &facts);
	}
	else if (!database->eligible)
		worker_slot_ask(database->slot, WORKER_LEAVE_YIELD);
}

/* Say it once, until it is over [N6]. */
static void
database_no_room(Database *database, pg_atomic_uint64 *since, const char *message,
				 const char *hint)
{
	if (pg_atomic_read_u64(since) == 0)
	{
		pg_atomic_write_u64(since, (uint64) GetCurrentTimestamp());
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("pg_failsafe launcher: %s", message),
				 errdetail("Database %u has no worker.", database->id),
				 errhint("%s", hint)));
	}
	database_start_later(database, NO_ROOM_RETRY_MS);
}

static void
database_start(Database *database)
{
	WorkerStart start = {.database_id = database->id, .by_hand = false};

	Assert(database->state == DATABASE_START && database->handle == NULL);
	if (worker_hold_exists(database->id))
	{
		database_start_later(database, RETRY_MS);
		return;
	}
	database->slot = worker_slot_make(database->id);
	if (database->slot == NULL)
	{
		database_no_room(database, &workers->full_at, "all slots for workers are taken",
						 "Drop the extension from databases that do not need it.");
		return;
	}
	pg_atomic_write_u64(&workers->full_at, 0);
	if (pg_atomic_read_u32(&database->slot->leave) == WORKER_LEAVE_STOP)
	{
		database->state = DATABASE_STOPPED;
		return;
	}
	worker_slot_set_state(database->slot, WORKER_STARTING, NULL);
	if (!worker_register(&start, &database->handle))
	{
		database->handle = NULL;
		database_no_room(database, &workers->starved_at, "no background worker is to be had",
						 "Increase max_worker_processes and restart.");
		return;
	}
	pg_atomic_write_u64(&workers->starved_at, 0);
	database->state = DATABASE_AT_WORK;
}

/* ---------- all of them ---------- */

/* Forget what is no longer in the list. */
static void
database_forget(Database *database)
{
	if (database->slot != NULL)
		worker_slot_free(database->slot);
	(void) hash_search(databases, &database->id, HASH_REMOVE, NULL);
}

static bool
database_is_starting(Database *database)
{
	WorkerFacts facts;

	if (database->state != DATABASE_AT_WORK)
		return false;
	worker_slot_facts(database->slot, &facts);
	return facts.state == WORKER_STARTING;
}

/* Look at each database; returns how many workers have not had their first look. */
static int
databases_look(void)
{
	HASH_SEQ_STATUS all;
	Database   *database;
	int			starting = 0;

	hash_seq_init(&all, databases);
	while ((database = hash_seq_search(&all)) != NULL)
	{
		database_look(database);
		if (!database->eligible && database->state != DATABASE_AT_WORK)
			database_forget(database);
		else if (database_is_starting(database))
			starting++;
	}
	return starting;
}

/* Start what is due; returns when the next one is. */
static TimestampTz
databases_start(int starting)
{
	HASH_SEQ_STATUS all;
	Database   *database;
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next_at = DT_NOEND;

	hash_seq_init(&all, databases);
	while ((database = hash_seq_search(&all)) != NULL)
	{
		if (database->state != DATABASE_START)
			continue;
		if (database->start_at <= now && starting < STARTS_AT_ONCE)
		{
			database_start(database);
			starting++;
		}
		/* one that has to queue is started when another tells that it has looked */
		if (database->state == DATABASE_START)
			next_at = Min(next_at, Max(database->start_at,
									   TimestampTzPlusMilliseconds(now, RETRY_MS)));
	}
	return next_at;
}

/* ---------- the process ---------- */

static void
launcher_exit(int code, Datum argument)
{
	pg_atomic_write_u32(&workers->launcher, WORKER_NO_PROCESS);
	pg_atomic_write_u32(&workers->launcher_pid, 0);
}

static void
launcher_prepare(void)
{
	HASHCTL		control = {.keysize = sizeof(Oid), .entrysize = sizeof(Database)};

	launcher_context = AllocSetContextCreate(TopMemoryContext, "pg_failsafe launcher",
											 ALLOCSET_DEFAULT_SIZES);
	control.hcxt = launcher_context;
	databases = hash_create("pg_failsafe databases", 64, &control,
							HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	CacheRegisterSyscacheCallback(DATABASEOID, database_row_changed, (Datum) 0);
	before_shmem_exit(launcher_exit, (Datum) 0);
	pg_atomic_write_u32(&workers->launcher, backend_number_compat());
	pg_atomic_write_u32(&workers->launcher_pid, (uint32) MyProcPid);
}

static void
launcher_wait(TimestampTz until)
{
	long		timeout_ms = Min(LOOK_EVERY_MS,
								 TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until));

	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 timeout_ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	/* not 0, which would mean that it need not come back */
	if (ShutdownRequestPending)
		proc_exit(1);
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

void
failsafe_launcher_main(Datum argument)
{
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	if (workers == NULL)
		proc_exit(0);
	launcher_prepare();
	pgstat_report_appname("pg_failsafe launcher");
	for (;;)
	{
		TimestampTz next_at;

		MemoryContextSwitchTo(launcher_context);
		AcceptInvalidationMessages();
		worker_holds_sweep();
		hints_take();
		if (databases_changed)
			databases_read();
		MemoryContextSwitchTo(launcher_context);
		next_at = databases_start(databases_look());
		launcher_wait(next_at);
	}
}

void
launcher_init(void)
{
	BackgroundWorker registration;

	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
		return;
	memset(&registration, 0, sizeof(registration));
	registration.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	registration.bgw_start_time = BgWorkerStart_RecoveryFinished;
	registration.bgw_restart_time = LAUNCHER_RESTART_S;
	snprintf(registration.bgw_library_name, sizeof(registration.bgw_library_name), "pg_failsafe");
	snprintf(registration.bgw_function_name, sizeof(registration.bgw_function_name),
			 "failsafe_launcher_main");
	snprintf(registration.bgw_name, BGW_MAXLEN, "pg_failsafe launcher");
	snprintf(registration.bgw_type, BGW_MAXLEN, "pg_failsafe launcher");
	RegisterBackgroundWorker(&registration);
}

void
delivery_init(void)
{
	worker_slots_init();
	worker_hook_init();
	launcher_init();
}
