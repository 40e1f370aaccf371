/*
 * idempotency/fingerprint.c
 *	  SHA-256 over typed, length-prefixed fields.
 *
 * Every field is one type byte, then for texts a four-byte big-endian length and
 * the bytes, for numbers eight or sixteen big-endian bytes.  A NULL is a type
 * byte of its own, so that NULL and '' differ.  The version is the first field:
 * a later version may hash other fields, and a stored fingerprint is compared
 * by the version that made it.
 */
#include "postgres.h"

#include "common/cryptohash.h"
#include "lib/stringinfo.h"
#include "port/pg_bswap.h"
#include "utils/resowner.h"

#include "idempotency/key.h"

struct Fingerprint
{
	StringInfoData fields;
};

Fingerprint *
fingerprint_begin(int16 version)
{
	Fingerprint *fingerprint = palloc(sizeof(Fingerprint));

	Assert(version == FINGERPRINT_VERSION);
	initStringInfo(&fingerprint->fields);
	fingerprint_int64(fingerprint, version);
	return fingerprint;
}

void
fingerprint_text(Fingerprint *fingerprint, const char *value)
{
	uint32		length;

	if (value == NULL)
	{
		appendStringInfoCharMacro(&fingerprint->fields, 'n');
		return;
	}
	length = pg_hton32((uint32) strlen(value));
	appendStringInfoCharMacro(&fingerprint->fields, 't');
	appendBinaryStringInfo(&fingerprint->fields, (const char *) &length, sizeof(length));
	appendBinaryStringInfo(&fingerprint->fields, value, strlen(value));
}

void
fingerprint_int64(Fingerprint *fingerprint, int64 value)
{
	uint64		bytes = pg_hton64((uint64) value);

	appendStringInfoCharMacro(&fingerprint->fields, 'i');
	appendBinaryStringInfo(&fingerprint->fields, (const char *) &bytes, sizeof(bytes));
}

void
fingerprint_money(Fingerprint *fingerprint, bool given, int128 minor)
{
	uint64		halves[2];

	if (!given)
	{
		appendStringInfoCharMacro(&fingerprint->fields, 'n');
		return;
	}
	halves[0] = pg_hton64((uint64) (minor >> 64));
	halves[1] = pg_hton64((uint64) minor);
	appendStringInfoCharMacro(&fingerprint->fields, 'm');
	appendBinaryStringInfo(&fingerprint->fields, (const char *) halves, sizeof(halves));
}

/*
 * The one hashing context of the backend: making one costs about as much as hashing a
 * command.  Contexts belong to a resource owner, so it has one that is never released.
 * An error in here leaves CurrentResourceOwner to the abort, which sets it anew.
 */
static pg_cryptohash_ctx *
fingerprint_context(void)
{
	static pg_cryptohash_ctx *context = NULL;
	static ResourceOwner owner = NULL;
	ResourceOwner saved_owner = CurrentResourceOwner;

	if (context != NULL)
		return context;
	if (owner == NULL)
		owner = ResourceOwnerCreate(NULL, "pg_failsafe fingerprint");
	CurrentResourceOwner = owner;
	context = pg_cryptohash_create(PG_SHA256);
	CurrentResourceOwner = saved_owner;
	return context;
}

void
fingerprint_end(Fingerprint *fingerprint, uint8 digest[FINGERPRINT_BYTES])
{
	pg_cryptohash_ctx *context = fingerprint_context();

	Assert(fingerprint->fields.len > 0);
	if (context == NULL || pg_cryptohash_init(context) < 0 ||
		pg_cryptohash_update(context, (const uint8 *) fingerprint->fields.data,
							 fingerprint->fields.len) < 0 ||
		pg_cryptohash_final(context, digest, FINGERPRINT_BYTES) < 0)
		elog(ERROR, "could not compute a SHA-256 digest: %s", pg_cryptohash_error(context));
	pfree(fingerprint->fields.data);
	pfree(fingerprint);
}
