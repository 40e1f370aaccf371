/*
 * relay/config.h
 *	  The configuration of an http destination.
 */
#ifndef FAILSAFE_RELAY_CONFIG_H
#define FAILSAFE_RELAY_CONFIG_H

#include "address.h"
#include "endpoint.h"
#include "http_headers.h"
#include "secret.h"
#include "signature.h"

#define CONFIG_BYTES_MAX	65536

typedef struct ConfigHeader
{
	char	   *name;
	char	   *value;			/* NULL: the secret's */
	Secret	   *secret;
} ConfigHeader;

typedef struct OAuth2Config
{
	bool		given;
	Endpoint	endpoint;
	char	   *client_id;
	Secret	   *client_secret;
	char	   *scope;			/* NULL: none */
} OAuth2Config;

typedef struct HttpConfig
{
	Endpoint	endpoint;
	Endpoint	proxy;			/* url NULL: none */
	bool		structured;
	bool		http2;
	bool		verify;
	int			secret_count;	/* 0: not signed */
	Secret	   *secret[SIGNATURE_KEYS_MAX];
	int			header_count;
	ConfigHeader header[HEADER_COUNT_MAX];
	char	   *ca_file;
	char	   *client_certificate;
	char	   *client_key;
	OAuth2Config oauth2;
	AllowList	allow;
} HttpConfig;

/* NULL: it can never be used; the reason names the member. */
extern HttpConfig *config_parse(const char *json, size_t length, Reason *reason);
extern void config_free(HttpConfig *config);

/* Are the secrets and files that it names there now? */
extern bool config_check(HttpConfig *config, int64_t now_us, Reason *reason);

extern const char *secret_member(const HttpConfig *config, int index);

#endif							/* FAILSAFE_RELAY_CONFIG_H */
