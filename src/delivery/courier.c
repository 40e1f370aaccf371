/*
 * delivery/courier.c
 *	  Owns the relay: a child process of the worker that is attached to nothing of
 *	  the server's [I7], and the socket between the two.
 *
 * Invariants:
 *	K1	Between fork() and execv() the child calls async-signal-safe functions only,
 *		with all signals blocked, and leaves by _exit() alone [F21].
 *	K2	The relay inherits four descriptors: /dev/null twice, a pipe for what it
 *		says on stderr, and its end of the socket as number 3.
 *	K3	Whichever way this process ends, but by a signal that nobody can catch, the
 *		relay is killed and waited for first.  Else it could become a child of the
 *		postmaster, which restarts the server when an unknown child dies [F20].
 *	K4	Nothing here waits for the relay: writes and reads do not block, and a dead one
 *		is collected later.  Only the exit callback waits, for a limited time.
 *	K5	What waits to be written is at most OUT_BYTES_MAX, or one frame.  A frame from
 *		the relay is at most IN_BYTES_MAX.
 *
 * States:	none -> up -> dying (killed, not yet collected) -> none
 *
 * Takes no locks.
 */
#include "postgres.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

#include "base/settings.h"
#include "delivery/courier.h"

#define RELAY_DESCRIPTOR	3	/* the relay's end of the socket */
#define RELAY_OOM_SCORE		"500"	/* rather the relay than a backend */
#define OUT_BYTES_MAX		(8 * 1024 * 1024)
#define IN_BYTES_MAX		(64 * 1024)
#define OUT_KEEP_BYTES		(1024 * 1024)	/* a larger buffer is given back when empty */
#define READS_MAX			256	/* of one pump */
#define LOG_LINE_BYTES_MAX	1000
#define LOG_LINES_MAX		20	/* of one pump */
#define PING_EVERY_MS		10000
#define PONG_WITHIN_MS		20000	/* so 30 seconds of silence are its end */
#define BACKOFF_MIN_MS		100
#define BACKOFF_MAX_MS		30000
#define HEALTHY_AFTER_MS	60000	/* up for so long: the next death is a first one */
#define COLLECT_AT_EXIT_MS	5000

typedef struct Courier
{
	pid_t		pid;			/* 0: none */
	bool		up;				/* else it is dying */
	bool		stopped;		/* by us: no failure */
	bool		explained;		/* the log has said why it ends */
	pgsocket	socket;
	int			complaints;		/* reading end of the relay's stderr, or -1 */
	int64		started_ms;
	int64		not_before_ms;	/* of the next start */
	int			backoff_ms;
	int64		ping_number;
	int64		pinged_ms;		/* when the last ping was queued */
	bool		pong_due;
	bool		start_failure_logged;
	StringInfoData out;			/* cursor: what is written already */
	char	   *in;				/* IN_BYTES_MAX + 4 bytes */
	size_t		in_length;
} Courier;

static Courier courier = {.socket = PGINVALID_SOCKET, .complaints = -1};
static MemoryContext courier_context = NULL;

/* Does not jump when somebody sets the clock. */
static int64
monotonic_ms(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MILLISEC(now);
}

bool
courier_is_up(void)
{
	return courier.up;
}

int
courier_pid(void)
{
	return courier.up ? (int) courier.pid : 0;
}

pgsocket
courier_socket(void)
{
	return courier.up ? courier.socket : PGINVALID_SOCKET;
}

bool
courier_wants_write(void)
{
	return courier.up && courier.out.cursor < courier.out.len;
}

/* ---------- frames ---------- */

static bool
buffer_grow(FrameBuffer *buffer, size_t needed)
{
	size_t		capacity = Max(buffer->capacity * 2, needed);

	if (!AllocSizeIsValid(capacity))
		return false;
	buffer->data = repalloc(buffer->data, capacity);
	buffer->capacity = capacity;
	return true;
}

void
courier_buffer_init(FrameBuffer *buffer)
{
	memset(buffer, 0, sizeof(*buffer));
	buffer->capacity = 1024;
	buffer->data = palloc(buffer->capacity);
	buffer->grow = buffer_grow;
}

bool
courier_has_room(size_t length)
{
	size_t		waiting = courier.out.len - courier.out.cursor;

	return courier.up && (waiting == 0 || waiting + length <= OUT_BYTES_MAX);
}

bool
courier_send(const char *frame, size_t length)
{
	size_t		waiting = courier.out.len - courier.out.cursor;

	Assert(frame != NULL && length > 0);
	if (!courier_has_room(length))
		return false;
	if (courier.out.cursor > 0 && courier.out.len + length >= courier.out.maxlen)
	{
		memmove(courier.out.data, courier.out.data + courier.out.cursor, waiting);
		courier.out.len = (int) waiting;
		courier.out.cursor = 0;
	}
	appendBinaryStringInfo(&courier.out, frame, (int) length);
	return true;
}

static void
send_hello(const char *source)
{
	FrameBuffer buffer;
	size_t		start;

	courier_buffer_init(&buffer);
	start = frame_begin(&buffer, RELAY_HELLO);
	frame_number(&buffer, RELAY_TAG_VERSION, RELAY_PROTOCOL_VERSION);
	frame_text(&buffer, RELAY_TAG_SOURCE, source, strlen(source));
	if (frame_end(&buffer, start))
		(void) courier_send(buffer.data, buffer.length);
	pfree(buffer.data);
}

static void
send_ping(int64 now_ms)
{
	FrameBuffer buffer;
	size_t		start;

	courier_buffer_init(&buffer);
	start = frame_begin(&buffer, RELAY_PING);
	frame_number(&buffer, RELAY_TAG_TOKEN, ++courier.ping_number);
	/* where there is no room to ask, what waits there has to be read first just as well */
	if (frame_end(&buffer, start))
		(void) courier_send(buffer.data, buffer.length);
	courier.pong_due = true;
	courier.pinged_ms = now_ms;
	pfree(buffer.data);
}

/* ---------- death ---------- */

static void
descriptor_close(int *descriptor)
{
	if (*descriptor < 0)
		return;
	close(*descriptor);
	*descriptor = -1;
	ReleaseExternalFD();
}

/* The child is no more: next time not at once, unless it lived long. */
static void
courier_collected(int status)
{
	int64		now_ms = monotonic_ms();

	Assert(courier.pid != 0 && !courier.up);
	if (!courier.explained && WIFEXITED(status))
		ereport(LOG,
				(errmsg("pg_failsafe worker: the relay (PID %d) exited with exit code %d",
						(int) courier.pid, WEXITSTATUS(status))));
	else if (!courier.explained && WIFSIGNALED(status))
		ereport(LOG,
				(errmsg("pg_failsafe worker: the relay (PID %d) was terminated by signal %d: %s",
						(int) courier.pid, WTERMSIG(status), pg_strsignal(WTERMSIG(status)))));
	if (courier.stopped)
		courier.backoff_ms = 0;
	else if (courier.backoff_ms == 0 || now_ms - courier.started_ms >= HEALTHY_AFTER_MS)
		courier.backoff_ms = BACKOFF_MIN_MS;
	else
		courier.backoff_ms = Min(courier.backoff_ms * 2, BACKOFF_MAX_MS);
	courier.not_before_ms = now_ms + courier.backoff_ms;
	courier.pid = 0;
}

/* Collect the dead child if it can be had without waiting. */
static void
courier_collect(void)
{
	int			status = 0;
	pid_t		found;

	if (courier.pid == 0 || courier.up)
		return;
	found = waitpid(courier.pid, &status, WNOHANG);
	if (found == courier.pid || (found < 0 && errno == ECHILD))
		courier_collected(status);
}

/* From up to dying.  The signal does no harm to one that is dead already. */
static void
courier_kill(bool stopped, bool explained)
{
	Assert(courier.up && courier.pid > 0);
	(void) kill(courier.pid, SIGKILL);
	courier.up = false;
	courier.stopped = stopped;
	courier.explained = explained;
	descriptor_close(&courier.socket);
	descriptor_close(&courier.complaints);
	courier.in_length = 0;
	resetStringInfo(&courier.out);
}

void
courier_stop(void)
{
	if (!courier.up)
		return;
	courier_kill(true, true);
	courier_collect();
}

/* On every way out of this process [K3]. */
static void
courier_exit(int code, Datum argument)
{
	int64		began_ms = monotonic_ms();

	if (courier.up)
		courier_kill(true, true);
	while (courier.pid != 0 && monotonic_ms() - began_ms < COLLECT_AT_EXIT_MS)
	{
		int			status;
		pid_t		found = waitpid(courier.pid, &status, WNOHANG);

		if (found == courier.pid || (found < 0 && errno == ECHILD))
			courier.pid = 0;
		else
			pg_usleep(1000);
	}
}

void
courier_init(void)
{
	MemoryContext previous;

	Assert(courier_context == NULL && courier.pid == 0);
	courier_context = AllocSetContextCreate(TopMemoryContext, "pg_failsafe courier",
											ALLOCSET_DEFAULT_SIZES);
	previous = MemoryContextSwitchTo(courier_context);
	initStringInfo(&courier.out);
	courier.in = palloc(IN_BYTES_MAX + 4);
	MemoryContextSwitchTo(previous);
	before_shmem_exit(courier_exit, (Datum) 0);
}

/* ---------- birth ---------- */

/* What the child needs to know; made before the fork. */
typedef struct Birth
{
	const char *path;
	char	   *arguments[2];
	int			socket;			/* the relay's end */
	int			complaints;		/* the writing end */
	int			highest;		/* descriptor that may be open */
} Birth;

static void
child_signals(void)
{
	struct sigaction standard;

	memset(&standard, 0, sizeof(standard));
	standard.sa_handler = SIG_DFL;
	sigemptyset(&standard.sa_mask);
	for (int number = 1; number < NSIG; number++)
		(void) sigaction(number, &standard, NULL);
}

/* Put the four descriptors where they belong, and close all others [K2]. */
static void
child_descriptors(const Birth *birth)
{
	/* first out of the way, as their numbers may be among the four */
	int			socket = fcntl(birth->socket, F_DUPFD, RELAY_DESCRIPTOR + 1);
	int			complaints = fcntl(birth->complaints, F_DUPFD, RELAY_DESCRIPTOR + 1);
	int			null = open("/dev/null", O_RDWR);

	if (socket < 0 || complaints < 0 || null < 0 ||
		dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 ||
		dup2(complaints, STDERR_FILENO) < 0 || dup2(socket, RELAY_DESCRIPTOR) < 0)
		_exit(1);
#ifdef SYS_close_range
	if (syscall(SYS_close_range, RELAY_DESCRIPTOR + 1, ~0U, 0) == 0)
		return;
#endif
	for (int descriptor = RELAY_DESCRIPTOR + 1; descriptor <= birth->highest; descriptor++)
		(void) close(descriptor);
}

static void
child_oom_score(void)
{
	int			file = open("/proc/self/oom_score_adj", O_WRONLY);

	if (file < 0)
		return;
	if (write(file, RELAY_OOM_SCORE, sizeof(RELAY_OOM_SCORE) - 1) < 0)
	{
		/* then it stays as it is */
	}
	(void) close(file);
}

/* The child's whole life in this program [K1]. */
static void
child_become_relay(const Birth *birth)
{
	static const char complaint[] = "the program could not be executed\n";
	sigset_t	none;

	(void) setsid();
	child_signals();
	child_oom_score();
	child_descriptors(birth);
	if (chdir("/") != 0)
		_exit(1);
	sigemptyset(&none);
	(void) sigprocmask(SIG_SETMASK, &none, NULL);
	(void) execv(birth->path, birth->arguments);
	if (write(STDERR_FILENO, complaint, sizeof(complaint) - 1) < 0)
		_exit(1);
	_exit(1);
}

static int
highest_descriptor(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY ||
		limit.rlim_cur > 1048576)
		return 1048576;
	return (int) limit.rlim_cur;
}

/* fork() and become the relay, with all signals blocked on both sides; -1: errno. */
static pid_t
fork_relay(const Birth *birth)
{
	sigset_t	all;
	sigset_t	before;
	pid_t		pid;
	int			saved_errno;

	sigfillset(&all);
	(void) sigprocmask(SIG_SETMASK, &all, &before);
	pid = fork();
	if (pid == 0)
		child_become_relay(birth);
	saved_errno = errno;
	(void) sigprocmask(SIG_SETMASK, &before, NULL);
	errno = saved_errno;
	return pid;
}

/* A socket and a pipe; ours do not block and are closed in programs that are executed. */
static bool
open_channels(Birth *birth, int *ours)
{
	int			ends[2];
	int			pipes[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
		return false;
	if (pipe2(pipes, O_CLOEXEC) != 0)
	{
		close(ends[0]);
		close(ends[1]);
		return false;
	}
	(void) pg_set_noblock(ends[0]);
	(void) pg_set_noblock(pipes[0]);
	ours[0] = ends[0];
	ours[1] = pipes[0];
	birth->socket = ends[1];
	birth->complaints = pipes[1];
	return true;
}

/* Start it; false: errno tells why. */
static bool
courier_spawn(const char *path)
{
	Birth		birth;
	int			ours[2];
	pid_t		pid;
	int			saved_errno;

	birth.path = path;
	birth.arguments[0] = pstrdup("pg_failsafe_relay");
	birth.arguments[1] = NULL;
	birth.highest = highest_descriptor();
	if (!open_channels(&birth, ours))
		return false;
	pid = fork_relay(&birth);
	saved_errno = errno;
	close(birth.socket);
	close(birth.complaints);
	if (pid < 0)
	{
		close(ours[0]);
		close(ours[1]);
		errno = saved_errno;
		return false;
	}
	courier.pid = pid;
	courier.up = true;
	courier.socket = ours[0];
	courier.complaints = ours[1];
	return true;
}

/* Say it once until a start succeeds, and try again later. */
static bool
start_failed(const char *path)
{
	int			saved_errno = errno;

	if (!courier.start_failure_logged)
	{
		errno = saved_errno;
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("pg_failsafe worker: could not start the relay \"%s\": %m", path),
				 errhint("Install the program, or correct failsafe.relay_path.")));
	}
	courier.start_failure_logged = true;
	courier.not_before_ms = monotonic_ms() + BACKOFF_MAX_MS / 6;
	return false;
}

bool
courier_start(const char *source)
{
	char	   *path;
	int64		now_ms = monotonic_ms();

	Assert(courier_context != NULL && source != NULL);
	courier_collect();
	if (courier.up)
		return true;
	if (courier.pid != 0 || now_ms < courier.not_before_ms)
		return false;
	path = settings_relay_path();
	if (access(path, X_OK) != 0)
		return start_failed(path);
	if (!AcquireExternalFD())
		return start_failed(path);
	if (!AcquireExternalFD())
	{
		ReleaseExternalFD();
		return start_failed(path);
	}
	if (!courier_spawn(path))
	{
		ReleaseExternalFD();
		ReleaseExternalFD();
		return start_failed(path);
	}
	courier.start_failure_logged = false;
	courier.started_ms = now_ms;
	courier.pinged_ms = now_ms;
	courier.pong_due = false;
	courier.in_length = 0;
	resetStringInfo(&courier.out);
	send_hello(source);
	ereport(DEBUG1,
			(errmsg_internal("pg_failsafe worker: the relay has PID %d", (int) courier.pid)));
	return true;
}

/* ---------- what the relay says to people ---------- */

/* Log a line of the relay's: no control characters, valid in the server's encoding. */
static void
log_line(const char *text, size_t length)
{
	char		line[LOG_LINE_BYTES_MAX + 1];
	size_t		kept = Min(length, LOG_LINE_BYTES_MAX);
	bool		plain;

	memcpy(line, text, kept);
	line[kept] = '\0';
	plain = GetDatabaseEncoding() != PG_UTF8 ||
		pg_encoding_verifymbstr(PG_UTF8, line, (int) kept) != (int) kept;
	for (size_t i = 0; i < kept; i++)
		if ((unsigned char) line[i] < 0x20 || line[i] == 0x7f)
			line[i] = ' ';
		else if (plain && IS_HIGHBIT_SET(line[i]))
			line[i] = '?';
	ereport(LOG, (errmsg("pg_failsafe relay: %s", line)));
}

/* What came on stderr: the last words of a relay that breaks down. */
static void
read_complaints(void)
{
	char		text[4096];
	ssize_t		length;

	if (courier.complaints < 0)
		return;
	length = read(courier.complaints, text, sizeof(text));
	for (ssize_t start = 0, lines = 0; start < length && lines < LOG_LINES_MAX; lines++)
	{
		char	   *end = memchr(text + start, '\n', length - start);
		ssize_t		next = end != NULL ? end - text : length;

		if (next > start)
			log_line(text + start, next - start);
		start = next + 1;
	}
}

/* ---------- reading and writing ---------- */

/* false: the connection is gone. */
static bool
write_some(void)
{
	while (courier_wants_write())
	{
		ssize_t		written = send(courier.socket, courier.out.data + courier.out.cursor,
								   courier.out.len - courier.out.cursor, MSG_NOSIGNAL);

		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
			return errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS;
		courier.out.cursor += (int) written;
	}
	resetStringInfo(&courier.out);
	if (courier.out.maxlen > OUT_KEEP_BYTES)
	{
		MemoryContext previous = MemoryContextSwitchTo(courier_context);

		pfree(courier.out.data);
		initStringInfo(&courier.out);
		MemoryContextSwitchTo(previous);
	}
	return true;
}

static void
frame_arrived(const Frame *frame, const FrameFields *fields, CourierCallback callback)
{
	FrameField	reason;

	switch ((RelayFrameType) frame->type)
	{
		case RELAY_PONG:
			courier.pong_due = false;
			break;
		case RELAY_LOG:
			reason = fields->field[RELAY_TAG_REASON];
			if (reason.data != NULL)
				log_line(reason.data, reason.length);
			break;
		default:
			callback((RelayFrameType) frame->type, fields);
			break;
	}
}

static bool
frame_type_is_expected(int type)
{
	return type == RELAY_RESULT || type == RELAY_DESTINATION_STATE ||
		type == RELAY_PONG || type == RELAY_LOG;
}

/* Hand over the complete frames; false: the relay talks nonsense. */
static bool
take_frames(CourierCallback callback)
{
	size_t		taken = 0;

	while (taken < courier.in_length)
	{
		FrameFields fields;
		Frame		frame;
		size_t		used;
		FrameStatus status = frame_split(courier.in + taken, courier.in_length - taken,
										 &frame, &used);

		if (status == FRAME_PARTIAL)
			break;
		if (status == FRAME_MALFORMED || !frame_type_is_expected(frame.type) ||
			!frame_read(&frame, &fields))
			return false;
		frame_arrived(&frame, &fields, callback);
		taken += used;
	}
	memmove(courier.in, courier.in + taken, courier.in_length - taken);
	courier.in_length -= taken;
	/* a frame that does not fit is none that a relay may send */
	return courier.in_length < IN_BYTES_MAX + 4;
}

typedef enum ReadOutcome
{
	READ_DONE,
	READ_CLOSED,
	READ_MALFORMED
} ReadOutcome;

static ReadOutcome
read_some(CourierCallback callback)
{
	for (int reads = 0; reads < READS_MAX; reads++)
	{
		ssize_t		got = recv(courier.socket, courier.in + courier.in_length,
							   IN_BYTES_MAX + 4 - courier.in_length, 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return READ_DONE;
		if (got <= 0)
			return READ_CLOSED;
		courier.in_length += got;
		if (!take_frames(callback))
			return READ_MALFORMED;
	}
	return READ_DONE;
}

/* Ask now and then; false: it has not answered for too long. */
static bool
relay_answers(void)
{
	int64		now_ms = monotonic_ms();

	if (courier.pong_due)
		return now_ms - courier.pinged_ms < PONG_WITHIN_MS;
	if (now_ms - courier.pinged_ms >= PING_EVERY_MS)
		send_ping(now_ms);
	return true;
}

static bool
courier_lose(const char *why)
{
	if (why != NULL)
		ereport(LOG,
				(errmsg("pg_failsafe worker: the relay (PID %d) is ended: %s",
						(int) courier.pid, why)));
	read_complaints();
	courier_kill(false, why != NULL);
	courier_collect();
	return false;
}

bool
courier_pump(CourierCallback callback)
{
	Assert(callback != NULL);
	if (!courier.up)
	{
		courier_collect();
		return true;
	}
	read_complaints();
	switch (read_some(callback))
	{
		case READ_DONE:
			break;
		case READ_CLOSED:
			return courier_lose(NULL);
		case READ_MALFORMED:
			return courier_lose("it sent a malformed frame");
	}
	/* judged after reading: the answer may have waited for us */
	if (!relay_answers())
		return courier_lose("it does not answer any more");
	if (!write_some())
		return courier_lose(NULL);
	return true;
}
