/*
 * base/row.h
 *	  The row writer: our tables, written and read without the executor, in one
 *	  place.  State is kept across calls and rebuilt after an invalidation.
 *
 * Invariants:
 *	W1	A table is written only while RowExclusiveLock is held on it (taken by
 *		row_open(), kept until the transaction ends, also after row_close()).
 *	W2	Every index of the table is maintained, also one that a user added.
 *	W3	A table that is not as the extension made it (columns, triggers,
 *		constraints, row security) is refused with SCHEMA_ALTERED.
 *	W4	Updates lock first (row_lock) and then update the version they locked, or
 *		replace a version only if it is still current (row_try_update); conflicts
 *		surface as 40001, 40P01 or 55P03, never as XX000 [I11].
 *
 * Access rights are not checked here: the SQL functions are the gate, and they
 * are granted by the one matrix.
 */
#ifndef FAILSAFE_BASE_ROW_H
#define FAILSAFE_BASE_ROW_H

#include "access/htup.h"
#include "access/skey.h"
#include "executor/tuptable.h"
#include "storage/block.h"
#include "storage/itemptr.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

#define ROW_COLUMNS_MAX		32
#define ROW_INDEXES_MAX		16

/* What a table must look like; one static const per table, in its room. */
typedef struct RowColumn
{
	const char *name;
	Oid			type;
} RowColumn;

typedef struct RowTableSpec
{
	const char *name;			/* in schema failsafe */
	int			column_count;
	const RowColumn *columns;
	int			index_count;	/* indexes that C code scans by number */
	const char *const *indexes; /* their names, in schema failsafe */
} RowTableSpec;

typedef struct RowTable RowTable;

/*
 * Open for reading and writing.  The handle is valid until row_close() or the
 * end of the transaction.  A table may be opened once at a time only.
 * row_open_oid() is for leaves that share one spec.
 */
extern RowTable *row_open(const RowTableSpec *spec);
extern RowTable *row_open_read(const RowTableSpec *spec);	/* AccessShareLock */
extern RowTable *row_open_oid(const RowTableSpec *spec, Oid relation_id);
extern void row_close(RowTable *table);
extern Relation row_relation(RowTable *table);

/* The oid of a table or sequence of ours; cached, checked by invalidation. */
extern Oid	row_relation_id(const char *name);

/*
 * Is this, or may it be, the relation of that name?  For relcache callbacks: it
 * looks into the cache only.
 */
extern bool row_relation_is(const char *name, Oid relation_id);

/* The next number of a sequence of ours.  The xid must already be assigned [I4]. */
extern int64 row_sequence_next(const char *sequence);

/* The last number that it gave, 0: none yet; needs a transaction, no snapshot. */
extern int64 row_sequence_last(const char *sequence);

/* An empty virtual slot number i (0 ..) of the table, to be filled and stored. */
extern TupleTableSlot *row_slot(RowTable *table, int i);

/* Mark slot filled (all tts_values / tts_isnull of the columns are set). */
#define row_slot_store(slot)	ExecStoreVirtualTuple(slot)

/* Insert slots 0 .. count-1 in order, with their index entries; slots keep their tid. */
extern void row_insert(RowTable *table, int count);

/* Where row_insert() has put slot i. */
extern ItemPointerData row_inserted_tid(RowTable *table, int i);

/*
 * Scan the index number index_no of the spec with btree keys; call
 * row_scan_next() until it returns NULL, then row_scan_end().  The slot is the
 * table's scan slot: one scan at a time per table.
 */
extern void row_scan_begin(RowTable *table, int index_no, Snapshot snapshot,
						   int key_count, ScanKey keys, bool backward);
extern TupleTableSlot *row_scan_next(RowTable *table);
extern void row_scan_end(RowTable *table);
extern void row_scan_end_keep(RowTable *table); /* the last row stays in row_current() */

/*
 * Lock the row version that tid points to, or its latest version; the locked
 * version is stored in the table's scan slot, and its tid in slot->tts_tid.
 * Waits at most lock_timeout_ms (55P03 afterwards).  Under REPEATABLE READ and
 * SERIALIZABLE a row changed since the snapshot raises 40001.
 * Returns false when the row is gone (deleted, or not visible any more).
 */
extern bool row_lock(RowTable *table, ItemPointer tid, Snapshot snapshot,
					 int lock_timeout_ms);

/* Did the last row_lock() of the table have to wait? */
extern bool row_lock_waited(RowTable *table);

/*
 * Replace the locked version by slot 0 of row_slot(); the slot gets the new tid.
 * True: the root of the chain stays as it was; false: the new version is a root.
 */
extern bool row_update(RowTable *table, ItemPointer tid);

/*
 * Replace a version that is not locked, if it still is the current one and nobody
 * holds it; false otherwise, without waiting and with nothing changed.
 */
extern bool row_try_update(RowTable *table, ItemPointer tid, bool *is_hot);

/* Delete the locked version. */
extern void row_delete(RowTable *table, ItemPointer tid);

/*
 * From the remembered root of a chain of updates (the tid that an index entry has),
 * find the version that the snapshot sees, on that page; checks that column
 * key_column (1 ..) of it equals key.  True: it is in the scan slot
 * (row_current()).  False: look it up by the index.
 */
extern bool row_fetch_root(RowTable *table, ItemPointer root, Snapshot snapshot,
						   int key_column, int64 key);

/* Is the row in a slot the root of its chain? */
extern bool row_is_root(TupleTableSlot *slot);

/* The scan slot: what the last scan step, lock or fetch found. */
extern TupleTableSlot *row_current(RowTable *table);

/*
 * Copies of the rows of one page that the snapshot sees, t_self set to the roots of
 * their chains; tuples[] has room for max >= MaxHeapTuplesPerPage of them.  For
 * warming caches: takes no predicate lock.
 */
extern int	row_read_page(RowTable *table, BlockNumber block, Snapshot snapshot,
						  HeapTuple *tuples, int max);

/* Raw xmin of the version in a slot filled by a scan or a lock. */
extern TransactionId row_xmin(TupleTableSlot *slot);

extern void row_init(void);

#endif							/* FAILSAFE_BASE_ROW_H */
