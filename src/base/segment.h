/*
 * base/segment.h
 *	  Shared memory for facts that a crash may lose [I8], also without preload.
 */
#ifndef FAILSAFE_BASE_SEGMENT_H
#define FAILSAFE_BASE_SEGMENT_H

/* One static for each segment; its name and sizes are given, the rest is 0. */
typedef struct Segment
{
	const char *name;			/* in the server's index of shared memory */
	Size		header_size;
	Size		entry_size;
	int			entries_preloaded;
	int			entries_not_preloaded;	/* small: from the reserve that the server keeps */
	int			entry_count;	/* what it has; 0 before segment_request() */
	void	   *memory;			/* NULL until it is attached */
	bool		failed;			/* there is no room for it */
} Segment;

/* From _PG_init: ask for the memory when the library is preloaded. */
extern void segment_request(Segment *segment);

/*
 * Find the segment or make it, all zero but for what init() sets; init may be NULL.
 * Returns NULL when there is no room.  Never throws.
 */
extern void *segment_attach(Segment *segment, void (*init) (void *memory));

#endif							/* FAILSAFE_BASE_SEGMENT_H */
