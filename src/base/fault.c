/*
 * base/fault.c
 *	  Owns the setting failsafe.fault and what happens at a fault point; compiled
 *	  for tests only (fault.h).
 *
 * Invariants:
 *	T1	A point that is not armed has no effect but a count.
 *	T2	An armed point acts once: a second command in the session passes it.
 *	T3	A wait ends by itself after WAIT_LIMIT_MS, with an error, and earlier when
 *		it is canceled or its lock becomes free.
 *
 * A wait takes and releases its advisory lock without ever queueing for it.
 */
#include "postgres.h"

#ifdef FAILSAFE_FAULTS

#include <signal.h>

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/wait_event.h"

#include "base/compat.h"
#include "base/fault.h"

#define FAULT_LOCK_KEY			40	/* of pg_advisory_lock() */
#define FAULT_LOCK_FIELD4		1	/* what pg_advisory_lock(bigint) uses */
#define WAIT_LIMIT_MS			60000
#define WAIT_STEP_MS			5
#define FAULT_COLUMNS			3

typedef enum FaultStage
{
	FAULT_RUNNING,				/* nothing that was done so far may stay */
	FAULT_WRITTEN,				/* the commit record is in the log, perhaps not on disk */
	FAULT_FLUSHED				/* the commit is durable */
} FaultStage;

typedef enum FaultKind
{
	FAULT_ERROR,
	FAULT_CRASH,
	FAULT_WAIT,
	FAULT_KIND_COUNT
} FaultKind;

/* What the setting says. */
typedef struct FaultOrder
{
	bool		armed;
	FaultPoint	point;
	FaultKind	kind;
	int64		pass;
} FaultOrder;

static const char *const stage_names[] = {"running", "written", "flushed"};
static const char *const kind_names[] = {"error", "crash", "wait"};

#define FAULT_NAME(name, stage)		#name,
#define FAULT_STAGE(name, stage)	stage,
static const char *const point_names[] = {FAULT_POINTS(FAULT_NAME)};
static const FaultStage point_stages[] = {FAULT_POINTS(FAULT_STAGE)};

static char *setting_fault = "";
static FaultOrder order;
static int64 passes[FAULT_POINT_COUNT]; /* since the setting was assigned */

PG_FUNCTION_INFO_V1(failsafe_fault_points);

/* ---------- the setting ---------- */

/* The number of the first length bytes of text in a list of names; -1: not there. */
static int
name_find(const char *const *names, int count, const char *text, size_t length)
{
	for (int i = 0; i < count; i++)
		if (strlen(names[i]) == length && strncmp(names[i], text, length) == 0)
			return i;
	return -1;
}

/* Read POINT:KIND[:PASS]; pure. */
static bool
order_parse(const char *text, FaultOrder *parsed)
{
	size_t		length = strcspn(text, ":");
	int			point = name_find(point_names, FAULT_POINT_COUNT, text, length);
	int			kind;

	memset(parsed, 0, sizeof(*parsed));
	if (text[0] == '\0')
		return true;
	if (point < 0 || text[length] != ':')
		return false;
	text += length + 1;
	length = strcspn(text, ":");
	kind = name_find(kind_names, FAULT_KIND_COUNT, text, length);
	if (kind < 0 || (kind != FAULT_CRASH && point_stages[point] != FAULT_RUNNING))
		return false;
	parsed->armed = true;
	parsed->point = (FaultPoint) point;
	parsed->kind = (FaultKind) kind;
	parsed->pass = text[length] == ':' ? atoi(text + length + 1) : 1;
	return parsed->pass > 0;
}

static bool
check_fault(char **value, void **extra, GucSource source)
{
	FaultOrder	parsed;

	if (order_parse(*value, &parsed))
		return true;
	GUC_check_errdetail("A fault is POINT:KIND or POINT:KIND:PASS; behind the commit record there are crashes only.");
	return false;
}

static void
assign_fault(const char *value, void *extra)
{
	bool		valid PG_USED_FOR_ASSERTS_ONLY = order_parse(value, &order);

	Assert(valid);
	memset(passes, 0, sizeof(passes));
}

void
fault_init(void)
{
	StaticAssertStmt(lengthof(point_names) == FAULT_POINT_COUNT, "a name for each point");
	DefineCustomStringVariable("failsafe.fault",
							   "What goes wrong where, for tests.",
							   "POINT:KIND[:PASS]; KIND is error, crash or wait. Empty means nothing.",
							   &setting_fault, "", PGC_SUSET, 0,
							   check_fault, assign_fault, NULL);
}

/* ---------- at a point ---------- */

static bool
wait_is_over(void)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0, FAULT_LOCK_KEY, FAULT_LOCK_FIELD4);
	if (LockAcquire(&tag, ShareLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return false;
	LockRelease(&tag, ShareLock, false);
	return true;
}

static void
fault_wait(FaultPoint point)
{
	for (int waited_ms = 0; !wait_is_over(); waited_ms += WAIT_STEP_MS)
	{
		if (waited_ms >= WAIT_LIMIT_MS)
			elog(ERROR, "nobody ended the wait at fault point \"%s\"", point_names[point]);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 WAIT_STEP_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

void
fault_pass(FaultPoint point)
{
	Assert(point >= 0 && point < FAULT_POINT_COUNT);
	passes[point]++;
	if (likely(!order.armed || order.point != point || passes[point] != order.pass))
		return;
	switch (order.kind)
	{
		case FAULT_ERROR:
			elog(ERROR, "fault point \"%s\"", point_names[point]);
			break;
		case FAULT_CRASH:
			raise(SIGKILL);
			break;
		case FAULT_WAIT:
			fault_wait(point);
			break;
		case FAULT_KIND_COUNT:
			Assert(false);
			break;
	}
}

/* ---------- for the test ---------- */

/* _fault_points() -> name, stage, passes since failsafe.fault was set; made by the test */
Datum
failsafe_fault_points(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	Assert(result->setDesc->natts == FAULT_COLUMNS);
	for (int i = 0; i < FAULT_POINT_COUNT; i++)
	{
		Datum		values[FAULT_COLUMNS];
		bool		nulls[FAULT_COLUMNS] = {false};

		values[0] = CStringGetTextDatum(point_names[i]);
		values[1] = CStringGetTextDatum(stage_names[point_stages[i]]);
		values[2] = Int64GetDatum(passes[i]);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

#endif							/* FAILSAFE_FAULTS */
