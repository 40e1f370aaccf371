/*
 * relay/main.c
 *	  pg_failsafe_relay FD: reads frames from the socket FD (3 unless given), sends
 *	  events, answers each.  README.md tells the states.
 *
 * Invariants
 *	 1. It ends when the worker does: by the end of the socket, by the signal that the
 *		kernel sends for a dead parent, by SIGTERM.  It never ends otherwise unless what
 *		it reads makes no sense, or memory is used up.
 *	 2. What it holds is bounded: above the limits it does not read until events are
 *		answered and answers are taken.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "assertion.h"
#include "channel.h"
#include "destination.h"
#include "network.h"

#define DESCRIPTOR_DEFAULT	3
#define HELD_BYTES_MAX		((size_t) 64 * 1024 * 1024)
#define EXIT_MALFORMED		1
#define EXIT_USAGE			2

static bool greeted;

static void
on_terminate(int signal_number)
{
	_exit(0);
}

/*
 * No core file: it would hold secrets.  A parent that is gone already sent no signal;
 * its end of the socket is closed, and the first read tells.
 */
static void
prepare_process(void)
{
	struct rlimit none = {0, 0};
	struct rlimit files;

	signal(SIGTERM, on_terminate);
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	prctl(PR_SET_NAME, "failsafe_relay");
	setrlimit(RLIMIT_CORE, &none);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0)
	{
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
}

static bool
handle_hello(const FrameFields *fields)
{
	const FrameField *source = &fields->field[RELAY_TAG_SOURCE];
	int64_t		version;

	if (greeted || !frame_get_number(fields, RELAY_TAG_VERSION, &version) ||
		version != RELAY_PROTOCOL_VERSION || source->length == 0 ||
		!utf8_valid(source->data, source->length) ||
		memchr(source->data, '\0', source->length) != NULL)
		return false;
	greeted = true;
	destinations_open(memory_copy(source->data, source->length));
	return true;
}

static bool
handle_destination(const FrameFields *fields)
{
	FrameBuffer *out = channel_output();
	Reason		reason = {""};
	int64_t		id;
	int64_t		generation;
	int64_t		in_flight;
	bool		good;
	size_t		start;

	if (!frame_get_number(fields, RELAY_TAG_DESTINATION_ID, &id) ||
		!frame_get_number(fields, RELAY_TAG_GENERATION, &generation) ||
		!frame_get_number(fields, RELAY_TAG_IN_FLIGHT, &in_flight) ||
		fields->field[RELAY_TAG_SINK].data == NULL || fields->field[RELAY_TAG_CONFIG].data == NULL)
		return false;
	good = destination_put(id, in_flight, fields, &reason);
	start = frame_begin(out, RELAY_DESTINATION_STATE);
	frame_number(out, RELAY_TAG_DESTINATION_ID, id);
	frame_number(out, RELAY_TAG_GENERATION, generation);
	frame_number(out, RELAY_TAG_OK, good ? 1 : 0);
	frame_text(out, RELAY_TAG_REASON, reason.text, good ? 0 : strlen(reason.text));
	return frame_end(out, start);
}

static bool
handle_remove(const FrameFields *fields)
{
	int64_t		id;

	if (!frame_get_number(fields, RELAY_TAG_DESTINATION_ID, &id))
		return false;
	destination_remove(id);
	return true;
}

static bool
handle_ping(const FrameFields *fields)
{
	FrameBuffer *out = channel_output();
	int64_t		token;
	size_t		start;

	if (!frame_get_number(fields, RELAY_TAG_TOKEN, &token))
		return false;
	start = frame_begin(out, RELAY_PONG);
	frame_number(out, RELAY_TAG_TOKEN, token);
	return frame_end(out, start);
}

/* false: the conversation is over. */
static bool
handle_frame(const Frame *frame)
{
	FrameFields fields;

	if (!greeted && frame->type != RELAY_HELLO)
		return false;
	if (frame->type == RELAY_EVENT)
		return destination_take(frame);
	if (!frame_read(frame, &fields))
		return false;
	switch (frame->type)
	{
		case RELAY_HELLO:
			return handle_hello(&fields);
		case RELAY_DESTINATION:
			return handle_destination(&fields);
		case RELAY_DESTINATION_REMOVE:
			return handle_remove(&fields);
		case RELAY_PING:
			return handle_ping(&fields);
		default:
			return false;
	}
}

static bool
may_read(void)
{
	int			events;
	size_t		bytes;

	destinations_held(&events, &bytes);
	return events < RELAY_WINDOW_MAX && bytes + channel_output_pending() < HELD_BYTES_MAX;
}

static void
end(ChannelStatus status)
{
	Assert(status != CHANNEL_OPEN);
	if (status == CHANNEL_CLOSED)
		_exit(0);
	fputs("pg_failsafe_relay: the worker's frames cannot be understood\n", stderr);
	_exit(EXIT_MALFORMED);
}

/* One turn: what the worker says, what can be sent, what the network did, answers. */
static void
turn(int fd)
{
	uint32_t	wanted = 0;
	uint32_t	ready;
	ChannelStatus status;

	if (may_read())
		wanted |= EPOLLIN;
	if (channel_output_pending() > 0)
		wanted |= EPOLLOUT;
	ready = network_run(fd, wanted, -1);
	if (ready & EPOLLIN)
		status = channel_read(handle_frame);
	else
		status = ready & (EPOLLHUP | EPOLLERR) ? CHANNEL_CLOSED : CHANNEL_OPEN;
	if (status != CHANNEL_OPEN)
		end(status);
	destinations_run();
	status = channel_flush();
	if (status != CHANNEL_OPEN)
		end(status);
}

static int
read_descriptor(const char *text)
{
	char	   *rest;
	long		number = strtol(text, &rest, 10);

	return *text == '\0' || *rest != '\0' || number < 0 || number > 1000000 ? -1 : (int) number;
}

int
main(int argument_count, char **arguments)
{
	int			fd = argument_count > 1 ? read_descriptor(arguments[1]) : DESCRIPTOR_DEFAULT;

	if (fd < 0 || argument_count > 2)
	{
		fputs("usage: pg_failsafe_relay [FD]\n"
			  "Started by a worker of pg_failsafe; FD is a connected socket, 3 unless given.\n",
			  stderr);
		return EXIT_USAGE;
	}
	prepare_process();
	network_open();
	channel_open(fd);
	for (;;)
		turn(fd);
}
