/*
 * relay/fuzz/config.c
 *	  Any bytes as a configuration (URLs and addresses in it), as an address range, and as
 *	  the answer of a token server.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "config.h"
#include "oauth2.h"

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

static void
expect(bool good)
{
	if (!good)
		abort();
}

static void
check_endpoint(const Endpoint *endpoint)
{
	expect(endpoint->host[0] != '\0');
	expect(strncasecmp(endpoint->url, "http", 4) == 0);
	expect(utf8_valid(endpoint->label, strlen(endpoint->label)));
}

static void
try_config(const char *text, size_t length)
{
	Reason		reason = {""};
	HttpConfig *config = config_parse(text, length, &reason);

	expect(utf8_valid(reason.text, strlen(reason.text)));
	if (config == NULL)
	{
		expect(reason.text[0] != '\0');
		return;
	}
	check_endpoint(&config->endpoint);
	for (int i = 0; i < config->header_count; i++)
	{
		expect(header_name_valid(config->header[i].name, strlen(config->header[i].name)));
		expect((config->header[i].value != NULL) != (config->header[i].secret != NULL));
	}
	config_free(config);
}

static void
try_range(const char *text)
{
	AddressRange range;
	Address		address;
	bool		never;

	if (address_range_parse(text, &range))
		expect(address_range_contains(&range, &range.first));
	if (address_parse(text, &address))
		address_restricted(&address, &never);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	char	   *text = memory_copy((const char *) data, length);
	FrameBuffer token;
	Endpoint	endpoint;
	Reason		reason = {""};
	int64_t		lifetime_s;

	try_config(text, length);
	if (endpoint_parse(text, length, "url", &endpoint, &reason))
	{
		check_endpoint(&endpoint);
		endpoint_free(&endpoint);
	}
	try_range(text);
	buffer_init(&token);
	if (oauth2_read_token(text, length, &token, &lifetime_s, &reason))
		expect(header_value_valid(token.data, strlen(token.data)) && lifetime_s >= 0);
	buffer_free(&token);
	free(text);
	return 0;
}
