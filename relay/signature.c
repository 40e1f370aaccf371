/*
 * relay/signature.c
 *	  Signs id.timestamp.body with OpenSSL.  A key is prepared once and used often.
 *
 * Invariants
 *	 1. Key bytes are wiped where they were decoded; only OpenSSL keeps them.
 *	 2. What is signed is what is sent: the very bytes of the body.
 */
#include "signature.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <stdlib.h>
#include <string.h>

#include "assertion.h"

#define SYMMETRIC_BYTES_MIN		24
#define SYMMETRIC_BYTES_MAX		64
#define ED25519_BYTES			32
#define ED25519_PAIR_BYTES		64	/* seed and public key */
#define ED25519_SIGNATURE_BYTES 64
#define HMAC_BYTES				32
#define KEY_TEXT_BYTES_MAX		128

struct SignatureKey
{
	EVP_MAC_CTX *mac;			/* v1 */
	EVP_PKEY   *pair;			/* v1a */
};

static const char symmetric_prefix[] = "whsec_";
static const char asymmetric_prefix[] = "whsk_";

/* Strict base64 with padding; -1: it is none, or does not fit. */
static int
base64_decode(const char *text, unsigned char *bytes, size_t room)
{
	size_t		length = strlen(text);
	unsigned char decoded[KEY_TEXT_BYTES_MAX];
	int			size;
	int			padding = 0;

	if (length == 0 || length % 4 != 0 || length > KEY_TEXT_BYTES_MAX)
		return -1;
	if (strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=") != length)
		return -1;
	while (padding < 2 && text[length - 1 - (size_t) padding] == '=')
		padding++;
	if (strcspn(text, "=") != length - (size_t) padding)
		return -1;
	size = EVP_DecodeBlock(decoded, (const unsigned char *) text, (int) length);
	size -= padding;
	if (size > 0 && (size_t) size <= room)
		memcpy(bytes, decoded, (size_t) size);
	else
		size = -1;
	OPENSSL_cleanse(decoded, sizeof(decoded));
	return size;
}

static EVP_MAC_CTX *
open_mac(const unsigned char *bytes, size_t length)
{
	static char digest[] = "SHA256";
	OSSL_PARAM	parameters[2];
	EVP_MAC    *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	EVP_MAC_CTX *context = EVP_MAC_CTX_new(mac);

	parameters[0] = OSSL_PARAM_construct_utf8_string("digest", digest, 0);
	parameters[1] = OSSL_PARAM_construct_end();
	if (context != NULL && EVP_MAC_init(context, bytes, length, parameters) != 1)
	{
		EVP_MAC_CTX_free(context);
		context = NULL;
	}
	EVP_MAC_free(mac);
	return context;
}

/* The seed alone, or with its public key; then the two must belong together. */
static EVP_PKEY *
open_pair(const unsigned char *bytes, int size)
{
	unsigned char public[ED25519_BYTES];
	size_t		length = sizeof(public);
	EVP_PKEY   *pair;

	if (size != ED25519_BYTES && size != ED25519_PAIR_BYTES)
		return NULL;
	pair = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, bytes, ED25519_BYTES);
	if (pair != NULL && size == ED25519_PAIR_BYTES &&
		(EVP_PKEY_get_raw_public_key(pair, public, &length) != 1 ||
		 memcmp(public, bytes + ED25519_BYTES, ED25519_BYTES) != 0))
	{
		EVP_PKEY_free(pair);
		pair = NULL;
	}
	return pair;
}

static bool
open_key(SignatureKey *key, const char *secret, const char *member, Reason *reason)
{
	unsigned char bytes[SYMMETRIC_BYTES_MAX];
	int			size;

	if (strncmp(secret, symmetric_prefix, strlen(symmetric_prefix)) == 0)
	{
		size = base64_decode(secret + strlen(symmetric_prefix), bytes, sizeof(bytes));
		if (size >= SYMMETRIC_BYTES_MIN)
			key->mac = open_mac(bytes, (size_t) size);
		else
			reason_set(reason, "The secret that \"%s\" names must be whsec_ and the base64 of "
					   "%d to %d bytes.", member, SYMMETRIC_BYTES_MIN, SYMMETRIC_BYTES_MAX);
	}
	else if (strncmp(secret, asymmetric_prefix, strlen(asymmetric_prefix)) == 0)
	{
		size = base64_decode(secret + strlen(asymmetric_prefix), bytes, sizeof(bytes));
		key->pair = open_pair(bytes, size);
		if (key->pair == NULL)
			reason_set(reason, "The secret that \"%s\" names must be whsk_ and the base64 of an "
					   "Ed25519 private key and its public key.", member);
	}
	else
		reason_set(reason, "The secret that \"%s\" names must begin with whsec_ or whsk_.", member);
	OPENSSL_cleanse(bytes, sizeof(bytes));
	return key->mac != NULL || key->pair != NULL;
}

SignatureKey *
signature_key_open(const char *secret, const char *member, Reason *reason)
{
	SignatureKey *key = memory_take(sizeof(SignatureKey));

	reason_set(reason, "The key that \"%s\" names cannot be used by OpenSSL.", member);
	if (open_key(key, secret, member, reason))
		return key;
	free(key);
	return NULL;
}

void
signature_key_close(SignatureKey *key)
{
	if (key == NULL)
		return;
	EVP_MAC_CTX_free(key->mac);
	EVP_PKEY_free(key->pair);
	free(key);
}

static void
append_base64(FrameBuffer *out, const char *name, const unsigned char *bytes, int length)
{
	unsigned char text[4 * ((ED25519_SIGNATURE_BYTES + 2) / 3) + 1];
	int			size;

	Assert(length <= ED25519_SIGNATURE_BYTES);
	size = EVP_EncodeBlock(text, bytes, length);
	Assert(size > 0 && (size_t) size < sizeof(text));
	buffer_text(out, name);
	frame_append(out, text, (size_t) size);
}

/* The three parts go into the digest one by one: no copy of the body. */
static bool
append_symmetric(FrameBuffer *out, EVP_MAC_CTX *mac, const FrameBuffer *head,
				 const char *body, size_t length)
{
	unsigned char bytes[HMAC_BYTES];
	size_t		size = 0;

	if (EVP_MAC_init(mac, NULL, 0, NULL) != 1 ||
		EVP_MAC_update(mac, (const unsigned char *) head->data, head->length) != 1 ||
		EVP_MAC_update(mac, (const unsigned char *) body, length) != 1 ||
		EVP_MAC_final(mac, bytes, &size, sizeof(bytes)) != 1)
		return false;
	append_base64(out, "v1,", bytes, (int) size);
	return true;
}

/* Ed25519 reads its message twice, so it wants it in one piece. */
static bool
append_asymmetric(FrameBuffer *out, EVP_PKEY *pair, FrameBuffer *message,
				  const char *body, size_t length)
{
	unsigned char bytes[ED25519_SIGNATURE_BYTES];
	size_t		size = sizeof(bytes);
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	bool		good;

	frame_append(message, body, length);
	good = context != NULL && EVP_DigestSignInit(context, NULL, NULL, NULL, pair) == 1 &&
		EVP_DigestSign(context, bytes, &size, (const unsigned char *) message->data,
					   message->length) == 1;
	EVP_MD_CTX_free(context);
	if (good)
		append_base64(out, "v1a,", bytes, (int) size);
	return good;
}

bool
signature_append(FrameBuffer *out, SignatureKey *key, const char *id, size_t id_length,
				 int64_t timestamp, const char *body, size_t body_length)
{
	static FrameBuffer message;
	bool		good;

	if (message.grow == NULL)
		buffer_init(&message);
	Assert((key->mac != NULL) != (key->pair != NULL));
	message.length = 0;
	frame_append(&message, id, id_length);
	buffer_char(&message, '.');
	buffer_number(&message, timestamp);
	buffer_char(&message, '.');
	if (key->mac != NULL)
		good = append_symmetric(out, key->mac, &message, body, body_length);
	else
		good = append_asymmetric(out, key->pair, &message, body, body_length);
	/* One large event must not keep its memory for ever. */
	if (message.capacity > RELAY_FRAME_BYTES_MAX / 16)
		buffer_free(&message);
	return good;
}
