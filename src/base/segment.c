/*
 * base/segment.c
 *	  Shared memory for facts that a crash may lose, also without preload.
 *
 * Invariants:
 *	G1	Memory that is all zero is valid for whoever uses a segment: the server gives
 *		it so, and nothing is written at a crash.
 *	G2	segment_attach() never throws.  A full reserve, or a segment that another version
 *		of the library made, is an error of ShmemInitStruct(): nothing was acquired then,
 *		and the segment simply is not there.
 *
 * Lock order: AddinShmemInitLock, for the making, once in a process.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "base/segment.h"

#define SEGMENTS_MAX	8

static Segment *requested[SEGMENTS_MAX];
static int	requested_count = 0;
static shmem_request_hook_type previous_shmem_request_hook = NULL;

static Size
segment_size(const Segment *segment)
{
	Assert(segment->entry_count > 0);
	return add_size(segment->header_size, mul_size(segment->entry_count, segment->entry_size));
}

static void
segments_request(void)
{
	if (previous_shmem_request_hook != NULL)
		previous_shmem_request_hook();
	for (int i = 0; i < requested_count; i++)
		RequestAddinShmemSpace(MAXALIGN(segment_size(requested[i])));
}

void
segment_request(Segment *segment)
{
	segment->entry_count = segment->entries_not_preloaded;
	if (!process_shared_preload_libraries_in_progress)
		return;
	Assert(requested_count < SEGMENTS_MAX);
	segment->entry_count = segment->entries_preloaded;
	requested[requested_count++] = segment;
	if (requested_count > 1)
		return;
	previous_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = segments_request;
}

/* The error machinery drops the holds on interrupts, so those that we had are put back. */
void *
segment_attach(Segment *segment, void (*init) (void *memory))
{
	MemoryContext context = CurrentMemoryContext;
	uint32		held;
	bool		found;

	if (segment->memory != NULL || segment->failed)
		return segment->memory;
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	held = InterruptHoldoffCount;
	PG_TRY();
	{
		segment->memory = ShmemInitStruct(segment->name, segment_size(segment), &found);
		if (!found && init != NULL)
			init(segment->memory);
	}
	PG_CATCH();
	{
		InterruptHoldoffCount = held;
		MemoryContextSwitchTo(context);
		FlushErrorState();
		segment->failed = true;
	}
	PG_END_TRY();
	LWLockRelease(AddinShmemInitLock);
	Assert(segment->memory != NULL || segment->failed);
	return segment->memory;
}
