/*
 * relay/endpoint.h
 *	  A URL that may be called, and what may be said about it.
 */
#ifndef FAILSAFE_RELAY_ENDPOINT_H
#define FAILSAFE_RELAY_ENDPOINT_H

#include "text.h"

#define URL_BYTES_MAX	8192

typedef struct Endpoint
{
	char	   *url;			/* with its query: never in a reason */
	char	   *host;			/* without brackets */
	char	   *label;			/* host:port, for a person */
	bool		https;
} Endpoint;

extern bool endpoint_parse(const char *url, size_t length, const char *member, Endpoint *endpoint,
						   Reason *reason);
extern void endpoint_free(Endpoint *endpoint);

#endif							/* FAILSAFE_RELAY_ENDPOINT_H */
