/*
 * relay/http_headers.h
 *	  Headers of a request and of an answer.  Pure, but for the reader of JSON.
 */
#ifndef FAILSAFE_RELAY_HTTP_HEADERS_H
#define FAILSAFE_RELAY_HTTP_HEADERS_H

#include "text.h"

#define HEADER_COUNT_MAX		64		/* of an event, of a configuration */
#define HEADER_VALUE_BYTES_MAX	8192
#define TRACEPARENT_BYTES		55
#define SPAN_BYTES				8

/* Headers that are the relay's alone to send. */
extern bool header_reserved(const char *name);

/* Headers whose values are secrets: by reference in a configuration, never in an event. */
extern bool header_sensitive(const char *name);

/* Appends "name: value" and a zero. */
extern void header_append(FrameBuffer *out, const char *name, const char *value, size_t length);

/* What the configuration sets itself; an event does not override it. */
typedef bool (*HeaderTaken) (const void *context, const char *name);

/*
 * Appends the headers that the producer gave as a JSON object of strings.  What may not be
 * sent is left out; returns how many, and why the last one.
 */
extern int header_append_event(FrameBuffer *out, const char *json, size_t length,
							   HeaderTaken taken, const void *context, Reason *reason);

/*
 * The same trace with another span: "00-<trace>-<span>-<flags>" and a zero.  false: the
 * parent is not a valid traceparent.
 */
extern bool traceparent_next(const char *parent, size_t length,
							 const unsigned char span[SPAN_BYTES],
							 char next[TRACEPARENT_BYTES + 1]);

/* Retry-After: seconds or an HTTP date; -1: neither.  now is in seconds since 1970. */
extern int64_t retry_after_ms(const char *value, size_t length, int64_t now);

#endif							/* FAILSAFE_RELAY_HTTP_HEADERS_H */
