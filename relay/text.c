/*
 * relay/text.c
 *	  Bytes on the heap, and what a text may contain.
 */
#include "text.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "assertion.h"

#define BUFFER_BYTES_MIN	256

void
reason_set(Reason *reason, const char *format, ...)
{
	char		raw[2 * sizeof(reason->text)];
	va_list		arguments;
	int			length;

	va_start(arguments, format);
	length = vsnprintf(raw, sizeof(raw), format, arguments);
	va_end(arguments);
	if (length < 0)
		length = 0;
	if ((size_t) length >= sizeof(raw))
		length = sizeof(raw) - 1;
	utf8_clean(reason->text, sizeof(reason->text), raw, (size_t) length);
}

void *
memory_resize(void *memory, size_t size)
{
	void	   *resized = realloc(memory, size);

	Assert(size > 0);
	if (resized == NULL)
	{
		fputs("pg_failsafe_relay: out of memory\n", stderr);
		_Exit(1);
	}
	return resized;
}

void *
memory_take(size_t size)
{
	void	   *memory = memory_resize(NULL, size);

	memset(memory, 0, size);
	return memory;
}

char *
memory_copy(const char *text, size_t length)
{
	char	   *copy = memory_resize(NULL, length + 1);

	if (length > 0)
		memcpy(copy, text, length);
	copy[length] = '\0';
	return copy;
}

/*
 * Not realloc(): a buffer may hold a secret, and what is left behind is wiped.
 */
static bool
heap_grow(FrameBuffer *buffer, size_t needed)
{
	size_t		capacity = buffer->capacity;
	char	   *data;

	if (capacity < BUFFER_BYTES_MIN)
		capacity = BUFFER_BYTES_MIN;
	while (capacity < needed)
		capacity *= 2;
	data = memory_resize(NULL, capacity);
	if (buffer->length > 0)
		memcpy(data, buffer->data, buffer->length);
	if (buffer->data != NULL)
		OPENSSL_cleanse(buffer->data, buffer->length);
	free(buffer->data);
	buffer->data = data;
	buffer->capacity = capacity;
	return true;
}

void
buffer_init(FrameBuffer *buffer)
{
	memset(buffer, 0, sizeof(FrameBuffer));
	buffer->grow = heap_grow;
}

void
buffer_free(FrameBuffer *buffer)
{
	free(buffer->data);
	buffer_init(buffer);
}

void
buffer_wipe(FrameBuffer *buffer)
{
	if (buffer->length > 0)
		OPENSSL_cleanse(buffer->data, buffer->length);
	buffer->length = 0;
}

void
buffer_text(FrameBuffer *buffer, const char *text)
{
	frame_append(buffer, text, strlen(text));
}

void
buffer_char(FrameBuffer *buffer, char c)
{
	frame_append(buffer, &c, 1);
}

void
buffer_number(FrameBuffer *buffer, int64_t number)
{
	char		digits[24];
	char	   *at = digits + sizeof(digits);
	uint64_t	rest = number < 0 ? 0 - (uint64_t) number : (uint64_t) number;

	do
		*--at = (char) ('0' + rest % 10);
	while ((rest /= 10) > 0);
	if (number < 0)
		*--at = '-';
	frame_append(buffer, at, (size_t) (digits + sizeof(digits) - at));
}

/* How many bytes the character at the start of the text has; 0: it is none. */
static size_t
utf8_character(const unsigned char *text, size_t length)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	uint32_t	code;
	size_t		size;

	if (text[0] < 0x80)
		return 1;
	size = text[0] >= 0xF0 ? 4 : text[0] >= 0xE0 ? 3 : 2;
	if (text[0] < 0xC2 || text[0] > 0xF4 || size > length)
		return 0;
	code = text[0] & (0xFF >> (size + 1));
	for (size_t i = 1; i < size; i++)
	{
		if ((text[i] & 0xC0) != 0x80)
			return 0;
		code = code << 6 | (text[i] & 0x3F);
	}
	if (code < least[size] || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF))
		return 0;
	return size;
}

bool
utf8_valid(const char *text, size_t length)
{
	const unsigned char *at = (const unsigned char *) text;
	size_t		size;

	for (size_t i = 0; i < length; i += size)
	{
		size = utf8_character(at + i, length - i);
		if (size == 0)
			return false;
	}
	return true;
}

/* C0, DEL and C1 */
static bool
is_control(const unsigned char *text, size_t size)
{
	return (size == 1 && (text[0] < 0x20 || text[0] == 0x7F)) ||
		(size == 2 && text[0] == 0xC2 && text[1] < 0xA0);
}

size_t
utf8_clean(char *to, size_t room, const char *from, size_t length)
{
	const unsigned char *at = (const unsigned char *) from;
	size_t		used = 0;
	size_t		step;

	Assert(room > 0);
	for (size_t i = 0; i < length; i += step)
	{
		size_t		size = utf8_character(at + i, length - i);
		size_t		written = size == 0 || is_control(at + i, size) ? 1 : size;

		step = size == 0 ? 1 : size;
		if (used + written >= room)
			break;
		if (size == 0)
			to[used] = '?';
		else if (is_control(at + i, size))
			to[used] = ' ';
		else
			memcpy(to + used, at + i, size);
		used += written;
	}
	Assert(used < room);
	to[used] = '\0';
	return used;
}

bool
header_name_valid(const char *name, size_t length)
{
	if (length == 0)
		return false;
	for (size_t i = 0; i < length; i++)
	{
		char		c = name[i];
		bool		letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');

		if (!letter && !(c >= '0' && c <= '9') &&
			(c == '\0' || strchr("!#$%&'*+-.^_`|~", c) == NULL))
			return false;
	}
	return true;
}

/* Printable ASCII, blanks inside only: nobody has to guess an encoding. */
bool
header_value_valid(const char *value, size_t length)
{
	if (length > 0 && (value[0] == ' ' || value[length - 1] == ' '))
		return false;
	for (size_t i = 0; i < length; i++)
	{
		if (value[i] < 0x20 || value[i] > 0x7E)
			return false;
	}
	return true;
}
