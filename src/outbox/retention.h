/*
 * outbox/retention.h
 *	  When events may go.
 */
#ifndef FAILSAFE_OUTBOX_RETENTION_H
#define FAILSAFE_OUTBOX_RETENTION_H

#include "datatype/timestamp.h"

/*
 * Is nobody interested any more in the events of a lane up to newest_seq, whose
 * youngest is of newest_at?  This is the one place that decides it [O4].  Without a
 * subscription the age alone decides; whatever keeps a position in the outbox
 * adds its condition (its position in the lane is not behind newest_seq) here.
 */
extern bool outbox_passed(int lane, int64 newest_seq, TimestampTz newest_at,
						  TimestampTz horizon);

#endif							/* FAILSAFE_OUTBOX_RETENTION_H */
