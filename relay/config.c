/*
 * relay/config.c
 *	  Reads the configuration of an http destination.
 *
 * Invariants
 *	 1. Unknown and doubled members are refused by name: nothing in it is ignored.
 *	 2. A secret is there by reference only.
 *	 3. TLS is verified unless a member whose name says "insecure" is true.
 */
#include "config.h"

#include <errno.h>
#include <jansson.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "assertion.h"

typedef struct Member
{
	const char *name;
	bool		(*read) (HttpConfig *config, const char *name, json_t *value, Reason *reason);
} Member;

static bool
refuse(Reason *reason, const char *name, const char *what)
{
	reason_set(reason, "\"%s\" %s.", name, what);
	return false;
}

/* A string without a zero inside and not empty. */
static bool
is_text(const json_t *value)
{
	return json_is_string(value) && json_string_length(value) > 0 &&
		strlen(json_string_value(value)) == json_string_length(value);
}

static bool
read_text(const char *name, json_t *value, char **text, Reason *reason)
{
	if (!is_text(value))
		return refuse(reason, name, "must be a string that is not empty");
	*text = memory_copy(json_string_value(value), json_string_length(value));
	return true;
}

static bool
read_bool(const char *name, json_t *value, bool *flag, Reason *reason)
{
	if (!json_is_boolean(value))
		return refuse(reason, name, "must be true or false");
	*flag = json_is_true(value);
	return true;
}

static bool
read_endpoint(const char *name, json_t *value, Endpoint *endpoint, Reason *reason)
{
	if (!is_text(value))
		return refuse(reason, name, "must be a string that is not empty");
	return endpoint_parse(json_string_value(value), json_string_length(value), name, endpoint,
						  reason);
}

static bool
read_url(HttpConfig *config, const char *name, json_t *value, Reason *reason)
{
	return read_endpoint(name, value, &config->endpoint, reason);
}

static bool
read_proxy(HttpConfig *config, const char *name, json_t *value, Reason *reason)
{
	return read_endpoint(name, value, &config->proxy, reason);
}

static bool
add_secret(HttpConfig *config, const char *name, json_t *value, Reason *reason)
{
	Secret	   *secret;

	if (!is_text(value))
		return refuse(reason, name, "must be a reference, as file:/path or env:NAME");
	if (config->secret_count == SIGNATURE_KEYS_MAX)
		return refuse(reason, name, "names more secrets than can be used at once");
	secret = secret_open(json_string_value(value), name, reason);
	if (secret == NULL)
		return false;
	config->secret[config->secret_count++] = secret;
	return true;
}

static bool
read_secrets(HttpConfig *config, const char *name, json_t *value, Reason *reason)
{
	if (!json_is_array(value) || json_array_size(value) == 0)
		return refuse(reason, name, "must be an array of references, as file:/path or env:NAME");
	for (size_t i = 0; i < json_array_size(value); i++)
	{
		if (!add_secret(config, name, json_array_get(value, i), reason))
			return false;
	}
	return true;
}

static bool
read_mode(HttpConfig *config, const char *name, json_t *value, Reason *reason)
{
	const char *mode = is_text(value) ? json_string_value(value) : "";

	config->structured = strcmp(mode, "structured") == 0;
	if (!config->structured && strcmp(mode, "binary") != 0)
		return refuse(reason, name, "must be \"binary\" or \"structured\"");
	return true;
}

static bool
add_header(HttpConfig *config, const char *name, json_t *value, Reason *reason)
{
	char		member[128];
	ConfigHeader *header = &config->header[config->header_count];

	snprintf(member, sizeof(member), "headers.%.100s", name);
	if (!header_name_valid(name, strlen(name)))
		return refuse(reason, member, "is not the name of a header");
	if (header_reserved(name))
		return refuse(reason, member, "is set by the relay and cannot be changed");
	if (!json_is_string(value))
		return refuse(reason, member, "must be a string");
	for (int i = 0; i < config->header_count; i++)
	{
		if (strcasecmp(config->header[i].name, name) == 0)
			return refuse(reason, member, "is given twice");
	}
	if (config->header_count == HEADER_COUNT_MAX)
		return refuse(reason, "headers", "has too many members");
	if (secret_is_reference(json_string_value(value)) || header_sensitive(name))
	{
		header->secret = secret_open(json_string_value(value), member, reason);
		if (header->secret == NULL)
			return false;
	}
	else if (!header_value_valid(json_string_value(value), json_string_length(value)) ||
			 json_string_length(value) > HEADER_VALUE_BYTES_MAX)
		return refuse(reason, member, "must be printable ASCII without blanks around it");
	else
		header->value = memory_copy(json_string_value(value), json_string_length(value));
	header->name = memory_copy(name, strlen(name));
	config->header_count++;
	return true;
}

static bool
read_headers(HttpConfig *config, const char *name, json_t *value, Reason *reason)
{
	const char *key;
	json_t	   *member;

	if (!json_is_object(value))
		return refuse(reason, name, "must be an object of strings");
	json_object_foreach(value, key, member)
	{
		if (!add_header(config, key, member, reason))
			return false;
	}
	return true;
}

/* "/path" or "file:/path" */
static bool
read_path(const char *name, json_t *value, char **path, Reason *reason)
{
	const char *text = is_text(value) ? json_string_value(value) : "";

	if (strncmp(text, "file:", 5) == 0)
		text += 5;
	if (text[0] != '/')
		return refuse(reason, name, "must be file: and an absolute path");
	*path = memory_copy(text, strlen(text));
	return true;
}

static bool
read_ca_file(HttpConfig *config, const char *name, json_t *value, Reason *reason)
{
	return read_path(name, value, &config->ca_file, reason);
}

static bool
read_client_certificate(HttpConfig *config, const char *name, json_t *value, Reason *reason)
{
	return read_path(name, value, &config->client_certificate, reason);
}

static bool
read_client_key(HttpConfig *config, const char *name, json_t *value, Reason *reason)
{
	return read_path(name, value, &config->client_key, reason);
}

static bool
read_oauth2_member(OAuth2Config *oauth2, const char *name, json_t *value, Reason *reason)
{
	char		member[128];

	snprintf(member, sizeof(member), "oauth2.%.100s", name);
	if (strcmp(name, "token_url") == 0)
		return read_endpoint(member, value, &oauth2->endpoint, reason);
	if (strcmp(name, "client_id") == 0)
		return read_text(member, value, &oauth2->client_id, reason);
	if (strcmp(name, "scope") == 0)
		return read_text(member, value, &oauth2->scope, reason);
	if (strcmp(name, "client_secret") != 0)
		return refuse(reason, member, "is not known");
	if (!is_text(value))
		return refuse(reason, member, "must be a reference, as file:/path or env:NAME");
	oauth2->client_secret = secret_open(json_string_value(value), member, reason);
	return oauth2->client_secret != NULL;
}

static bool
read_oauth2(HttpConfig *config, const char *name, json_t *value, Reason *reason)
{
	OAuth2Config *oauth2 = &config->oauth2;
	const char *key;
	json_t	   *member;

	if (!json_is_object(value))
		return refuse(reason, name, "must be an object");
	oauth2->given = true;
	json_object_foreach(value, key, member)
	{
		if (!read_oauth2_member(oauth2, key, member, reason))
			return false;
	}
	if (oauth2->endpoint.url == NULL)
		return refuse(reason, "oauth2.token_url", "is missing");
	if (oauth2->client_id == NULL)
		return refuse(reason, "oauth2.client_id", "is missing");
	if (oauth2->client_secret == NULL)
		return refuse(reason, "oauth2.client_secret", "is missing");
	return true;
}

static bool
read_allow_addresses(HttpConfig *config, const char *name, json_t *value, Reason *reason)
{
	if (!json_is_array(value) || json_array_size(value) > ALLOW_ENTRIES_MAX)
		return refuse(reason, name, "must be an array of at most 100 addresses, ranges or names");
	for (size_t i = 0; i < json_array_size(value); i++)
	{
		json_t	   *entry = json_array_get(value, i);

		if (!is_text(entry) || !allow_list_add(&config->allow, json_string_value(entry)))
		{
			reason_set(reason, "\"%s\" has an entry, number %zu, that is neither an address, nor "
					   "a range (10.0.0.0/8), nor a host name.", name, i + 1);
			return false;
		}
	}
	return true;
}

static bool
read_http2(HttpConfig *config, const char *name, json_t *value, Reason *reason)
{
	return read_bool(name, value, &config->http2, reason);
}

static bool
read_verify(HttpConfig *config, const char *name, json_t *value, Reason *reason)
{
	bool		verify;

	if (!read_bool(name, value, &verify, reason))
		return false;
	if (!verify)
		return refuse(reason, name, "cannot be false; TLS is not verified only where "
					  "\"insecure_skip_verify\" is true");
	return true;
}

static bool
read_insecure(HttpConfig *config, const char *name, json_t *value, Reason *reason)
{
	bool		skip;

	if (!read_bool(name, value, &skip, reason))
		return false;
	config->verify = !skip;
	return true;
}

static const Member members[] = {
	{"url", read_url},
	{"secret", add_secret},
	{"secrets", read_secrets},
	{"mode", read_mode},
	{"headers", read_headers},
	{"ca_file", read_ca_file},
	{"client_certificate", read_client_certificate},
	{"client_key", read_client_key},
	{"oauth2", read_oauth2},
	{"allow_addresses", read_allow_addresses},
	{"http2", read_http2},
	{"proxy", read_proxy},
	{"verify", read_verify},
	{"insecure_skip_verify", read_insecure},
};

static bool
read_member(HttpConfig *config, const char *name, json_t *value, Reason *reason)
{
	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
	{
		if (strcmp(members[i].name, name) == 0)
			return members[i].read(config, name, value, reason);
	}
	reason_set(reason, "\"%.100s\" is not a member of an http configuration.", name);
	return false;
}

/* What the members must be together. */
static bool
agree(const HttpConfig *config, Reason *reason)
{
	if (config->endpoint.url == NULL)
		return refuse(reason, "url", "is missing");
	if (config->client_key != NULL && config->client_certificate == NULL)
		return refuse(reason, "client_certificate", "is missing, while \"client_key\" is there");
	for (int i = 0; i < config->header_count; i++)
	{
		if (config->oauth2.given && strcasecmp(config->header[i].name, "authorization") == 0)
			return refuse(reason, "headers.Authorization", "cannot be set beside \"oauth2\"");
	}
	return true;
}

static bool
read_members(HttpConfig *config, json_t *object, Reason *reason)
{
	const char *key;
	json_t	   *value;

	json_object_foreach(object, key, value)
	{
		if (!read_member(config, key, value, reason))
			return false;
	}
	return agree(config, reason);
}

HttpConfig *
config_parse(const char *json, size_t length, Reason *reason)
{
	HttpConfig *config;
	json_t	   *object;
	json_error_t error;

	if (length > CONFIG_BYTES_MAX)
	{
		reason_set(reason, "The configuration is longer than %d bytes.", CONFIG_BYTES_MAX);
		return NULL;
	}
	object = json_loadb(json, length, JSON_REJECT_DUPLICATES, &error);
	if (!json_is_object(object))
	{
		/* The parser's own message may quote what it read. */
		if (object == NULL && json_error_code(&error) == json_error_duplicate_key)
			reason_set(reason, "The configuration has a member twice.");
		else
			reason_set(reason, "The configuration must be a JSON object.");
		json_decref(object);
		return NULL;
	}
	config = memory_take(sizeof(HttpConfig));
	config->http2 = true;
	config->verify = true;
	if (!read_members(config, object, reason))
	{
		config_free(config);
		config = NULL;
	}
	json_decref(object);
	return config;
}

void
config_free(HttpConfig *config)
{
	endpoint_free(&config->endpoint);
	endpoint_free(&config->proxy);
	for (int i = 0; i < config->secret_count; i++)
		secret_close(config->secret[i]);
	for (int i = 0; i < config->header_count; i++)
	{
		free(config->header[i].name);
		free(config->header[i].value);
		secret_close(config->header[i].secret);
	}
	free(config->ca_file);
	free(config->client_certificate);
	free(config->client_key);
	endpoint_free(&config->oauth2.endpoint);
	free(config->oauth2.client_id);
	secret_close(config->oauth2.client_secret);
	free(config->oauth2.scope);
	allow_list_free(&config->allow);
	free(config);
}

const char *
secret_member(const HttpConfig *config, int index)
{
	Assert(index >= 0 && index < config->secret_count);
	return config->secret_count == 1 ? "secret" : "secrets";
}

/* A key that wants a password must not ask for one on a terminal. */
static int
no_password(char *password, int size, int writing, void *context)
{
	return 0;
}

static bool
has_certificate(FILE *file)
{
	X509	   *certificate = PEM_read_X509(file, NULL, no_password, NULL);

	X509_free(certificate);
	return certificate != NULL;
}

static bool
has_key(FILE *file)
{
	EVP_PKEY   *key = PEM_read_PrivateKey(file, NULL, no_password, NULL);

	EVP_PKEY_free(key);
	return key != NULL;
}

static bool
check_pem(const char *path, const char *name, bool (*has) (FILE *file), const char *what,
		  Reason *reason)
{
	FILE	   *file;
	bool		good;

	if (path == NULL)
		return true;
	file = fopen(path, "re");
	if (file == NULL)
	{
		reason_set(reason, "The file %s that \"%s\" names cannot be read: %s.", path, name,
				   strerror(errno));
		return false;
	}
	good = has(file);
	fclose(file);
	if (!good)
		reason_set(reason, "The file %s that \"%s\" names holds no %s in PEM.", path, name, what);
	return good;
}

static bool
check_secrets(HttpConfig *config, int64_t now_us, Reason *reason)
{
	for (int i = 0; i < config->secret_count; i++)
	{
		const char *value = secret_value(config->secret[i], now_us, NULL, reason);
		SignatureKey *key;

		if (value == NULL)
			return false;
		key = signature_key_open(value, secret_member(config, i), reason);
		if (key == NULL)
			return false;
		signature_key_close(key);
	}
	for (int i = 0; i < config->header_count; i++)
	{
		if (config->header[i].secret != NULL &&
			secret_value(config->header[i].secret, now_us, NULL, reason) == NULL)
			return false;
	}
	return !config->oauth2.given ||
		secret_value(config->oauth2.client_secret, now_us, NULL, reason) != NULL;
}

bool
config_check(HttpConfig *config, int64_t now_us, Reason *reason)
{
	const char *key = config->client_key != NULL ? config->client_key : config->client_certificate;

	return check_secrets(config, now_us, reason) &&
		check_pem(config->ca_file, "ca_file", has_certificate, "certificate", reason) &&
		check_pem(config->client_certificate, "client_certificate", has_certificate,
				  "certificate", reason) &&
		check_pem(key, "client_key", has_key, "private key without a password", reason);
}
