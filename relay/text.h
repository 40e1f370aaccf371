/*
 * relay/text.h
 *	  Bytes on the heap, and what a text may contain.
 */
#ifndef FAILSAFE_RELAY_TEXT_H
#define FAILSAFE_RELAY_TEXT_H

#include <stdarg.h>

#include "frame.h"

/* A sentence for a person: why something did not work. */
typedef struct Reason
{
	char		text[RELAY_REASON_BYTES_MAX + 1];
} Reason;

extern void reason_set(Reason *reason, const char *format, ...)
			__attribute__((format(printf, 2, 3)));

/* Never NULL: a process without memory ends, and the worker starts another one. */
extern void *memory_take(size_t size);
extern void *memory_resize(void *memory, size_t size);
extern char *memory_copy(const char *text, size_t length);	/* with a zero at the end */

extern void buffer_init(FrameBuffer *buffer);
extern void buffer_free(FrameBuffer *buffer);
extern void buffer_wipe(FrameBuffer *buffer);	/* empty it, leave no trace of a secret */
extern void buffer_text(FrameBuffer *buffer, const char *text);
extern void buffer_char(FrameBuffer *buffer, char c);
extern void buffer_number(FrameBuffer *buffer, int64_t number);

extern bool utf8_valid(const char *text, size_t length);

/*
 * Copies what a person can read, at most `room` - 1 bytes and a zero: what is not UTF-8
 * becomes '?', control characters become blanks, nothing is cut inside a character.
 */
extern size_t utf8_clean(char *to, size_t room, const char *from, size_t length);

/* Is it a name of a header (a token of RFC 9110), may it be a header's value? */
extern bool header_name_valid(const char *name, size_t length);
extern bool header_value_valid(const char *value, size_t length);

#endif							/* FAILSAFE_RELAY_TEXT_H */
