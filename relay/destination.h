/*
 * relay/destination.h
 *	  The table of destinations, and the events that wait for a place among those on
 *	  their way.
 */
#ifndef FAILSAFE_RELAY_DESTINATION_H
#define FAILSAFE_RELAY_DESTINATION_H

#include "sink.h"

#define IN_FLIGHT_LIMIT_MAX	1000

extern void destinations_open(const char *source);

/* Creates or replaces; queued events go out by the new configuration. */
extern bool destination_put(int64_t id, int64_t in_flight, const FrameFields *fields,
							Reason *reason);
extern void destination_remove(int64_t id);

/* Takes an event from its frame; it will be answered.  false: the frame is malformed. */
extern bool destination_take(const Frame *frame);

/* Sends what may be sent now. */
extern void destinations_run(void);

/* What is held: events without an answer, and their bytes. */
extern void destinations_held(int *events, size_t *bytes);

#endif							/* FAILSAFE_RELAY_DESTINATION_H */
