/*
 * relay/http_failure.h
 *	  From what libcurl says to a code and a sentence.
 */
#ifndef FAILSAFE_RELAY_HTTP_FAILURE_H
#define FAILSAFE_RELAY_HTTP_FAILURE_H

#include "network.h"
#include "sink.h"

/* label is host:port; timeout_ms what the request was given. */
extern void http_failure(Outcome *outcome, const Request *request, CURLcode result,
						 const char *label, int64_t timeout_ms);

#endif							/* FAILSAFE_RELAY_HTTP_FAILURE_H */
