/*
 * relay/clock.h
 *	  The time that only goes forward, in microseconds.
 */
#ifndef FAILSAFE_RELAY_CLOCK_H
#define FAILSAFE_RELAY_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline int64_t
clock_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

#endif							/* FAILSAFE_RELAY_CLOCK_H */
