/*
 * relay/http_connection.h
 *	  What a configuration says about connections, as options of a handle.
 */
#ifndef FAILSAFE_RELAY_HTTP_CONNECTION_H
#define FAILSAFE_RELAY_HTTP_CONNECTION_H

#include <curl/curl.h>

#include "config.h"

/* TLS, HTTP version and proxy. */
extern void connection_apply(CURL *easy, const HttpConfig *config);

/* Whose address is connected to: the proxy's, where there is one. */
extern const char *connection_peer(const HttpConfig *config, const Endpoint *endpoint);

#endif							/* FAILSAFE_RELAY_HTTP_CONNECTION_H */
