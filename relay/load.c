/*
 * relay/load.c
 *	  Measures the relay alone: plays the worker, never installed.
 *
 *		load RELAY URL [EVENTS [IN_FLIGHT [BYTES [CONFIG-MEMBERS]]]]
 *
 * Starts the program RELAY, keeps up to RELAY_WINDOW_MAX events of BYTES data unanswered,
 * and prints how many were answered a second, how many not well, and the processor time
 * that the relay took for each.  CONFIG-MEMBERS are further members of the
 * configuration, as '"secret":"env:KEY"'.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "assertion.h"
#include "clock.h"
#include "text.h"

#define CHUNK_BYTES		262144
#define FRAMES_AT_ONCE	500

static FrameBuffer out;
static FrameBuffer in;
static char *data;
static size_t data_length;
static long answered;
static long failed;
static char first_reason[RELAY_REASON_BYTES_MAX + 1];

static void
fail(const char *what)
{
	perror(what);
	exit(1);
}

static pid_t
start_relay(const char *program, int *fd)
{
	int			pair[2];
	pid_t		child;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
		fail("load: socketpair");
	child = fork();
	if (child < 0)
		fail("load: fork");
	if (child == 0)
	{
		/* 3 may be an end of the pair itself, which exec would close. */
		int			copy = dup2(pair[1], 9);

		if (copy == 9)
			execl(program, program, "9", (char *) NULL);
		perror(program);
		_exit(1);
	}
	close(pair[1]);
	*fd = pair[0];
	return child;
}

static void
put_text(RelayTag tag, const char *text)
{
	frame_text(&out, tag, text, strlen(text));
}

static void
put_greeting(const char *url, long in_flight, const char *members)
{
	char		config[4096];
	size_t		start = frame_begin(&out, RELAY_HELLO);

	frame_number(&out, RELAY_TAG_VERSION, RELAY_PROTOCOL_VERSION);
	put_text(RELAY_TAG_SOURCE, "/pg_failsafe/load");
	frame_end(&out, start);
	snprintf(config, sizeof(config), "{\"url\":\"%s\",\"allow_addresses\":[\"127.0.0.0/8\"]%s%s}",
			 url, *members != '\0' ? "," : "", members);
	start = frame_begin(&out, RELAY_DESTINATION);
	frame_number(&out, RELAY_TAG_DESTINATION_ID, 1);
	frame_number(&out, RELAY_TAG_GENERATION, 1);
	put_text(RELAY_TAG_SINK, "http");
	put_text(RELAY_TAG_CONFIG, config);
	frame_number(&out, RELAY_TAG_IN_FLIGHT, in_flight);
	frame_end(&out, start);
}

static void
put_event(long number)
{
	char		id[40];
	char		key[24];
	size_t		start = frame_begin(&out, RELAY_EVENT);

	snprintf(id, sizeof(id), "0190b4a0-0000-7000-8000-%012lx", (unsigned long) number);
	snprintf(key, sizeof(key), "acc_%ld", number % 10000);
	frame_number(&out, RELAY_TAG_TOKEN, number);
	frame_number(&out, RELAY_TAG_DESTINATION_ID, 1);
	frame_number(&out, RELAY_TAG_TIMEOUT_MS, 15000);
	frame_number(&out, RELAY_TAG_ATTEMPT, 1);
	put_text(RELAY_TAG_EVENT_ID, id);
	put_text(RELAY_TAG_EVENT_TYPE, "wallet.debit.committed");
	put_text(RELAY_TAG_TIME, "2026-01-01T00:00:00.000000Z");
	put_text(RELAY_TAG_ORDER_KEY, key);
	put_text(RELAY_TAG_TENANT, "default");
	frame_text(&out, RELAY_TAG_DATA, data, data_length);
	frame_end(&out, start);
}

/* Writes all; the relay reads whenever it has room. */
static void
write_out(int fd)
{
	for (size_t at = 0; at < out.length;)
	{
		ssize_t		sent = send(fd, out.data + at, out.length - at, MSG_NOSIGNAL);

		if (sent <= 0)
			fail("load: the relay is gone");
		at += (size_t) sent;
	}
	out.length = 0;
}

static void
take_frame(const Frame *frame)
{
	FrameFields fields;
	int64_t		ok = 0;

	if (!frame_read(frame, &fields))
		fail("load: a malformed frame");
	frame_get_number(&fields, RELAY_TAG_OK, &ok);
	if (frame->type == RELAY_RESULT)
		answered++;
	if (ok || frame->type == RELAY_LOG)
		return;
	if (failed++ == 0)
		snprintf(first_reason, sizeof(first_reason), "%.*s",
				 (int) fields.field[RELAY_TAG_REASON].length, fields.field[RELAY_TAG_REASON].data);
}

static void
read_answers(int fd)
{
	size_t		at = 0;
	size_t		used;
	ssize_t		got;
	Frame		frame;

	if (in.capacity - in.length < CHUNK_BYTES)
		in.grow(&in, in.length + CHUNK_BYTES);
	got = recv(fd, in.data + in.length, CHUNK_BYTES, 0);
	if (got <= 0)
		fail("load: the relay is gone");
	in.length += (size_t) got;
	while (frame_split(in.data + at, in.length - at, &frame, &used) == FRAME_COMPLETE)
	{
		take_frame(&frame);
		at += used;
		Assert(at <= in.length);
	}
	memmove(in.data, in.data + at, in.length - at);
	in.length -= at;
}

/* A half of the window is refilled at once, so that both sides work in batches. */
static double
run(int fd, long events)
{
	int64_t		began = clock_us();
	long		sent = 0;

	while (answered < events)
	{
		while (sent < events && sent - answered < RELAY_WINDOW_MAX / 2)
		{
			for (int i = 0; i < FRAMES_AT_ONCE && sent < events; i++)
				put_event(sent++);
			write_out(fd);
		}
		read_answers(fd);
	}
	return (double) (clock_us() - began) / 1e6;
}

int
main(int argument_count, char **arguments)
{
	long		events = argument_count > 3 ? atol(arguments[3]) : 100000;
	long		in_flight = argument_count > 4 ? atol(arguments[4]) : 32;
	struct rusage used;
	double		seconds;
	pid_t		child;
	int			fd;

	if (argument_count < 3)
	{
		fputs("usage: load RELAY URL [EVENTS [IN_FLIGHT [BYTES [CONFIG-MEMBERS]]]]\n", stderr);
		return 2;
	}
	data_length = argument_count > 5 ? (size_t) atol(arguments[5]) : 400;
	data_length = data_length < 8 ? 8 : data_length;
	data = memory_take(data_length);
	memset(data, 'x', data_length);
	memcpy(data, "{\"a\":\"", 6);
	memcpy(data + data_length - 2, "\"}", 2);
	buffer_init(&out);
	buffer_init(&in);
	child = start_relay(arguments[1], &fd);
	put_greeting(arguments[2], in_flight, argument_count > 6 ? arguments[6] : "");
	write_out(fd);
	seconds = run(fd, events);
	close(fd);
	waitpid(child, NULL, 0);
	getrusage(RUSAGE_CHILDREN, &used);
	printf("%ld events, %ld failed, %.2f s, %.0f a second, %.1f us of the relay's processor each\n",
		   events, failed, seconds, (double) events / seconds,
		   ((double) (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e6 +
			(double) (used.ru_utime.tv_usec + used.ru_stime.tv_usec)) / (double) events);
	if (failed > 0)
		printf("first: %s\n", first_reason);
	return failed > 0;
}
