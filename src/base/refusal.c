/*
 * base/refusal.c
 *	  Owns the ring of the last refusals in shared memory: failsafe.last_refusals.
 *
 * Invariants:
 *	R1	Memory that is all zero is a valid, empty ring.
 *	R2	An entry is written and copied under the ring's spinlock, which is held for one
 *		copy of an entry, and nothing under it can throw.
 *	R3	refusal_note() never throws.  When there is no room for the ring, nothing is
 *		noted and the view is empty.
 *	R4	Keys are masked, as in the server's log, and what is too long is cut.
 *
 * A crash may lose it [I8].  Takes no lock but the spinlock, and that of segment.c once.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/spin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/refusal.h"
#include "base/segment.h"

#define DETAIL_BYTES	400

typedef struct RefusalEntry
{
	TimestampTz at;
	Oid			database_id;
	Oid			session_user_id;
	Oid			role_id;
	int32		pid;
	int32		code;			/* FailsafeCode */
	char		application_name[NAMEDATALEN];
	char		detail[DETAIL_BYTES];
} RefusalEntry;

typedef struct RefusalRing
{
	slock_t		mutex;
	uint64		noted;			/* so far; the next entry is noted modulo the places */
	RefusalEntry entries[FLEXIBLE_ARRAY_MEMBER];
} RefusalRing;

static Segment segment = {
	.name = "pg_failsafe refusals",
	.header_size = offsetof(RefusalRing, entries),
	.entry_size = sizeof(RefusalEntry),
	.entries_preloaded = 256,
	.entries_not_preloaded = 16
};
static RefusalRing *ring = NULL;

void
refusal_init(void)
{
	segment_request(&segment);
}

static void
ring_fill(void *memory)
{
	SpinLockInit(&((RefusalRing *) memory)->mutex);
}

static bool
ring_attach(void)
{
	if (ring == NULL)
		ring = segment_attach(&segment, ring_fill);
	return ring != NULL;
}

void
refusal_note(FailsafeCode code, const char *detail_json)
{
	RefusalEntry entry = {0};
	int			length;

	Assert(code != FAILSAFE_OK && code < FAILSAFE_CODE_COUNT);
	if (!ring_attach())
		return;
	length = (int) strlen(detail_json);
	entry.at = GetCurrentTimestamp();
	entry.database_id = MyDatabaseId;
	entry.session_user_id = GetSessionUserId();
	entry.role_id = GetOuterUserId();
	entry.pid = MyProcPid;
	entry.code = (int32) code;
	strlcpy(entry.application_name, application_name != NULL ? application_name : "",
			sizeof(entry.application_name));
	memcpy(entry.detail, detail_json, pg_mbcliplen(detail_json, length, DETAIL_BYTES - 1));
	SpinLockAcquire(&ring->mutex);
	ring->entries[ring->noted++ % segment.entry_count] = entry;
	SpinLockRelease(&ring->mutex);
}

/* ---------- reading ---------- */

#define REFUSAL_COLUMNS	7

static void
put_entry(ReturnSetInfo *result, const RefusalEntry *entry)
{
	const FailsafeErrorInfo *info = error_info((FailsafeCode) entry->code);
	Datum		values[REFUSAL_COLUMNS];
	bool		nulls[REFUSAL_COLUMNS] = {false};

	Assert(entry->at != 0);
	values[0] = TimestampTzGetDatum(entry->at);
	values[1] = CStringGetTextDatum(info->name);
	values[2] = ObjectIdGetDatum(entry->session_user_id);
	values[3] = ObjectIdGetDatum(entry->role_id);
	values[4] = Int32GetDatum(entry->pid);
	values[5] = CStringGetTextDatum(entry->application_name);
	values[6] = CStringGetTextDatum(entry->detail);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

PG_FUNCTION_INFO_V1(failsafe_last_refusals);

/* Those of this database, the newest first. */
Datum
failsafe_last_refusals(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	uint64		noted;

	InitMaterializedSRF(fcinfo, 0);
	Assert(result->setDesc->natts == REFUSAL_COLUMNS);
	if (!ring_attach())
		return (Datum) 0;
	SpinLockAcquire(&ring->mutex);
	noted = ring->noted;
	SpinLockRelease(&ring->mutex);
	for (uint64 i = noted; i > 0 && noted - i < (uint64) segment.entry_count; i--)
	{
		RefusalEntry entry;

		SpinLockAcquire(&ring->mutex);
		entry = ring->entries[(i - 1) % segment.entry_count];
		SpinLockRelease(&ring->mutex);
		if (entry.database_id == MyDatabaseId)
			put_entry(result, &entry);
	}
	return (Datum) 0;
}
