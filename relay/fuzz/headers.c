/*
 * relay/fuzz/headers.c
 *	  Any bytes as what becomes part of a request or comes with an answer: no line of a
 *	  request may hold a line end, whatever an event says.
 */
#include <stdlib.h>
#include <string.h>

#include "cloudevents.h"
#include "http_headers.h"
#include "signature.h"

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

static void
expect(bool good)
{
	if (!good)
		abort();
}

/* Lines end with a zero and hold printable ASCII. */
static void
check_lines(const FrameBuffer *out)
{
	for (size_t i = 0; i < out->length; i++)
		expect(out->data[i] == '\0' || (out->data[i] >= 0x20 && out->data[i] < 0x7F));
	expect(out->length == 0 || out->data[out->length - 1] == '\0');
}

static void
try_event(const char *text, size_t length)
{
	FrameFields fields;
	FrameBuffer out;

	memset(&fields, 0, sizeof(fields));
	fields.field[RELAY_TAG_SUBJECT].data = text;
	fields.field[RELAY_TAG_SUBJECT].length = length;
	fields.field[RELAY_TAG_DATA].data = "{}";
	fields.field[RELAY_TAG_DATA].length = 2;
	buffer_init(&out);
	cloudevents_headers(&out, &fields, "/fuzz");
	check_lines(&out);
	out.length = 0;
	if (cloudevents_structured(&out, &fields, "/fuzz"))
		expect(utf8_valid(out.data, out.length));
	buffer_free(&out);
}

static void
try_headers(const char *text, size_t length)
{
	FrameBuffer out;
	Reason		reason = {""};

	buffer_init(&out);
	expect(header_append_event(&out, text, length, NULL, NULL, &reason) == 0 ||
		   reason.text[0] != '\0');
	check_lines(&out);
	buffer_free(&out);
}

static void
try_answer(const char *text, size_t length)
{
	static const unsigned char span[SPAN_BYTES] = {1};
	char		next[TRACEPARENT_BYTES + 1];
	char		clean[64];
	int64_t		wait_ms = retry_after_ms(text, length, 0);

	expect(wait_ms >= -1 && wait_ms <= INT64_C(366) * 86400 * 1000);
	if (traceparent_next(text, length, span, next))
		expect(strlen(next) == TRACEPARENT_BYTES);
	expect(utf8_clean(clean, sizeof(clean), text, length) < sizeof(clean));
	expect(utf8_valid(clean, strlen(clean)));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	char	   *text = memory_copy((const char *) data, length);
	Reason		reason;

	try_event(text, length);
	try_headers(text, length);
	try_answer(text, length);
	signature_key_close(signature_key_open(text, "secret", &reason));
	free(text);
	return 0;
}
