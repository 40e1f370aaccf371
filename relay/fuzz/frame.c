/*
 * relay/fuzz/frame.c
 *	  Any bytes as frames: both readers see the same fields, what was read can be
 *	  written again to the same bytes, and nothing outside of the input is touched.
 */
#include <stdlib.h>
#include <string.h>

#include "text.h"

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

static void
expect(bool good)
{
	if (!good)
		abort();
}

/* Writes the known fields again, in their order. */
static void
write_again(const Frame *frame)
{
	FrameBuffer buffer;
	FrameFields fields;
	FrameField	field;
	Frame		again;
	size_t		start;
	size_t		offset = 0;
	size_t		used;
	int			tag;

	if (!frame_read(frame, &fields))
		return;
	buffer_init(&buffer);
	start = frame_begin(&buffer, (RelayFrameType) frame->type);
	while (frame_next(frame, &offset, &tag, &field) == FRAME_COMPLETE)
	{
		int64_t		number;

		expect(field.data + field.length <= frame->fields + frame->length);
		if (tag == 0 || tag >= FRAME_TAGS)
			continue;
		expect(fields.field[tag].data == field.data && fields.field[tag].length == field.length);
		if (!frame_tag_is_number(tag))
			frame_text(&buffer, (RelayTag) tag, field.data, field.length);
		else
		{
			expect(frame_get_number(&fields, (RelayTag) tag, &number));
			frame_number(&buffer, (RelayTag) tag, number);
		}
	}
	expect(frame_end(&buffer, start));
	expect(frame_split(buffer.data, buffer.length, &again, &used) == FRAME_COMPLETE);
	expect(used == buffer.length && again.type == frame->type);
	if (again.length == frame->length)
		expect(memcmp(again.fields, frame->fields, frame->length) == 0);
	buffer_free(&buffer);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	const char *bytes = (const char *) data;
	Frame		frame;
	size_t		used;

	while (frame_split(bytes, length, &frame, &used) == FRAME_COMPLETE)
	{
		expect(used > 0 && used <= length);
		write_again(&frame);
		bytes += used;
		length -= used;
	}
	return 0;
}
