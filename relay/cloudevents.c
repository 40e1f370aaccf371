/*
 * relay/cloudevents.c
 *	  An event as CloudEvents 1.0.
 *
 * id, source, specversion and type are there always; time and subject where they are
 * known.  As extensions: partitionkey (partitioning), traceparent (distributed tracing:
 * where it all began, while the header traceparent is of this attempt), expirytime,
 * tenant, region and schemaversion.
 */
#include "cloudevents.h"

#include <string.h>

#include "assertion.h"

typedef struct Attribute
{
	RelayTag	tag;
	const char *name;
} Attribute;

static const Attribute attributes[] = {
	{RELAY_TAG_EVENT_ID, "id"},
	{RELAY_TAG_EVENT_TYPE, "type"},
	{RELAY_TAG_TIME, "time"},
	{RELAY_TAG_SUBJECT, "subject"},
	{RELAY_TAG_ORDER_KEY, "partitionkey"},
	{RELAY_TAG_TENANT, "tenant"},
	{RELAY_TAG_REGION, "region"},
	{RELAY_TAG_TRACEPARENT, "traceparent"},
	{RELAY_TAG_EXPIRES_AT, "expirytime"},
	{RELAY_TAG_SCHEMA_VERSION, "schemaversion"},
};

#define ATTRIBUTE_COUNT	(sizeof(attributes) / sizeof(attributes[0]))

static const char hex_digits[] = "0123456789ABCDEF";

void
cloudevents_encode(FrameBuffer *out, const char *text, size_t length)
{
	size_t		plain = 0;

	for (size_t i = 0; i < length; i++)
	{
		unsigned char c = (unsigned char) text[i];

		if (c > 0x20 && c < 0x7F && c != '"' && c != '%')
			continue;
		frame_append(out, text + plain, i - plain);
		buffer_char(out, '%');
		buffer_char(out, hex_digits[c >> 4]);
		buffer_char(out, hex_digits[c & 0x0F]);
		plain = i + 1;
	}
	frame_append(out, text + plain, length - plain);
}

static void
append_header(FrameBuffer *out, const char *name, const char *value, size_t length)
{
	frame_append(out, "ce-", 3);
	buffer_text(out, name);
	frame_append(out, ": ", 2);
	cloudevents_encode(out, value, length);
	buffer_char(out, '\0');
}

/* An empty attribute is none: CloudEvents has no empty strings. */
void
cloudevents_headers(FrameBuffer *out, const FrameFields *event, const char *source)
{
	append_header(out, "specversion", "1.0", 3);
	append_header(out, "source", source, strlen(source));
	for (size_t i = 0; i < ATTRIBUTE_COUNT; i++)
	{
		const FrameField *field = &event->field[attributes[i].tag];

		Assert(!frame_tag_is_number(attributes[i].tag));
		if (field->length > 0)
			append_header(out, attributes[i].name, field->data, field->length);
	}
}

static void
append_json_text(FrameBuffer *out, const char *text, size_t length)
{
	size_t		plain = 0;

	buffer_char(out, '"');
	for (size_t i = 0; i < length; i++)
	{
		unsigned char c = (unsigned char) text[i];

		if (c >= 0x20 && c != '"' && c != '\\')
			continue;
		frame_append(out, text + plain, i - plain);
		plain = i + 1;
		if (c >= 0x20)
		{
			buffer_char(out, '\\');
			buffer_char(out, (char) c);
			continue;
		}
		frame_append(out, "\\u00", 4);
		buffer_char(out, hex_digits[c >> 4]);
		buffer_char(out, hex_digits[c & 0x0F]);
	}
	frame_append(out, text + plain, length - plain);
	buffer_char(out, '"');
}

bool
cloudevents_structured(FrameBuffer *out, const FrameFields *event, const char *source)
{
	const FrameField *data = &event->field[RELAY_TAG_DATA];

	if (!utf8_valid(data->data, data->length))
		return false;
	buffer_text(out, "{\"specversion\":\"1.0\",\"source\":");
	append_json_text(out, source, strlen(source));
	for (size_t i = 0; i < ATTRIBUTE_COUNT; i++)
	{
		const FrameField *field = &event->field[attributes[i].tag];

		if (field->length == 0)
			continue;
		if (!utf8_valid(field->data, field->length))
			return false;
		buffer_text(out, ",\"");
		buffer_text(out, attributes[i].name);
		buffer_text(out, "\":");
		append_json_text(out, field->data, field->length);
	}
	buffer_text(out, ",\"datacontenttype\":\"application/json\",\"data\":");
	frame_append(out, data->data, data->length);
	buffer_char(out, '}');
	return true;
}
