/*
 * base/compat.h
 *	  Every difference between PostgreSQL 15, 16, 17 and 18 that the extension
 *	  meets.  The rest of the code has no version test.
 */
#ifndef FAILSAFE_BASE_COMPAT_H
#define FAILSAFE_BASE_COMPAT_H

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 190000
#error "pg_failsafe supports PostgreSQL 15 to 18"
#endif

#include "access/genam.h"
#include "access/tableam.h"
#include "nodes/execnodes.h"

/* 16: which indexes an update must touch became a three-valued answer. */
#if PG_VERSION_NUM >= 160000
typedef TU_UpdateIndexes UpdateIndexesCompat;
#define update_indexes_none_compat(u)			((u) == TU_None)
#define update_indexes_summarizing_compat(u)	((u) == TU_Summarizing)
#define index_info_summarizing_compat(info)		((info)->ii_Summarizing)
#else
typedef bool UpdateIndexesCompat;
#define update_indexes_none_compat(u)			(!(u))
#define update_indexes_summarizing_compat(u)	false
#define index_info_summarizing_compat(info)		false
#endif
#define table_tuple_update_compat	table_tuple_update

/* 17: index access methods may keep state between inserts. */
#if PG_VERSION_NUM >= 170000
#define index_insert_cleanup_compat(relation, info)	index_insert_cleanup(relation, info)
#else
#define index_insert_cleanup_compat(relation, info)	((void) 0)
#endif

/* 18: scans carry instrumentation. */
#if PG_VERSION_NUM >= 180000
#define index_beginscan_compat(heap, index, snapshot, keys, orderbys) \
	index_beginscan(heap, index, snapshot, NULL, keys, orderbys)
#else
#define index_beginscan_compat(heap, index, snapshot, keys, orderbys) \
	index_beginscan(heap, index, snapshot, keys, orderbys)
#endif

/* 18: a module tells its name and version. */
#if PG_VERSION_NUM >= 180000
#define PG_MODULE_MAGIC_COMPAT(module_name, module_version) \
	PG_MODULE_MAGIC_EXT(.name = module_name, .version = module_version)
#else
#define PG_MODULE_MAGIC_COMPAT(module_name, module_version) PG_MODULE_MAGIC
#endif

/* 17: a backend's slot number became a macro of its own, and counts from 0. */
#if PG_VERSION_NUM >= 170000
#define backend_number_compat()		(MyProcNumber)
#else
#define backend_number_compat()		(MyProc->pgprocno)
#endif

#endif							/* FAILSAFE_BASE_COMPAT_H */
