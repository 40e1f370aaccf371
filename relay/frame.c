/*
 * relay/frame.c
 *	  Writes and reads frames.  Owns no memory and no state.
 *
 * Invariants
 *	 1. Nothing is read beyond the length that the caller gave.
 *	 2. A reader gets pointers into the caller's bytes; they are never copied.
 *	 3. A frame that does not fit is taken back whole: a buffer holds whole frames only.
 */
#include "frame.h"

#include <string.h>

#include "assertion.h"

#define LENGTH_BYTES	4
#define TAG_BYTES		1
#define NUMBER_BYTES	8

static void
put_length(char *at, size_t length)
{
	at[0] = (char) (length >> 24);
	at[1] = (char) (length >> 16);
	at[2] = (char) (length >> 8);
	at[3] = (char) length;
}

static size_t
get_length(const char *at)
{
	const unsigned char *byte = (const unsigned char *) at;

	return ((size_t) byte[0] << 24) | ((size_t) byte[1] << 16) |
		((size_t) byte[2] << 8) | (size_t) byte[3];
}

/* Room for so many bytes more, or NULL. */
static char *
reserve(FrameBuffer *buffer, size_t length)
{
	size_t		needed = buffer->length + length;
	char	   *room;

	if (buffer->failed)
		return NULL;
	if (needed < length ||
		(needed > buffer->capacity && !buffer->grow(buffer, needed)))
	{
		buffer->failed = true;
		return NULL;
	}
	Assert(needed <= buffer->capacity);
	room = buffer->data + buffer->length;
	buffer->length = needed;
	return room;
}

void
frame_append(FrameBuffer *buffer, const void *bytes, size_t length)
{
	char	   *room = reserve(buffer, length);

	if (room != NULL && length > 0)
		memcpy(room, bytes, length);
}

/* Returns where the frame begins, for frame_end(). */
size_t
frame_begin(FrameBuffer *buffer, RelayFrameType type)
{
	size_t		start = buffer->length;
	char	   *room = reserve(buffer, LENGTH_BYTES + 1);

	if (room != NULL)
	{
		put_length(room, 0);
		room[LENGTH_BYTES] = (char) type;
	}
	return start;
}

void
frame_number(FrameBuffer *buffer, RelayTag tag, int64_t value)
{
	char	   *room = reserve(buffer, TAG_BYTES + LENGTH_BYTES + NUMBER_BYTES);
	uint64_t	bits = (uint64_t) value;

	Assert(frame_tag_is_number(tag));
	if (room == NULL)
		return;
	room[0] = (char) tag;
	put_length(room + TAG_BYTES, NUMBER_BYTES);
	put_length(room + TAG_BYTES + LENGTH_BYTES, (size_t) (bits >> 32));
	put_length(room + TAG_BYTES + LENGTH_BYTES + 4, (size_t) (bits & 0xFFFFFFFF));
}

void
frame_text(FrameBuffer *buffer, RelayTag tag, const char *text, size_t length)
{
	char	   *room;

	Assert(!frame_tag_is_number(tag));
	if (length > RELAY_FRAME_BYTES_MAX)
	{
		buffer->failed = true;
		return;
	}
	room = reserve(buffer, TAG_BYTES + LENGTH_BYTES + length);
	if (room == NULL)
		return;
	room[0] = (char) tag;
	put_length(room + TAG_BYTES, length);
	if (length > 0)
		memcpy(room + TAG_BYTES + LENGTH_BYTES, text, length);
}

bool
frame_end(FrameBuffer *buffer, size_t start)
{
	size_t		length;

	Assert(start <= buffer->length);
	if (!buffer->failed)
	{
		Assert(buffer->length >= start + LENGTH_BYTES + 1);
		length = buffer->length - start - LENGTH_BYTES;
		if (length <= RELAY_FRAME_BYTES_MAX)
		{
			put_length(buffer->data + start, length);
			return true;
		}
	}
	buffer->length = start;
	buffer->failed = false;
	return false;
}

FrameStatus
frame_split(const char *bytes, size_t length, Frame *frame, size_t *used)
{
	size_t		inner;

	if (length < LENGTH_BYTES)
		return FRAME_PARTIAL;
	inner = get_length(bytes);
	if (inner < 1 || inner > RELAY_FRAME_BYTES_MAX)
		return FRAME_MALFORMED;
	if (length - LENGTH_BYTES < inner)
		return FRAME_PARTIAL;
	frame->type = (unsigned char) bytes[LENGTH_BYTES];
	frame->fields = bytes + LENGTH_BYTES + 1;
	frame->length = inner - 1;
	*used = LENGTH_BYTES + inner;
	Assert(*used <= length);
	return FRAME_COMPLETE;
}

FrameStatus
frame_next(const Frame *frame, size_t *offset, int *tag, FrameField *field)
{
	const char *at = frame->fields + *offset;
	size_t		left = frame->length - *offset;

	Assert(*offset <= frame->length);
	if (left == 0)
		return FRAME_PARTIAL;
	if (left < TAG_BYTES + LENGTH_BYTES)
		return FRAME_MALFORMED;
	*tag = (unsigned char) at[0];
	field->length = get_length(at + TAG_BYTES);
	field->data = at + TAG_BYTES + LENGTH_BYTES;
	if (field->length > left - TAG_BYTES - LENGTH_BYTES)
		return FRAME_MALFORMED;
	*offset += TAG_BYTES + LENGTH_BYTES + field->length;
	Assert(*offset <= frame->length);
	return FRAME_COMPLETE;
}

bool
frame_tag_is_number(int tag)
{
	switch (tag)
	{
		case RELAY_TAG_VERSION:
		case RELAY_TAG_DESTINATION_ID:
		case RELAY_TAG_GENERATION:
		case RELAY_TAG_IN_FLIGHT:
		case RELAY_TAG_TOKEN:
		case RELAY_TAG_TIMEOUT_MS:
		case RELAY_TAG_ATTEMPT:
		case RELAY_TAG_OK:
		case RELAY_TAG_STATUS:
		case RELAY_TAG_RETRY_AFTER_MS:
		case RELAY_TAG_DURATION_US:
			return true;
		default:
			return false;
	}
}

bool
frame_read(const Frame *frame, FrameFields *fields)
{
	size_t		offset = 0;
	int			tag;
	FrameField	field;
	FrameStatus status;

	memset(fields, 0, sizeof(FrameFields));
	while ((status = frame_next(frame, &offset, &tag, &field)) == FRAME_COMPLETE)
	{
		if (tag == 0 || tag >= FRAME_TAGS)
			continue;
		if (fields->field[tag].data != NULL ||
			(frame_tag_is_number(tag) && field.length != NUMBER_BYTES))
			return false;
		fields->field[tag] = field;
	}
	return status == FRAME_PARTIAL;
}

bool
frame_get_number(const FrameFields *fields, RelayTag tag, int64_t *value)
{
	const FrameField *field = &fields->field[tag];

	Assert(frame_tag_is_number(tag));
	if (field->data == NULL)
		return false;
	Assert(field->length == NUMBER_BYTES);
	*value = (int64_t) (((uint64_t) get_length(field->data) << 32) |
						(uint64_t) get_length(field->data + 4));
	return true;
}
