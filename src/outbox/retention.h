/*
 * outbox/retention.h
 *	  When events may go.
 */
#ifndef FAILSAFE_OUTBOX_RETENTION_H
#define FAILSAFE_OUTBOX_RETENTION_H

#include "datatype/timestamp.h"

/*
 * Is nobody interested any more in a leaf of the lane whose events have the numbers
 * oldest_seq .. newest_seq, and the youngest of them is of newest_at?  This is the one
 * place that decides it [O4]: the age, and whoever keeps a position in the outbox.
 */
extern bool outbox_passed(int lane, int64 oldest_seq, int64 newest_seq, TimestampTz newest_at,
						  TimestampTz horizon);

/*
 * Rooms above ask for events to be kept: true where the lane's numbers oldest_seq ..
 * newest_seq may still be needed.  It is asked by a READ COMMITTED transaction, also
 * while a ShareLock on the leaf is held, and must look at what is committed now.
 */
typedef bool (*OutboxKeepHook) (int lane, int64 oldest_seq, int64 newest_seq);
extern void outbox_set_keep_hook(OutboxKeepHook hook);

#endif							/* FAILSAFE_OUTBOX_RETENTION_H */
