/*
 * relay/log.h
 *	  Lines for the server's log, as frames.
 */
#ifndef FAILSAFE_RELAY_LOG_H
#define FAILSAFE_RELAY_LOG_H

/* level: "log" or "warning".  At most a few a second are sent; the rest is counted. */
extern void relay_log(const char *level, const char *format, ...)
			__attribute__((format(printf, 2, 3)));

#endif							/* FAILSAFE_RELAY_LOG_H */
