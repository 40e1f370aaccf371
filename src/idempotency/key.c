/*
 * idempotency/key.c
 *	  Wallet keys: look up, claim, un-claim.  Invariants K1-K4 are in key.h.
 *
 * Lock order: the short key locks are the innermost locks there are, taken in the
 * order of the keys: nothing but pages is waited for while they are held.  The wait
 * for another holder of a key happens without them.
 *
 * A crash at any step leaves nothing: the key row, the journal row and the
 * entries are one transaction.
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#include "base/commit.h"
#include "base/fault.h"
#include "base/row.h"
#include "base/settings.h"
#include "base/tenant.h"
#include "base/text.h"
#include "idempotency/key.h"
#include "idempotency/key_lock.h"

/* Keys of a batch that are claimed together: short locks held at once. */
#define KEY_GROUP		64

enum
{
	KEY_JOURNAL_ID,
	KEY_TENANT_ID,
	KEY_FINGERPRINT_VERSION,
	KEY_FINGERPRINT,
	KEY_KEY,
	KEY_COLUMNS
};

static const RowColumn key_columns[KEY_COLUMNS] = {
	{"journal_id", INT8OID},
	{"tenant_id", INT4OID},
	{"fingerprint_version", INT2OID},
	{"fingerprint", BYTEAOID},
	{"key", TEXTOID}
};

static const char *const key_indexes[] = {"idempotency_key_key"};

static const RowTableSpec key_spec = {
	"idempotency_key", KEY_COLUMNS, key_columns, lengthof(key_indexes), key_indexes
};

FailsafeCode
key_validate(const char *key)
{
	if (key == NULL)
		return FAILSAFE_KEY_REQUIRED;
	if (!text_is_clean(key, 1, KEY_BYTES_MAX) || text_has_outer_blanks(key))
		return FAILSAFE_KEY_INVALID;
	return FAILSAFE_OK;
}

static void
key_scan(RowTable *table, Snapshot snapshot, int32 tenant_id, Datum key)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(tenant_id));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_TEXTEQ, key);
	keys[1].sk_collation = C_COLLATION_OID;
	row_scan_begin(table, 0, snapshot, 2, keys, false);
}

/* Copy what the row says into the claim. */
static void
key_read(KeyClaim *claim, TupleTableSlot *slot)
{
	bytea	   *fingerprint = DatumGetByteaPP(slot->tts_values[KEY_FINGERPRINT]);

	Assert(DatumGetInt32(slot->tts_values[KEY_TENANT_ID]) == claim->tenant_id);
	claim->state = KEY_FOUND;
	claim->journal_id = DatumGetInt64(slot->tts_values[KEY_JOURNAL_ID]);
	claim->stored_version = DatumGetInt16(slot->tts_values[KEY_FINGERPRINT_VERSION]);
	claim->matches = VARSIZE_ANY_EXHDR(fingerprint) == FINGERPRINT_BYTES &&
		memcmp(VARDATA_ANY(fingerprint), claim->fingerprint, FINGERPRINT_BYTES) == 0;
	claim->xmin = row_xmin(slot);
	Assert(claim->journal_id > 0);
}

/*
 * Under REPEATABLE READ and SERIALIZABLE the answer must be visible to the
 * transaction's snapshot; the look-up through it also takes the SIREAD lock.
 */
static void
key_require_visible(RowTable *table, KeyClaim *claim, Datum key)
{
	bool		visible;

	Assert(IsolationUsesXactSnapshot());
	if (TransactionIdIsCurrentTransactionId(claim->xmin))
		return;
	key_scan(table, GetTransactionSnapshot(), claim->tenant_id, key);
	visible = row_scan_next(table) != NULL;
	row_scan_end(table);
	if (!visible)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access: the idempotency key was used "
						"after this transaction's snapshot was taken"),
				 errhint("Retry the transaction; the key will replay.")));
}

/* Fill slot number i with the row of a claim; its number is drawn here. */
static void
key_fill(RowTable *table, int i, KeyClaim *claim, Datum key)
{
	TupleTableSlot *slot = row_slot(table, i);
	bytea	   *fingerprint = palloc(VARHDRSZ + FINGERPRINT_BYTES);

	SET_VARSIZE(fingerprint, VARHDRSZ + FINGERPRINT_BYTES);
	memcpy(VARDATA(fingerprint), claim->fingerprint, FINGERPRINT_BYTES);
	claim->state = KEY_CLAIMED;
	claim->journal_id = row_sequence_next("journal_id_seq");
	memset(slot->tts_isnull, false, KEY_COLUMNS);
	slot->tts_values[KEY_JOURNAL_ID] = Int64GetDatum(claim->journal_id);
	slot->tts_values[KEY_TENANT_ID] = Int32GetDatum(claim->tenant_id);
	slot->tts_values[KEY_FINGERPRINT_VERSION] = Int16GetDatum(FINGERPRINT_VERSION);
	slot->tts_values[KEY_FINGERPRINT] = PointerGetDatum(fingerprint);
	slot->tts_values[KEY_KEY] = key;
	row_slot_store(slot);
}

/* Insert the rows of claims that were missing. */
static void
key_insert(RowTable *table, KeyClaim **claims, const Datum *keys, int count)
{
	commit_write_begin();
	for (int i = 0; i < count; i++)
		key_fill(table, i, claims[i], keys[i]);
	row_insert(table, count);
	FAULT_POINT(key_inserted);
	for (int i = 0; i < count; i++)
		claims[i]->tid = row_inserted_tid(table, i);
}

/* Look a key up; the transaction that holds it, or InvalidTransactionId. */
static TransactionId
key_look_up(RowTable *table, KeyClaim *claim, Datum key, ItemPointer tid)
{
	SnapshotData dirty;
	TupleTableSlot *slot;
	TransactionId holder = InvalidTransactionId;

	InitDirtySnapshot(dirty);
	key_scan(table, &dirty, claim->tenant_id, key);
	slot = row_scan_next(table);
	if (slot != NULL && TransactionIdIsValid(dirty.xmin))
	{
		holder = dirty.xmin;
		*tid = slot->tts_tid;
	}
	else if (slot != NULL)
		key_read(claim, slot);
	row_scan_end(table);
	return holder;
}

/*
 * Settle claims from the first on, under their short locks; those that are missing
 * are inserted together.  Returns how many are settled: all, or those before the
 * first one that a running transaction holds.  Later ones must not be claimed
 * before it, or two batches could wait for each other [K3].
 */
static int
key_try(RowTable *table, KeyClaim **claims, int count, bool insert,
		TransactionId *holder, ItemPointer tid)
{
	LOCKTAG		tags[KEY_GROUP];
	KeyClaim   *missing[KEY_GROUP];
	Datum		keys[KEY_GROUP];
	int			missing_count = 0;
	int			settled = 0;

	Assert(count > 0 && count <= KEY_GROUP);
	*holder = InvalidTransactionId;
	while (settled < count)
	{
		KeyClaim   *claim = claims[settled];
		Datum		key = CStringGetTextDatum(claim->key);

		claim->journal_id = 0;
		key_lock_acquire(&tags[settled], KEY_LOCK_WALLET, claim->tenant_id, NULL, claim->key);
		*holder = key_look_up(table, claim, key, tid);
		if (TransactionIdIsValid(*holder))
		{
			key_lock_release(&tags[settled]);
			break;
		}
		if (claim->journal_id == 0)
		{
			keys[missing_count] = key;
			missing[missing_count++] = claim;
		}
		settled++;
	}
	if (insert && missing_count > 0)
		key_insert(table, missing, keys, missing_count);
	for (int i = 0; i < settled; i++)
		key_lock_release(&tags[i]);
	return settled;
}

void
key_claim(KeyClaim **claims, int count, bool claim)
{
	RowTable   *table = row_open(&key_spec);
	int			done = 0;

	while (done < count)
	{
		ItemPointerData tid;
		TransactionId holder;

		CHECK_FOR_INTERRUPTS();
		Assert(done == 0 || strcmp(claims[done - 1]->key, claims[done]->key) < 0);	/* K3 */
		done += key_try(table, claims + done, Min(count - done, KEY_GROUP), claim,
						&holder, &tid);
		if (TransactionIdIsValid(holder))
			key_wait(row_relation(table), &tid, holder, setting_key_wait_ms,
					 "idempotency key");
	}
	for (int i = 0; i < count && IsolationUsesXactSnapshot(); i++)
		if (claims[i]->journal_id != 0 && claims[i]->state == KEY_FOUND)
			key_require_visible(table, claims[i], CStringGetTextDatum(claims[i]->key));
	row_close(table);
}

void
key_unclaim(KeyClaim *claim)
{
	RowTable   *table = row_open(&key_spec);

	Assert(claim->state == KEY_CLAIMED && claim->journal_id > 0);
	CommandCounterIncrement();	/* a row of the same command cannot be deleted */
	row_delete(table, &claim->tid);
	FAULT_POINT(key_unclaimed);
	row_close(table);
	claim->journal_id = 0;
}

bool
key_in_progress(int32 tenant_id, const char *key)
{
	RowTable   *table = row_open_read(&key_spec);
	SnapshotData dirty;
	bool		in_progress;

	Assert(tenant_id > 0 && key != NULL);
	InitDirtySnapshot(dirty);
	key_scan(table, &dirty, tenant_id, CStringGetTextDatum(key));
	in_progress = row_scan_next(table) != NULL && TransactionIdIsValid(dirty.xmin);
	row_scan_end(table);
	row_close(table);
	return in_progress;
}

PG_FUNCTION_INFO_V1(failsafe_key_in_progress);

/* _key_in_progress(key): is the wallet key held by a transaction that still runs? */
Datum
failsafe_key_in_progress(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(key_in_progress(tenant_current(), text_to_cstring(PG_GETARG_TEXT_PP(0))));
}
