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
#include "common/jsonapi.h"
#include "nodes/execnodes.h"

/* 16: variable-length values got a header of their own. */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* 18: the mark of a function that does not return comes first. */
#if PG_VERSION_NUM < 180000
#define pg_noreturn pg_attribute_noreturn()
#endif

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

/* 16: one function tells the owner of any object. */
#if PG_VERSION_NUM >= 160000
#define database_ownercheck_compat(database_id, role_id) \
	object_ownercheck(DatabaseRelationId, database_id, role_id)
#else
#define database_ownercheck_compat(database_id, role_id) \
	pg_database_ownercheck(database_id, role_id)
#endif

/* 17: a set of events to wait for belongs to a resource owner, not to memory; NULL: to none. */
#if PG_VERSION_NUM >= 170000
#define wait_set_create_compat(context, size)	CreateWaitEventSet(NULL, size)
#else
#define wait_set_create_compat(context, size)	CreateWaitEventSet(context, size)
#endif

/*
 * 16: the actions of the JSON parser answer, and an escape that the database's
 * encoding cannot hold is an error code; before, it is raised.
 */
#if PG_VERSION_NUM >= 160000
#define JSON_ACTION_RESULT_COMPAT			JsonParseErrorType
#define json_action_done_compat()			return JSON_SUCCESS
#define JSON_ESCAPES_RAISE_COMPAT			false
#else
#define JSON_ACTION_RESULT_COMPAT			void
#define json_action_done_compat()			return
#define JSON_ESCAPES_RAISE_COMPAT			true
#endif

/* 17: a JSON lexer is made in two ways and has a function that frees it. */
#if PG_VERSION_NUM >= 170000
#define json_lexer_compat(json, length, encoding, need_escapes) \
	makeJsonLexContextCstringLen(NULL, json, length, encoding, need_escapes)
#define json_lexer_free_compat(lexer)		freeJsonLexContext(lexer)
#else
#define json_lexer_compat(json, length, encoding, need_escapes) \
	makeJsonLexContextCstringLen(unconstify(char *, json), length, encoding, need_escapes)
static inline void
json_lexer_free_compat(JsonLexContext *lexer)
{
	if (lexer->strval != NULL)
	{
		pfree(lexer->strval->data);
		pfree(lexer->strval);
	}
	pfree(lexer);
}
#endif

#endif							/* FAILSAFE_BASE_COMPAT_H */
