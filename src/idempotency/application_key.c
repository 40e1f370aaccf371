/*
 * idempotency/application_key.c
 *	  Keys of applications: claim, complete, release, and their retention.
 *
 * States of a key: (no row) -> unfinished -> completed -> (no row, by age);
 * unfinished -> (no row, by release).
 *
 * Invariants:
 *	A1	One row for each (tenant, scope, key): look-up and insert are one step under
 *		the short key lock; the unique index says the same.
 *	A2	A key is new, or unfinished, to one running transaction at a time.  Whoever
 *		asks while that one runs waits for its end, failsafe.key_wait at most.
 *	A3	A completed row never changes; only its age removes it.  An unfinished row is
 *		removed by idempotency_release() alone, never by age: work may be half done,
 *		and a person or program that knows must say so.
 *	A4	An answer rests on a committed and flushed row, or on one of this transaction;
 *		under REPEATABLE READ and SERIALIZABLE on one that the snapshot sees.
 *
 * Lock order: the row of a key is locked before wallet keys, accounts and outbox
 * leaves, when the caller claims before it works; the short key lock is innermost
 * and never held over a wait (key_lock.h).
 *
 * A crash leaves what was committed: before the claim's commit nothing, between the
 * commits of claim and complete an unfinished key.
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/jsonb.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/actor.h"
#include "base/commit.h"
#include "base/errors.h"
#include "base/fault.h"
#include "base/options.h"
#include "base/row.h"
#include "base/settings.h"
#include "base/tenant.h"
#include "base/text.h"
#include "base/version.h"
#include "idempotency/key.h"
#include "idempotency/key_lock.h"
#include "idempotency/request.h"

#define SCOPE_BYTES_MAX			63
#define SCOPE_WALLET			"wallet"
#define REQUEST_STORED_BYTES_MAX METADATA_BYTES_MAX
#define PRUNE_ROWS_MAX			10000
#define PRUNE_LOCK_FIELD4		5	/* pg_advisory_lock() has 1 and 2 */

enum
{
	KEY_ID,
	KEY_CLAIMED_AT,
	KEY_COMPLETED_AT,
	KEY_TENANT_ID,
	KEY_FINGERPRINT_VERSION,
	KEY_STATE,
	KEY_SCOPE,
	KEY_KEY,
	KEY_FINGERPRINT,
	KEY_REQUEST,
	KEY_RESPONSE,
	KEY_ACTOR_ID,
	KEY_COLUMNS
};

static const RowColumn key_columns[KEY_COLUMNS] = {
	{"id", INT8OID},
	{"claimed_at", TIMESTAMPTZOID},
	{"completed_at", TIMESTAMPTZOID},
	{"tenant_id", INT4OID},
	{"fingerprint_version", INT2OID},
	{"state", TEXTOID},
	{"scope", TEXTOID},
	{"key", TEXTOID},
	{"fingerprint", BYTEAOID},
	{"request", JSONBOID},
	{"response", JSONBOID},
	{"actor_id", INT8OID}
};

enum
{
	INDEX_KEY,
	INDEX_CLAIMED_AT
};

static const char *const key_indexes[] = {"application_key_key", "application_key_claimed_at"};

static const RowTableSpec key_spec = {
	"application_key", KEY_COLUMNS, key_columns, lengthof(key_indexes), key_indexes
};

/* What a call is about. */
typedef struct ApplicationKey
{
	int32		tenant_id;
	const char *scope;
	const char *key;
	TimestampTz wait_until;		/* all waits of the call together end here */
} ApplicationKey;

/* What a row says, copied out of it. */
typedef struct StoredKey
{
	TransactionId xmin;
	ItemPointerData tid;
	TimestampTz claimed_at;
	bool		completed;
	int16		fingerprint_version;
	uint8		fingerprint[FINGERPRINT_BYTES];
	Jsonb	   *request;		/* NULL: none, or too large to keep */
	Jsonb	   *response;		/* NULL: not completed */
} StoredKey;

/* ---------- checks ---------- */

/* 1 to 63 letters, digits, '_', '-', '.' and ':'; pure. */
static bool
scope_is_valid(const char *scope)
{
	size_t		length = strlen(scope);

	return length >= 1 && length <= SCOPE_BYTES_MAX &&
		strspn(scope, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
			   "0123456789_-.:") == length;
}

static char *
text_argument(FunctionCallInfo fcinfo, int argument)
{
	return PG_ARGISNULL(argument) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(argument));
}

static Jsonb *
jsonb_argument(FunctionCallInfo fcinfo, int argument)
{
	return PG_ARGISNULL(argument) ? NULL : PG_GETARG_JSONB_P(argument);
}

static void
read_name(ApplicationKey *name, const char *key, const char *scope)
{
	FailsafeCode code = key_validate(key);

	if (code != FAILSAFE_OK)
		error_raise(code, NULL, NULL);
	if (scope == NULL || !scope_is_valid(scope) || strcmp(scope, SCOPE_WALLET) == 0)
		error_raise_field(FAILSAFE_SCOPE_INVALID, "scope", scope);
	name->tenant_id = tenant_current();
	name->scope = scope;
	name->key = key;
	name->wait_until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), setting_key_wait_ms);
}

/* What is left of failsafe.key_wait, however many holders come one after the other. */
static int
wait_rest_ms(const ApplicationKey *name)
{
	long		rest_ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), name->wait_until);

	Assert(name->wait_until != 0);
	return (int) Max(rest_ms, 1);	/* 0 would mean for ever */
}

static void
check_size(const char *field, Jsonb *value)
{
	if (value != NULL && VARSIZE_ANY(value) > setting_event_max_bytes)
		error_raise_field(FAILSAFE_PAYLOAD_TOO_LARGE, field,
						  psprintf("%d bytes, failsafe.event_max_bytes allows %d",
								   (int) VARSIZE_ANY(value), setting_event_max_bytes));
}

/* Every writing function begins with this. */
static void
check_call(const char *function)
{
	version_check();
	PreventCommandIfReadOnly(function);
	PreventCommandIfParallelMode(function);
}

static void
key_raise(FailsafeCode code, const ApplicationKey *name, const char *fields)
{
	StringInfoData detail;

	error_detail_begin(&detail, code);
	error_detail_text(&detail, "scope", name->scope);
	error_detail_text(&detail, "key", name->key);
	error_detail_raw(&detail, "fields", fields);
	error_detail_end(&detail);
	error_raise(code, NULL, detail.data);
}

static void
raise_serialization_failure(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not serialize access: the idempotency key was used "
					"after this transaction's snapshot was taken"),
			 errhint("Retry the transaction; the key will replay.")));
}

/* ---------- finding a row ---------- */

static void
key_scan(RowTable *table, const ApplicationKey *name, Snapshot snapshot)
{
	ScanKeyData keys[3];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(name->tenant_id));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(name->scope));
	ScanKeyInit(&keys[2], 3, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(name->key));
	Assert(keys[1].sk_collation == C_COLLATION_OID);
	Assert(keys[2].sk_collation == C_COLLATION_OID);
	row_scan_begin(table, INDEX_KEY, snapshot, lengthof(keys), keys, false);
}

/*
 * Does this transaction's snapshot see the row version in the scan slot or, where
 * nothing was found, no row at all [A4]?  Under SERIALIZABLE the look-up also takes
 * the SIREAD lock.
 */
static bool
key_agrees_with_snapshot(RowTable *table, const ApplicationKey *name, bool found)
{
	ItemPointerData tid;
	TupleTableSlot *slot;
	bool		agrees;

	Assert(IsolationUsesXactSnapshot());
	if (found)
		tid = row_current(table)->tts_tid;
	key_scan(table, name, GetTransactionSnapshot());
	slot = row_scan_next(table);
	agrees = slot == NULL ? !found : found && ItemPointerEquals(&slot->tts_tid, &tid);
	row_scan_end_keep(table);
	return agrees;
}

/*
 * Look with a dirty snapshot.  *holder is the running transaction that inserts,
 * completes or releases the key, if there is one; else the result says whether
 * there is a row, and it is in the scan slot: committed, or of this transaction.
 */
static bool
key_probe(RowTable *table, const ApplicationKey *name, TransactionId *holder,
		  ItemPointer tid)
{
	SnapshotData dirty;
	TupleTableSlot *slot;

	InitDirtySnapshot(dirty);
	*holder = InvalidTransactionId;
	key_scan(table, name, &dirty);
	slot = row_scan_next(table);
	if (slot != NULL)
	{
		*holder = TransactionIdIsValid(dirty.xmin) ? dirty.xmin : dirty.xmax;
		*tid = slot->tts_tid;
	}
	row_scan_end_keep(table);
	return slot != NULL;
}

/*
 * Find the row, after waiting for whoever is changing it [A2]; in the scan slot
 * when true.  Raises 40001 where this transaction's snapshot sees something else
 * than what is committed now [A4].
 */
static bool
key_find(RowTable *table, const ApplicationKey *name)
{
	TransactionId holder;
	ItemPointerData tid;
	bool		found;

	Assert(name->tenant_id > 0);
	Assert(!RecoveryInProgress());
	while ((found = key_probe(table, name, &holder, &tid)) && TransactionIdIsValid(holder))
	{
		CHECK_FOR_INTERRUPTS();
		key_wait(row_relation(table), &tid, holder, wait_rest_ms(name), "idempotency key");
	}
	if (!IsolationUsesXactSnapshot())
		return found;
	if (found && TransactionIdIsCurrentTransactionId(row_xmin(row_current(table))))
		return true;
	if (!key_agrees_with_snapshot(table, name, found))
		raise_serialization_failure();
	return found;
}

/* Copy the scan slot's row, so that it may be used after the table is closed. */
static void
key_read(RowTable *table, StoredKey *stored)
{
	TupleTableSlot *slot = row_current(table);
	bytea	   *fingerprint = DatumGetByteaPP(slot->tts_values[KEY_FINGERPRINT]);
	char	   *state = TextDatumGetCString(slot->tts_values[KEY_STATE]);

	Assert(!TTS_EMPTY(slot));
	stored->xmin = row_xmin(slot);
	stored->tid = slot->tts_tid;
	stored->claimed_at = DatumGetTimestampTz(slot->tts_values[KEY_CLAIMED_AT]);
	stored->completed = strcmp(state, "completed") == 0;
	Assert(stored->completed || strcmp(state, "unfinished") == 0);
	stored->fingerprint_version = DatumGetInt16(slot->tts_values[KEY_FINGERPRINT_VERSION]);
	memset(stored->fingerprint, 0, FINGERPRINT_BYTES);
	memcpy(stored->fingerprint, VARDATA_ANY(fingerprint),
		   Min(VARSIZE_ANY_EXHDR(fingerprint), FINGERPRINT_BYTES));
	stored->request = slot->tts_isnull[KEY_REQUEST] ? NULL :
		DatumGetJsonbPCopy(slot->tts_values[KEY_REQUEST]);
	stored->response = slot->tts_isnull[KEY_RESPONSE] ? NULL :
		DatumGetJsonbPCopy(slot->tts_values[KEY_RESPONSE]);
}

/*
 * Lock an unfinished row until this transaction ends, so that one caller at a time
 * goes on with the work [A2].  *stored then says what the latest version says;
 * false when the row is gone.
 */
static bool
key_hold(RowTable *table, const ApplicationKey *name, StoredKey *stored)
{
	bool		held;

	Assert(!stored->completed);
	Assert(ItemPointerIsValid(&stored->tid));
	commit_write_begin();
	held = row_lock(table, &stored->tid, GetActiveSnapshot(), wait_rest_ms(name));
	if (held)
		key_read(table, stored);
	commit_write_end();
	return held;
}

/* ---------- claim ---------- */

static void
key_insert(RowTable *table, const ApplicationKey *name, Jsonb *request,
		   TimestampTz claimed_at, int64 actor_id)
{
	TupleTableSlot *slot = row_slot(table, 0);
	bytea	   *fingerprint = palloc(VARHDRSZ + FINGERPRINT_BYTES);
	bool		keep = request != NULL && VARSIZE_ANY(request) <= REQUEST_STORED_BYTES_MAX;

	Assert(TransactionIdIsValid(GetTopTransactionIdIfAny()));
	Assert(key_validate(name->key) == FAILSAFE_OK);
	SET_VARSIZE(fingerprint, VARHDRSZ + FINGERPRINT_BYTES);
	request_fingerprint(request, FINGERPRINT_VERSION, (uint8 *) VARDATA(fingerprint));
	memset(slot->tts_isnull, false, KEY_COLUMNS);
	slot->tts_values[KEY_ID] = Int64GetDatum(row_sequence_next("application_key_id_seq"));
	slot->tts_values[KEY_CLAIMED_AT] = TimestampTzGetDatum(claimed_at);
	slot->tts_isnull[KEY_COMPLETED_AT] = true;
	slot->tts_values[KEY_TENANT_ID] = Int32GetDatum(name->tenant_id);
	slot->tts_values[KEY_FINGERPRINT_VERSION] = Int16GetDatum(FINGERPRINT_VERSION);
	slot->tts_values[KEY_STATE] = CStringGetTextDatum("unfinished");
	slot->tts_values[KEY_SCOPE] = CStringGetTextDatum(name->scope);
	slot->tts_values[KEY_KEY] = CStringGetTextDatum(name->key);
	slot->tts_values[KEY_FINGERPRINT] = PointerGetDatum(fingerprint);
	slot->tts_values[KEY_REQUEST] = PointerGetDatum(request);
	slot->tts_isnull[KEY_REQUEST] = !keep;
	slot->tts_isnull[KEY_RESPONSE] = true;
	slot->tts_values[KEY_ACTOR_ID] = Int64GetDatum(actor_id);
	row_slot_store(slot);
	row_insert(table, 1);
	FAULT_POINT(application_key_inserted);
}

/* Insert the key unless somebody was faster; true when it is ours [A1]. */
static bool
key_claim_new(RowTable *table, const ApplicationKey *name, Jsonb *request,
			  TimestampTz *claimed_at)
{
	int64		actor_id = actor_current();
	bool		found;

	Assert(!IsInParallelMode());
	*claimed_at = GetCurrentTimestamp();
	commit_write_begin();
	do
	{
		TransactionId holder;
		ItemPointerData tid;
		LOCKTAG		lock;

		key_lock_acquire(&lock, KEY_LOCK_APPLICATION, name->tenant_id, name->scope, name->key);
		found = key_probe(table, name, &holder, &tid);
		if (!found)
			key_insert(table, name, request, *claimed_at, actor_id);
		key_lock_release(&lock);
		if (!found)
			break;
		found = key_find(table, name);
	} while (!found);
	commit_write_end();
	return !found;
}

/* Is the key's first request the same as this one?  Raises KEY_MISMATCH if not. */
static void
check_request(const ApplicationKey *name, const StoredKey *stored, Jsonb *request)
{
	uint8		fingerprint[FINGERPRINT_BYTES];

	Assert(stored->fingerprint_version == FINGERPRINT_VERSION);
	request_fingerprint(request, stored->fingerprint_version, fingerprint);
	if (memcmp(fingerprint, stored->fingerprint, FINGERPRINT_BYTES) != 0)
		key_raise(FAILSAFE_KEY_MISMATCH, name, request_difference(stored->request, request));
}

static Datum
claim_result(FunctionCallInfo fcinfo, const char *state, Jsonb *response,
			 TimestampTz claimed_at)
{
	TupleDesc	descriptor;
	Datum		values[3];
	bool		nulls[3] = {false, response == NULL, false};

	if (get_call_result_type(fcinfo, NULL, &descriptor) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	Assert(descriptor->natts == lengthof(values));
	values[0] = CStringGetTextDatum(state);
	values[1] = PointerGetDatum(response);
	values[2] = TimestampTzGetDatum(claimed_at);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(descriptor), values, nulls));
}

/* Claim the key or find out what became of it; true when it is new. */
static bool
key_claim_or_read(RowTable *table, const ApplicationKey *name, Jsonb *request,
				  TimestampTz *claimed_at, StoredKey *stored)
{
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		if (!key_find(table, name) && key_claim_new(table, name, request, claimed_at))
			return true;
		key_read(table, stored);
		if (stored->completed || key_hold(table, name, stored))
			return false;
		/* released while we waited for it */
	}
}

PG_FUNCTION_INFO_V1(failsafe_idempotency_claim);

/*
 * idempotency_claim(key text, request jsonb, scope text, options jsonb)
 *		-> state, response, claimed_at
 */
Datum
failsafe_idempotency_claim(PG_FUNCTION_ARGS)
{
	Jsonb	   *request = jsonb_argument(fcinfo, 1);
	ApplicationKey name;
	StoredKey	stored;
	RowTable   *table;
	TimestampTz claimed_at;
	bool		is_new;

	check_call("idempotency_claim()");
	read_name(&name, text_argument(fcinfo, 0), text_argument(fcinfo, 2));
	options_read(jsonb_argument(fcinfo, 3), NULL, 0, NULL);
	check_size("request", request);
	table = row_open(&key_spec);
	is_new = key_claim_or_read(table, &name, request, &claimed_at, &stored);
	row_close(table);
	if (is_new)
		return claim_result(fcinfo, "new", NULL, claimed_at);
	commit_wait_durable(stored.xmin);
	check_request(&name, &stored, request);
	return claim_result(fcinfo, stored.completed ? "replay" : "unfinished",
						stored.response, stored.claimed_at);
}

/* ---------- complete and release ---------- */

/* Find the key and lock it unless it is completed: a repeat writes nothing. */
static void
key_find_for_change(RowTable *table, const ApplicationKey *name, StoredKey *stored)
{
	if (!key_find(table, name))
		key_raise(FAILSAFE_KEY_NOT_CLAIMED, name, NULL);
	key_read(table, stored);
	if (!stored->completed && !key_hold(table, name, stored))
		key_raise(FAILSAFE_KEY_NOT_CLAIMED, name, NULL);
}

static void
key_complete(RowTable *table, const StoredKey *stored, Jsonb *response)
{
	TupleTableSlot *locked = row_current(table);
	TupleTableSlot *slot = row_slot(table, 0);
	ItemPointerData tid = stored->tid;

	Assert(!stored->completed);
	Assert(ItemPointerEquals(&locked->tts_tid, &tid));
	memcpy(slot->tts_values, locked->tts_values, KEY_COLUMNS * sizeof(Datum));
	memcpy(slot->tts_isnull, locked->tts_isnull, KEY_COLUMNS * sizeof(bool));
	slot->tts_values[KEY_STATE] = CStringGetTextDatum("completed");
	slot->tts_values[KEY_COMPLETED_AT] = TimestampTzGetDatum(GetCurrentTimestamp());
	slot->tts_isnull[KEY_COMPLETED_AT] = false;
	slot->tts_values[KEY_RESPONSE] = PointerGetDatum(response);
	slot->tts_isnull[KEY_RESPONSE] = false;
	row_slot_store(slot);
	commit_write_begin();
	row_update(table, &tid);
	FAULT_POINT(application_key_written);
	commit_write_end();
}

PG_FUNCTION_INFO_V1(failsafe_idempotency_complete);

/* idempotency_complete(key text, response jsonb, scope text, options jsonb) -> bool */
Datum
failsafe_idempotency_complete(PG_FUNCTION_ARGS)
{
	Jsonb	   *response = jsonb_argument(fcinfo, 1);
	ApplicationKey name;
	StoredKey	stored;
	RowTable   *table;

	check_call("idempotency_complete()");
	read_name(&name, text_argument(fcinfo, 0), text_argument(fcinfo, 2));
	options_read(jsonb_argument(fcinfo, 3), NULL, 0, NULL);
	if (response == NULL)
		error_raise_field(FAILSAFE_VALUE_REQUIRED, "response", "the argument is NULL");
	check_size("response", response);
	table = row_open(&key_spec);
	key_find_for_change(table, &name, &stored);
	if (!stored.completed)
		key_complete(table, &stored, response);
	row_close(table);
	if (!stored.completed)
		PG_RETURN_BOOL(true);
	commit_wait_durable(stored.xmin);
	if (compareJsonbContainers(&stored.response->root, &response->root) != 0)
		key_raise(FAILSAFE_KEY_COMPLETED, &name, NULL);
	PG_RETURN_BOOL(false);
}

static void
key_release(RowTable *table, const StoredKey *stored)
{
	ItemPointerData tid = stored->tid;

	Assert(!stored->completed);
	commit_write_begin();
	row_delete(table, &tid);
	commit_write_end();
}

PG_FUNCTION_INFO_V1(failsafe_idempotency_release);

/* idempotency_release(key text, reason text, scope text, options jsonb) */
Datum
failsafe_idempotency_release(PG_FUNCTION_ARGS)
{
	char	   *reason = text_argument(fcinfo, 1);
	ApplicationKey name;
	StoredKey	stored;
	RowTable   *table;

	check_call("idempotency_release()");
	read_name(&name, text_argument(fcinfo, 0), text_argument(fcinfo, 2));
	options_read(jsonb_argument(fcinfo, 3), NULL, 0, NULL);
	if (reason == NULL)
		error_raise_field(FAILSAFE_VALUE_REQUIRED, "reason", "the argument is NULL");
	if (!text_is_clean(reason, 1, REASON_BYTES_MAX))
		error_raise_field(FAILSAFE_TEXT_INVALID, "reason",
						  "expected are 1 to 1000 bytes without control characters");
	table = row_open(&key_spec);
	key_find_for_change(table, &name, &stored);
	if (!stored.completed)
		key_release(table, &stored);
	row_close(table);
	if (stored.completed)
	{
		commit_wait_durable(stored.xmin);
		key_raise(FAILSAFE_KEY_COMPLETED, &name, NULL);
	}
	ereport(LOG_SERVER_ONLY,
			(errmsg("idempotency key \"%s\" of scope \"%s\" is released: %s",
					error_key_mask(name.key), name.scope, reason),
			 errhidestmt(true)));
	PG_RETURN_VOID();
}

/* ---------- retention ---------- */

/* One session prunes at a time; the others have nothing to do. */
static bool
prune_lock(void)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0, 0, PRUNE_LOCK_FIELD4);
	return LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
}

/* The first completed keys that are old enough; returns how many. */
static int
prune_collect(RowTable *table, int max_rows, ItemPointerData *tids)
{
	TimestampTz horizon = GetCurrentTimestamp() -
		setting_application_key_retention_s * USECS_PER_SEC;
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TupleTableSlot *slot;
	ScanKeyData key;
	int			count = 0;

	Assert(max_rows >= 1 && max_rows <= PRUNE_ROWS_MAX);
	/* a key is completed after it was claimed, so the index on claimed_at bounds both */
	ScanKeyInit(&key, 1, BTLessStrategyNumber, F_TIMESTAMPTZ_LT, TimestampTzGetDatum(horizon));
	row_scan_begin(table, INDEX_CLAIMED_AT, snapshot, 1, &key, false);
	while (count < max_rows && (slot = row_scan_next(table)) != NULL)
		if (!slot->tts_isnull[KEY_COMPLETED_AT] &&
			DatumGetTimestampTz(slot->tts_values[KEY_COMPLETED_AT]) < horizon)
			tids[count++] = slot->tts_tid;
	row_scan_end(table);
	UnregisterSnapshot(snapshot);
	return count;
}

PG_FUNCTION_INFO_V1(failsafe_idempotency_prune);

/* idempotency_prune(max_rows int, options jsonb) -> int8 */
Datum
failsafe_idempotency_prune(PG_FUNCTION_ARGS)
{
	int			max_rows = PG_ARGISNULL(0) ? 0 : PG_GETARG_INT32(0);
	ItemPointerData *tids;
	RowTable   *table;
	int64		deleted = 0;
	int			count;

	check_call("idempotency_prune()");
	options_read(jsonb_argument(fcinfo, 1), NULL, 0, NULL);
	if (max_rows < 1 || max_rows > PRUNE_ROWS_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_rows must be between 1 and %d", PRUNE_ROWS_MAX)));
	if (!prune_lock())
		PG_RETURN_INT64(0);
	tids = palloc(max_rows * sizeof(ItemPointerData));
	Assert(setting_application_key_retention_s > 0);
	table = row_open(&key_spec);
	count = prune_collect(table, max_rows, tids);
	if (count > 0)
		commit_write_begin();
	for (int i = 0; i < count; i++)
	{
		if (!row_lock(table, &tids[i], GetActiveSnapshot(), setting_key_wait_ms))
			continue;
		row_delete(table, &row_current(table)->tts_tid);
		deleted++;
	}
	Assert(deleted <= count && count <= max_rows);
	if (count > 0)
		commit_write_end();
	row_close(table);
	PG_RETURN_INT64(deleted);
}

/* ---------- for other rooms ---------- */

PG_FUNCTION_INFO_V1(failsafe_application_key_in_progress);

/* _application_key_in_progress(scope text, key text) -> bool; does not wait */
Datum
failsafe_application_key_in_progress(PG_FUNCTION_ARGS)
{
	ApplicationKey name;
	TransactionId holder;
	ItemPointerData tid;
	RowTable   *table;

	name.tenant_id = tenant_current();
	name.scope = text_to_cstring(PG_GETARG_TEXT_PP(0));
	name.key = text_to_cstring(PG_GETARG_TEXT_PP(1));
	name.wait_until = 0;		/* it never waits */
	table = row_open_read(&key_spec);
	(void) key_probe(table, &name, &holder, &tid);
	row_close(table);
	PG_RETURN_BOOL(TransactionIdIsValid(holder));
}
