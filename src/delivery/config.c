/*
 * delivery/config.c
 *	  What the config of a sink may say, and how it is shown.
 *
 * Everything here is a pure function of its arguments; a config that cannot be used is
 * raised as SUBSCRIPTION_INVALID with the name of the member.  Whether a file exists or an
 * address answers is not asked: that changes, and the relay's machine knows it.
 *
 * Invariants:
 *	K1	Nothing is ignored: a member is known and of its type, or refused by name.
 *	K2	A secret is never in the config, only where to find it: file:/path or env:NAME.
 *	K3	No value of a config is in an error: a refused one may be the secret itself.
 *	K4	What is shown has no value of a header and no query of a URL.
 *
 * Takes no locks.
 */
#include "postgres.h"

#include <sys/socket.h>

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/inet.h"

#include "base/errors.h"
#include "base/text.h"
#include "delivery/subscription.h"

#define URL_BYTES_MAX			2048
#define CONFIG_TEXT_BYTES_MAX	1024
#define HEADERS_MAX				50
#define SECRETS_MAX				10
#define ADDRESSES_MAX			100
#define NAME_SHOWN_BYTES		64
#define HIDDEN					"***"

typedef enum MemberType
{
	MEMBER_URL,
	MEMBER_SECRET,				/* a reference */
	MEMBER_SECRETS,				/* several */
	MEMBER_MODE,
	MEMBER_HEADERS,
	MEMBER_FILE,				/* an absolute path, or a reference to one */
	MEMBER_OAUTH2,
	MEMBER_ADDRESSES,
	MEMBER_BOOL,
	MEMBER_TEXT
} MemberType;

typedef struct MemberSpec
{
	const char *name;
	MemberType	type;
	bool		required;
} MemberSpec;

static const MemberSpec http_members[] = {
	{"url", MEMBER_URL, true},
	{"secret", MEMBER_SECRET},
	{"secrets", MEMBER_SECRETS},
	{"mode", MEMBER_MODE},
	{"headers", MEMBER_HEADERS},
	{"ca_file", MEMBER_FILE},
	{"client_certificate", MEMBER_FILE},
	{"client_key", MEMBER_SECRET},
	{"oauth2", MEMBER_OAUTH2},
	{"allow_addresses", MEMBER_ADDRESSES},
	{"http2", MEMBER_BOOL},
	{"proxy", MEMBER_URL},
	{"insecure_skip_verify", MEMBER_BOOL}
};

static const MemberSpec oauth2_members[] = {
	{"token_url", MEMBER_URL, true},
	{"client_id", MEMBER_TEXT, true},
	{"client_secret", MEMBER_SECRET, true},
	{"scope", MEMBER_TEXT}
};

typedef struct SinkSpec
{
	const char *name;
	const MemberSpec *members;
	int			member_count;
} SinkSpec;

static const SinkSpec sinks[] = {
	{"http", http_members, lengthof(http_members)},
	{"pull", NULL, 0}
};

/* Set by the relay for each request; it has the same lists, in http_headers.c. */
static const char *const reserved_headers[] = {
	"accept-encoding", "connection", "date", "expect", "host", "http2-settings",
	"idempotency-key", "keep-alive", "te", "traceparent", "trailer", "transfer-encoding",
	"upgrade", "user-agent", "x-trace-id"
};
static const char *const reserved_header_prefixes[] = {
	"ce-", "content-", "proxy-", "webhook-", "x-failsafe-"
};

/* A header with one of these in its name holds a secret. */
static const char *const secret_header_parts[] = {
	"access-key", "api-key", "apikey", "auth", "cookie", "credential", "password", "secret",
	"token"
};

pg_noreturn static void
config_refuse(const char *path, const char *problem)
{
	error_raise_field(FAILSAFE_SUBSCRIPTION_INVALID, path, problem);
}

/* ---------- sinks ---------- */

static const SinkSpec *
sink_find(const char *sink)
{
	for (int i = 0; i < lengthof(sinks); i++)
		if (strcmp(sinks[i].name, sink) == 0)
			return &sinks[i];
	return NULL;
}

void
sink_check(const char *sink)
{
	StringInfoData names;

	Assert(sink != NULL);
	if (sink_find(sink) != NULL)
		return;
	initStringInfo(&names);
	for (int i = 0; i < lengthof(sinks); i++)
		appendStringInfo(&names, "%s%s", i > 0 ? ", " : "", sinks[i].name);
	config_refuse("sink", psprintf("the sinks of this release are: %s", names.data));
}

/* ---------- single values ---------- */

static char *
text_value(const char *path, const JsonbValue *json, int max_bytes)
{
	char	   *text;

	if (json->type != jbvString)
		config_refuse(path, "a string is expected");
	text = pnstrdup(json->val.string.val, json->val.string.len);
	if (!text_is_clean(text, 1, max_bytes))
		config_refuse(path, psprintf("expected are 1 to %d bytes without control characters",
									 max_bytes));
	return text;
}

/* After the host: nothing, or a port from 1 to 65535. */
static bool
port_is_valid(const char *text, size_t length)
{
	int			port = 0;

	if (length == 0)
		return true;
	if (text[0] != ':' || length < 2 || length > 6)
		return false;
	for (size_t i = 1; i < length; i++)
	{
		if (text[i] < '0' || text[i] > '9')
			return false;
		port = port * 10 + (text[i] - '0');
	}
	return port >= 1 && port <= 65535;
}

/* A name or an address, [..] around one of version 6; then perhaps a port. */
static bool
authority_is_valid(const char *text, size_t length)
{
	size_t		host;

	if (text[0] == '[')
	{
		host = strcspn(text, "]") + 1;
		return host > 3 && host <= length &&
			strspn(text + 1, "0123456789abcdefABCDEF:.") == host - 2 &&
			port_is_valid(text + host, length - host);
	}
	host = Min(strcspn(text, ":"), length);
	return host > 0 &&
		strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") >= host &&
		port_is_valid(text + host, length - host);
}

static void
check_url(const char *path, const JsonbValue *json)
{
	char	   *url = text_value(path, json, URL_BYTES_MAX);
	const char *authority;
	size_t		length;

	for (const char *c = url; *c != '\0'; c++)
		if (*c == ' ' || IS_HIGHBIT_SET(*c) || *c == '\\' || *c == '"' || *c == '<' || *c == '>')
			config_refuse(path, "a URL has no blanks, quotes or characters beyond ASCII: write them as %XX");
	if (pg_strncasecmp(url, "http://", 7) == 0)
		authority = url + 7;
	else if (pg_strncasecmp(url, "https://", 8) == 0)
		authority = url + 8;
	else
		config_refuse(path, "the URL begins with http:// or https://");
	length = strcspn(authority, "/?#");
	if (memchr(authority, '@', length) != NULL)
		config_refuse(path, "a URL with a user name or password is refused: use secret, headers or oauth2");
	if (!authority_is_valid(authority, length))
		config_refuse(path, "the URL has no valid host and port");
	if (strchr(authority, '#') != NULL)
		config_refuse(path, "a URL with a fragment (#) cannot be sent");
}

/* file:/path or env:NAME [K2] */
static bool
reference_is_valid(const char *text)
{
	const char *name = text + 4;

	if (strncmp(text, "file:/", 6) == 0)
		return text[6] != '\0' && text_is_clean(text, 7, CONFIG_TEXT_BYTES_MAX);
	if (strncmp(text, "env:", 4) != 0 || (*name >= '0' && *name <= '9'))
		return false;
	return *name != '\0' && strlen(name) <= CONFIG_TEXT_BYTES_MAX &&
		strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == strlen(name);
}

static void
check_reference(const char *path, const JsonbValue *json)
{
	if (json->type != jbvString ||
		!reference_is_valid(pnstrdup(json->val.string.val, json->val.string.len)))
		config_refuse(path, "a secret is given by reference only: file:/path or env:NAME");
}

static void
check_file(const char *path, const JsonbValue *json)
{
	char	   *text = text_value(path, json, CONFIG_TEXT_BYTES_MAX);

	if (text[0] != '/' && strncmp(text, "file:/", 6) != 0)
		config_refuse(path, "an absolute path is expected");
}

/* ---------- lists ---------- */

typedef void (*ElementCheck) (const char *path, const JsonbValue *json);

static void
check_array(const char *path, const JsonbValue *json, int max_elements, ElementCheck check)
{
	JsonbContainer *array;
	int			count;

	if (json->type != jbvBinary || !JsonContainerIsArray(json->val.binary.data))
		config_refuse(path, "an array is expected");
	array = json->val.binary.data;
	count = (int) JsonContainerSize(array);
	if (count < 1 || count > max_elements)
		config_refuse(path, psprintf("1 to %d elements are expected", max_elements));
	for (int i = 0; i < count; i++)
		check(psprintf("%s[%d]", path, i), getIthJsonbValueFromContainer(array, i));
}

/* An address or a range of them: 10.0.0.0/8, fd00::/8, 192.0.2.7 */
static void
check_address(const char *path, const JsonbValue *json)
{
	unsigned char address[16];
	char	   *text = text_value(path, json, CONFIG_TEXT_BYTES_MAX);
	int			family = strchr(text, ':') != NULL ? PGSQL_AF_INET6 : PGSQL_AF_INET;

	if (pg_inet_net_pton(family, text, address, sizeof(address)) < 0)
		config_refuse(path, "an address or a range such as 10.1.0.0/16 is expected");
}

/* ---------- headers ---------- */

static bool
name_is_among(const char *name, const char *const *names, int count)
{
	for (int i = 0; i < count; i++)
		if (pg_strcasecmp(name, names[i]) == 0)
			return true;
	return false;
}

static void
check_header_name(const char *path, const char *name)
{
	if (name[0] == '\0' || strlen(name) > CONFIG_TEXT_BYTES_MAX ||
		strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
			   "!#$%&'*+-.^_`|~") != strlen(name))
		config_refuse(path, "this is no name of an HTTP header");
	if (name_is_among(name, reserved_headers, lengthof(reserved_headers)))
		config_refuse(path, "this header is set for each request");
	for (int i = 0; i < lengthof(reserved_header_prefixes); i++)
		if (pg_strncasecmp(name, reserved_header_prefixes[i],
						   strlen(reserved_header_prefixes[i])) == 0)
			config_refuse(path, "this header is set for each request");
}

static bool
header_is_secret(const char *name)
{
	for (int i = 0; i < lengthof(secret_header_parts); i++)
		for (const char *c = name; *c != '\0'; c++)
			if (pg_strncasecmp(c, secret_header_parts[i], strlen(secret_header_parts[i])) == 0)
				return true;
	return false;
}

static char *
shown_name(const JsonbValue *name)
{
	return pnstrdup(name->val.string.val,
					pg_mbcliplen(name->val.string.val, name->val.string.len, NAME_SHOWN_BYTES));
}

static void
check_headers(const char *path, const JsonbValue *json)
{
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	member;
	char	   *name = NULL;
	char	   *header = NULL;

	if (json->type != jbvBinary || !JsonContainerIsObject(json->val.binary.data))
		config_refuse(path, "an object of strings is expected");
	if (JsonContainerSize(json->val.binary.data) > HEADERS_MAX)
		config_refuse(path, psprintf("at most %d headers are allowed", HEADERS_MAX));
	iterator = JsonbIteratorInit(json->val.binary.data);
	while ((token = JsonbIteratorNext(&iterator, &member, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			name = pnstrdup(member.val.string.val, member.val.string.len);
			header = psprintf("%s.%s", path, shown_name(&member));
			check_header_name(header, name);
		}
		else if (token == WJB_VALUE && header_is_secret(name))
			check_reference(header, &member);
		else if (token == WJB_VALUE)
			(void) text_value(header, &member, CONFIG_TEXT_BYTES_MAX);
	}
}

/* ---------- the object ---------- */

static void check_object(const char *path, JsonbContainer *object, const MemberSpec *specs,
						 int count);

static void
check_member(const MemberSpec *spec, const char *path, const JsonbValue *json)
{
	switch (spec->type)
	{
		case MEMBER_URL:
			check_url(path, json);
			break;
		case MEMBER_SECRET:
			check_reference(path, json);
			break;
		case MEMBER_SECRETS:
			check_array(path, json, SECRETS_MAX, check_reference);
			break;
		case MEMBER_MODE:
			if (strcmp(text_value(path, json, CONFIG_TEXT_BYTES_MAX), "binary") != 0 &&
				strcmp(text_value(path, json, CONFIG_TEXT_BYTES_MAX), "structured") != 0)
				config_refuse(path, "binary or structured is expected");
			break;
		case MEMBER_HEADERS:
			check_headers(path, json);
			break;
		case MEMBER_FILE:
			check_file(path, json);
			break;
		case MEMBER_OAUTH2:
			if (json->type != jbvBinary || !JsonContainerIsObject(json->val.binary.data))
				config_refuse(path, "an object is expected");
			check_object(path, json->val.binary.data, oauth2_members, lengthof(oauth2_members));
			break;
		case MEMBER_ADDRESSES:
			check_array(path, json, ADDRESSES_MAX, check_address);
			break;
		case MEMBER_BOOL:
			if (json->type != jbvBool)
				config_refuse(path, "true or false is expected");
			break;
		case MEMBER_TEXT:
			(void) text_value(path, json, CONFIG_TEXT_BYTES_MAX);
			break;
	}
}

static bool
has_member(JsonbContainer *object, const char *name)
{
	return getKeyJsonValueFromContainer(object, name, strlen(name), NULL) != NULL;
}

static void
check_object(const char *path, JsonbContainer *object, const MemberSpec *specs, int count)
{
	JsonbIterator *iterator = JsonbIteratorInit(object);
	JsonbIteratorToken token;
	JsonbValue	member;
	const MemberSpec *spec = NULL;

	Assert(JsonContainerIsObject(object));
	while ((token = JsonbIteratorNext(&iterator, &member, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			spec = NULL;
			for (int i = 0; i < count && spec == NULL; i++)
				if (strlen(specs[i].name) == member.val.string.len &&
					memcmp(specs[i].name, member.val.string.val, member.val.string.len) == 0)
					spec = &specs[i];
			if (spec == NULL)
				config_refuse(psprintf("%s.%s", path, shown_name(&member)),
							  "the member is not known");
		}
		else if (token == WJB_VALUE)
		{
			Assert(spec != NULL);
			check_member(spec, psprintf("%s.%s", path, spec->name), &member);
		}
	}
	for (int i = 0; i < count; i++)
		if (specs[i].required && !has_member(object, specs[i].name))
			config_refuse(psprintf("%s.%s", path, specs[i].name), "the member is required");
}

void
config_check(const char *sink, Jsonb *config)
{
	const SinkSpec *spec = sink_find(sink);

	Assert(spec != NULL && config != NULL);
	if (!JB_ROOT_IS_OBJECT(config))
		config_refuse("config", "an object is expected");
	if (VARSIZE_ANY_EXHDR(config) > CONFIG_BYTES_MAX)
		config_refuse("config", psprintf("at most %d bytes are allowed", CONFIG_BYTES_MAX));
	check_object("config", &config->root, spec->members, spec->member_count);
	if (has_member(&config->root, "secret") && has_member(&config->root, "secrets"))
		config_refuse("config.secrets", "give either secret or secrets");
	if (has_member(&config->root, "client_certificate") != has_member(&config->root, "client_key"))
		config_refuse("config.client_key", "client_certificate and client_key go together");
}

/* ---------- showing ---------- */

static void
push_text(JsonbParseState **state, JsonbIteratorToken token, char *text)
{
	JsonbValue	value;

	value.type = jbvString;
	value.val.string.val = text;
	value.val.string.len = (int) strlen(text);
	(void) pushJsonbValue(state, token, &value);
}

/* A URL up to its query, which may be a token; other texts as they are. */
static void
push_shown_text(JsonbParseState **state, const JsonbValue *json)
{
	char	   *text = pnstrdup(json->val.string.val, json->val.string.len);
	char	   *query = strchr(text, '?');

	if (query != NULL && pg_strncasecmp(text, "http", 4) == 0)
		text = psprintf("%.*s?" HIDDEN, (int) (query - text), text);
	push_text(state, WJB_VALUE, text);
}

/* The object; where its values are hidden, their names alone. */
static JsonbValue *
push_object(JsonbParseState **state, JsonbContainer *object, bool hidden)
{
	JsonbIterator *iterator = JsonbIteratorInit(object);
	JsonbIteratorToken token;
	JsonbValue	member;
	JsonbValue *result = NULL;
	char	   *name = NULL;

	Assert(JsonContainerIsObject(object));
	while ((token = JsonbIteratorNext(&iterator, &member, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			name = pnstrdup(member.val.string.val, member.val.string.len);
		if (token == WJB_VALUE && hidden)
			push_text(state, WJB_VALUE, HIDDEN);
		else if (token == WJB_VALUE && member.type == jbvString)
			push_shown_text(state, &member);
		else if (token == WJB_VALUE && member.type == jbvBinary &&
				 JsonContainerIsObject(member.val.binary.data))
			(void) push_object(state, member.val.binary.data, strcmp(name, "headers") == 0);
		else
			result = pushJsonbValue(state, token,
									token == WJB_KEY || token == WJB_VALUE ? &member : NULL);
	}
	return result;
}

Jsonb *
config_shown(Jsonb *config)
{
	JsonbParseState *state = NULL;

	Assert(config != NULL);
	if (!JB_ROOT_IS_OBJECT(config))
		return config;
	return JsonbValueToJsonb(push_object(&state, &config->root, false));
}

PG_FUNCTION_INFO_V1(failsafe_config_shown);

/* _config_shown(config json) -> jsonb */
Datum
failsafe_config_shown(PG_FUNCTION_ARGS)
{
	char	   *stored = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Datum		config = DirectFunctionCall1(jsonb_in, CStringGetDatum(stored));

	PG_RETURN_JSONB_P(config_shown(DatumGetJsonbP(config)));
}
