/*
 * delivery/lane.h
 *	  The events of one lane in the order of their numbers, over all its leaves, and
 *	  what a row tells about its number.
 */
#ifndef FAILSAFE_DELIVERY_LANE_H
#define FAILSAFE_DELIVERY_LANE_H

#include "delivery/delivery.h"
#include "executor/tuptable.h"

typedef struct LaneCursor LaneCursor;

/* What a snapshot says about the row of a number. */
typedef enum RowFate
{
	ROW_VISIBLE,				/* committed before the snapshot, by another transaction */
	ROW_OPEN,					/* its transaction runs, is prepared, or is this one */
	ROW_LATER,					/* committed after the snapshot */
	ROW_GONE					/* rolled back */
} RowFate;

/* Scans by an MVCC snapshot, or by SnapshotAny to see rows of every fate. */
extern LaneCursor *lane_open(int lane, Snapshot snapshot);
extern void lane_close(LaneCursor *cursor);

/* From now on lane_next() gives the rows whose numbers are first .. last. */
extern void lane_seek(LaneCursor *cursor, int64 first, int64 last);

/* The next row, and its number; NULL after the last.  Valid until the next call. */
extern TupleTableSlot *lane_next(LaneCursor *cursor, int64 *seq);

/* The fate of the row that lane_next() gave; ROW_OPEN: *writer is its top-level xid. */
extern RowFate lane_row_fate(LaneCursor *cursor, Snapshot snapshot, TransactionId *writer);

extern TimestampTz lane_row_occurred_at(TupleTableSlot *slot);

/* Do the subscription's filters want the row?  Then *event is filled, else it is not. */
extern bool lane_row_event(TupleTableSlot *slot, int lane, const Subscription *subscription,
						   DeliveryEvent *event);

/* The oid of a leaf of the lane, and its smallest number, of whatever fate (0: none). */
extern Oid	lane_leaf_id(int lane, int leaf);
extern int64 lane_leaf_first_number(Oid leaf_id);

#endif							/* FAILSAFE_DELIVERY_LANE_H */
