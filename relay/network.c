/*
 * relay/network.c
 *	  Owns the multi handle, the epoll and the state of each socket.
 *
 * Invariants
 *	 1. A socket that libcurl made through us is in the epoll from its first use until it
 *		is closed, even while libcurl does not look at it: a connection that is kept alive
 *		costs no epoll_ctl() per request.  When something happens on it meanwhile, it is
 *		taken out.
 *	 2. Sockets that libcurl made by itself (its resolver's) are registered exactly as it
 *		says, because nobody tells us when they are closed.
 *	 3. No address is connected to, and no connection used again, that the request's
 *		allow-list does not let through: judged by the address itself, at both moments.
 */
#include "network.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "assertion.h"
#include "clock.h"
#include "text.h"

#define EVENTS_AT_ONCE	256
#define DNS_CACHE_S		60L

typedef struct SocketState
{
	uint32_t	wanted;			/* by libcurl now */
	uint32_t	registered;		/* in the epoll; 0: not there */
	bool		ours;			/* made by open_socket() */
} SocketState;

static CURLM *multi;
static int	poll_fd = -1;
static SocketState *sockets;	/* by descriptor */
static int	socket_room;
static int64_t timer_us = -1;	/* when libcurl wants to be called; -1: never */
static int	control_fd = -1;
static uint32_t control_registered;

static SocketState *
socket_state(int fd)
{
	Assert(fd >= 0);
	if (fd >= socket_room)
	{
		int			room = socket_room == 0 ? 1024 : socket_room;

		while (room <= fd)
			room *= 2;
		sockets = memory_resize(sockets, sizeof(SocketState) * (size_t) room);
		memset(sockets + socket_room, 0, sizeof(SocketState) * (size_t) (room - socket_room));
		socket_room = room;
	}
	return &sockets[fd];
}

static void
register_socket(int fd, uint32_t *registered, uint32_t events)
{
	struct epoll_event event = {.events = events,.data.fd = fd};
	int			operation = events == 0 ? EPOLL_CTL_DEL :
		*registered == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;

	if (*registered == events)
		return;
	*registered = events;
	if (epoll_ctl(poll_fd, operation, fd, &event) == 0 || operation == EPOLL_CTL_DEL)
		return;
	/* The number was closed and given out again without our knowing. */
	operation = errno == ENOENT ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
	if (epoll_ctl(poll_fd, operation, fd, &event) != 0)
	{
		perror("pg_failsafe_relay: epoll_ctl");
		_Exit(1);
	}
}

static int
socket_wanted(CURL *easy, curl_socket_t fd, int what, void *context, void *socket_context)
{
	SocketState *state = socket_state(fd);

	state->wanted = (what & CURL_POLL_IN ? (uint32_t) EPOLLIN : 0) |
		(what & CURL_POLL_OUT ? (uint32_t) EPOLLOUT : 0);
	if (what == CURL_POLL_REMOVE)
		state->wanted = 0;
	if (state->wanted != 0 || !state->ours)
		register_socket(fd, &state->registered, state->wanted);
	return 0;
}

static int
timer_wanted(CURLM *handle, long timeout_ms, void *context)
{
	timer_us = timeout_ms < 0 ? -1 : clock_us() + (int64_t) timeout_ms * 1000;
	return 0;
}

static curl_socket_t
open_socket(void *context, curlsocktype purpose, struct curl_sockaddr *target)
{
	Request    *request = context;
	Address		address;
	const char *range;
	SocketState *state;
	int			fd;

	if (!address_from_socket(&target->addr, &address))
		return CURL_SOCKET_BAD;
	if (!address_allowed(request->allow, request->host, &address, &range))
	{
		request->blocked = true;
		request->blocked_address = address;
		request->blocked_range = range;
		return CURL_SOCKET_BAD;
	}
	fd = socket(target->family, target->socktype | SOCK_CLOEXEC, target->protocol);
	if (fd < 0)
		return CURL_SOCKET_BAD;
	request->connecting = true;
	state = socket_state(fd);
	state->ours = true;
	state->registered = 0;
	state->wanted = 0;
	return fd;
}

static int
close_socket(void *context, curl_socket_t fd)
{
	SocketState *state = socket_state(fd);

	memset(state, 0, sizeof(SocketState));
	return close(fd);
}

/*
 * A connection that another destination opened, with a list of its own, is judged again
 * before this request goes out on it.
 */
static int
before_request(void *context, char *peer, char *local, int peer_port, int local_port)
{
	Request    *request = context;
	Address		address;
	const char *range = "not an address";

	if (strcmp(request->passed, peer) == 0)
		return CURL_PREREQFUNC_OK;
	memset(&address, 0, sizeof(address));
	if (address_parse(peer, &address) &&
		address_allowed(request->allow, request->host, &address, &range))
	{
		snprintf(request->passed, sizeof(request->passed), "%s", peer);
		return CURL_PREREQFUNC_OK;
	}
	request->blocked = true;
	request->connecting = false;
	request->blocked_address = address;
	request->blocked_range = range;
	return CURL_PREREQFUNC_ABORT;
}

void
network_open(void)
{
	poll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (poll_fd < 0 || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK ||
		(multi = curl_multi_init()) == NULL)
	{
		fputs("pg_failsafe_relay: the network library does not start\n", stderr);
		_Exit(1);
	}
	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, socket_wanted);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, timer_wanted);
	curl_multi_setopt(multi, CURLMOPT_PIPELINING, CURLPIPE_MULTIPLEX);
}

void
network_set_idle(long connections)
{
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, connections);
}

/* Nothing of the surroundings counts: no proxy, netrc or cookies, no redirect. */
void
request_open(Request *request, const AllowList *allow, const char *host)
{
	CURL	   *easy = curl_easy_init();

	if (easy == NULL)
	{
		fputs("pg_failsafe_relay: out of memory\n", stderr);
		_Exit(1);
	}
	request->easy = easy;
	request->allow = allow;
	request->host = host;
	curl_easy_setopt(easy, CURLOPT_PRIVATE, request);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, request->error);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 1L);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	curl_easy_setopt(easy, CURLOPT_HTTP09_ALLOWED, 0L);
	curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(easy, CURLOPT_DNS_CACHE_TIMEOUT, DNS_CACHE_S);
	/* A look-up that hangs is left behind; to wait for it would stop everything. */
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, request);
	curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, close_socket);
	curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, before_request);
	curl_easy_setopt(easy, CURLOPT_PREREQDATA, request);
}

void
request_close(Request *request)
{
	curl_easy_cleanup(request->easy);
	request->easy = NULL;
}

void
request_start(Request *request)
{
	request->blocked = false;
	request->connecting = false;
	request->error[0] = '\0';
	Assert(request->easy != NULL && request->done != NULL);
	curl_multi_add_handle(multi, request->easy);
}

static void
finish_requests(void)
{
	CURLMsg    *message;
	int			left;

	while ((message = curl_multi_info_read(multi, &left)) != NULL)
	{
		CURL	   *easy = message->easy_handle;
		CURLcode	result = message->data.result;
		char	   *context = NULL;
		Request    *request;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(easy, CURLINFO_PRIVATE, &context);
		request = (Request *) (void *) context;
		Assert(request->easy == easy);
		curl_multi_remove_handle(multi, easy);
		request->done(request, result);
	}
}

static void
socket_ready(int fd, uint32_t events)
{
	SocketState *state = socket_state(fd);
	int			running;
	int			what = 0;

	if (state->wanted == 0)
	{
		register_socket(fd, &state->registered, 0);
		return;
	}
	if (events & (EPOLLIN | EPOLLHUP))
		what |= CURL_CSELECT_IN;
	if (events & EPOLLOUT)
		what |= CURL_CSELECT_OUT;
	if (events & EPOLLERR)
		what |= CURL_CSELECT_ERR;
	curl_multi_socket_action(multi, fd, what, &running);
}

/* Rounded up: to wake too early would be to spin. */
static int
wait_ms(int timeout_ms)
{
	int64_t		left_us;
	int			left_ms;

	if (timer_us < 0)
		return timeout_ms;
	left_us = timer_us - clock_us();
	left_ms = left_us <= 0 ? 0 : left_us > 60000000 ? 60000 : (int) ((left_us + 999) / 1000);
	return timeout_ms < 0 || left_ms < timeout_ms ? left_ms : timeout_ms;
}

uint32_t
network_run(int control, uint32_t wanted, int timeout_ms)
{
	struct epoll_event events[EVENTS_AT_ONCE];
	uint32_t	ready = 0;
	int			running;
	int			count;

	/* Registered with no events at all, the other end's close is still told. */
	if (control != control_fd || wanted != control_registered)
	{
		struct epoll_event event = {.events = wanted,.data.fd = control};

		epoll_ctl(poll_fd, control != control_fd ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, control, &event);
		control_fd = control;
		control_registered = wanted;
	}
	count = epoll_wait(poll_fd, events, EVENTS_AT_ONCE, wait_ms(timeout_ms));
	for (int i = 0; i < count; i++)
	{
		if (events[i].data.fd == control)
			ready = events[i].events;
		else
			socket_ready(events[i].data.fd, events[i].events);
	}
	if (timer_us >= 0 && timer_us <= clock_us())
	{
		timer_us = -1;
		curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
	}
	finish_requests();
	return ready;
}
