/*
 * ledger/account.c
 *	  The account rows and the backend's cache of them.  Invariants: account.h.
 *
 * Lock order: account_insert() takes the short key lock on the code; it is
 * called before any balance is locked.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/actor.h"
#include "base/commit.h"
#include "base/currency.h"
#include "base/fault.h"
#include "base/row.h"
#include "base/text.h"
#include "idempotency/key_lock.h"
#include "ledger/account.h"
#include "ledger/balance.h"
#include "ledger/snapshot.h"

enum
{
	ACCOUNT_ID,
	ACCOUNT_CREATED_AT,
	ACCOUNT_ACTOR_ID,
	ACCOUNT_TENANT_ID,
	ACCOUNT_CODE,
	ACCOUNT_CURRENCY,
	ACCOUNT_KIND,
	ACCOUNT_METADATA,
	ACCOUNT_COLUMNS
};

/* Ledgers of up to so many pages (8 MB) are remembered by whole pages. */
#define WARM_BLOCKS_MAX		1024

static const RowColumn account_columns[ACCOUNT_COLUMNS] = {
	{"id", INT8OID},
	{"created_at", TIMESTAMPTZOID},
	{"actor_id", INT8OID},
	{"tenant_id", INT4OID},
	{"code", TEXTOID},
	{"currency", TEXTOID},
	{"kind", TEXTOID},
	{"metadata", JSONBOID}
};

#define ACCOUNT_INDEX_ID	0
#define ACCOUNT_INDEX_CODE	1
static const char *const account_indexes[] = {"account_id", "account_code"};

static const RowTableSpec account_spec = {
	"account", ACCOUNT_COLUMNS, account_columns, lengthof(account_indexes), account_indexes
};

const char *const account_status_names[] = {"open", "frozen_out", "frozen_all", "closed"};

/*
 * The cache: a call meets a random account in it, so each line of memory that a
 * look-up touches is cold.  The tables keep the hash beside the pointer, and an
 * account with its code is one small piece of memory.
 */
typedef struct AccountByCode
{
	Account    *account;		/* key: its tenant and code */
	uint32		hash;
	char		status;
} AccountByCode;

typedef struct AccountById
{
	int64		id;
	Account    *account;
	char		status;
} AccountById;

static inline uint32
account_code_hash(const Account *account)
{
	return hash_bytes((const unsigned char *) account->code, strlen(account->code)) ^
		(uint32) account->tenant_id;
}

#define SH_PREFIX			by_code
#define SH_ELEMENT_TYPE		AccountByCode
#define SH_KEY_TYPE			Account *
#define SH_KEY				account
#define SH_HASH_KEY(table, key)	account_code_hash(key)
#define SH_EQUAL(table, a, b)	\
	((a)->tenant_id == (b)->tenant_id && strcmp((a)->code, (b)->code) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(table, entry)	(entry)->hash
#define SH_SCOPE			static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

#define SH_PREFIX			by_id
#define SH_ELEMENT_TYPE		AccountById
#define SH_KEY_TYPE			int64
#define SH_KEY				id
#define SH_HASH_KEY(table, key)	murmurhash32((uint32) (key) ^ (uint32) ((key) >> 32))
#define SH_EQUAL(table, a, b)	((a) == (b))
#define SH_SCOPE			static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

static MemoryContext account_context = NULL;
static by_code_hash *accounts_by_code = NULL;
static by_id_hash *accounts_by_id = NULL;
static bool account_cache_stale = false;

static void
account_invalidate(Datum arg, Oid relation_id)
{
	/* which relation it is cannot be asked here; a new fill is cheap */
	if (account_context != NULL &&
		(relation_id == InvalidOid || row_relation_is("account", relation_id)))
		account_cache_stale = true;
}

void
account_init(void)
{
	CacheRegisterRelcacheCallback(account_invalidate, (Datum) 0);
}

AccountStatus
account_status_from_text(const char *text)
{
	for (int i = 0; i <= ACCOUNT_STATUS_CLOSED; i++)
		if (strcmp(text, account_status_names[i]) == 0)
			return (AccountStatus) i;
	elog(ERROR, "unexpected account status \"%s\"", text);
	return ACCOUNT_STATUS_CLOSED;
}

/* Start a call: from here to the next pin the pointers handed out stay valid. */
void
account_cache_pin(void)
{
	if (account_context != NULL &&
		(account_cache_stale || accounts_by_id->members > ACCOUNT_CACHE_MAX))
	{
		MemoryContextDelete(account_context);
		account_context = NULL;
	}
	if (account_context != NULL)
		return;
	account_context = AllocSetContextCreate(CacheMemoryContext, "pg_failsafe accounts",
											ALLOCSET_DEFAULT_SIZES);
	account_cache_stale = false;
	accounts_by_code = by_code_create(account_context, 256, NULL);
	accounts_by_id = by_id_create(account_context, 256, NULL);
}

/* An Account with its code; the rest is to be filled. */
static Account *
account_make(MemoryContext context, int64 id, int32 tenant_id, const char *code)
{
	Account    *account = MemoryContextAllocZero(context, sizeof(Account) + strlen(code) + 1);

	Assert(id > 0 && code[0] != '\0' && strlen(code) <= ACCOUNT_CODE_BYTES_MAX);
	account->id = id;
	account->tenant_id = tenant_id;
	account->code = strcpy((char *) (account + 1), code);
	ItemPointerSetInvalid(&account->balance_root);
	return account;
}

/* An Account from the columns of a row. */
static Account *
account_from_row(MemoryContext context, const Datum *values)
{
	Account    *account = account_make(context, DatumGetInt64(values[ACCOUNT_ID]),
									   DatumGetInt32(values[ACCOUNT_TENANT_ID]),
									   TextDatumGetCString(values[ACCOUNT_CODE]));

	strlcpy(account->currency, TextDatumGetCString(values[ACCOUNT_CURRENCY]),
			sizeof(account->currency));
	account->is_system = strcmp(TextDatumGetCString(values[ACCOUNT_KIND]), "system") == 0;
	if (!currency_exponent(account->currency, &account->exponent))
		elog(ERROR, "currency \"%s\" of account %lld does not exist",
			 account->currency, (long long) account->id);
	return account;
}

static void
account_remember(Account *account)
{
	bool		found;

	Assert(GetMemoryChunkContext(account) == account_context);
	by_id_insert(accounts_by_id, account->id, &found)->account = account;
	Assert(!found);
	by_code_insert(accounts_by_code, account, &found)->account = account;
	Assert(!found);
}

/* Make an Account from a row; remember it only if it is committed [A1]. */
static Account *
account_read(TupleTableSlot *slot)
{
	bool		own = TransactionIdIsCurrentTransactionId(row_xmin(slot));
	Account    *account = account_from_row(own ? CurrentMemoryContext : account_context,
										   slot->tts_values);

	if (account->is_system)
		account->system_status = balance_read_status(account->id);
	if (!own)
		account_remember(account);
	return account;
}

/*
 * Remember the wallets on the page of an account that was looked for, where the
 * ledger is small: a new session then reads some hundred pages instead of doing
 * ten thousand look-ups.  Rows of our own transaction stay out [A1].
 */
static void
account_warm(RowTable *table, BlockNumber block, Snapshot snapshot)
{
	HeapTuple	tuples[MaxHeapTuplesPerPage];
	Datum		values[ACCOUNT_COLUMNS];
	bool		isnull[ACCOUNT_COLUMNS];
	int			count;

	if (RelationGetNumberOfBlocks(row_relation(table)) > WARM_BLOCKS_MAX)
		return;
	count = row_read_page(table, block, snapshot, tuples, lengthof(tuples));
	for (int i = 0; i < count; i++)
	{
		int64		id;

		heap_deform_tuple(tuples[i], RelationGetDescr(row_relation(table)), values, isnull);
		id = DatumGetInt64(values[ACCOUNT_ID]);
		if (account_cached(id) == NULL &&
			!TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuples[i]->t_data)) &&
			strcmp(TextDatumGetCString(values[ACCOUNT_KIND]), "wallet") == 0)
			account_remember(account_from_row(account_context, values));
		heap_freetuple(tuples[i]);
	}
}

static Account *
account_scan(int index_no, int key_count, ScanKey keys)
{
	RowTable   *table = row_open_read(&account_spec);
	Snapshot	snapshot = snapshot_fresh();
	TupleTableSlot *slot;
	Account    *account = NULL;
	BlockNumber block = InvalidBlockNumber;

	row_scan_begin(table, index_no, snapshot, key_count, keys, false);
	slot = row_scan_next(table);
	if (slot != NULL)
	{
		block = ItemPointerGetBlockNumber(&slot->tts_tid);
		account = account_read(slot);
	}
	row_scan_end(table);
	if (account != NULL)
		account_warm(table, block, snapshot);
	UnregisterSnapshot(snapshot);
	row_close(table);
	return account;
}

Account *
account_find(int32 tenant_id, const char *code)
{
	Account		key = {.tenant_id = tenant_id, .code = code};
	AccountByCode *entry;
	ScanKeyData keys[2];

	Assert(account_context != NULL);
	entry = by_code_lookup(accounts_by_code, &key);
	if (entry != NULL)
		return entry->account;
	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(tenant_id));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(code));
	keys[1].sk_collation = C_COLLATION_OID;
	return account_scan(ACCOUNT_INDEX_CODE, 2, keys);
}

Account *
account_cached(int64 id)
{
	AccountById *entry = by_id_lookup(accounts_by_id, id);

	return entry != NULL ? entry->account : NULL;
}

Account *
account_find_id(int64 id)
{
	Account    *account;
	ScanKeyData key;

	Assert(account_context != NULL && id > 0);
	account = account_cached(id);
	if (account != NULL)
		return account;
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	return account_scan(ACCOUNT_INDEX_ID, 1, &key);
}

Datum
account_metadata(int64 id)
{
	RowTable   *table = row_open_read(&account_spec);
	Snapshot	snapshot = snapshot_fresh();
	ScanKeyData key;
	TupleTableSlot *slot;
	Datum		metadata;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	row_scan_begin(table, ACCOUNT_INDEX_ID, snapshot, 1, &key, false);
	slot = row_scan_next(table);
	if (slot == NULL)
		elog(ERROR, "account %lld vanished", (long long) id);
	metadata = PointerGetDatum(PG_DETOAST_DATUM_COPY(slot->tts_values[ACCOUNT_METADATA]));
	row_scan_end(table);
	UnregisterSnapshot(snapshot);
	row_close(table);
	return metadata;
}

bool
account_code_is_world(const char *code)
{
	return strncmp(code, "world:", 6) == 0;
}

FailsafeCode
account_code_validate(const char *code)
{
	if (!text_is_clean(code, 1, ACCOUNT_CODE_BYTES_MAX) || text_has_blanks(code))
		return FAILSAFE_ACCOUNT_CODE_INVALID;
	return FAILSAFE_OK;
}

Account *
account_world(int32 tenant_id, const char *currency)
{
	char		code[CURRENCY_BYTES_MAX + 8];
	Account    *account;
	bool		created;

	snprintf(code, sizeof(code), "world:%s", currency);
	account = account_find(tenant_id, code);
	if (account != NULL)
		return account;
	account = account_insert(tenant_id, code, currency, true,
							 DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")), &created);
	if (created)
	{
		Balance		balance = {.account = account};

		balance_insert(&balance);
		account_change_insert(&balance, "opened", "opened at first use");
		CommandCounterIncrement();	/* the next command of a batch finds it */
		FAULT_POINT(world_opened);
	}
	return account;
}

Account *
account_world_of(Account *sibling)
{
	Account    *world = sibling->world;

	if (world != NULL)
		return world;
	world = account_world(sibling->tenant_id, sibling->currency);

	/* both in the cache: then they live and go together */
	if (account_cached(world->id) == world && account_cached(sibling->id) == sibling)
		sibling->world = world;
	return world;
}

static void
account_write(RowTable *table, int64 id, int32 tenant_id, const char *code,
			  const char *currency, bool is_system, Datum metadata)
{
	TupleTableSlot *slot = row_slot(table, 0);

	memset(slot->tts_isnull, false, ACCOUNT_COLUMNS);
	slot->tts_values[ACCOUNT_ID] = Int64GetDatum(id);
	slot->tts_values[ACCOUNT_CREATED_AT] = TimestampTzGetDatum(GetCurrentTimestamp());
	slot->tts_values[ACCOUNT_ACTOR_ID] = Int64GetDatum(actor_current());
	slot->tts_values[ACCOUNT_TENANT_ID] = Int32GetDatum(tenant_id);
	slot->tts_values[ACCOUNT_CODE] = CStringGetTextDatum(code);
	slot->tts_values[ACCOUNT_CURRENCY] = CStringGetTextDatum(currency);
	slot->tts_values[ACCOUNT_KIND] = CStringGetTextDatum(is_system ? "system" : "wallet");
	slot->tts_values[ACCOUNT_METADATA] = metadata;
	row_slot_store(slot);
	row_insert(table, 1);
}

/* One try: the id of the new row, or 0: another's row exists or *holder runs. */
static int64
account_try_insert(RowTable *table, int32 tenant_id, const char *code, const char *currency,
				   bool is_system, Datum metadata, TransactionId *holder, ItemPointer tid)
{
	SnapshotData dirty;
	ScanKeyData keys[2];
	TupleTableSlot *slot;
	LOCKTAG		tag;
	int64		id = 0;

	InitDirtySnapshot(dirty);
	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(tenant_id));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(code));
	keys[1].sk_collation = C_COLLATION_OID;
	*holder = InvalidTransactionId;
	key_lock_acquire(&tag, KEY_LOCK_ACCOUNT, tenant_id, NULL, code);
	row_scan_begin(table, ACCOUNT_INDEX_CODE, &dirty, 2, keys, false);
	slot = row_scan_next(table);
	if (slot != NULL)
	{
		*holder = dirty.xmin;
		*tid = slot->tts_tid;
	}
	row_scan_end(table);
	if (slot == NULL)
	{
		id = row_sequence_next("account_id_seq");
		account_write(table, id, tenant_id, code, currency, is_system, metadata);
		FAULT_POINT(account_inserted);
	}
	key_lock_release(&tag);
	return id;
}

Account *
account_insert(int32 tenant_id, const char *code, const char *currency,
			   bool is_system, Datum metadata, bool *created)
{
	RowTable   *table;
	TransactionId holder;
	ItemPointerData tid;
	Account    *account;
	int64		id;

	Assert(account_code_validate(code) == FAILSAFE_OK);
	(void) actor_current();		/* may write a row of its own: before the draw */
	commit_write_begin();
	table = row_open(&account_spec);
	for (;;)
	{
		id = account_try_insert(table, tenant_id, code, currency, is_system, metadata,
								&holder, &tid);
		if (!TransactionIdIsValid(holder))
			break;
		key_wait(row_relation(table), &tid, holder, setting_lock_wait_ms, "account code");
	}
	row_close(table);
	*created = id != 0;
	if (*created)
	{
		account = account_make(CurrentMemoryContext, id, tenant_id, code);
		account->is_system = is_system;
		strlcpy(account->currency, currency, sizeof(account->currency));
		if (!currency_exponent(currency, &account->exponent))
			error_raise_field(FAILSAFE_CURRENCY_UNKNOWN, "currency", currency);
		return account;
	}
	account = account_find(tenant_id, code);
	if (account == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access: the account was opened after this "
						"transaction's snapshot was taken"),
				 errhint("Retry the transaction.")));
	return account;
}
