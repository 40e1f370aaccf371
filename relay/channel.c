/*
 * relay/channel.c
 *	  The worker's socket, and what was read from it or not written to it yet.
 *
 * Invariants
 *	 1. Memory for a frame grows as its bytes arrive, never by the length that it claims.
 *	 2. No call waits.
 */
#include "channel.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "assertion.h"
#include "clock.h"
#include "log.h"
#include "text.h"

#define READ_BYTES_MIN		65536
#define READ_BYTES_AT_ONCE	(1024 * 1024)	/* before the network gets its turn */
#define KEPT_BYTES_MAX		(1024 * 1024)
#define LOG_LINES_MAX		20	/* a second */

static int	channel_fd = -1;
static FrameBuffer input;
static FrameBuffer output;
static size_t output_sent;		/* of output, already */

void
channel_open(int fd)
{
	channel_fd = fd;
	buffer_init(&input);
	buffer_init(&output);
}

/* Takes whole frames from the front of the input. */
static bool
handle_frames(bool (*handle) (const Frame *frame))
{
	size_t		at = 0;
	size_t		used;
	Frame		frame;
	FrameStatus status;

	while ((status = frame_split(input.data + at, input.length - at, &frame, &used)) ==
		   FRAME_COMPLETE)
	{
		if (!handle(&frame))
			return false;
		at += used;
	}
	Assert(at <= input.length);
	if (at > 0)
		memmove(input.data, input.data + at, input.length - at);
	input.length -= at;
	if (input.length == 0 && input.capacity > KEPT_BYTES_MAX)
		buffer_free(&input);
	return status == FRAME_PARTIAL;
}

ChannelStatus
channel_read(bool (*handle) (const Frame *frame))
{
	size_t		total = 0;

	while (total < READ_BYTES_AT_ONCE)
	{
		ssize_t		got;
		size_t		room;

		if (input.capacity - input.length < READ_BYTES_MIN)
			input.grow(&input, input.length + READ_BYTES_MIN);
		room = input.capacity - input.length;
		got = recv(channel_fd, input.data + input.length, room, MSG_DONTWAIT);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return CHANNEL_OPEN;
		if (got < 0)
			return errno == ECONNRESET ? CHANNEL_CLOSED : CHANNEL_BROKEN;
		if (got == 0)
			return CHANNEL_CLOSED;
		input.length += (size_t) got;
		total += (size_t) got;
		if (!handle_frames(handle))
			return CHANNEL_BROKEN;
		if ((size_t) got < room)
			break;
	}
	return CHANNEL_OPEN;
}

FrameBuffer *
channel_output(void)
{
	return &output;
}

size_t
channel_output_pending(void)
{
	return output.length - output_sent;
}

ChannelStatus
channel_flush(void)
{
	while (output_sent < output.length)
	{
		ssize_t		sent = send(channel_fd, output.data + output_sent, output.length - output_sent,
								MSG_DONTWAIT | MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			break;
		if (sent < 0)
			return CHANNEL_CLOSED;
		output_sent += (size_t) sent;
	}
	Assert(output_sent <= output.length);
	if (output_sent > output.length / 2)
	{
		memmove(output.data, output.data + output_sent, output.length - output_sent);
		output.length -= output_sent;
		output_sent = 0;
	}
	if (output.length == 0 && output.capacity > KEPT_BYTES_MAX)
		buffer_free(&output);
	return CHANNEL_OPEN;
}

static void
write_log(const char *level, const Reason *line)
{
	size_t		start = frame_begin(&output, RELAY_LOG);

	frame_text(&output, RELAY_TAG_LEVEL, level, strlen(level));
	frame_text(&output, RELAY_TAG_REASON, line->text, strlen(line->text));
	frame_end(&output, start);
}

void
relay_log(const char *level, const char *format, ...)
{
	static int64_t second = 0;
	static int	lines = 0;
	int64_t		now = clock_us() / 1000000;
	va_list		arguments;
	char		text[2 * RELAY_REASON_BYTES_MAX];
	Reason		line;

	if (now != second && lines > LOG_LINES_MAX)
	{
		reason_set(&line, "%d more lines were left out", lines - LOG_LINES_MAX);
		write_log("warning", &line);
	}
	if (now != second)
	{
		second = now;
		lines = 0;
	}
	if (++lines > LOG_LINES_MAX)
		return;
	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	reason_set(&line, "%s", text);
	write_log(level, &line);
}
