/*
 * delivery/failure.c
 *	  What a failure means: failsafe.failure_rule, and the class that follows from it.
 *
 * Invariants:
 *	L1	The rule with the lowest position that fits decides; the last builtin one fits
 *		everything.
 *	L2	The rules that are remembered are those of the table: whoever changes it sends a
 *		relcache message, which reaches every backend, and this one at an abort too.
 *	L3	Builtin rules never change by a call, and no other rule takes a place of theirs,
 *		also not one that a later release may use.
 *
 * Takes AccessShareLock on failsafe.failure_rule to read it, RowExclusiveLock to change it.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/actor.h"
#include "base/compat.h"
#include "base/errors.h"
#include "base/options.h"
#include "base/row.h"
#include "base/settings.h"
#include "base/text.h"
#include "base/version.h"
#include "delivery/statement.h"
#include "delivery/subscription.h"

/* Places for rules that are not builtin [L3]: before the builtin ones, and after all
 * of them but the last. */
#define RULE_FIRST_MIN		1
#define RULE_FIRST_MAX		999
#define RULE_LAST_MIN		2000
#define RULE_LAST_MAX		8999
#define RULE_STATUS_MAX		999
#define RULE_PATTERN_BYTES_MAX	100
#define RULE_SINK_ANY		"*"
#define RULES_ROOM			32	/* at first */

const char *const failure_class_names[] = {
	[CLASS_DELIVERED] = "delivered",
	[CLASS_TEMPORARY] = "temporary",
	[CLASS_THROTTLED] = "throttled",
	[CLASS_UNKNOWN] = "unknown",
	[CLASS_PERMANENT] = "permanent",
	[CLASS_GONE] = "gone"
};

StaticAssertDecl(lengthof(failure_class_names) == CLASS_COUNT, "every class has a name");

enum
{
	RULE_POSITION = 1,			/* columns of failsafe.failure_rule */
	RULE_SINK,
	RULE_STATUS_FROM,
	RULE_STATUS_TO,
	RULE_PATTERN,
	RULE_CLASS
};

typedef struct FailureRule
{
	const char *sink;			/* NULL: any */
	bool		has_status;
	int			status_from;
	int			status_to;
	const char *pattern;		/* NULL: any code */
	FailureClass class;
} FailureRule;

/* All rules by position; empty where nothing is remembered. */
static MemoryContext rules_context = NULL;
static FailureRule *rules = NULL;
static int	rule_count = 0;
static bool rules_valid = false;
static Oid	rule_relation_id = InvalidOid;
static bool callback_registered = false;

/* ---------- reading ---------- */

static void
rules_invalidate(Datum arg, Oid relation_id)
{
	if (relation_id == InvalidOid || relation_id == rule_relation_id)
		rules_valid = false;
}

static bool
class_from_name(const char *name, FailureClass *class)
{
	for (int i = CLASS_TEMPORARY; i < CLASS_COUNT; i++)
		if (strcmp(failure_class_names[i], name) == 0)
		{
			*class = (FailureClass) i;
			return true;
		}
	return false;
}

static void
rule_from_tuple(FailureRule *rule, HeapTuple tuple, TupleDesc descriptor)
{
	bool		isnull;
	bool		is_open;
	Datum		value;

	memset(rule, 0, sizeof(*rule));
	rule->sink = TextDatumGetCString(heap_getattr(tuple, RULE_SINK, descriptor, &isnull));
	if (strcmp(rule->sink, RULE_SINK_ANY) == 0)
		rule->sink = NULL;
	rule->status_from = DatumGetInt32(heap_getattr(tuple, RULE_STATUS_FROM, descriptor, &isnull));
	rule->status_to = DatumGetInt32(heap_getattr(tuple, RULE_STATUS_TO, descriptor, &is_open));
	rule->has_status = !isnull && !is_open;
	value = heap_getattr(tuple, RULE_PATTERN, descriptor, &isnull);
	if (!isnull)
		rule->pattern = TextDatumGetCString(value);
	value = heap_getattr(tuple, RULE_CLASS, descriptor, &isnull);
	if (!class_from_name(TextDatumGetCString(value), &rule->class))
		elog(ERROR, "a failure rule has an unknown class");
}

/* Read all rules, in their order; what they hold belongs to rules_context. */
static void
rules_scan(Relation relation)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	Relation	index = index_open(row_relation_id("failure_rule_position"), AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	int			room = RULES_ROOM;

	rules = MemoryContextAlloc(rules_context, room * sizeof(FailureRule));
	rule_count = 0;
	ScanKeyInit(&key, RULE_POSITION, BTGreaterStrategyNumber, F_INT4GT, Int32GetDatum(0));
	scan = systable_beginscan_ordered(relation, index, snapshot, 1, &key);
	while ((tuple = systable_getnext_ordered(scan, ForwardScanDirection)) != NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(rules_context);

		if (rule_count == room)
		{
			room *= 2;
			rules = repalloc(rules, room * sizeof(FailureRule));
		}
		rule_from_tuple(&rules[rule_count++], tuple, RelationGetDescr(relation));
		MemoryContextSwitchTo(caller);
	}
	systable_endscan_ordered(scan);
	index_close(index, AccessShareLock);
	UnregisterSnapshot(snapshot);
}

static void
rules_load(void)
{
	Relation	relation;

	if (!callback_registered)
	{
		CacheRegisterRelcacheCallback(rules_invalidate, (Datum) 0);
		callback_registered = true;
	}
	if (rules_context == NULL)
		rules_context = AllocSetContextCreate(CacheMemoryContext, "pg_failsafe failure rules",
											  ALLOCSET_SMALL_SIZES);
	MemoryContextReset(rules_context);
	rule_relation_id = row_relation_id("failure_rule");
	relation = table_open(rule_relation_id, AccessShareLock);
	/* a message that arrives while we read makes it invalid again */
	rules_valid = true;
	PG_TRY();
	{
		rules_scan(relation);
	}
	PG_CATCH();
	{
		rules_valid = false;
		PG_RE_THROW();
	}
	PG_END_TRY();
	table_close(relation, AccessShareLock);
}

static bool
rule_fits(const FailureRule *rule, const char *sink, int status, text *code)
{
	if (rule->sink != NULL && strcmp(rule->sink, sink) != 0)
		return false;
	if (rule->has_status && (status < rule->status_from || status > rule->status_to))
		return false;
	return rule->pattern == NULL ||
		DatumGetBool(DirectFunctionCall2Coll(textlike, C_COLLATION_OID, PointerGetDatum(code),
											 CStringGetTextDatum(rule->pattern)));
}

FailureClass
failure_classify(const char *sink, int status, const char *code)
{
	text	   *code_text;

	Assert(sink != NULL && code != NULL);
	if (!rules_valid)
		rules_load();
	code_text = cstring_to_text(code);
	for (int i = 0; i < rule_count; i++)
		if (rule_fits(&rules[i], sink, status, code_text))
			return rules[i].class;
	return CLASS_TEMPORARY;
}

PG_FUNCTION_INFO_V1(failsafe_failure_class);

/* _failure_class(sink text, status int, code text) -> text */
Datum
failsafe_failure_class(PG_FUNCTION_ARGS)
{
	FailureClass class = failure_classify(text_to_cstring(PG_GETARG_TEXT_PP(0)),
										  PG_GETARG_INT32(1),
										  text_to_cstring(PG_GETARG_TEXT_PP(2)));

	PG_RETURN_TEXT_P(cstring_to_text(failure_class_names[class]));
}

/* ---------- changing ---------- */

pg_noreturn static void
rule_refuse(const char *field, const char *problem)
{
	error_raise_field(FAILSAFE_FAILURE_RULE_INVALID, field, problem);
}

static char *
required_text(FunctionCallInfo fcinfo, int argument, const char *name)
{
	if (PG_ARGISNULL(argument))
		error_raise_field(FAILSAFE_VALUE_REQUIRED, name, "the argument is NULL");
	return text_to_cstring(PG_GETARG_TEXT_PP(argument));
}

static int32
required_rule(FunctionCallInfo fcinfo)
{
	int32		rule;

	if (PG_ARGISNULL(0))
		error_raise_field(FAILSAFE_VALUE_REQUIRED, "rule", "the argument is NULL");
	rule = PG_GETARG_INT32(0);
	if (!(rule >= RULE_FIRST_MIN && rule <= RULE_FIRST_MAX) &&
		!(rule >= RULE_LAST_MIN && rule <= RULE_LAST_MAX))
		rule_refuse("rule", "1 to 999 (before the builtin rules) or 2000 to 8999 (after them) "
					"is expected");
	return rule;
}

/* Both bounds, or none. */
static void
check_status(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(2) != PG_ARGISNULL(3))
		rule_refuse("status_to", "status_from and status_to go together");
	if (PG_ARGISNULL(2))
		return;
	if (PG_GETARG_INT32(2) < 0 || PG_GETARG_INT32(3) > RULE_STATUS_MAX ||
		PG_GETARG_INT32(2) > PG_GETARG_INT32(3))
		rule_refuse("status_from", "0 <= status_from <= status_to <= 999 is expected");
}

/* An escape character at its end makes a pattern that LIKE refuses. */
static void
check_pattern(const char *pattern)
{
	if (!text_is_clean(pattern, 1, RULE_PATTERN_BYTES_MAX))
		rule_refuse("pattern", "1 to 100 bytes without control characters are expected");
	for (const char *c = pattern; *c != '\0'; c++)
		if (*c == '\\' && *++c == '\0')
			rule_refuse("pattern", "it ends with an escape character");
}

/* All sessions read the rules again [L2]. */
static void
rules_changed(void)
{
	CacheInvalidateRelcacheByRelid(row_relation_id("failure_rule"));
	worker_wake_at_commit();
}

static Statement set_statement = {
	"INSERT INTO failsafe.failure_rule (position, sink, status_from, status_to, pattern, class, "
	"note, actor_id, changed_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, "
	"pg_catalog.clock_timestamp()) ON CONFLICT (position) DO UPDATE SET sink = EXCLUDED.sink, "
	"status_from = EXCLUDED.status_from, status_to = EXCLUDED.status_to, "
	"pattern = EXCLUDED.pattern, class = EXCLUDED.class, note = EXCLUDED.note, "
	"actor_id = EXCLUDED.actor_id, changed_at = EXCLUDED.changed_at",
	8, {INT4OID, TEXTOID, INT4OID, INT4OID, TEXTOID, TEXTOID, TEXTOID, INT8OID}
};

PG_FUNCTION_INFO_V1(failsafe_failure_rule_set);

/* failure_rule_set(rule, sink, status_from, status_to, pattern, class, note, options) */
Datum
failsafe_failure_rule_set(PG_FUNCTION_ARGS)
{
	int32		rule = required_rule(fcinfo);
	char	   *sink = required_text(fcinfo, 1, "sink");
	char	   *class_name = required_text(fcinfo, 5, "class");
	char	   *note = required_text(fcinfo, 6, "note");
	Arguments	arguments = {0};
	StatementScope scope;
	FailureClass class;

	version_check();
	PreventCommandIfReadOnly("failure_rule_set()");
	PreventCommandIfParallelMode("failure_rule_set()");
	options_read(PG_ARGISNULL(7) ? NULL : PG_GETARG_JSONB_P(7), NULL, 0, NULL);
	if (strcmp(sink, RULE_SINK_ANY) != 0)
		sink_check(sink);
	check_status(fcinfo);
	if (!PG_ARGISNULL(4))
		check_pattern(text_to_cstring(PG_GETARG_TEXT_PP(4)));
	if (!class_from_name(class_name, &class))
		rule_refuse("class", "temporary, throttled, unknown, permanent or gone is expected");
	if (!text_is_clean(note, 1, REASON_BYTES_MAX))
		error_raise_field(FAILSAFE_TEXT_INVALID, "note", NULL);

	argument_int32(&arguments, rule);
	argument_cstring(&arguments, sink);
	for (int i = 2; i <= 4; i++)
		argument_datum(&arguments, PG_GETARG_DATUM(i), PG_ARGISNULL(i));
	argument_cstring(&arguments, failure_class_names[class]);
	argument_cstring(&arguments, note);
	argument_int64(&arguments, actor_current());
	scope = statement_begin(true);
	(void) statement_write(&set_statement, &arguments);
	rules_changed();
	statement_end(scope);
	PG_RETURN_VOID();
}

static Statement remove_statement = {
	"DELETE FROM failsafe.failure_rule WHERE position = $1 AND NOT builtin", 1, {INT4OID}
};

PG_FUNCTION_INFO_V1(failsafe_failure_rule_remove);

/* failure_rule_remove(rule, options) -> was there one? */
Datum
failsafe_failure_rule_remove(PG_FUNCTION_ARGS)
{
	int32		rule = required_rule(fcinfo);
	Arguments	arguments = {0};
	StatementScope scope;
	bool		removed;

	version_check();
	PreventCommandIfReadOnly("failure_rule_remove()");
	PreventCommandIfParallelMode("failure_rule_remove()");
	options_read(PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1), NULL, 0, NULL);
	argument_int32(&arguments, rule);
	scope = statement_begin(true);
	removed = statement_write(&remove_statement, &arguments) == 1;
	if (removed)
		rules_changed();
	statement_end(scope);
	PG_RETURN_BOOL(removed);
}
