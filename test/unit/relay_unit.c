/*
 * test/unit/relay_unit.c
 *	  The relay's parts, one by one, without a socket.  Built with sanitizers; prints TAP.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "address.h"
#include "clock.h"
#include "cloudevents.h"
#include "config.h"
#include "http_headers.h"
#include "oauth2.h"
#include "secret.h"
#include "signature.h"
#include "sink.h"

#define CHECK(condition)	check((condition), #condition, __LINE__)

static int	tests;
static int	failures;

static void
check(bool good, const char *what, int line)
{
	tests++;
	if (!good)
		failures++;
	printf("%sok %d - %s (line %d)\n", good ? "" : "not ", tests, what, line);
}

/* Two texts; the difference is shown. */
static void
same(const char *what, const char *got, const char *wanted, int line)
{
	bool		good = strcmp(got, wanted) == 0;

	check(good, what, line);
	if (!good)
		printf("# got    %s\n# wanted %s\n", got, wanted);
}

#define SAME(what, got, wanted) same(what, got, wanted, __LINE__)

static const char *
as_text(FrameBuffer *buffer)
{
	buffer_char(buffer, '\0');
	buffer->length--;
	return buffer->data;
}

/* ---- frames --------------------------------------------------------------- */

static void
test_frame_round_trip(void)
{
	static const int64_t numbers[] = {0, 1, -1, INT64_MAX, INT64_MIN, 0x0102030405060708};
	FrameBuffer buffer;
	Frame		frame;
	FrameFields fields;
	size_t		used = 0;
	int64_t		number;
	bool		good = true;

	buffer_init(&buffer);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
	{
		size_t		start = frame_begin(&buffer, RELAY_RESULT);

		frame_number(&buffer, RELAY_TAG_TOKEN, numbers[i]);
		frame_text(&buffer, RELAY_TAG_REASON, "because", 7);
		frame_text(&buffer, RELAY_TAG_CODE, NULL, 0);
		good = good && frame_end(&buffer, start);
	}
	CHECK(good);
	for (size_t i = 0, at = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++, at += used)
	{
		good = good &&
			frame_split(buffer.data + at, buffer.length - at, &frame, &used) == FRAME_COMPLETE &&
			frame.type == RELAY_RESULT && frame_read(&frame, &fields) &&
			frame_get_number(&fields, RELAY_TAG_TOKEN, &number) && number == numbers[i] &&
			fields.field[RELAY_TAG_REASON].length == 7 &&
			memcmp(fields.field[RELAY_TAG_REASON].data, "because", 7) == 0 &&
			fields.field[RELAY_TAG_CODE].data != NULL &&
			fields.field[RELAY_TAG_CODE].length == 0 &&
			fields.field[RELAY_TAG_DATA].data == NULL &&
			!frame_get_number(&fields, RELAY_TAG_STATUS, &number);
	}
	CHECK(good);
	for (size_t length = 0; length < used; length++)
		good = good && frame_split(buffer.data, length, &frame, &used) == FRAME_PARTIAL;
	CHECK(good);
	buffer_free(&buffer);
}

static FrameStatus
split(const char *bytes, size_t length)
{
	Frame		frame;
	size_t		used;

	return frame_split(bytes, length, &frame, &used);
}

static bool
reads(const char *fields, size_t length)
{
	Frame		frame = {RELAY_PING, fields, length};
	FrameFields result;

	return frame_read(&frame, &result);
}

static void
test_frame_malformed(void)
{
	FrameBuffer buffer;
	size_t		start;
	char	   *large = memory_take(RELAY_FRAME_BYTES_MAX);

	CHECK(split("\0\0\0\0H", 5) == FRAME_MALFORMED);
	CHECK(split("\1\200\0\1H", 5) == FRAME_MALFORMED);	/* 24 MiB and a byte */
	CHECK(split("\1\200\0\0H", 5) == FRAME_PARTIAL);
	CHECK(split("\377\377\377\377H", 5) == FRAME_MALFORMED);
	CHECK(split("\0\0\0\1H", 5) == FRAME_COMPLETE);
	CHECK(reads("", 0));
	CHECK(!reads("\12", 1));
	CHECK(!reads("\12\0\0\0", 4));
	CHECK(!reads("\14\0\0\0\2a", 6));
	CHECK(reads("\14\0\0\0\1a", 6));
	CHECK(!reads("\14\377\377\377\377a", 6));
	CHECK(!reads("\14\0\0\0\1a\14\0\0\0\1b", 12)); /* a tag twice */
	CHECK(!reads("\10\0\0\0\4abcd", 9)); /* a number of 4 bytes */
	CHECK(!reads("\10\0\0\0\11abcdefghi", 14));
	CHECK(reads("\310\0\0\0\1a\310\0\0\0\1b", 12)); /* unknown tags are skipped */
	CHECK(reads("\0\0\0\0\1a", 6));

	buffer_init(&buffer);
	buffer_text(&buffer, "before");
	start = frame_begin(&buffer, RELAY_EVENT);
	frame_text(&buffer, RELAY_TAG_DATA, large, RELAY_FRAME_BYTES_MAX);
	CHECK(!frame_end(&buffer, start));
	SAME("what was before a frame that is too long stays", as_text(&buffer), "before");
	start = frame_begin(&buffer, RELAY_EVENT);
	frame_text(&buffer, RELAY_TAG_DATA, large, RELAY_FRAME_BYTES_MAX - 6);
	CHECK(frame_end(&buffer, start));
	buffer_free(&buffer);
	free(large);
}

static bool
refuse_to_grow(FrameBuffer *buffer, size_t needed)
{
	return false;
}

static void
test_frame_no_memory(void)
{
	char		room[16];
	FrameBuffer buffer = {room, 0, sizeof(room), refuse_to_grow, NULL, false};
	size_t		start = frame_begin(&buffer, RELAY_PONG);

	frame_number(&buffer, RELAY_TAG_TOKEN, 1);
	CHECK(buffer.failed);
	CHECK(!frame_end(&buffer, start));
	CHECK(!buffer.failed && buffer.length == 0);
	start = frame_begin(&buffer, RELAY_LOG);
	frame_text(&buffer, RELAY_TAG_REASON, "abcdef", 6);
	CHECK(frame_end(&buffer, start));
	CHECK(buffer.length == 16);
}

/* ---- addresses ------------------------------------------------------------ */

static void
test_addresses(void)
{
	static const struct
	{
		const char *address;
		const char *range;		/* NULL: public */
	}			cases[] = {
		{"8.8.8.8", NULL}, {"1.1.1.1", NULL}, {"100.63.255.255", NULL},
		{"172.15.255.255", NULL}, {"172.32.0.0", NULL}, {"192.0.1.0", NULL},
		{"198.17.255.255", NULL}, {"198.20.0.0", NULL}, {"223.255.255.255", NULL},
		{"169.253.255.255", NULL}, {"11.0.0.0", NULL}, {"9.255.255.255", NULL},
		{"0.0.0.0", "this network"}, {"0.1.2.3", "this network"}, {"10.0.0.1", "private"},
		{"10.255.255.255", "private"}, {"100.64.0.0", "shared address space"},
		{"100.127.255.255", "shared address space"}, {"127.0.0.1", "loopback"},
		{"127.255.255.254", "loopback"}, {"169.254.169.254", "link-local"},
		{"172.16.0.1", "private"}, {"172.31.255.255", "private"},
		{"192.0.0.1", "protocol assignments"}, {"192.0.2.1", "documentation"},
		{"192.88.99.1", "6to4 relay"}, {"192.168.1.1", "private"}, {"198.18.0.1", "benchmarking"},
		{"198.19.255.255", "benchmarking"}, {"198.51.100.7", "documentation"},
		{"203.0.113.9", "documentation"}, {"224.0.0.1", "multicast"}, {"240.0.0.1", "reserved"},
		{"255.255.255.255", "broadcast"},
		{"2606:4700::1111", NULL}, {"2a00::1", NULL}, {"2001:4860:4860::8888", NULL},
		{"::", "unspecified"}, {"::1", "loopback"}, {"::ffff:127.0.0.1", "loopback"},
		{"::ffff:7f00:1", "loopback"}, {"::ffff:169.254.169.254", "link-local"},
		{"::ffff:8.8.8.8", NULL}, {"::127.0.0.1", "IPv4-compatible"},
		{"64:ff9b::7f00:1", "NAT64"}, {"64:ff9b::808:808", "NAT64"},
		{"64:ff9b:1::1", "NAT64"}, {"100::1", "discard-only"}, {"2001::1", "Teredo"},
		{"2001:db8::1", "documentation"}, {"2002:7f00:1::", "6to4"}, {"3fff::1", "documentation"},
		{"5f00::1", "segment routing"}, {"fc00::1", "unique local"}, {"fdff::1", "unique local"},
		{"fe80::1", "link-local"}, {"febf::1", "link-local"}, {"fec0::1", "site-local"},
		{"ff02::1", "multicast"}, {"4000::1", "not global unicast"},
		{"1::1", "not global unicast"}, {"fd00:ec2::254", "unique local"},
	};
	Address		address;
	bool		never;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		const char *range;

		memset(&address, 0, sizeof(address));
		CHECK(address_parse(cases[i].address, &address));
		range = address_restricted(&address, &never);
		SAME(cases[i].address, range == NULL ? "public" : range,
			 cases[i].range == NULL ? "public" : cases[i].range);
	}
	CHECK(!address_parse("127.1", &address));
	CHECK(!address_parse("0x7f.0.0.1", &address));
	CHECK(!address_parse("localhost", &address));
}

static bool
allowed(const AllowList *list, const char *host, const char *text)
{
	Address		address;
	const char *range;

	return address_parse(text, &address) && address_allowed(list, host, &address, &range);
}

static void
test_allow_list(void)
{
	AllowList	list;
	static const char *const refused[] = {
		"", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/8x", "::1/129", "127.1",
		"a b", "http://x", "x/8", "[::1]", "10.0.0.0/0008"
	};

	memset(&list, 0, sizeof(list));
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		check(!allow_list_add(&list, refused[i]), refused[i], __LINE__);
	CHECK(!allowed(&list, "internal", "10.1.2.3"));
	CHECK(allow_list_add(&list, "10.0.0.0/9"));
	CHECK(allow_list_add(&list, "fd00::/8"));
	CHECK(allow_list_add(&list, "192.168.1.7"));
	CHECK(allow_list_add(&list, "Internal.example"));
	CHECK(allowed(&list, "x", "10.127.2.3"));
	CHECK(allowed(&list, "x", "::ffff:10.127.2.3"));
	CHECK(!allowed(&list, "x", "10.128.2.3"));
	CHECK(allowed(&list, "x", "fd12::1"));
	CHECK(!allowed(&list, "x", "fc12::1"));
	CHECK(allowed(&list, "x", "192.168.1.7"));
	CHECK(!allowed(&list, "x", "192.168.1.8"));
	CHECK(allowed(&list, "internal.EXAMPLE", "127.0.0.1"));
	CHECK(!allowed(&list, "internal.EXAMPLE", "169.254.169.254"));
	CHECK(!allowed(&list, "internal.EXAMPLE", "::"));
	CHECK(!allowed(&list, "other.internal.example", "127.0.0.1"));
	CHECK(allow_list_add(&list, "169.254.0.0/16"));
	CHECK(allowed(&list, "x", "169.254.169.254"));
	CHECK(allow_list_add(&list, "0.0.0.0/0"));
	CHECK(allowed(&list, "x", "127.0.0.1"));
	CHECK(!allowed(&list, "x", "::1"));
	allow_list_free(&list);
}

/* ---- signatures ----------------------------------------------------------- */

#define VECTOR_ID		"msg_p5jXN8AQM9LWM0D4loKWxJek"
#define VECTOR_TIME		1614265330
#define VECTOR_BODY		"{\"test\": 2432232314}"
#define VECTOR_SECRET	"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define VECTOR_V1		"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
#define VECTOR_PAIR		"whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0d" \
	"RqSKJp4AJ6p9lMicMFs6Kvg=="
#define VECTOR_SEED		"whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc="
#define VECTOR_V1A		"v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdp" \
	"XwVLPo3mNl8EM+m7TBAg=="

static void
expect_signature(const char *secret, const char *wanted)
{
	Reason		reason;
	SignatureKey *key = signature_key_open(secret, "secret", &reason);
	FrameBuffer out;

	buffer_init(&out);
	for (int i = 0; key != NULL && i < 2; i++)
	{
		out.length = 0;
		CHECK(signature_append(&out, key, VECTOR_ID, strlen(VECTOR_ID), VECTOR_TIME, VECTOR_BODY,
							   strlen(VECTOR_BODY)));
		SAME("signature, also with a key that was used", as_text(&out), wanted);
	}
	CHECK(key != NULL);
	signature_key_close(key);
	buffer_free(&out);
}

/*
 * v1: the vector that the Standard Webhooks reference libraries share ("sign function
 * works").  v1a: the spec's own example of the header, whose key is in the tests of the
 * server that the spec came from.
 */
static void
test_signatures(void)
{
	static const char *const refused[] = {
		"", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_%", "whsec_MfKQ9r8G",
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS\n",
		"whsec_=fKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsk_", "whsk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
		"whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=",
		"whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLl"
		"aaaaaaaaaaAJ6p9lMicMFs6Kvg==",
		"whsec_"
		"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
		"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
	};
	Reason		reason;

	expect_signature(VECTOR_SECRET, VECTOR_V1);
	expect_signature(VECTOR_PAIR, VECTOR_V1A);
	expect_signature(VECTOR_SEED, VECTOR_V1A);
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
	{
		SignatureKey *key = signature_key_open(refused[i], "secret", &reason);

		check(key == NULL, "not a key", __LINE__);
		check(strstr(reason.text, "\"secret\"") != NULL, reason.text, __LINE__);
		check(strlen(refused[i]) < 8 || strstr(reason.text, refused[i]) == NULL, "not shown",
			  __LINE__);
		signature_key_close(key);
	}
}

/* ---- headers -------------------------------------------------------------- */

#define DATE	1445412480			/* Wed, 21 Oct 2015 07:28:00 GMT */

static int64_t
retry(const char *value)
{
	return retry_after_ms(value, strlen(value), DATE - 60);
}

static void
test_retry_after(void)
{
	CHECK(retry("120") == 120000);
	CHECK(retry(" 0 \r\n") == 0);
	CHECK(retry("Wed, 21 Oct 2015 07:28:00 GMT\r\n") == 60000);
	CHECK(retry("Wednesday, 21-Oct-15 07:28:00 GMT") == 60000);
	CHECK(retry("Wed Oct 21 07:28:00 2015") == 60000);
	CHECK(retry("Wed, 21 Oct 2015 07:26:00 GMT") == 0);
	CHECK(retry("99999999999999999999999999") == INT64_C(366) * 86400 * 1000);
	CHECK(retry("Fri, 31 Dec 9999 23:59:59 GMT") == INT64_C(366) * 86400 * 1000);
	CHECK(retry("") == -1);
	CHECK(retry("   ") == -1);
	CHECK(retry("-1") == -1);
	CHECK(retry("1.5") == -1);
	CHECK(retry("soon") == -1);
	CHECK(retry("12 monkeys") == -1);
	CHECK(retry("2015-10-21") == -1);
}

static bool
is_taken(const void *context, const char *name)
{
	return strcmp(name, context) == 0;
}

/* The lines of an event's headers, one after the other with a '|'. */
static void
expect_headers(const char *json, const char *wanted, int left_out)
{
	FrameBuffer out;
	Reason		reason = {""};
	int			got;

	buffer_init(&out);
	got = header_append_event(&out, json, strlen(json), is_taken, "X-Taken", &reason);
	for (size_t i = 0; i < out.length; i++)
		out.data[i] = out.data[i] == '\0' ? '|' : out.data[i];
	SAME(json, as_text(&out), wanted);
	CHECK(got == left_out);
	if (left_out > 0)
		check(reason.text[0] != '\0', reason.text, __LINE__);
	buffer_free(&out);
}

static void
test_event_headers(void)
{
	expect_headers("{}", "", 0);
	expect_headers("{\"X-A\":\"b\",\"tracestate\":\"x=y\"}", "X-A: b|tracestate: x=y|", 0);
	expect_headers("{\"X-A\":\"\"}", "X-A;|", 0);
	expect_headers("{\"X-A\":\"b\\r\\nX-Evil: 1\"}", "", 1);
	expect_headers("{\"X-A\":\"b\\nc\"}", "", 1);
	expect_headers("{\"X-A\":\"b\\u0000c\"}", "", 1);
	expect_headers("{\"X-A\":\"caf\303\251\"}", "", 1);
	expect_headers("{\"X-A\":\"\377\"}", "", 1);
	expect_headers("{\"X-A: b\\r\\nY\":\"c\"}", "", 1);
	expect_headers("{\"X A\":\"c\"}", "", 1);
	expect_headers("{\"\":\"c\"}", "", 1);
	expect_headers("{\"X-A\":1,\"X-B\":null,\"X-C\":[]}", "", 3);
	expect_headers("{\"webhook-id\":\"1\",\"Content-Length\":\"1\",\"Host\":\"h\",\"CE-id\":\"1\"}",
				   "", 4);
	expect_headers("{\"Transfer-Encoding\":\"chunked\",\"Content-Type\":\"a\","
				   "\"User-Agent\":\"u\"}", "", 3);
	expect_headers("{\"Authorization\":\"Bearer x\",\"Cookie\":\"a\",\"X-Api-Key\":\"a\"}", "", 3);
	expect_headers("{\"X-Taken\":\"1\",\"X-Free\":\"2\"}", "X-Free: 2|", 1);
	expect_headers("{\"X-A\":\"1\",\"X-A\":\"2\"}", "", 1);
	expect_headers("[]", "", 1);
	expect_headers("{", "", 1);
	expect_headers("\"x\"", "", 1);
}

static void
test_traceparent(void)
{
	static const unsigned char span[SPAN_BYTES] = {0xAB, 1, 2, 3, 4, 5, 6, 7};
	static const unsigned char zero[SPAN_BYTES];
	static const char parent[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
	static const char *const refused[] = {
		"", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
		"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
		"00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more",
	};
	char		next[TRACEPARENT_BYTES + 1];

	CHECK(traceparent_next(parent, strlen(parent), span, next));
	SAME("the trace stays, the span is new", next,
		 "00-4bf92f3577b34da6a3ce929d0e0e4736-ab01020304050607-01");
	CHECK(traceparent_next(parent, strlen(parent), zero, next));
	SAME("a span is never zero", next, "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000001-01");
	CHECK(traceparent_next("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x", 57, span,
		  next));
	SAME("of a later version only what is known", next,
		 "00-4bf92f3577b34da6a3ce929d0e0e4736-ab01020304050607-01");
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		check(!traceparent_next(refused[i], strlen(refused[i]), span, next), refused[i], __LINE__);
}

/* ---- cloudevents ---------------------------------------------------------- */

static void
set_field(FrameFields *fields, RelayTag tag, const char *text)
{
	fields->field[tag].data = text;
	fields->field[tag].length = strlen(text);
}

static void
test_cloudevents(void)
{
	static const char text[] = "Euro \342\202\254 \360\237\230\200 50% \"x\" ~!\177\n";
	FrameFields fields;
	FrameBuffer out;

	buffer_init(&out);
	cloudevents_encode(&out, text, strlen(text));
	SAME("percent encoding as in the HTTP binding", as_text(&out),
		 "Euro%20%E2%82%AC%20%F0%9F%98%80%2050%25%20%22x%22%20~!%7F%0A");
	memset(&fields, 0, sizeof(fields));
	set_field(&fields, RELAY_TAG_EVENT_ID, "e-1");
	set_field(&fields, RELAY_TAG_EVENT_TYPE, "wallet.debit");
	set_field(&fields, RELAY_TAG_TIME, "2026-01-01T00:00:00Z");
	set_field(&fields, RELAY_TAG_ORDER_KEY, "acc 1\r\nX: y");
	set_field(&fields, RELAY_TAG_SUBJECT, "");
	set_field(&fields, RELAY_TAG_DATA, "{\"a\":1}");
	out.length = 0;
	cloudevents_headers(&out, &fields, "/db");
	for (size_t i = 0; i < out.length; i++)
		out.data[i] = out.data[i] == '\0' ? '|' : out.data[i];
	SAME("binary mode", as_text(&out),
		 "ce-specversion: 1.0|ce-source: /db|ce-id: e-1|ce-type: wallet.debit|"
		 "ce-time: 2026-01-01T00:00:00Z|ce-partitionkey: acc%201%0D%0AX:%20y|");
	set_field(&fields, RELAY_TAG_SUBJECT, "a\"b\\c\n\342\202\254");
	out.length = 0;
	CHECK(cloudevents_structured(&out, &fields, "/db"));
	SAME("structured mode", as_text(&out),
		 "{\"specversion\":\"1.0\",\"source\":\"/db\",\"id\":\"e-1\",\"type\":\"wallet.debit\","
		 "\"time\":\"2026-01-01T00:00:00Z\",\"subject\":\"a\\\"b\\\\c\\u000A\342\202\254\","
		 "\"partitionkey\":\"acc 1\\u000D\\u000AX: y\",\"datacontenttype\":\"application/json\","
		 "\"data\":{\"a\":1}}");
	set_field(&fields, RELAY_TAG_SUBJECT, "\377");
	CHECK(!cloudevents_structured(&out, &fields, "/db"));
	buffer_free(&out);
}

static void
test_text(void)
{
	char		clean[16];

	CHECK(utf8_valid("a\303\251\342\202\254\360\237\230\200", 10));
	CHECK(!utf8_valid("\300\200", 2));	/* overlong */
	CHECK(!utf8_valid("\355\240\200", 3));	/* surrogate */
	CHECK(!utf8_valid("\364\220\200\200", 4));	/* above U+10FFFF */
	CHECK(!utf8_valid("\342\202", 2));
	CHECK(!utf8_valid("\200", 1));
	utf8_clean(clean, sizeof(clean), "a\nb\377c\302\205d\0e", 10);
	SAME("an excerpt that can be stored and read", clean, "a b?c d e");
	utf8_clean(clean, 5, "ab\342\202\254", 5);
	SAME("not cut inside of a character", clean, "ab");
}

/* ---- configuration -------------------------------------------------------- */

#define MINIMAL	"\"url\":\"https://hooks.example/x?token=t0ps3cret\""

static void
expect_refused(const char *json, const char *part)
{
	Reason		reason = {""};
	HttpConfig *config = config_parse(json, strlen(json), &reason);

	check(config == NULL, json, __LINE__);
	check(strstr(reason.text, part) != NULL && strstr(reason.text, "t0ps3cret") == NULL &&
		  strchr(reason.text, '.') != NULL, reason.text, __LINE__);
	if (config != NULL)
		config_free(config);
}

static void
test_config_refused(void)
{
	expect_refused("", "JSON object");
	expect_refused("[]", "JSON object");
	expect_refused("{\"url\":\"t0ps3cret", "JSON object");
	expect_refused("{}", "\"url\" is missing");
	expect_refused("{\"url\":1}", "\"url\"");
	expect_refused("{\"url\":\"\"}", "\"url\"");
	expect_refused("{\"url\":\"hooks.example\"}", "\"url\" is not a URL");
	expect_refused("{\"url\":\"ftp://hooks.example\"}", "\"url\" must begin with https://");
	expect_refused("{\"url\":\"file:///etc/passwd\"}", "\"url\" must begin with https://");
	expect_refused("{\"url\":\"gopher://x/\"}", "\"url\" must begin with https://");
	expect_refused("{\"url\":\"https://u:t0ps3cret@hooks.example\"}", "user or a password");
	expect_refused("{\"url\":\"https://u@hooks.example\"}", "user or a password");
	expect_refused("{\"url\":\"https://h/#f\"}", "fragment");
	expect_refused("{\"url\":\"https://h/a b\"}", "printable");
	expect_refused("{\"url\":\"https://h/\\r\\nX: y\"}", "printable");
	expect_refused("{\"url\":\"https://h:99999/\"}", "\"url\"");
	expect_refused("{\"url\":\"https://\"}", "\"url\"");
	expect_refused("{\"url\":\"https:///\"}", "\"url\"");
	expect_refused("{" MINIMAL ",\"colour\":1}", "\"colour\" is not a member");
	expect_refused("{" MINIMAL "," MINIMAL "}", "twice");
	expect_refused("{" MINIMAL ",\"secret\":\"whsec_t0ps3cret\"}", "\"secret\" must name where");
	expect_refused("{" MINIMAL ",\"secret\":\"file:relative\"}", "absolute path");
	expect_refused("{" MINIMAL ",\"secret\":\"env:\"}", "variable");
	expect_refused("{" MINIMAL ",\"secret\":7}", "\"secret\"");
	expect_refused("{" MINIMAL ",\"secrets\":[]}", "\"secrets\"");
	expect_refused("{" MINIMAL ",\"secrets\":\"env:A\"}", "\"secrets\"");
	expect_refused("{" MINIMAL ",\"secrets\":[\"t0ps3cret\"]}", "\"secrets\" must name where");
	expect_refused("{" MINIMAL ",\"secrets\":[\"env:A\",\"env:A\",\"env:A\",\"env:A\","
				   "\"env:A\",\"env:A\",\"env:A\",\"env:A\",\"env:A\",\"env:A\",\"env:A\"]}",
				   "\"secrets\"");
	expect_refused("{" MINIMAL ",\"mode\":\"batch\"}", "\"mode\"");
	expect_refused("{" MINIMAL ",\"headers\":[]}", "\"headers\"");
	expect_refused("{" MINIMAL ",\"headers\":{\"a b\":\"c\"}}", "\"headers.a b\"");
	expect_refused("{" MINIMAL ",\"headers\":{\"X-A\":1}}", "\"headers.X-A\"");
	expect_refused("{" MINIMAL ",\"headers\":{\"X-A\":\"b\\r\\nc\"}}", "\"headers.X-A\"");
	expect_refused("{" MINIMAL ",\"headers\":{\"X-A\":\"b\",\"x-a\":\"c\"}}", "twice");
	expect_refused("{" MINIMAL ",\"headers\":{\"Host\":\"b\"}}", "\"headers.Host\"");
	expect_refused("{" MINIMAL ",\"headers\":{\"webhook-signature\":\"b\"}}", "set by the relay");
	expect_refused("{" MINIMAL ",\"headers\":{\"Authorization\":\"Bearer t0ps3cret\"}}",
				   "must name where");
	expect_refused("{" MINIMAL ",\"headers\":{\"X-Api-Key\":\"t0ps3cret\"}}", "must name where");
	expect_refused("{" MINIMAL ",\"ca_file\":\"ca.pem\"}", "\"ca_file\"");
	expect_refused("{" MINIMAL ",\"client_key\":\"/k.pem\"}", "\"client_certificate\" is missing");
	expect_refused("{" MINIMAL ",\"allow_addresses\":\"10.0.0.0/8\"}", "\"allow_addresses\"");
	expect_refused("{" MINIMAL ",\"allow_addresses\":[\"10.0.0.0/8\",\"10.0.0.0/99\"]}",
				   "number 2");
	expect_refused("{" MINIMAL ",\"http2\":\"yes\"}", "\"http2\" must be true or false");
	expect_refused("{" MINIMAL ",\"verify\":false}", "insecure_skip_verify");
	expect_refused("{" MINIMAL ",\"insecure_skip_verify\":1}", "\"insecure_skip_verify\"");
	expect_refused("{" MINIMAL ",\"proxy\":\"socks5://p\"}", "\"proxy\"");
	expect_refused("{" MINIMAL ",\"proxy\":\"http://u:t0ps3cret@p\"}", "\"proxy\"");
	expect_refused("{" MINIMAL ",\"oauth2\":true}", "\"oauth2\"");
	expect_refused("{" MINIMAL ",\"oauth2\":{}}", "\"oauth2.token_url\" is missing");
	expect_refused("{" MINIMAL ",\"oauth2\":{\"user\":\"x\"}}", "\"oauth2.user\"");
	expect_refused("{" MINIMAL ",\"oauth2\":{\"token_url\":\"https://t/\",\"client_id\":\"a\"}}",
				   "\"oauth2.client_secret\" is missing");
	expect_refused("{" MINIMAL ",\"oauth2\":{\"token_url\":\"https://t/\",\"client_id\":\"a\","
				   "\"client_secret\":\"t0ps3cret\"}}", "\"oauth2.client_secret\" must name where");
	expect_refused("{" MINIMAL ",\"headers\":{\"Authorization\":\"env:A\"},"
				   "\"oauth2\":{\"token_url\":\"https://t/\",\"client_id\":\"a\","
				   "\"client_secret\":\"env:S\"}}", "beside \"oauth2\"");
}

static void
test_config_accepted(void)
{
	static const char json[] = "{\"url\":\"https://[2a00::1]:8443/x?y=z\",\"secrets\":[\"env:A\","
		"\"file:/b\"],\"secret\":\"env:C\",\"mode\":\"structured\",\"headers\":{\"X-A\":\"b\","
		"\"Authorization\":\"env:TOKEN\"},\"ca_file\":\"file:/ca\",\"client_certificate\":\"/c\","
		"\"client_key\":\"/k\",\"allow_addresses\":[\"10.0.0.0/8\",\"db.internal\"],"
		"\"http2\":false,\"verify\":true,\"proxy\":\"http://proxy:3128\",\"oauth2\":{"
		"\"token_url\":\"https://t/\",\"client_id\":\"i\",\"client_secret\":\"env:S\","
		"\"scope\":\"a b\"}}";
	char	   *copy;
	Reason		reason = {""};
	HttpConfig *config;

	expect_refused(json, "beside \"oauth2\"");
	copy = memory_copy(json, strlen(json));
	memcpy(strstr(copy, "Authorization"), "X-Thorization", 13);
	config = config_parse(copy, strlen(copy), &reason);
	CHECK(config != NULL);
	if (config != NULL)
	{
		SAME("host", config->endpoint.host, "2a00::1");
		SAME("label", config->endpoint.label, "[2a00::1]:8443");
		CHECK(config->secret_count == 3 && config->structured && !config->http2 && config->verify);
		CHECK(config->header_count == 2 && config->allow.range_count == 1 &&
			  config->allow.name_count == 1);
		SAME("ca_file", config->ca_file, "/ca");
		SAME("scope", config->oauth2.scope, "a b");
		config_free(config);
	}
	free(copy);
	config = config_parse("{" MINIMAL "}", strlen("{" MINIMAL "}"), &reason);
	CHECK(config != NULL && config->verify && config->http2 && !config->structured);
	SAME("label has the port and no query", config->endpoint.label, "hooks.example:443");
	config_free(config);
}

/* ---- secrets -------------------------------------------------------------- */

static char work[] = "/tmp/relay_unit.XXXXXX";

static const char *
write_file(const char *name, const char *content)
{
	static char path[256];
	FILE	   *file;

	snprintf(path, sizeof(path), "%s/%s", work, name);
	file = fopen(path, "w");
	if (file == NULL || fputs(content, file) < 0 || fclose(file) != 0)
		exit(1);
	return path;
}

#define SECOND	1000000

static void
test_secret_file(void)
{
	char		reference[300];
	Reason		reason = {""};
	Secret	   *secret;
	int			first;
	int			second;

	snprintf(reference, sizeof(reference), "file:%s", write_file("key", "\n one \r\n"));
	secret = secret_open(reference, "secret", &reason);
	SAME("blanks around it are cut off", secret_value(secret, SECOND, &first, &reason), "one");
	write_file("key", "second");
	SAME("looked at once a second", secret_value(secret, SECOND + 1, &second, &reason), "one");
	CHECK(first == second);
	SAME("read again when it changed", secret_value(secret, 3 * SECOND, &second, &reason),
		 "second");
	CHECK(first != second);
	SAME("not when it did not", secret_value(secret, 5 * SECOND, &first, &reason), "second");
	CHECK(first == second);
	unlink(reference + strlen("file:"));
	CHECK(secret_value(secret, 7 * SECOND, &first, &reason) == NULL);
	CHECK(first != second);
	CHECK(strstr(reason.text, "No such file") != NULL && strstr(reason.text, "\"secret\"") != NULL);
	write_file("key", "");
	CHECK(secret_value(secret, 9 * SECOND, NULL, &reason) == NULL);
	CHECK(strstr(reason.text, "empty") != NULL);
	write_file("key", "third");
	SAME("there again", secret_value(secret, 11 * SECOND, NULL, &reason), "third");
	secret_close(secret);
	unlink(reference + strlen("file:"));

	CHECK(mkfifo(reference + strlen("file:"), 0600) == 0);
	secret = secret_open(reference, "secret", &reason);
	CHECK(secret_value(secret, SECOND, NULL, &reason) == NULL); /* and does not wait */
	secret_close(secret);
	unlink(reference + strlen("file:"));
}

static void
test_secret_other(void)
{
	Reason		reason = {""};
	Secret	   *secret;
	char	   *large = memory_take(SECRET_BYTES_MAX + 2);
	char		reference[300];

	setenv("RELAY_UNIT_SECRET", "value", 1);
	secret = secret_open("env:RELAY_UNIT_SECRET", "oauth2.client_secret", &reason);
	SAME("env", secret_value(secret, SECOND, NULL, &reason), "value");
	secret_close(secret);
	secret = secret_open("env:RELAY_UNIT_NOT_THERE", "headers.X", &reason);
	CHECK(secret_value(secret, SECOND, NULL, &reason) == NULL);
	CHECK(strstr(reason.text, "RELAY_UNIT_NOT_THERE") != NULL);
	secret_close(secret);
	secret = secret_open("file:/", "secret", &reason);
	CHECK(secret_value(secret, SECOND, NULL, &reason) == NULL);
	CHECK(strstr(reason.text, "directory") != NULL);
	secret_close(secret);
	memset(large, 'x', SECRET_BYTES_MAX + 1);
	snprintf(reference, sizeof(reference), "file:%s", write_file("large", large));
	secret = secret_open(reference, "secret", &reason);
	CHECK(secret_value(secret, SECOND, NULL, &reason) == NULL);
	secret_close(secret);
	unlink(reference + strlen("file:"));
	free(large);
	CHECK(secret_open("t0ps3cret", "secret", &reason) == NULL);
	CHECK(strstr(reason.text, "t0ps3cret") == NULL);
}

static void
test_config_check(void)
{
	Reason		reason = {""};
	char		json[1024];
	HttpConfig *config;

	snprintf(json, sizeof(json), "{" MINIMAL ",\"ca_file\":\"%s\"}", write_file("ca", "no PEM"));
	config = config_parse(json, strlen(json), &reason);
	CHECK(config != NULL && !config_check(config, SECOND, &reason));
	CHECK(strstr(reason.text, "\"ca_file\"") != NULL && strstr(reason.text,
		  "no certificate") != NULL);
	config_free(config);
	snprintf(json, sizeof(json), "{" MINIMAL ",\"secret\":\"file:%s\"}", write_file("key",
	"wrong"));
	config = config_parse(json, strlen(json), &reason);
	CHECK(config != NULL && !config_check(config, SECOND, &reason));
	CHECK(strstr(reason.text, "whsec_") != NULL);
	write_file("key", VECTOR_SECRET "\n");
	CHECK(config != NULL && config_check(config, 3 * SECOND, &reason));
	config_free(config);
	snprintf(json, sizeof(json), "%s/ca", work);
	unlink(json);
	snprintf(json, sizeof(json), "%s/key", work);
	unlink(json);
}

/* ---- tokens --------------------------------------------------------------- */

static void
expect_token(const char *json, const char *wanted, int64_t lifetime_s)
{
	FrameBuffer token;
	Reason		reason = {""};
	int64_t		lifetime = -1;
	bool		good;

	buffer_init(&token);
	good = oauth2_read_token(json, strlen(json), &token, &lifetime, &reason);
	check(good == (wanted != NULL), json, __LINE__);
	if (good && wanted != NULL)
		SAME("token", token.data, wanted);
	if (wanted == NULL)
		check(reason.text[0] != '\0', reason.text, __LINE__);
	CHECK(!good || lifetime == lifetime_s);
	buffer_free(&token);
}

static void
test_tokens(void)
{
	expect_token("{\"access_token\":\"abc\",\"token_type\":\"bearer\",\"expires_in\":3600}", "abc",
				 3570);
	expect_token("{\"access_token\":\"abc\",\"expires_in\":100}", "abc", 90);
	expect_token("{\"access_token\":\"abc\"}", "abc", 270);
	expect_token("{\"access_token\":\"abc\",\"expires_in\":0}", "abc", 0);
	expect_token("{\"access_token\":\"abc\",\"expires_in\":-5}", "abc", 0);
	expect_token("{\"access_token\":\"abc\",\"expires_in\":1e300}", "abc", 86370);
	expect_token("{\"access_token\":\"a\\r\\nX: y\"}", NULL, 0);
	expect_token("{\"access_token\":\"\"}", NULL, 0);
	expect_token("{\"access_token\":\"abc\",\"token_type\":\"mac\"}", NULL, 0);
	expect_token("{\"access_token\":7}", NULL, 0);
	expect_token("{}", NULL, 0);
	expect_token("[]", NULL, 0);
	expect_token("<html>", NULL, 0);
}

int
main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (mkdtemp(work) == NULL)
		return 1;
	test_frame_round_trip();
	test_frame_malformed();
	test_frame_no_memory();
	test_addresses();
	test_allow_list();
	test_signatures();
	test_retry_after();
	test_event_headers();
	test_traceparent();
	test_cloudevents();
	test_text();
	test_config_refused();
	test_config_accepted();
	test_secret_file();
	test_secret_other();
	test_config_check();
	test_tokens();
	rmdir(work);
	printf("1..%d\n", tests);
	return failures > 0;
}
