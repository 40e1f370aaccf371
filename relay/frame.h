/*
 * relay/frame.h
 *	  Frames of protocol.h as bytes.  Built into the relay and into the library, so
 *	  it allocates nothing itself: a writer brings a buffer that knows how to grow,
 *	  a reader looks at the bytes where they are.
 */
#ifndef FAILSAFE_RELAY_FRAME_H
#define FAILSAFE_RELAY_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol.h"

#define FRAME_TAGS	(RELAY_TAG_LEVEL + 1)	/* known tags, 0 is none */

/*
 * Bytes that grow.  grow() makes room for at least `needed` bytes in all, in data and
 * capacity, and keeps what is there; where it cannot it returns false, or does not
 * return.  After a failure all that is appended is ignored until failed is reset.
 */
typedef struct FrameBuffer FrameBuffer;
struct FrameBuffer
{
	char	   *data;
	size_t		length;
	size_t		capacity;
	bool		(*grow) (FrameBuffer *buffer, size_t needed);
	void	   *context;		/* grow()'s own */
	bool		failed;
};

extern void frame_append(FrameBuffer *buffer, const void *bytes, size_t length);

/*
 * A frame is written between begin and end.  frame_end() takes the frame back and
 * returns false when it became longer than allowed, or the buffer failed.
 */
extern size_t frame_begin(FrameBuffer *buffer, RelayFrameType type);
extern void frame_number(FrameBuffer *buffer, RelayTag tag, int64_t value);
extern void frame_text(FrameBuffer *buffer, RelayTag tag, const char *text, size_t length);
extern bool frame_end(FrameBuffer *buffer, size_t start);

typedef enum FrameStatus
{
	FRAME_COMPLETE,
	FRAME_PARTIAL,				/* more bytes must come */
	FRAME_MALFORMED
} FrameStatus;

/* A frame inside of somebody's bytes. */
typedef struct Frame
{
	int			type;			/* RelayFrameType, if it is one */
	const char *fields;
	size_t		length;
} Frame;

typedef struct FrameField
{
	const char *data;			/* NULL: not in the frame */
	size_t		length;
} FrameField;

/* The fields of a frame by tag. */
typedef struct FrameFields
{
	FrameField	field[FRAME_TAGS];
} FrameFields;

/* The first frame of the bytes; *used is what it takes of them. */
extern FrameStatus frame_split(const char *bytes, size_t length, Frame *frame, size_t *used);

/*
 * One field after the other: *offset begins at 0.  Returns FRAME_COMPLETE with a field,
 * FRAME_PARTIAL at the end of the frame.
 */
extern FrameStatus frame_next(const Frame *frame, size_t *offset, int *tag, FrameField *field);

/* All fields at once; false: malformed, a tag twice, or a number of another size. */
extern bool frame_read(const Frame *frame, FrameFields *fields);

/* false: not in the frame */
extern bool frame_get_number(const FrameFields *fields, RelayTag tag, int64_t *value);

/* Is the tag's value a number? */
extern bool frame_tag_is_number(int tag);

#endif							/* FAILSAFE_RELAY_FRAME_H */
