/*
 * relay/oauth2.h
 *	  Access tokens by client credentials (RFC 6749, 4.4).
 */
#ifndef FAILSAFE_RELAY_OAUTH2_H
#define FAILSAFE_RELAY_OAUTH2_H

#include "config.h"

typedef struct OAuth2 OAuth2;

/* Called when a token request ended: token NULL and a reason where there is none. */
typedef void (*OAuth2Ready) (void *context, const char *token, const Reason *reason);

extern OAuth2 *oauth2_open(const HttpConfig *config, OAuth2Ready ready, void *context);
extern void oauth2_close(OAuth2 *oauth2);

/*
 * The token, or NULL: ready() will be called, not before this returns.  One request at a
 * time, however many ask.
 */
extern const char *oauth2_token(OAuth2 *oauth2, int64_t now_us, int64_t timeout_ms);

/* The destination refused the token: the next event asks for another one. */
extern void oauth2_forget(OAuth2 *oauth2);

/* No request is on its way: it may be closed. */
extern bool oauth2_idle(const OAuth2 *oauth2);

/* From an answer's body; false and a reason: there is no usable token in it.  Pure. */
extern bool oauth2_read_token(const char *json, size_t length, FrameBuffer *token,
							  int64_t *lifetime_s, Reason *reason);

#endif							/* FAILSAFE_RELAY_OAUTH2_H */
