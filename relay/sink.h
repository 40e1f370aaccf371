/*
 * relay/sink.h
 *	  What a way out is: one file sink_NAME.c for each, listed in destination.c.
 *
 * A failure is always an Outcome with one of the codes of protocol.h and a sentence that
 * a person understands: which host and port, what happened, no secret, no query string.
 * What it means for the next try is the worker's business.
 */
#ifndef FAILSAFE_RELAY_SINK_H
#define FAILSAFE_RELAY_SINK_H

#include "text.h"

typedef struct Destination Destination;

/* An event on its way; lives from its frame to its answer. */
typedef struct Event
{
	struct Event *next;			/* in whatever list it is */
	Destination *destination;
	int64_t		token;
	int64_t		timeout_ms;		/* of the whole attempt, from started_us */
	int64_t		attempt;
	int64_t		started_us;
	size_t		bytes_held;
	FrameFields fields;			/* point into bytes */
	char		bytes[];
} Event;

typedef struct Outcome
{
	bool		ok;
	int			status;			/* of the protocol; 0: no answer */
	const char *code;			/* RELAY_CODE_ ..., "" where ok */
	Reason		reason;
	int64_t		retry_after_ms; /* -1: not said */
	const char *response;		/* first bytes of the answer, as they came */
	size_t		response_length;
} Outcome;

extern void outcome_init(Outcome *outcome);
extern void outcome_fail(Outcome *outcome, const char *code, const char *format, ...)
			__attribute__((format(printf, 3, 4)));

/* A destination as the sink knows it. */
typedef struct SinkPlace SinkPlace;

typedef struct Sink
{
	const char *name;

	/* Reads the configuration; NULL and a reason when it can never be used. */
	SinkPlace  *(*open) (const char *config, size_t length, const char *source, Reason *reason);

	/*
	 * Can it be used now?  A missing secret file is a reason, and may be there for the
	 * next event.
	 */
	bool		(*check) (SinkPlace *place, Reason *reason);

	/* No events come any more; those on the way are answered before memory goes. */
	void		(*close) (SinkPlace *place);

	/*
	 * Sends one event, and calls event_answer() exactly once, now or later.  The event is
	 * the sink's until then.
	 */
	void		(*send) (SinkPlace *place, Event *event);
} Sink;

extern void event_answer(Event *event, const Outcome *outcome);

extern const Sink sink_http;

#endif							/* FAILSAFE_RELAY_SINK_H */
