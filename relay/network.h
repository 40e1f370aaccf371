/*
 * relay/network.h
 *	  The one loop: sockets of libcurl and the worker's socket in one epoll.
 */
#ifndef FAILSAFE_RELAY_NETWORK_H
#define FAILSAFE_RELAY_NETWORK_H

#include <curl/curl.h>
#include <stdbool.h>
#include <stdint.h>

#include "address.h"

/* A handle of libcurl that is used again and again, and what to call when it is done. */
typedef struct Request
{
	CURL	   *easy;
	void		(*done) (struct Request *request, CURLcode result);

	/* Which addresses it may reach. */
	const AllowList *allow;
	const char *host;
	bool		blocked;		/* an address was refused ... */
	bool		connecting;		/* ... and another one was not */
	Address		blocked_address;
	const char *blocked_range;
	char		passed[ADDRESS_TEXT_BYTES];	/* the last one that was let through */
	char		error[CURL_ERROR_SIZE];
} Request;

extern void network_open(void);

/* A handle with everything that all requests share. */
extern void request_open(Request *request, const AllowList *allow, const char *host);
extern void request_close(Request *request);
extern void request_start(Request *request);

/*
 * Waits for something to happen, but not longer than timeout_ms (-1: no limit), and lets
 * libcurl work.  Of `control` the events in `wanted` (EPOLLIN, EPOLLOUT) are waited for;
 * returns those that are there, EPOLLHUP too.
 */
extern uint32_t network_run(int control, uint32_t wanted, int timeout_ms);

/* How many connections may stay open while nobody uses them. */
extern void network_set_idle(long connections);

#endif							/* FAILSAFE_RELAY_NETWORK_H */
