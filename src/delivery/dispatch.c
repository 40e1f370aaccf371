/*
 * delivery/dispatch.c
 *	  Decides what goes out now, and what an answer means.
 *
 * Invariants:
 *	P1	Without a subscription there is nothing to do.
 *
 * Takes no locks.
 */
#include "postgres.h"

#include "delivery/worker.h"

void
dispatch_begin(void)
{
}

bool
dispatch_has_work(TimestampTz now)
{
	return false;
}

void
dispatch_round(void)
{
}

void
dispatch_result(RelayFrameType type, const FrameFields *fields)
{
}

TimestampTz
dispatch_next_due(void)
{
	return DT_NOEND;
}

bool
dispatch_needs_relay(void)
{
	return true;
}

void
dispatch_courier_lost(void)
{
}
