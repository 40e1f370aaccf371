/*
 * base/row.c
 *	  The row writer: reads and writes our tables without the executor.
 *
 * Invariants W1-W4 are in row.h.  Further, inside this file:
 *	W5	A descriptor (RowTable) is rebuilt after any relcache invalidation of
 *		its relation, before its next use.  The lock is taken first, so nobody
 *		can change the table between the check and the write.
 *	W6	A descriptor that is in use is never freed: invalidation only clears
 *		"valid", and row_open() rebuilds.
 *
 * What makes it fast: index descriptions, predicates and slots live as long as
 * the backend; a call costs one lock look-up and one relcache look-up per
 * relation.  Our own tables of names and descriptors are asked only for what was
 * not used lately.  Indexes are opened without a lock of their own: the lock on the
 * table keeps DROP INDEX and REINDEX away, and it saves a slot of the sixteen
 * fast-path locks for each index.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "commands/sequence.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "storage/smgr.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "base/commit.h"
#include "base/compat.h"
#include "base/errors.h"
#include "base/row.h"

#define SCHEMA_NAME			"failsafe"
#define PRUNE_BELOW_BYTES	(BLCKSZ / 5)
#define LATELY_USED			64	/* a power of two */

typedef struct RowIndex
{
	Oid			relation_id;
	bool		cached_info;	/* btree: info may live as long as the descriptor */
	IndexInfo  *info;
	ExprState  *predicate;		/* NULL: not partial */
	Relation	relation;		/* while open */
} RowIndex;

struct RowTable
{
	Oid			relation_id;	/* hash key */
	bool		valid;
	bool		is_open;
	const RowTableSpec *spec;
	MemoryContext context;		/* of everything below */
	TupleDesc	descriptor;
	int			index_count;
	RowIndex	indexes[ROW_INDEXES_MAX];
	int			scan_index[ROW_INDEXES_MAX];	/* spec's number -> indexes[] */
	EState	   *estate;			/* for predicates and index expressions */
	int			slot_count;
	TupleTableSlot **slots;

	/* while open */
	Relation	relation;
	bool		lock_waited;	/* the last row_lock() had to wait */
	TupleTableSlot *scan_slot;
	IndexScanDesc scan;
	ScanDirection direction;
};

typedef struct RowName
{
	NameData	name;			/* hash key */
	Oid			relation_id;
} RowName;

static HTAB *row_tables = NULL;
static HTAB *row_names = NULL;

/* Entries of the two, which stay where they are, by oid and by where the name is. */
static RowTable *tables_used[LATELY_USED];
static RowName *names_used[LATELY_USED];

static void row_describe(RowTable *table, Relation relation);
static void row_verify(const RowTableSpec *spec, Relation relation);
static void row_describe_index(RowTable *table, RowIndex *index, Relation relation);
static void row_index_insert(RowTable *table, RowIndex *index, TupleTableSlot *slot,
							 bool only_summarizing);

/* A relcache message: the descriptors and names it may concern are stale. */
static void
row_invalidate(Datum arg, Oid relation_id)
{
	HASH_SEQ_STATUS status;
	RowTable   *table;
	RowName    *name;

	if (row_tables != NULL)
	{
		hash_seq_init(&status, row_tables);
		while ((table = hash_seq_search(&status)) != NULL)
			if (relation_id == InvalidOid || table->relation_id == relation_id)
				table->valid = false;
	}
	if (row_names != NULL)
	{
		hash_seq_init(&status, row_names);
		while ((name = hash_seq_search(&status)) != NULL)
			if (relation_id == InvalidOid || name->relation_id == relation_id)
				name->relation_id = InvalidOid;
	}
}

/* After an abort nothing is open any more; the resource owner released it. */
static void
row_abort(void)
{
	HASH_SEQ_STATUS status;
	RowTable   *table;

	if (row_tables == NULL)
		return;
	hash_seq_init(&status, row_tables);
	while ((table = hash_seq_search(&status)) != NULL)
	{
		table->is_open = false;
		table->scan = NULL;
		table->scan_slot = NULL;
	}
}

void
row_init(void)
{
	CacheRegisterRelcacheCallback(row_invalidate, (Datum) 0);
	commit_add_abort_hook(row_abort);
}

static void
row_caches_create(void)
{
	HASHCTL		control;

	Assert(row_tables == NULL && row_names == NULL);
	memset(&control, 0, sizeof(control));
	control.keysize = sizeof(NameData);
	control.entrysize = sizeof(RowName);
	row_names = hash_create("pg_failsafe relation names", 128, &control,
							HASH_ELEM | HASH_STRINGS);
	control.keysize = sizeof(Oid);
	control.entrysize = sizeof(RowTable);
	row_tables = hash_create("pg_failsafe row tables", 128, &control,
							 HASH_ELEM | HASH_BLOBS);
}

Oid
row_relation_id(const char *name)
{
	RowName   **used = &names_used[((uintptr_t) name >> 3) % LATELY_USED];
	RowName    *entry = *used;
	bool		found;
	Oid			schema_id;

	Assert(strlen(name) < NAMEDATALEN);
	if (entry != NULL && OidIsValid(entry->relation_id) &&
		strcmp(NameStr(entry->name), name) == 0)
		return entry->relation_id;
	if (row_names == NULL)
		row_caches_create();
	*used = entry = hash_search(row_names, name, HASH_FIND, NULL);
	if (entry != NULL && OidIsValid(entry->relation_id))
		return entry->relation_id;

	schema_id = get_namespace_oid(SCHEMA_NAME, true);
	if (OidIsValid(schema_id))
		schema_id = get_relname_relid(name, schema_id);
	if (!OidIsValid(schema_id))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("relation \"%s.%s\" does not exist", SCHEMA_NAME, name),
				 errhint("Create the extension in this database: CREATE EXTENSION pg_failsafe.")));
	entry = hash_search(row_names, name, HASH_ENTER, &found);
	entry->relation_id = schema_id;
	return schema_id;
}

bool
row_relation_is(const char *name, Oid relation_id)
{
	RowName    *entry;

	if (row_names == NULL)
		return false;
	entry = hash_search(row_names, name, HASH_FIND, NULL);

	/* a name that was just invalidated may be any relation */
	return entry != NULL &&
		(entry->relation_id == relation_id || !OidIsValid(entry->relation_id));
}

int64
row_sequence_next(const char *sequence)
{
	int64		number;

	/* nextval assigns an xid only once in 32 draws, and then too late [F2] */
	Assert(TransactionIdIsValid(GetTopTransactionIdIfAny()));
	number = nextval_internal(row_relation_id(sequence), false);
	Assert(number > 0);
	return number;
}

int64
row_sequence_last(const char *sequence)
{
	Relation	relation = relation_open(row_relation_id(sequence), AccessShareLock);
	Buffer		buffer = ReadBuffer(relation, 0);
	Page		page;
	ItemId		item;
	Form_pg_sequence_data data;
	int64		number;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buffer);
	item = PageGetItemId(page, FirstOffsetNumber);
	Assert(ItemIdIsNormal(item));
	data = (Form_pg_sequence_data)
		((char *) PageGetItem(page, item) + ((HeapTupleHeader) PageGetItem(page, item))->t_hoff);
	number = data->is_called ? data->last_value : 0;
	UnlockReleaseBuffer(buffer);
	relation_close(relation, AccessShareLock);
	Assert(number >= 0);
	return number;
}

/* The descriptor of a table; not valid when it is new. */
static RowTable *
row_table(Oid relation_id)
{
	RowTable  **used = &tables_used[relation_id % LATELY_USED];
	bool		found;

	Assert(OidIsValid(relation_id) && row_tables != NULL);
	if (*used != NULL && (*used)->relation_id == relation_id)
		return *used;
	*used = hash_search(row_tables, &relation_id, HASH_ENTER, &found);
	if (!found)
	{
		memset((char *) *used + sizeof(Oid), 0, sizeof(RowTable) - sizeof(Oid));
		(*used)->relation_id = relation_id;
	}
	return *used;
}

static RowTable *
row_open_mode(const RowTableSpec *spec, Oid relation_id, LOCKMODE mode)
{
	Relation	relation = table_open(relation_id, mode);
	RowTable   *table = row_table(relation_id);

	Assert(!table->is_open);
	if (!table->valid)
	{
		table->spec = spec;
		row_describe(table, relation);
	}
	Assert(table->spec == spec);
	table->relation = relation;
	table->scan = NULL;
	table->scan_slot = NULL;
	for (int i = 0; i < table->index_count; i++)
		table->indexes[i].relation = NULL;
	table->is_open = true;
	return table;
}

RowTable *
row_open(const RowTableSpec *spec)
{
	return row_open_mode(spec, row_relation_id(spec->name), RowExclusiveLock);
}

RowTable *
row_open_read(const RowTableSpec *spec)
{
	return row_open_mode(spec, row_relation_id(spec->name), AccessShareLock);
}

RowTable *
row_open_oid(const RowTableSpec *spec, Oid relation_id)
{
	return row_open_mode(spec, relation_id, RowExclusiveLock);
}

void
row_close(RowTable *table)
{
	Assert(table->is_open);
	Assert(table->scan == NULL);
	if (table->scan_slot != NULL)
		ExecDropSingleTupleTableSlot(table->scan_slot);
	table->scan_slot = NULL;
	for (int i = 0; i < table->index_count; i++)
	{
		RowIndex   *index = &table->indexes[i];

		if (index->relation == NULL)
			continue;
		if (!index->cached_info && index->info != NULL)
		{
			index_insert_cleanup_compat(index->relation, index->info);
			index->info = NULL;
		}
		RelationClose(index->relation);
		index->relation = NULL;
	}
	table_close(table->relation, NoLock);	/* the lock stays [W1] */
	table->is_open = false;
}

Relation
row_relation(RowTable *table)
{
	Assert(table->is_open);
	return table->relation;
}

/* ---------- descriptors ---------- */

static void
row_refuse(Relation relation, const char *what)
{
	StringInfoData detail;

	error_detail_begin(&detail, FAILSAFE_SCHEMA_ALTERED);
	error_detail_text(&detail, "table", RelationGetRelationName(relation));
	error_detail_text(&detail, "found", what);
	error_detail_end(&detail);
	error_raise(FAILSAFE_SCHEMA_ALTERED, RelationGetRelationName(relation), detail.data);
}

/* Is the table what the C code was written for [W3]? */
static void
row_verify(const RowTableSpec *spec, Relation relation)
{
	TupleDesc	descriptor = RelationGetDescr(relation);
	TriggerDesc *triggers = relation->trigdesc;

	if (relation->rd_rel->relkind != RELKIND_RELATION)
		row_refuse(relation, "no plain table");
	if (relation->rd_rel->relam != HEAP_TABLE_AM_OID)
		row_refuse(relation, "another table access method");
	if (relation->rd_rel->relpersistence != RELPERSISTENCE_PERMANENT)
		row_refuse(relation, "not a logged table");
	if (descriptor->natts < spec->column_count)
		row_refuse(relation, "another number of columns");
	for (int i = 0; i < descriptor->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(descriptor, i);

		if (i >= spec->column_count)
		{
			/* one that was added and dropped again is in the catalog for ever */
			if (!column->attisdropped)
				row_refuse(relation, "another number of columns");
			continue;
		}

		if (column->attisdropped || column->attgenerated != '\0' ||
			column->atttypid != spec->columns[i].type ||
			strcmp(NameStr(column->attname), spec->columns[i].name) != 0)
			row_refuse(relation, "a changed column");
	}
	if (descriptor->constr != NULL && descriptor->constr->num_check > 0)
		row_refuse(relation, "a check constraint");
	if (relation->rd_rel->relrowsecurity || relation->rd_rel->relhasrules)
		row_refuse(relation, "row security or a rule");
	if (triggers != NULL &&
		(triggers->trig_insert_before_row || triggers->trig_insert_after_row ||
		 triggers->trig_insert_before_statement || triggers->trig_insert_after_statement ||
		 triggers->trig_update_before_row || triggers->trig_update_after_row ||
		 triggers->trig_delete_before_row || triggers->trig_delete_after_row))
		row_refuse(relation, "a trigger or a foreign key");
}

static void
row_describe_index(RowTable *table, RowIndex *index, Relation relation)
{
	List	   *predicate;

	if (!relation->rd_index->indimmediate || relation->rd_index->indisexclusion)
		row_refuse(table->relation, "a deferrable or exclusion constraint");
	index->relation_id = RelationGetRelid(relation);
	index->cached_info = relation->rd_rel->relam == BTREE_AM_OID;
	index->info = index->cached_info ? BuildIndexInfo(relation) : NULL;
	index->predicate = NULL;
	index->relation = NULL;
	predicate = RelationGetIndexPredicate(relation);
	if (predicate != NIL)
		index->predicate = ExecPrepareQual(predicate, table->estate);
}

/* Our columns alone: what was added behind them and dropped is never written. */
static TupleDesc
row_own_columns(const RowTableSpec *spec, Relation relation)
{
	TupleDesc	descriptor = CreateTemplateTupleDesc(spec->column_count);

	Assert(RelationGetDescr(relation)->natts >= spec->column_count);
	for (int i = 1; i <= spec->column_count; i++)
		TupleDescCopyEntry(descriptor, i, RelationGetDescr(relation), i);
	return descriptor;
}

/* Build everything that lives until the next invalidation [W5]. */
static void
row_describe(RowTable *table, Relation relation)
{
	MemoryContext old_context;
	List	   *index_ids;
	ListCell   *cell;

	row_verify(table->spec, relation);
	if (table->estate != NULL)
		FreeExecutorState(table->estate);
	table->estate = NULL;
	if (table->context != NULL)
		MemoryContextDelete(table->context);
	table->context = AllocSetContextCreate(CacheMemoryContext, "pg_failsafe row table",
										   ALLOCSET_SMALL_SIZES);
	old_context = MemoryContextSwitchTo(table->context);
	table->relation = relation;
	table->slot_count = 0;
	table->slots = NULL;
	table->index_count = 0;
	table->descriptor = row_own_columns(table->spec, relation);
	table->estate = CreateExecutorState();
	index_ids = RelationGetIndexList(relation);
	foreach(cell, index_ids)
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);

		if (table->index_count == ROW_INDEXES_MAX)
			row_refuse(relation, "too many indexes");
		if (index->rd_index->indisready)
			row_describe_index(table, &table->indexes[table->index_count++], index);
		index_close(index, AccessShareLock);
	}
	for (int i = 0; i < table->spec->index_count; i++)
	{
		int			found = -1;

		for (int j = 0; j < table->index_count; j++)
		{
			char	   *name = get_rel_name(table->indexes[j].relation_id);
			bool		matches;

			if (table->spec->indexes[i] != NULL)
				matches = strcmp(name, table->spec->indexes[i]) == 0;
			else
				matches = j == i;	/* leaves: index names differ, order does not */
			if (matches)
				found = j;
		}
		if (found < 0)
			row_refuse(relation, "a missing index");
		table->scan_index[i] = found;
	}
	MemoryContextSwitchTo(old_context);
	table->valid = true;
}

/* ---------- writing ---------- */

TupleTableSlot *
row_slot(RowTable *table, int i)
{
	Assert(table->is_open && i >= 0);
	if (i >= table->slot_count)
	{
		MemoryContext old_context = MemoryContextSwitchTo(table->context);
		int			count = Max(i + 1, table->slot_count * 2);

		if (table->slots == NULL)
			table->slots = palloc(count * sizeof(TupleTableSlot *));
		else
			table->slots = repalloc(table->slots, count * sizeof(TupleTableSlot *));
		for (int j = table->slot_count; j < count; j++)
			table->slots[j] = MakeSingleTupleTableSlot(table->descriptor, &TTSOpsVirtual);
		table->slot_count = count;
		MemoryContextSwitchTo(old_context);
	}
	ExecClearTuple(table->slots[i]);
	table->slots[i]->tts_tableOid = table->relation_id;
	return table->slots[i];
}

/* The open index; kept open until row_close(). */
static Relation
row_index_relation(RowTable *table, RowIndex *index)
{
	if (index->relation == NULL)
	{
		index->relation = RelationIdGetRelation(index->relation_id);
		if (!RelationIsValid(index->relation))
			row_refuse(table->relation, "a missing index");
		if (index->info == NULL)
			index->info = BuildIndexInfo(index->relation);
	}
	return index->relation;
}

static void
row_index_insert(RowTable *table, RowIndex *index, TupleTableSlot *slot,
				 bool only_summarizing)
{
	Relation	relation;
	Datum		values[INDEX_MAX_KEYS];
	bool		isnull[INDEX_MAX_KEYS];
	ExprContext *econtext = GetPerTupleExprContext(table->estate);

	/* most rows are in no partial index: ask before the index is opened */
	econtext->ecxt_scantuple = slot;
	if (index->predicate != NULL && !ExecQual(index->predicate, econtext))
		return;
	relation = row_index_relation(table, index);
	if (only_summarizing && !index_info_summarizing_compat(index->info))
		return;
	FormIndexDatum(index->info, slot, table->estate, values, isnull);
	index_insert(relation, values, isnull, &slot->tts_tid, table->relation,
				 relation->rd_index->indisunique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO,
				 false, index->info);
}

void
row_insert(RowTable *table, int count)
{
	CommandId	cid = GetCurrentCommandId(true);

	Assert(table->is_open && count <= table->slot_count);
	Assert(TransactionIdIsValid(GetTopTransactionIdIfAny()));
	if (count == 0)
		return;
	if (count == 1)
		table_tuple_insert(table->relation, table->slots[0], cid, 0, NULL);
	else
		table_multi_insert(table->relation, table->slots, count, cid, 0, NULL);
	for (int j = 0; j < table->index_count; j++)
		for (int i = 0; i < count; i++)
			row_index_insert(table, &table->indexes[j], table->slots[i], false);
	ResetPerTupleExprContext(table->estate);
}

ItemPointerData
row_inserted_tid(RowTable *table, int i)
{
	Assert(table->is_open && i < table->slot_count);
	return table->slots[i]->tts_tid;
}

/* ---------- reading ---------- */

static TupleTableSlot *
row_scan_slot(RowTable *table)
{
	if (table->scan_slot == NULL)
		table->scan_slot = MakeSingleTupleTableSlot(RelationGetDescr(table->relation),
													&TTSOpsBufferHeapTuple);
	return table->scan_slot;
}

void
row_scan_begin(RowTable *table, int index_no, Snapshot snapshot,
			   int key_count, ScanKey keys, bool backward)
{
	RowIndex   *index;

	Assert(table->is_open && table->scan == NULL);
	Assert(index_no >= 0 && index_no < table->spec->index_count);
	index = &table->indexes[table->scan_index[index_no]];
	table->direction = backward ? BackwardScanDirection : ForwardScanDirection;
	table->scan = index_beginscan_compat(table->relation, row_index_relation(table, index),
										 snapshot, key_count, 0);
	index_rescan(table->scan, keys, key_count, NULL, 0);
}

TupleTableSlot *
row_scan_next(RowTable *table)
{
	TupleTableSlot *slot = row_scan_slot(table);

	Assert(table->is_open && table->scan != NULL);
	CHECK_FOR_INTERRUPTS();
	if (!index_getnext_slot(table->scan, table->direction, slot))
		return NULL;
	slot_getallattrs(slot);
	return slot;
}

void
row_scan_end(RowTable *table)
{
	row_scan_end_keep(table);
	ExecClearTuple(table->scan_slot);
}

/* The slot has a pin of its own, so its tuple outlives the scan. */
void
row_scan_end_keep(RowTable *table)
{
	Assert(table->is_open && table->scan != NULL);
	index_endscan(table->scan);
	table->scan = NULL;
}

/*
 * Index scans prune the pages they come by; here it is done by hand, or the dead
 * versions of a busy row would fill its page, and every update would go to another
 * one.  Waiting until the page is nearly full saves WAL: one prune record for some
 * twenty updates.
 */
static Buffer
row_read_pruned(RowTable *table, BlockNumber block)
{
	Buffer		buffer = ReadBuffer(table->relation, block);
	Page		page = BufferGetPage(buffer);

	if (PageIsFull(page) || PageGetHeapFreeSpace(page) < PRUNE_BELOW_BYTES)
		heap_page_prune_opt(table->relation, buffer);
	return buffer;
}

/*
 * Was the table that long when its length was last asked for?  It may have grown
 * since.  It did not get shorter: that needs a lock that ours keeps away, and who
 * did it before told everybody to forget the length, which is heeded as a lock is
 * taken.  Asking the file costs a system call.
 */
static bool
row_has_block(RowTable *table, BlockNumber block)
{
	BlockNumber known = RelationGetSmgr(table->relation)->smgr_cached_nblocks[MAIN_FORKNUM];

	Assert(table->is_open);
	return (known != InvalidBlockNumber && block < known) ||
		block < RelationGetNumberOfBlocks(table->relation);
}

bool
row_fetch_root(RowTable *table, ItemPointer root, Snapshot snapshot,
			   int key_column, int64 key)
{
	TupleTableSlot *slot = row_scan_slot(table);
	BufferHeapTupleTableSlot *buffer_slot = (BufferHeapTupleTableSlot *) slot;
	ItemPointerData tid = *root;
	Buffer		buffer;
	bool		found;
	bool		isnull;

	Assert(table->is_open && table->scan == NULL);
	Assert(key_column >= 1 && key_column <= table->spec->column_count);
	if (!ItemPointerIsValid(root) ||
		!row_has_block(table, ItemPointerGetBlockNumber(root)))
		return false;
	ExecClearTuple(slot);
	buffer = row_read_pruned(table, ItemPointerGetBlockNumber(root));
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	found = heap_hot_search_buffer(&tid, table->relation, buffer, snapshot,
								   &buffer_slot->base.tupdata, NULL, true);
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	if (!found)
	{
		ReleaseBuffer(buffer);
		return false;
	}
	slot->tts_tableOid = table->relation_id;
	ExecStorePinnedBufferHeapTuple(&buffer_slot->base.tupdata, slot, buffer);
	if (DatumGetInt64(slot_getattr(slot, key_column, &isnull)) != key)
		return false;			/* the place was used again for another row */
	slot_getallattrs(slot);
	return true;
}

bool
row_is_root(TupleTableSlot *slot)
{
	Assert(TTS_IS_BUFFERTUPLE(slot));
	return !HeapTupleIsHeapOnly(((HeapTupleTableSlot *) slot)->tuple);
}

int
row_read_page(RowTable *table, BlockNumber block, Snapshot snapshot,
			  HeapTuple *tuples, int max)
{
	OffsetNumber roots[MaxHeapTuplesPerPage];
	Buffer		buffer;
	Page		page;
	OffsetNumber last;
	int			count = 0;

	Assert(table->is_open && max >= MaxHeapTuplesPerPage);
	buffer = ReadBuffer(table->relation, block);
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buffer);
	last = PageGetMaxOffsetNumber(page);
	heap_get_root_tuples(page, roots);
	for (OffsetNumber offset = FirstOffsetNumber; offset <= last; offset++)
	{
		ItemId		item = PageGetItemId(page, offset);
		HeapTupleData tuple;

		if (!ItemIdIsNormal(item))
			continue;
		tuple.t_data = (HeapTupleHeader) PageGetItem(page, item);
		tuple.t_len = ItemIdGetLength(item);
		tuple.t_tableOid = table->relation_id;
		ItemPointerSet(&tuple.t_self, block, offset);
		if (!HeapTupleSatisfiesVisibility(&tuple, snapshot, buffer))
			continue;
		tuples[count] = heap_copytuple(&tuple);
		if (OffsetNumberIsValid(roots[offset - 1]))
			ItemPointerSetOffsetNumber(&tuples[count]->t_self, roots[offset - 1]);
		count++;
	}
	UnlockReleaseBuffer(buffer);
	return count;
}

TupleTableSlot *
row_current(RowTable *table)
{
	Assert(table->is_open && table->scan_slot != NULL);
	return table->scan_slot;
}

TransactionId
row_xmin(TupleTableSlot *slot)
{
	Assert(TTS_IS_BUFFERTUPLE(slot));
	return HeapTupleHeaderGetXmin(((HeapTupleTableSlot *) slot)->tuple->t_data);
}

/* ---------- locking and changing ---------- */

static void
row_serialization_failure(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not serialize access due to concurrent update"),
			 errhint("Retry the transaction; its keys will replay what was committed.")));
}

/* One try to lock the row, with or without waiting; the tid moves along the chain. */
static TM_Result
row_lock_try(RowTable *table, ItemPointer tid, Snapshot snapshot, LockWaitPolicy policy)
{
	TM_FailureData failure;
	uint8		flags = TUPLE_LOCK_FLAG_LOCK_UPDATE_IN_PROGRESS;

	if (!IsolationUsesXactSnapshot())
		flags |= TUPLE_LOCK_FLAG_FIND_LAST_VERSION;
	return table_tuple_lock(table->relation, tid, snapshot, row_scan_slot(table),
							GetCurrentCommandId(false), LockTupleNoKeyExclusive,
							policy, flags, &failure);
}

static TM_Result
row_lock_wait(RowTable *table, ItemPointer tid, Snapshot snapshot, int lock_timeout_ms)
{
	TM_Result	result = TM_Ok;
	int			saved_timeout = LockTimeout;

	PG_TRY();
	{
		if (lock_timeout_ms > 0 && (LockTimeout == 0 || lock_timeout_ms < LockTimeout))
			LockTimeout = lock_timeout_ms;
		result = row_lock_try(table, tid, snapshot, LockWaitBlock);
	}
	PG_FINALLY();
	{
		LockTimeout = saved_timeout;
	}
	PG_END_TRY();
	return result;
}

bool
row_lock(RowTable *table, ItemPointer tid, Snapshot snapshot, int lock_timeout_ms)
{
	ItemPointerData target = *tid;
	TM_Result	result;

	Assert(table->is_open && table->scan == NULL);
	result = row_lock_try(table, &target, snapshot, LockWaitSkip);
	table->lock_waited = result == TM_WouldBlock;
	if (table->lock_waited)
	{
		commit_note_contention();
		target = *tid;
		result = row_lock_wait(table, &target, snapshot, lock_timeout_ms);
	}
	switch (result)
	{
		case TM_Ok:
			slot_getallattrs(row_current(table));
			return true;
		case TM_Deleted:
			if (IsolationUsesXactSnapshot())
				row_serialization_failure();
			return false;
		case TM_Updated:
			row_serialization_failure();
			break;
		default:
			elog(ERROR, "unexpected result %d of locking a row of \"%s\"",
				 (int) result, RelationGetRelationName(table->relation));
	}
	return false;
}

bool
row_lock_waited(RowTable *table)
{
	return table->lock_waited;
}

static TM_Result
row_update_version(RowTable *table, ItemPointer tid, bool wait, bool *is_hot)
{
	TupleTableSlot *slot = table->slots[0];
	ItemPointerData target = *tid;
	TM_FailureData failure;
	LockTupleMode lock_mode;
	UpdateIndexesCompat update_indexes;
	TM_Result	result;

	Assert(table->is_open && table->slot_count > 0 && !TTS_EMPTY(slot));
	result = table_tuple_update_compat(table->relation, &target, slot,
									   GetCurrentCommandId(true), InvalidSnapshot,
									   InvalidSnapshot, wait, &failure, &lock_mode,
									   &update_indexes);
	*is_hot = result == TM_Ok && update_indexes_none_compat(update_indexes);
	if (result != TM_Ok || *is_hot)
		return result;
	for (int j = 0; j < table->index_count; j++)
		row_index_insert(table, &table->indexes[j], slot,
						 update_indexes_summarizing_compat(update_indexes));
	ResetPerTupleExprContext(table->estate);
	return TM_Ok;
}

bool
row_update(RowTable *table, ItemPointer tid)
{
	bool		is_hot;
	TM_Result	result = row_update_version(table, tid, true, &is_hot);

	/* the row is locked by us; anything but TM_Ok is a broken promise [W4] */
	if (result != TM_Ok)
		elog(ERROR, "unexpected result %d of updating a locked row of \"%s\"",
			 (int) result, RelationGetRelationName(table->relation));
	return is_hot;
}

bool
row_try_update(RowTable *table, ItemPointer tid, bool *is_hot)
{
	return row_update_version(table, tid, false, is_hot) == TM_Ok;
}

void
row_delete(RowTable *table, ItemPointer tid)
{
	ItemPointerData target = *tid;
	TM_FailureData failure;
	TM_Result	result;

	Assert(table->is_open);
	result = table_tuple_delete(table->relation, &target, GetCurrentCommandId(true),
								InvalidSnapshot, InvalidSnapshot, true, &failure, false);
	if (result != TM_Ok)
		elog(ERROR, "unexpected result %d of deleting a locked row of \"%s\"",
			 (int) result, RelationGetRelationName(table->relation));
}
