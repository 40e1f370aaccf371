/*
 * delivery/worker_admin.c
 *	  What people ask of workers: worker_start(), worker_stop(), stat_workers, doctor().
 *
 * Takes the lock of the workers' shared memory for copies; waits for a worker without it.
 */
#include "postgres.h"

#include <unistd.h>

#include "access/xlog.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "base/compat.h"
#include "base/errors.h"
#include "base/options.h"
#include "base/settings.h"
#include "base/version.h"
#include "delivery/delivery.h"
#include "delivery/worker.h"
#include "delivery/worker_slot.h"

#define ANSWER_WITHIN_MS	5000
#define ANSWER_STEP_MS		20

/* ---------- start and stop ---------- */

static void
admin_begin(FunctionCallInfo fcinfo, const char *name)
{
	OptionValue none[1];

	version_check();
	PreventCommandDuringRecovery(name);
	options_read(PG_ARGISNULL(0) ? NULL : PG_GETARG_JSONB_P(0), NULL, 0, none);
	if (!worker_slots_attach())
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("there is no shared memory for workers"),
				 errhint("Add pg_failsafe to shared_preload_libraries and restart.")));
}

static bool
launcher_runs(void)
{
	return pg_atomic_read_u32(&workers->launcher) != WORKER_NO_PROCESS;
}

static int
slot_pid(WorkerSlot *slot)
{
	WorkerFacts facts;

	if (slot == NULL)
		return 0;
	worker_slot_facts(slot, &facts);
	return facts.pid;
}

/* Wait for a while until a worker is there, or is not; was it so in time? */
static bool
wait_for_worker(bool present)
{
	TimestampTz began_at = GetCurrentTimestamp();

	while ((slot_pid(worker_slot_find(MyDatabaseId)) != 0) != present)
	{
		if (TimestampDifferenceExceeds(began_at, GetCurrentTimestamp(), ANSWER_WITHIN_MS))
			return false;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 ANSWER_STEP_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	return true;
}

/* Without preload: a worker of this session's making. */
static void
start_by_hand(void)
{
	WorkerStart start = {.database_id = MyDatabaseId, .by_hand = true};
	BackgroundWorkerHandle *handle;

	if (worker_slot_make(MyDatabaseId) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("all slots for workers are taken"),
				 errdetail("At most %d databases of a server have a worker.", WORKER_SLOTS_MAX),
				 errhint("Call worker_stop() in a database that does not need it.")));
	if (!worker_register(&start, &handle))
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("no background worker is to be had"),
				 errhint("Increase max_worker_processes and restart.")));
	ereport(NOTICE,
			(errmsg("the worker ends with the server"),
			 errhint("Add pg_failsafe to shared_preload_libraries and restart, "
					 "for a worker that always comes back.")));
}

PG_FUNCTION_INFO_V1(failsafe_worker_start);

/* worker_start(options jsonb) -> text */
Datum
failsafe_worker_start(PG_FUNCTION_ARGS)
{
	WorkerSlot *slot;

	admin_begin(fcinfo, "worker_start()");
	slot = worker_slot_find(MyDatabaseId);
	if (slot_pid(slot) != 0)
		PG_RETURN_TEXT_P(cstring_to_text("running"));
	if (slot != NULL)
		pg_atomic_write_u32(&slot->leave, WORKER_STAY);
	if (launcher_runs())
		launcher_hint(MyDatabaseId);
	else
		start_by_hand();
	PG_RETURN_TEXT_P(cstring_to_text(wait_for_worker(true) ? "started" : "starting"));
}

PG_FUNCTION_INFO_V1(failsafe_worker_stop);

/* worker_stop(options jsonb) -> text */
Datum
failsafe_worker_stop(PG_FUNCTION_ARGS)
{
	WorkerSlot *slot;
	bool		runs;

	admin_begin(fcinfo, "worker_stop()");
	slot = worker_slot_find(MyDatabaseId);
	if (slot == NULL)
		PG_RETURN_TEXT_P(cstring_to_text("not_running"));
	runs = slot_pid(slot) != 0;
	/* also where none runs: then the launcher starts none */
	worker_slot_ask(slot, WORKER_LEAVE_STOP);
	if (!runs)
		PG_RETURN_TEXT_P(cstring_to_text("not_running"));
	PG_RETURN_TEXT_P(cstring_to_text(wait_for_worker(false) ? "stopped" : "stopping"));
}

/* ---------- reports ---------- */

static Datum
time_or_null(TimestampTz at, bool *isnull)
{
	*isnull = at == 0;
	return TimestampTzGetDatum(at);
}

static Datum
pid_or_null(int pid, bool *isnull)
{
	*isnull = pid == 0;
	return Int32GetDatum(pid);
}

/* What happened in another database is that one's business. */
static Datum
text_or_null(const char *value, bool ours, bool *isnull)
{
	*isnull = !ours || value[0] == '\0';
	return *isnull ? (Datum) 0 : CStringGetTextDatum(value);
}

#define WORKERS_COLUMNS		15

static void
workers_put(ReturnSetInfo *result, WorkerSlot *slot, Oid database_id)
{
	bool		ours = database_id == MyDatabaseId;
	Datum		values[WORKERS_COLUMNS];
	bool		nulls[WORKERS_COLUMNS] = {false};
	WorkerFacts facts;
	int			i = 0;

	worker_slot_facts(slot, &facts);
	values[i++] = ObjectIdGetDatum(database_id);
	values[i] = pid_or_null(facts.pid, &nulls[i]);
	i++;
	values[i++] = CStringGetTextDatum(worker_state_names[facts.state]);
	values[i] = text_or_null(facts.note, ours, &nulls[i]);
	i++;
	values[i] = time_or_null(facts.started_at, &nulls[i]);
	i++;
	values[i++] = Int64GetDatum(facts.starts);
	values[i++] = Int64GetDatum((int64) pg_atomic_read_u64(&slot->rounds));
	values[i] = time_or_null((TimestampTz) pg_atomic_read_u64(&slot->last_round_at), &nulls[i]);
	i++;
	values[i] = time_or_null(facts.maintained_at, &nulls[i]);
	i++;
	values[i++] = Int64GetDatum(facts.errors);
	values[i] = text_or_null(facts.last_error, ours, &nulls[i]);
	i++;
	values[i] = time_or_null(facts.last_error_at, &nulls[i]);
	i++;
	values[i] = pid_or_null(facts.relay_pid, &nulls[i]);
	i++;
	values[i] = time_or_null(facts.relay_started_at, &nulls[i]);
	i++;
	values[i++] = Int64GetDatum(facts.relay_restarts);
	Assert(i == WORKERS_COLUMNS);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

PG_FUNCTION_INFO_V1(failsafe_stat_workers);

Datum
failsafe_stat_workers(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	Assert(result->setDesc->natts == WORKERS_COLUMNS);
	if (!worker_slots_attach())
		return (Datum) 0;
	for (int i = 0; i < WORKER_SLOTS_MAX; i++)
	{
		Oid			database_id = pg_atomic_read_u32(&workers->slots[i].database_id);

		if (OidIsValid(database_id))
			workers_put(result, &workers->slots[i], database_id);
	}
	return (Datum) 0;
}

#define STATUS_COLUMNS		5

PG_FUNCTION_INFO_V1(failsafe_worker_status);

/* For doctor(): launcher, shortage of processes and slots, the relay's program. */
Datum
failsafe_worker_status(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char	   *path = settings_relay_path();
	Datum		values[STATUS_COLUMNS] = {0};
	bool		nulls[STATUS_COLUMNS] = {true, true, true, false, false};

	InitMaterializedSRF(fcinfo, 0);
	Assert(result->setDesc->natts == STATUS_COLUMNS);
	if (worker_slots_attach())
	{
		values[0] = pid_or_null((int) pg_atomic_read_u32(&workers->launcher_pid), &nulls[0]);
		values[1] = time_or_null((TimestampTz) pg_atomic_read_u64(&workers->starved_at),
								 &nulls[1]);
		values[2] = time_or_null((TimestampTz) pg_atomic_read_u64(&workers->full_at), &nulls[2]);
	}
	values[3] = CStringGetTextDatum(path);
	values[4] = CStringGetTextDatum(access(path, X_OK) == 0 ? "" : strerror(errno));
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	return (Datum) 0;
}
