/*
 * relay/receiver.c
 *	  A receiver for benchmarks: HTTP/1.1 with keep-alive, one process, one epoll; answers
 *	  200 at once.  Never installed.
 *
 *		receiver [-p PORT] [-l FILE] [-n COUNT]
 *
 * Prints the port that it listens on (of 127.0.0.1) as its first line.  -l writes one line a
 * request: arrival in microseconds since 1970, the ce-id.  -n ends it after so many
 * requests; then, and at SIGTERM or SIGINT, it prints how many there were and how many a
 * second between the first and the last.
 *
 * It reads requests with Content-Length only, up to REQUEST_BYTES_MAX: what the relay
 * sends.  Anything else ends the connection.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "assertion.h"

#define EVENTS_AT_ONCE		256
#define READ_BYTES			65536
#define REQUEST_BYTES_MAX	(32 * 1024 * 1024)
#define LOG_BUFFER_BYTES	(1024 * 1024)

typedef struct Connection
{
	int			fd;
	char	   *bytes;
	size_t		length;
	size_t		room;
} Connection;

static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
static volatile sig_atomic_t stopped;
static FILE *log_file;
static int64_t request_count;
static int64_t request_limit;
static int64_t first_us;
static int64_t last_us;

static void
on_stop(int signal_number)
{
	stopped = 1;
}

static int64_t
now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void
fail(const char *what)
{
	perror(what);
	exit(1);
}

static int
listen_on(int port)
{
	struct sockaddr_in address = {.sin_family = AF_INET,.sin_port = htons((uint16_t) port)};
	socklen_t	length = sizeof(address);
	int			fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int			on = 1;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
		bind(fd, (struct sockaddr *) &address, length) != 0 || listen(fd, 1024) != 0 ||
		getsockname(fd, (struct sockaddr *) &address, &length) != 0)
		fail("receiver: listen");
	printf("%d\n", ntohs(address.sin_port));
	fflush(stdout);
	return fd;
}

/* The value of a header in a head that ends with a zero, or NULL. */
static const char *
find_header(const char *head, const char *name)
{
	const char *at = strcasestr(head, name);

	return at == NULL ? NULL : at + strlen(name);
}

static void
count_request(const char *head)
{
	const char *id;

	last_us = now_us();
	if (request_count++ == 0)
		first_us = last_us;
	if (request_limit > 0 && request_count >= request_limit)
		stopped = 1;
	if (log_file == NULL)
		return;
	id = find_header(head, "\r\nce-id: ");
	fprintf(log_file, "%lld\t%.*s\n", (long long) last_us, id == NULL ? 0 : (int) strcspn(id, "\r"),
			id == NULL ? "" : id);
}

/* How long the first request is; 0: not all of it is there; -1: not understood. */
static ssize_t
request_length(char *bytes, size_t length)
{
	char	   *end = memmem(bytes, length, "\r\n\r\n", 4);
	const char *value;
	size_t		head;
	size_t		body;

	if (end == NULL)
		return length > READ_BYTES ? -1 : 0;
	head = (size_t) (end - bytes) + 4;
	end[2] = '\0';
	value = find_header(bytes, "\r\ncontent-length: ");
	body = value == NULL ? 0 : strtoul(value, NULL, 10);
	if (body > REQUEST_BYTES_MAX)
		return -1;
	if (length - head >= body)
		count_request(bytes);
	end[2] = '\r';
	return length - head >= body ? (ssize_t) (head + body) : 0;
}

/* Answers all whole requests; false: the connection is of no more use. */
static bool
answer_requests(Connection *connection)
{
	size_t		at = 0;
	ssize_t		used;

	while ((used = request_length(connection->bytes + at, connection->length - at)) > 0)
	{
		at += (size_t) used;
		Assert(at <= connection->length);
		if (send(connection->fd, answer, sizeof(answer) - 1, MSG_NOSIGNAL) != sizeof(answer) - 1)
			return false;
	}
	if (at > 0)
		memmove(connection->bytes, connection->bytes + at, connection->length - at);
	connection->length -= at;
	return used == 0;
}

static bool
read_connection(Connection *connection)
{
	ssize_t		got;

	/* One byte is kept free: searches look for a zero at the end. */
	if (connection->room - connection->length < READ_BYTES + 1)
	{
		connection->room = connection->room * 2 + READ_BYTES + 1;
		connection->bytes = realloc(connection->bytes, connection->room);
		if (connection->bytes == NULL)
			fail("receiver: memory");
	}
	got = recv(connection->fd, connection->bytes + connection->length, READ_BYTES, 0);
	if (got < 0)
		return errno == EAGAIN || errno == EINTR;
	if (got == 0)
		return false;
	connection->length += (size_t) got;
	connection->bytes[connection->length] = '\0';
	return answer_requests(connection);
}

static void
accept_connections(int listener, int poll_fd)
{
	int			fd;
	int			on = 1;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
	{
		Connection *connection = calloc(1, sizeof(Connection));
		struct epoll_event event = {.events = EPOLLIN,.data.ptr = connection};

		if (connection == NULL)
			fail("receiver: memory");
		connection->fd = fd;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
			fail("receiver: epoll_ctl");
	}
}

static void
close_connection(Connection *connection)
{
	close(connection->fd);
	free(connection->bytes);
	free(connection);
}

static void
serve(int listener)
{
	struct epoll_event events[EVENTS_AT_ONCE];
	struct epoll_event event = {.events = EPOLLIN,.data.ptr = NULL};
	int			poll_fd = epoll_create1(EPOLL_CLOEXEC);

	if (poll_fd < 0 || epoll_ctl(poll_fd, EPOLL_CTL_ADD, listener, &event) != 0)
		fail("receiver: epoll");
	while (!stopped)
	{
		int			count = epoll_wait(poll_fd, events, EVENTS_AT_ONCE, 1000);

		for (int i = 0; i < count; i++)
		{
			if (events[i].data.ptr == NULL)
				accept_connections(listener, poll_fd);
			else if (!read_connection(events[i].data.ptr))
				close_connection(events[i].data.ptr);
		}
		/* What was logged can be read while nothing arrives. */
		if (count == 0 && log_file != NULL)
			fflush(log_file);
	}
}

int
main(int argument_count, char **arguments)
{
	struct sigaction action = {.sa_handler = on_stop};
	int			port = 0;
	int			option;

	while ((option = getopt(argument_count, arguments, "p:l:n:")) != -1)
	{
		if (option == 'p')
			port = atoi(optarg);
		else if (option == 'n')
			request_limit = atoll(optarg);
		else if (option != 'l')
			return 2;
		else if ((log_file = fopen(optarg, "w")) == NULL)
			fail(optarg);
	}
	if (log_file != NULL)
		setvbuf(log_file, NULL, _IOFBF, LOG_BUFFER_BYTES);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	serve(listen_on(port));
	printf("%lld requests, %.0f a second\n", (long long) request_count,
		   last_us > first_us ? (double) request_count * 1e6 / (double) (last_us - first_us) : 0.0);
	return log_file != NULL && fclose(log_file) != 0;
}
