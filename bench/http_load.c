/*
 * bench/http_load.c
 *	  How many requests a second does a receiver answer?  A load generator for one address
 *	  of this machine, for measuring the receiver's own ceiling.
 *
 *		http_load PORT CONNECTIONS REQUESTS [BODY_BYTES]
 *
 * Each connection is kept, and sends its next request when the answer to the last one is
 * there, as the relay does.  The request has the size of one of the relay's.  Answers
 * must have Content-Length: 0; anything but a 200 ends the program.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "relay/assertion.h"
#include "relay/clock.h"

#define CONNECTIONS_MAX	1000
#define BODY_BYTES_MAX	(1024 * 1024)
#define HEAD_BYTES_MAX	1024
#define ANSWER_BYTES	1024

typedef struct Connection
{
	int			fd;
	size_t		length;
	char		answer[ANSWER_BYTES];
} Connection;

static const char head[] =
"POST /hook HTTP/1.1\r\n"
"Host: 127.0.0.1\r\n"
"User-Agent: pg_failsafe\r\n"
"Content-Type: application/json\r\n"
"ce-specversion: 1.0\r\n"
"ce-id: 0190b4a0-0000-7000-8000-000000000000\r\n"
"ce-source: /pg_failsafe/7000000000000000000/16384\r\n"
"ce-type: bench.order.paid\r\n"
"ce-time: 2026-01-01T00:00:00.000000Z\r\n"
"ce-partitionkey: acc_1234\r\n"
"Idempotency-Key: 0190b4a0-0000-7000-8000-000000000000\r\n"
"webhook-id: 0190b4a0-0000-7000-8000-000000000000\r\n"
"webhook-timestamp: 1767225600\r\n"
"Content-Length: %zu\r\n"
"\r\n";

static char request[HEAD_BYTES_MAX + BODY_BYTES_MAX];
static size_t request_length;
static Connection *connections;
static long begun;
static long answered;

static void
fail(const char *what)
{
	perror(what);
	exit(1);
}

static long
read_number(const char *text, long max)
{
	char	   *end;
	long		number = strtol(text, &end, 10);

	if (*text == '\0' || *end != '\0' || number < 1 || number > max)
	{
		fprintf(stderr, "http_load: %s is not a number from 1 to %ld\n", text, max);
		exit(2);
	}
	return number;
}

static void
make_request(size_t body)
{
	int			length = snprintf(request, HEAD_BYTES_MAX, head, body);

	Assert(length > 0 && length < HEAD_BYTES_MAX && body <= BODY_BYTES_MAX);
	memset(request + length, 'x', body);
	request_length = (size_t) length + body;
}

/* The socket's buffer takes a whole request: there is never more than one in it. */
static void
send_request(Connection *connection)
{
	for (size_t at = 0; at < request_length;)
	{
		ssize_t		sent = send(connection->fd, request + at, request_length - at, MSG_NOSIGNAL);

		if (sent < 0 && errno != EINTR)
			fail("http_load: send");
		if (sent > 0)
			at += (size_t) sent;
	}
	begun++;
}

static void
open_connection(Connection *connection, int port, int poll_fd)
{
	struct sockaddr_in address = {.sin_family = AF_INET,.sin_port = htons((uint16_t) port)};
	struct epoll_event event = {.events = EPOLLIN,.data.ptr = connection};
	int			on = 1;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connection->fd < 0 ||
		connect(connection->fd, (struct sockaddr *) &address, sizeof(address)) != 0 ||
		setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0 ||
		epoll_ctl(poll_fd, EPOLL_CTL_ADD, connection->fd, &event) != 0)
		fail("http_load: connect");
}

static void
read_answer(Connection *connection, long requests)
{
	ssize_t		got = recv(connection->fd, connection->answer + connection->length,
						   ANSWER_BYTES - 1 - connection->length, 0);

	if (got <= 0)
		fail("http_load: the connection was closed");
	connection->length += (size_t) got;
	connection->answer[connection->length] = '\0';
	if (strstr(connection->answer, "\r\n\r\n") == NULL)
		return;
	if (strncmp(connection->answer, "HTTP/1.1 200 ", 13) != 0)
		fail("http_load: the answer is not 200");
	answered++;
	connection->length = 0;
	if (begun < requests)
		send_request(connection);
}

static void
run(long requests, int poll_fd)
{
	while (answered < requests)
	{
		struct epoll_event events[CONNECTIONS_MAX];
		int			count = epoll_wait(poll_fd, events, CONNECTIONS_MAX, -1);

		for (int i = 0; i < count; i++)
			read_answer(events[i].data.ptr, requests);
	}
}

int
main(int argument_count, char **arguments)
{
	int			poll_fd = epoll_create1(EPOLL_CLOEXEC);
	long		count;
	long		requests;
	int64_t		began;

	if (argument_count < 4 || argument_count > 5)
	{
		fputs("usage: http_load PORT CONNECTIONS REQUESTS [BODY_BYTES]\n", stderr);
		return 2;
	}
	count = read_number(arguments[2], CONNECTIONS_MAX);
	requests = read_number(arguments[3], INT32_MAX);
	make_request(argument_count > 4 ? (size_t) read_number(arguments[4], BODY_BYTES_MAX) : 400);
	connections = calloc((size_t) count, sizeof(Connection));
	if (poll_fd < 0 || connections == NULL)
		fail("http_load");
	for (long i = 0; i < count; i++)
		open_connection(&connections[i], (int) read_number(arguments[1], 65535), poll_fd);
	began = clock_us();
	for (long i = 0; i < count && begun < requests; i++)
		send_request(&connections[i]);
	run(requests, poll_fd);
	printf("%ld requests, %.0f a second\n", answered,
		   (double) answered * 1e6 / (double) (clock_us() - began));
	return 0;
}
