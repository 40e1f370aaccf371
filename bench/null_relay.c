/*
 * bench/null_relay.c
 *	  Stands in for the relay to measure the engine alone: answers each event at once with
 *	  "delivered", and sends it nowhere.  failsafe.relay_path selects it; never installed.
 *
 * It speaks relay/protocol.h and reads every field of every frame, as the relay does, but
 * keeps nothing of it.  Reads and writes wait: the worker's side never does, so one of
 * the two always goes on.
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "relay/assertion.h"
#include "relay/frame.h"

#define WORKER_FD		3
#define READ_BYTES		(1024 * 1024)
#define STATUS_OK		200

static bool
grow(FrameBuffer *buffer, size_t needed)
{
	size_t		capacity = buffer->capacity * 2 > needed ? buffer->capacity * 2 : needed;
	char	   *data = realloc(buffer->data, capacity);

	if (data == NULL)
		_exit(1);
	buffer->data = data;
	buffer->capacity = capacity;
	return true;
}

static FrameBuffer input = {.grow = grow};
static FrameBuffer output = {.grow = grow};

static void
fail(const char *what)
{
	fprintf(stderr, "null_relay: %s\n", what);
	_exit(1);
}

static int64_t
number(const FrameFields *fields, RelayTag tag)
{
	int64_t		value;

	if (!frame_get_number(fields, tag, &value))
		fail("a number is missing");
	return value;
}

static void
answer_event(const FrameFields *fields)
{
	size_t		start = frame_begin(&output, RELAY_RESULT);

	if (fields->field[RELAY_TAG_DATA].length == 0 || fields->field[RELAY_TAG_EVENT_ID].length == 0)
		fail("an event without an id or data");
	frame_number(&output, RELAY_TAG_TOKEN, number(fields, RELAY_TAG_TOKEN));
	frame_number(&output, RELAY_TAG_OK, 1);
	frame_number(&output, RELAY_TAG_STATUS, STATUS_OK);
	frame_text(&output, RELAY_TAG_CODE, "", 0);
	frame_text(&output, RELAY_TAG_REASON, "", 0);
	frame_number(&output, RELAY_TAG_DURATION_US, 0);
	frame_text(&output, RELAY_TAG_RESPONSE, "", 0);
	frame_end(&output, start);
}

static void
answer_destination(const FrameFields *fields)
{
	size_t		start = frame_begin(&output, RELAY_DESTINATION_STATE);

	frame_number(&output, RELAY_TAG_DESTINATION_ID, number(fields, RELAY_TAG_DESTINATION_ID));
	frame_number(&output, RELAY_TAG_GENERATION, number(fields, RELAY_TAG_GENERATION));
	frame_number(&output, RELAY_TAG_OK, 1);
	frame_text(&output, RELAY_TAG_REASON, "", 0);
	frame_end(&output, start);
}

static void
answer_ping(const FrameFields *fields)
{
	size_t		start = frame_begin(&output, RELAY_PONG);

	frame_number(&output, RELAY_TAG_TOKEN, number(fields, RELAY_TAG_TOKEN));
	frame_end(&output, start);
}

static void
take_frame(const Frame *frame)
{
	FrameFields fields;

	if (!frame_read(frame, &fields))
		fail("a malformed frame");
	if (frame->type == RELAY_EVENT)
		answer_event(&fields);
	else if (frame->type == RELAY_DESTINATION)
		answer_destination(&fields);
	else if (frame->type == RELAY_PING)
		answer_ping(&fields);
}

static void
take_frames(void)
{
	size_t		at = 0;
	size_t		used;
	Frame		frame;
	FrameStatus status;

	while ((status = frame_split(input.data + at, input.length - at, &frame, &used)) ==
		   FRAME_COMPLETE)
	{
		take_frame(&frame);
		at += used;
	}
	if (status == FRAME_MALFORMED)
		fail("a malformed frame");
	Assert(at <= input.length);
	memmove(input.data, input.data + at, input.length - at);
	input.length -= at;
}

/* The end of the socket is the end of the worker, and so ours. */
static void
read_some(void)
{
	ssize_t		got;

	if (input.capacity - input.length < READ_BYTES)
		grow(&input, input.length + READ_BYTES);
	got = recv(WORKER_FD, input.data + input.length, input.capacity - input.length, 0);
	if (got == 0 || (got < 0 && errno != EINTR))
		_exit(0);
	if (got > 0)
		input.length += (size_t) got;
}

static void
write_all(void)
{
	size_t		at = 0;

	while (at < output.length)
	{
		ssize_t		sent = send(WORKER_FD, output.data + at, output.length - at, MSG_NOSIGNAL);

		if (sent < 0 && errno != EINTR)
			_exit(0);
		if (sent > 0)
			at += (size_t) sent;
	}
	output.length = 0;
}

int
main(void)
{
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	prctl(PR_SET_NAME, "null_relay");
	for (;;)
	{
		read_some();
		take_frames();
		write_all();
	}
}
