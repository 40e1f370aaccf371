/*
 * relay/secret.h
 *	  Secrets, which a configuration names and never contains.
 */
#ifndef FAILSAFE_RELAY_SECRET_H
#define FAILSAFE_RELAY_SECRET_H

#include "text.h"

#define SECRET_BYTES_MAX	65536

/* A secret by reference: file:/path or env:NAME. */
typedef struct Secret Secret;

/* Does the text look like a reference? */
extern bool secret_is_reference(const char *text);

/* NULL: not a reference; the reason names the member and never repeats the text. */
extern Secret *secret_open(const char *reference, const char *member, Reason *reason);
extern void secret_close(Secret *secret);

/*
 * The value, without blanks and line ends around it; NULL: there is none now.  A file is
 * looked at once a second at most, and read again when it changed.  *version changes
 * with the value.  now_us is monotonic.
 */
extern const char *secret_value(Secret *secret, int64_t now_us, int *version, Reason *reason);

#endif							/* FAILSAFE_RELAY_SECRET_H */
