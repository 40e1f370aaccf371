/*
 * relay/secret.c
 *	  Reads secrets where a reference points to.
 *
 * Invariants
 *	 1. A value is in this module's memory only, and wiped before that is given back.
 *	 2. No reason and no log line contains a value, or a text that was given in place of
 *		a reference: it may be the secret itself.
 *	 3. A file that cannot be read any more makes the secret unusable; an old value is
 *		never used behind the back of who took the file away.
 */
#include "secret.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "assertion.h"

#define LOOK_AGAIN_US	1000000

struct Secret
{
	bool		is_file;
	char	   *name;			/* the path, or the variable's name */
	char	   *member;
	char	   *value;			/* NULL: none */
	size_t		value_length;
	int			version;
	int64_t		looked_at_us;	/* 0: never */
	struct stat seen;			/* the file that value was read from */
	Reason		trouble;		/* why there is no value */
};

static const char file_prefix[] = "file:";
static const char env_prefix[] = "env:";

static bool
begins_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

bool
secret_is_reference(const char *text)
{
	return begins_with(text, file_prefix) || begins_with(text, env_prefix);
}

Secret *
secret_open(const char *reference, const char *member, Reason *reason)
{
	Secret	   *secret;
	bool		is_file = begins_with(reference, file_prefix);
	const char *name;

	if (!secret_is_reference(reference))
	{
		reason_set(reason, "\"%s\" must name where the secret is, as file:/path or env:NAME; "
				   "the secret itself does not belong into a configuration.", member);
		return NULL;
	}
	name = reference + (is_file ? strlen(file_prefix) : strlen(env_prefix));
	if (is_file ? name[0] != '/' : (name[0] == '\0' || strchr(name, '=') != NULL))
	{
		reason_set(reason, is_file ? "\"%s\" must be file: and an absolute path." :
				   "\"%s\" must be env: and the name of a variable.", member);
		return NULL;
	}
	secret = memory_take(sizeof(Secret));
	secret->is_file = is_file;
	secret->name = memory_copy(name, strlen(name));
	secret->member = memory_copy(member, strlen(member));
	return secret;
}

static void
forget_value(Secret *secret)
{
	if (secret->value != NULL)
	{
		OPENSSL_cleanse(secret->value, secret->value_length);
		free(secret->value);
		secret->version++;
	}
	secret->value = NULL;
	secret->value_length = 0;
}

void
secret_close(Secret *secret)
{
	if (secret == NULL)
		return;
	forget_value(secret);
	free(secret->name);
	free(secret->member);
	free(secret);
}

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Keeps a copy of the value; the reason when it is not one. */
static void
take_value(Secret *secret, const char *value, size_t length)
{
	while (length > 0 && is_blank(value[length - 1]))
		length--;
	while (length > 0 && is_blank(*value))
	{
		value++;
		length--;
	}
	forget_value(secret);
	if (length == 0 || memchr(value, '\0', length) != NULL)
	{
		reason_set(&secret->trouble, "The secret that \"%s\" names is %s.", secret->member,
				   length == 0 ? "empty" : "not a text");
		return;
	}
	secret->value = memory_copy(value, length);
	secret->value_length = length;
	secret->version++;
}

/* Reads up to a byte more than a secret may have; -1 and errno on failure. */
static ssize_t
read_all(int file, char *bytes, size_t room)
{
	size_t		length = 0;
	ssize_t		got;

	while (length < room)
	{
		got = read(file, bytes + length, room - length);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -1;
		if (got == 0)
			break;
		length += (size_t) got;
	}
	return (ssize_t) length;
}

static void
file_trouble(Secret *secret, int error)
{
	forget_value(secret);
	reason_set(&secret->trouble, "The file %s that \"%s\" names cannot be read: %s.",
			   secret->name, secret->member, strerror(error));
}

/* Reads the open file and remembers which one it was. */
static void
load_file(Secret *secret, int file)
{
	char	   *bytes = memory_resize(NULL, SECRET_BYTES_MAX + 1);
	ssize_t		length = read_all(file, bytes, SECRET_BYTES_MAX + 1);

	if (length < 0)
		file_trouble(secret, errno);
	else if (length > SECRET_BYTES_MAX)
		file_trouble(secret, EFBIG);
	else
		take_value(secret, bytes, (size_t) length);
	OPENSSL_cleanse(bytes, SECRET_BYTES_MAX + 1);
	free(bytes);
}

static bool
same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
		a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* Not blocking: a FIFO in the secret's place must not stop all deliveries. */
static void
look_at_file(Secret *secret)
{
	struct stat now;
	int			file;

	if (secret->value != NULL && stat(secret->name, &now) == 0 && same_file(&now, &secret->seen))
		return;
	file = open(secret->name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (file < 0 || fstat(file, &now) != 0)
		file_trouble(secret, errno);
	else if (!S_ISREG(now.st_mode))
		file_trouble(secret, S_ISDIR(now.st_mode) ? EISDIR : EINVAL);
	else
	{
		load_file(secret, file);
		secret->seen = now;
	}
	if (file >= 0)
		close(file);
}

static void
look_at_variable(Secret *secret)
{
	const char *value = getenv(secret->name);

	if (secret->value != NULL)
		return;
	if (value != NULL)
		take_value(secret, value, strlen(value));
	else
		reason_set(&secret->trouble, "The variable %s that \"%s\" names is not set in the "
				   "server's environment.", secret->name, secret->member);
}

const char *
secret_value(Secret *secret, int64_t now_us, int *version, Reason *reason)
{
	if (secret->looked_at_us == 0 || now_us - secret->looked_at_us >= LOOK_AGAIN_US)
	{
		secret->looked_at_us = now_us;
		if (secret->is_file)
			look_at_file(secret);
		else
			look_at_variable(secret);
	}
	if (version != NULL)
		*version = secret->version;
	if (secret->value == NULL)
		*reason = secret->trouble;
	Assert(secret->value == NULL || secret->value[secret->value_length] == '\0');
	return secret->value;
}
