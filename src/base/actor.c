/*
 * base/actor.c
 *	  Owns failsafe.actor and the backend's cache of its rows.
 *
 * Invariants:
 *	A1	A cached id belongs to a row that is committed, or that this transaction
 *		inserted in a (sub)transaction that has not aborted.
 *	A2	Names are as they were when the row was made.  A renamed role gets a row
 *		of its own: the cache is emptied whenever a role changes.
 *	A3	The table is append-only; equal rows are allowed, the lowest id is taken.
 *
 * Takes RowExclusiveLock on failsafe.actor, until the transaction ends.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/actor.h"
#include "base/commit.h"
#include "base/fault.h"
#include "base/compat.h"
#include "base/row.h"

#define ACTOR_CACHE_SIZE	16

enum
{
	ACTOR_ID,					/* columns of failsafe.actor, from 0 */
	ACTOR_SESSION_USER,
	ACTOR_ROLE,
	ACTOR_CLIENT_ADDRESS,
	ACTOR_APPLICATION_NAME,
	ACTOR_CREATED_AT,
	ACTOR_COLUMNS
};

static const RowColumn actor_columns[] = {
	{"id", INT8OID},
	{"session_user_name", TEXTOID},
	{"role_name", TEXTOID},
	{"client_address", TEXTOID},
	{"application_name", TEXTOID},
	{"created_at", TIMESTAMPTZOID},
};

static const char *const actor_indexes[] = {"actor_identity"};

static const RowTableSpec actor_spec = {
	.name = "actor",
	.column_count = lengthof(actor_columns),
	.columns = actor_columns,
	.index_count = lengthof(actor_indexes),
	.indexes = actor_indexes
};

typedef struct ActorCacheEntry
{
	Oid			session_user_id;	/* InvalidOid: the entry is free */
	Oid			role_id;
	char		application_name[NAMEDATALEN];
	int64		id;
	bool		committed;
} ActorCacheEntry;

static ActorCacheEntry cache[ACTOR_CACHE_SIZE];
static int	cache_next = 0;		/* the entry that is overwritten next */

StaticAssertDecl(lengthof(actor_columns) == ACTOR_COLUMNS,
				 "the columns of failsafe.actor are numbered");

static void
actor_invalidate(Datum arg, int cache_id, uint32 hash_value)
{
	memset(cache, 0, sizeof(cache));
}

/* What an aborted transaction inserted is gone [A1]. */
static void
actor_abort(void)
{
	for (int i = 0; i < ACTOR_CACHE_SIZE; i++)
		if (!cache[i].committed)
			cache[i].session_user_id = InvalidOid;
}

static void
actor_transaction_end(bool committed)
{
	if (!committed)
	{
		actor_abort();
		return;
	}
	for (int i = 0; i < ACTOR_CACHE_SIZE; i++)
		cache[i].committed = true;
}

void
actor_init(void)
{
	CacheRegisterSyscacheCallback(AUTHOID, actor_invalidate, (Datum) 0);
	commit_add_hook(actor_transaction_end);
	commit_add_abort_hook(actor_abort);
}

/*
 * The client's address as text, NULL for a local connection or a background
 * process.  The same for the life of the backend, so it is found once.
 */
static const char *
actor_client_address(void)
{
	static bool known = false;
	static char *address = NULL;

	if (!known)
	{
		LOCAL_FCINFO(fcinfo, 0);
		Datum		client;

		InitFunctionCallInfoData(*fcinfo, NULL, 0, InvalidOid, NULL, NULL);
		client = inet_client_addr(fcinfo);
		if (!fcinfo->isnull)
			address = MemoryContextStrdup(TopMemoryContext,
										  TextDatumGetCString(DirectFunctionCall1(network_host,
																				  client)));
		known = true;
	}
	return address;
}

static void
actor_text_key(ScanKey key, AttrNumber index_column, const char *value)
{
	if (value != NULL)
		ScanKeyEntryInitialize(key, 0, index_column, BTEqualStrategyNumber, InvalidOid,
							   DEFAULT_COLLATION_OID, F_TEXTEQ,
							   CStringGetTextDatum(value));
	else
		ScanKeyEntryInitialize(key, SK_ISNULL | SK_SEARCHNULL, index_column,
							   InvalidStrategy, InvalidOid, InvalidOid, InvalidOid,
							   (Datum) 0);
}

/* Find the row; 0 when there is none.  Sets *committed when it is another's. */
static int64
actor_find(RowTable *table, const char *session_user_name, const char *role_name,
		   const char *client_address, bool *committed)
{
	ScanKeyData keys[4];
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TupleTableSlot *slot;
	int64		id = 0;

	/* the order of index actor_identity */
	actor_text_key(&keys[0], 1, application_name);
	actor_text_key(&keys[1], 2, session_user_name);
	actor_text_key(&keys[2], 3, role_name);
	actor_text_key(&keys[3], 4, client_address);
	row_scan_begin(table, 0, snapshot, lengthof(keys), keys, false);
	while ((slot = row_scan_next(table)) != NULL)
	{
		int64		found = DatumGetInt64(slot->tts_values[ACTOR_ID]);

		if (id != 0 && found > id)
			continue;
		id = found;
		*committed = !TransactionIdIsCurrentTransactionId(row_xmin(slot));
	}
	row_scan_end(table);
	UnregisterSnapshot(snapshot);
	return id;
}

static int64
actor_insert(RowTable *table, const char *session_user_name, const char *role_name,
			 const char *client_address)
{
	TupleTableSlot *slot;
	int64		id;

	commit_write_begin();
	id = row_sequence_next("actor_id_seq");
	slot = row_slot(table, 0);
	memset(slot->tts_isnull, false, ACTOR_COLUMNS * sizeof(bool));
	slot->tts_values[ACTOR_ID] = Int64GetDatum(id);
	slot->tts_values[ACTOR_SESSION_USER] = CStringGetTextDatum(session_user_name);
	slot->tts_values[ACTOR_ROLE] = CStringGetTextDatum(role_name);
	slot->tts_isnull[ACTOR_CLIENT_ADDRESS] = client_address == NULL;
	slot->tts_values[ACTOR_CLIENT_ADDRESS] =
		client_address != NULL ? CStringGetTextDatum(client_address) : (Datum) 0;
	slot->tts_values[ACTOR_APPLICATION_NAME] = CStringGetTextDatum(application_name);
	slot->tts_values[ACTOR_CREATED_AT] = TimestampTzGetDatum(GetCurrentTimestamp());
	row_slot_store(slot);
	row_insert(table, 1);
	FAULT_POINT(actor_inserted);
	commit_write_end();
	Assert(id > 0);
	return id;
}

/* Look the combination up in the table, or add it; the id goes into the cache. */
static int64
actor_resolve(Oid session_user_id, Oid role_id)
{
	const char *session_user_name = GetUserNameFromId(session_user_id, false);
	const char *role_name = GetUserNameFromId(role_id, false);
	const char *client_address = actor_client_address();
	ActorCacheEntry *entry;
	RowTable   *table = row_open(&actor_spec);
	bool		committed = false;
	int64		id;

	id = actor_find(table, session_user_name, role_name, client_address, &committed);
	if (id == 0)
		id = actor_insert(table, session_user_name, role_name, client_address);
	row_close(table);

	entry = &cache[cache_next];
	cache_next = (cache_next + 1) % ACTOR_CACHE_SIZE;
	entry->session_user_id = session_user_id;
	entry->role_id = role_id;
	strlcpy(entry->application_name, application_name, sizeof(entry->application_name));
	entry->id = id;
	entry->committed = committed;
	return id;
}

int64
actor_current(void)
{
	Oid			session_user_id = GetSessionUserId();
	Oid			role_id = GetOuterUserId();

	Assert(OidIsValid(session_user_id) && OidIsValid(role_id));
	Assert(application_name != NULL && strlen(application_name) < NAMEDATALEN);
	for (int i = 0; i < ACTOR_CACHE_SIZE; i++)
		if (cache[i].session_user_id == session_user_id && cache[i].role_id == role_id &&
			strcmp(cache[i].application_name, application_name) == 0)
			return cache[i].id;
	return actor_resolve(session_user_id, role_id);
}
