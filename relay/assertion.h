/*
 * relay/assertion.h
 *	  Assert() for sources that are built without PostgreSQL's headers.  Included by .c
 *	  files only, so that it never meets PostgreSQL's own.
 */
#ifndef FAILSAFE_RELAY_ASSERTION_H
#define FAILSAFE_RELAY_ASSERTION_H

#ifdef USE_ASSERT_CHECKING
#include <assert.h>
#define Assert(condition)	assert(condition)
#else
#define Assert(condition)	((void) true)
#endif

#endif							/* FAILSAFE_RELAY_ASSERTION_H */
