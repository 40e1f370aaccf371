/*
 * relay/signature.h
 *	  Signatures of Standard Webhooks 1.0.0: v1 (HMAC-SHA256) and v1a (Ed25519).
 */
#ifndef FAILSAFE_RELAY_SIGNATURE_H
#define FAILSAFE_RELAY_SIGNATURE_H

#include "text.h"

#define SIGNATURE_KEYS_MAX	10	/* at once, for rotation */

typedef struct SignatureKey SignatureKey;

/* whsec_ or whsk_ and base64; NULL: it is none.  The reason never repeats the text. */
extern SignatureKey *signature_key_open(const char *secret, const char *member, Reason *reason);
extern void signature_key_close(SignatureKey *key);

/*
 * Appends "v1,..." or "v1a,..." for id.timestamp.body.  false: the library refused.
 */
extern bool signature_append(FrameBuffer *out, SignatureKey *key, const char *id, size_t id_length,
							 int64_t timestamp, const char *body, size_t body_length);

#endif							/* FAILSAFE_RELAY_SIGNATURE_H */
