/*
 * base/text.h
 *	  Checks of texts that callers send, and the texts of ids.
 */
#ifndef FAILSAFE_BASE_TEXT_H
#define FAILSAFE_BASE_TEXT_H

#include "utils/builtins.h"

#define TEXT_ID_BYTES	(MAXINT8LEN + 3)

/* Between min and max bytes, and no control character (below 0x20, and 0x7f). */
static inline bool
text_is_clean(const char *text, int min_bytes, int max_bytes)
{
	int			length = 0;

	for (; text[length] != '\0'; length++)
		if (length >= max_bytes || (unsigned char) text[length] < 0x20 ||
			text[length] == 0x7f)
			return false;
	return length >= min_bytes;
}

static inline bool
text_has_outer_blanks(const char *text)
{
	return text[0] == ' ' || (text[0] != '\0' && text[strlen(text) - 1] == ' ');
}

static inline bool
text_has_blanks(const char *text)
{
	return strchr(text, ' ') != NULL;
}

/* t_12 of 't' and 12, into text, which is returned. */
static inline char *
text_id(char text[TEXT_ID_BYTES], char letter, int64 id)
{
	Assert(id > 0);
	text[0] = letter;
	text[1] = '_';
	pg_lltoa(id, text + 2);
	return text;
}

#endif							/* FAILSAFE_BASE_TEXT_H */
