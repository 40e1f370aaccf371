/*
 * delivery/reader.h
 *	  What position.c needs of reader.c, beside delivery.h.
 */
#ifndef FAILSAFE_DELIVERY_READER_H
#define FAILSAFE_DELIVERY_READER_H

#include "delivery/delivery.h"

/*
 * Begin a position: of the numbers first .. the last drawn one, those that the
 * snapshot sees as ended are passed over, the others become open.  *position gets
 * high and open; nothing is read.
 */
extern void reader_begin(Position *position, Snapshot snapshot, int64 first);

#endif							/* FAILSAFE_DELIVERY_READER_H */
