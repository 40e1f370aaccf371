/*
 * delivery/definition.c
 *	  What a caller says a subscription should be: read from arguments and options,
 *	  checked, and compared with what there is.
 *
 * Invariants:
 *	F1	A definition that was checked can be written as it is; nothing of it was ignored.
 *	F2	Who names another tenant, or changes a subscription that hears one, is a member
 *		of failsafe_operator (the role that SET ROLE chose counts, not the owner of the
 *		SQL function around us).
 *	F3	Tenants and regions are sorted and without repeats: equal sets are equal lists.
 *
 * Takes AccessShareLock on failsafe.tenant and the outbox for look-ups.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/json.h"

#include "base/errors.h"
#include "base/json.h"
#include "base/options.h"
#include "base/tenant.h"
#include "base/text.h"
#include "delivery/statement.h"
#include "delivery/subscription.h"

#define OPTION_TEXT_BYTES_MAX	63
#define OPERATOR_ROLE			"failsafe_operator"

/* The options that are no part of the policy. */
static const char *const own_options[] = {"tenants", "regions", "on_blocked", "start"};

/* ---------- rights ---------- */

static bool
caller_is_operator(void)
{
	Oid			operator_id = get_role_oid(OPERATOR_ROLE, true);

	return OidIsValid(operator_id) && has_privs_of_role(GetOuterUserId(), operator_id);
}

static bool
hears_others(const TextList *tenants)
{
	for (int i = 0; i < tenants->count; i++)
		if (strcmp(tenants->items[i], tenant_current_name()) != 0)
			return true;
	return false;
}

void
definition_check_rights(const Definition *definition)
{
	Assert(definition->name != NULL);
	if (!hears_others(&definition->tenants) || caller_is_operator())
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("subscription \"%s\" hears other tenants", definition->name),
			 errdetail("Only members of %s may change it.", OPERATOR_ROLE),
			 errhint("Ask an operator, or create a subscription for this tenant alone.")));
}

/* ---------- options ---------- */

/* The member, or NULL where it is absent or null. */
static JsonbValue *
option_get(Jsonb *options, const char *name)
{
	JsonbValue *value = getKeyJsonValueFromContainer(&options->root, name, strlen(name), NULL);

	return value == NULL || value->type == jbvNull ? NULL : value;
}

static char *
option_string(const char *name, const JsonbValue *value)
{
	if (value->type != jbvString)
		option_refuse(name, "a string is expected");
	return pnstrdup(value->val.string.val, value->val.string.len);
}

static int
compare_texts(const void *a, const void *b)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* Sort, and drop repeats [F3]. */
static void
text_list_normalize(TextList *list)
{
	int			kept = 0;

	qsort(list->items, list->count, sizeof(char *), compare_texts);
	for (int i = 0; i < list->count; i++)
		if (kept == 0 || strcmp(list->items[kept - 1], list->items[i]) != 0)
			list->items[kept++] = list->items[i];
	list->count = kept;
}

/* Replace the list by the option, if it is given; an empty array empties it. */
static bool
option_texts(Jsonb *options, const char *name, int max_count, TextList *list)
{
	JsonbValue *value = option_get(options, name);
	JsonbContainer *array;

	if (value == NULL)
		return false;
	if (value->type != jbvBinary || !JsonContainerIsArray(value->val.binary.data))
		option_refuse(name, "an array of strings is expected");
	array = value->val.binary.data;
	if (JsonContainerSize(array) > max_count)
		option_refuse(name, psprintf("at most %d elements are allowed", max_count));
	list->count = (int) JsonContainerSize(array);
	list->items = palloc(Max(list->count, 1) * sizeof(char *));
	for (int i = 0; i < list->count; i++)
	{
		char	   *text = option_string(name, getIthJsonbValueFromContainer(array, i));

		if (!text_is_clean(text, 1, OPTION_TEXT_BYTES_MAX))
			option_refuse(name, "expected are names of 1 to 63 bytes without control characters");
		list->items[i] = text;
	}
	text_list_normalize(list);
	return true;
}

static Statement tenant_statement = {
	"SELECT count(*) FROM failsafe.tenant AS t WHERE t.name = ANY ($1)", 1, {TEXTARRAYOID}
};

/* Each of them exists, and the caller may hear it [F2]. */
static void
tenants_check(TextList *tenants)
{
	Arguments	arguments = {0};
	StatementScope scope;
	int64		found;

	if (tenants->count == 0 || !hears_others(tenants))
		return;
	if (!caller_is_operator())
		option_refuse("tenants", "only members of " OPERATOR_ROLE " may name other tenants");
	for (int i = 0; i < tenants->count; i++)
		if (strcmp(tenants->items[i], "*") == 0)
		{
			tenants->items[0] = "*";
			tenants->count = 1;
			return;
		}
	argument_datum(&arguments, PointerGetDatum(text_list_to_array(tenants)), false);
	scope = statement_begin(false);
	(void) statement_read(&tenant_statement, &arguments);
	found = column_int64(0, 0);
	statement_end(scope);
	if (found != tenants->count)
		option_refuse("tenants", "a tenant of this name does not exist");
}

void
definition_start(const char *text, const char **start, TimestampTz *start_at)
{
	*start_at = 0;
	*start = text;
	if (strcmp(text, "now") == 0 || strcmp(text, "beginning") == 0)
		return;
	*start = "time";
	if (!json_time_from_text(text, start_at))
		option_refuse("start", "now, beginning, or a date and time with a time zone is expected");
	if (*start_at > GetCurrentTimestamp())
		option_refuse("start", "the time is in the future");
}

static void
option_on_blocked(const JsonbValue *value, Definition *definition)
{
	char	   *text = option_string("on_blocked", value);

	if (strcmp(text, "block") != 0 && strcmp(text, "skip") != 0)
		option_refuse("on_blocked", "block or skip is expected");
	definition->on_blocked = text;
}

void
definition_options(Jsonb *options, bool is_new, Definition *definition)
{
	Datum		rest = JsonbPGetDatum(options);
	JsonbValue *value;

	if (options == NULL)
		return;
	if (!JB_ROOT_IS_OBJECT(options))
		option_refuse("options", "an object is expected");
	if (option_texts(options, "tenants", TENANTS_MAX, &definition->tenants))
		tenants_check(&definition->tenants);
	(void) option_texts(options, "regions", REGIONS_MAX, &definition->regions);
	if ((value = option_get(options, "on_blocked")) != NULL)
		option_on_blocked(value, definition);
	if ((value = option_get(options, "start")) != NULL)
	{
		if (!is_new)
			option_refuse("start", "a subscription is moved by subscription_rewind()");
		definition_start(option_string("start", value), &definition->start,
						 &definition->start_at);
	}
	for (int i = 0; i < lengthof(own_options); i++)
		rest = DirectFunctionCall2(jsonb_delete, rest, CStringGetTextDatum(own_options[i]));
	policy_change(DatumGetJsonbP(rest), &definition->policy);
}

/* ---------- checks and comparison ---------- */

void
definition_check(const Definition *definition)
{
	Assert(definition->sink != NULL && definition->ordering != NULL);
	sink_check(definition->sink);
	config_check(definition->sink, definition->config);
	event_patterns_check(&definition->event_types);
	if (strcmp(definition->ordering, "key") != 0 && strcmp(definition->ordering, "none") != 0)
		error_raise_field(FAILSAFE_SUBSCRIPTION_INVALID, "ordering", "key or none is expected");
}

static bool
jsonb_equal(Jsonb *a, Jsonb *b)
{
	return compareJsonbContainers(&a->root, &b->root) == 0;
}

static bool
policies_equal(const Policy *a, const Policy *b)
{
	return jsonb_equal(policy_to_jsonb(a), policy_to_jsonb(b));
}

const char *
definition_conflict(const Definition *a, const Definition *b)
{
	Assert(strcmp(a->name, b->name) == 0);
	if (strcmp(a->sink, b->sink) != 0)
		return "sink";
	if (!jsonb_equal(a->config, b->config))
		return "config";
	if (!text_list_equal(&a->event_types, &b->event_types))
		return "event_types";
	if (strcmp(a->ordering, b->ordering) != 0)
		return "ordering";
	if (strcmp(a->on_blocked, b->on_blocked) != 0)
		return "on_blocked";
	if (!text_list_equal(&a->tenants, &b->tenants))
		return "tenants";
	if (!text_list_equal(&a->regions, &b->regions))
		return "regions";
	return policies_equal(&a->policy, &b->policy) ? NULL : "policy";
}

static char *
jsonb_text(Jsonb *json)
{
	return JsonbToCString(NULL, &json->root, VARSIZE(json));
}

/* A list as a JSON array; what is in it was checked, but escapes cost nothing. */
static void
member_list(StringInfo out, const char *name, const TextList *list)
{
	StringInfoData array;

	initStringInfo(&array);
	appendStringInfoChar(&array, '[');
	for (int i = 0; i < list->count; i++)
	{
		if (i > 0)
			appendStringInfoChar(&array, ',');
		escape_json(&array, list->items[i]);
	}
	appendStringInfoChar(&array, ']');
	json_member_raw(out, name, array.data);
}

char *
definition_difference(const Definition *from, const Definition *to)
{
	StringInfoData out;

	Assert(from->id == to->id);
	initStringInfo(&out);
	appendStringInfoChar(&out, '{');
	if (!jsonb_equal(from->config, to->config))
		json_member_raw(&out, "config", jsonb_text(config_shown(to->config)));
	if (!text_list_equal(&from->event_types, &to->event_types))
		member_list(&out, "event_types", &to->event_types);
	if (strcmp(from->on_blocked, to->on_blocked) != 0)
		json_member_text(&out, "on_blocked", to->on_blocked);
	if (!text_list_equal(&from->tenants, &to->tenants))
		member_list(&out, "tenants", &to->tenants);
	if (!text_list_equal(&from->regions, &to->regions))
		member_list(&out, "regions", &to->regions);
	if (!policies_equal(&from->policy, &to->policy))
		json_member_raw(&out, "policy", jsonb_text(policy_to_jsonb(&to->policy)));
	appendStringInfoChar(&out, '}');
	return out.len > 2 ? out.data : NULL;
}

/* ---------- notices ---------- */

/* Of the last events of each lane, so that it costs the same in a full outbox. */
static Statement recent_types_statement = {
	"SELECT DISTINCT recent.event_type FROM pg_catalog.generate_series(0, 3) AS lane "
	"CROSS JOIN LATERAL (SELECT o.event_type, o.tenant_id FROM failsafe.outbox AS o "
	"WHERE o.slot BETWEEN lane * 16 AND lane * 16 + 15 ORDER BY o.seq DESC LIMIT 1000) AS recent "
	"WHERE recent.tenant_id = $1",
	1, {INT4OID}
};

void
definition_notices(const Definition *definition)
{
	Arguments	arguments = {0};
	StatementScope scope;
	int			types;

	argument_int32(&arguments, tenant_current());
	scope = statement_begin(false);
	types = (int) statement_read(&recent_types_statement, &arguments);
	for (int i = 0; i < definition->event_types.count; i++)
	{
		const char *pattern = definition->event_types.items[i];
		bool		known = pattern[0] == '!' || event_pattern_fits_builtin(pattern);

		for (int row = 0; row < types && !known; row++)
			known = event_pattern_fits(pattern, column_text(row, 0));
		if (!known)
			ereport(NOTICE,
					(errmsg("pattern \"%s\" fits no event type that is known here", pattern),
					 errdetail("Known are the types of the extension, and those of the last events of this tenant.")));
	}
	statement_end(scope);
}
