/*
 * delivery/subscription_read.c
 *	  Reads failsafe.subscription for those who deliver.
 *
 * Invariants:
 *	B1	A subscription that is read is complete and valid: what its definition may say
 *		was checked when it was made, its policy is checked again.
 *	B2	What is read belongs to the caller's memory context; nothing is remembered.
 *
 * Takes no locks but those of the statements.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "delivery/statement.h"
#include "delivery/subscription.h"

const char *const subscription_state_names[] = {
	[SUBSCRIPTION_ACTIVE] = "active",
	[SUBSCRIPTION_PAUSED] = "paused",
	[SUBSCRIPTION_DISABLED] = "disabled"
};

/* ---------- lists of texts ---------- */

void
text_list_from_array(ArrayType *array, TextList *list)
{
	Datum	   *values;
	bool	   *nulls;

	Assert(array != NULL && ARR_ELEMTYPE(array) == TEXTOID);
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, &list->count);
	list->items = palloc(Max(list->count, 1) * sizeof(char *));
	for (int i = 0; i < list->count; i++)
		list->items[i] = nulls[i] ? NULL : TextDatumGetCString(values[i]);
}

ArrayType *
text_list_to_array(const TextList *list)
{
	Datum	   *values = palloc(Max(list->count, 1) * sizeof(Datum));

	for (int i = 0; i < list->count; i++)
	{
		Assert(list->items[i] != NULL);
		values[i] = CStringGetTextDatum(list->items[i]);
	}
	return construct_array(values, list->count, TEXTOID, -1, false, TYPALIGN_INT);
}

bool
text_list_equal(const TextList *a, const TextList *b)
{
	if (a->count != b->count)
		return false;
	for (int i = 0; i < a->count; i++)
		if (strcmp(a->items[i], b->items[i]) != 0)
			return false;
	return true;
}

/* ---------- subscriptions ---------- */

enum
{
	READ_ID,						/* columns of read_statement */
	READ_GENERATION,
	READ_TENANT_ID,
	READ_STATE,
	READ_NAME,
	READ_SINK,
	READ_CONFIG,
	READ_ORDERING,
	READ_ON_BLOCKED,
	READ_EVENT_TYPES,
	READ_ALL_TENANTS,
	READ_TENANT_IDS,
	READ_REGIONS,
	READ_POLICY
};

static Statement read_statement = {
	"SELECT s.id, s.generation, s.tenant_id, s.state, s.name, s.sink, s.config::pg_catalog.text, "
	"s.ordering, s.on_blocked, s.event_types::pg_catalog.text[], "
	"COALESCE('*' = ANY (s.tenants), false), "
	"CASE WHEN s.tenants IS NOT NULL THEN COALESCE((SELECT pg_catalog.array_agg(t.id ORDER BY t.id) "
	"FROM failsafe.tenant AS t WHERE t.name = ANY (s.tenants)), '{0}') END, "
	"s.regions, s.policy "
	"FROM failsafe.subscription AS s WHERE $1 = 0 OR s.id = $1 ORDER BY s.id",
	1, {INT8OID}
};

static SubscriptionState
state_from_name(const char *name)
{
	for (int i = SUBSCRIPTION_ACTIVE; i <= SUBSCRIPTION_DISABLED; i++)
		if (strcmp(subscription_state_names[i], name) == 0)
			return (SubscriptionState) i;
	elog(ERROR, "a subscription has the unknown state \"%s\"", name);
}

static void
read_lists(Subscription *subscription, int row)
{
	bool		isnull;
	TextList	list;
	Datum		value = column_datum(row, READ_EVENT_TYPES, &isnull);

	Assert(!isnull);
	text_list_from_array(DatumGetArrayTypeP(value), &list);
	subscription->pattern_count = list.count;
	subscription->patterns = list.items;
	value = column_datum(row, READ_REGIONS, &isnull);
	if (!isnull)
	{
		text_list_from_array(DatumGetArrayTypeP(value), &list);
		subscription->region_count = list.count;
		subscription->regions = list.items;
	}
	value = column_datum(row, READ_TENANT_IDS, &isnull);
	if (!isnull)
	{
		ArrayType  *array = DatumGetArrayTypePCopy(value);

		Assert(ARR_ELEMTYPE(array) == INT4OID && !ARR_HASNULL(array));
		subscription->tenant_count = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
		subscription->tenants = (int32 *) ARR_DATA_PTR(array);
	}
}

/* One row of SPI_tuptable, all of it in the current context. */
static void
read_row(Subscription *subscription, int row)
{
	bool		isnull;

	memset(subscription, 0, sizeof(*subscription));
	subscription->id = column_int64(row, READ_ID);
	subscription->generation = column_int64(row, READ_GENERATION);
	subscription->tenant_id = column_int32(row, READ_TENANT_ID);
	subscription->state = state_from_name(column_text(row, READ_STATE));
	subscription->name = column_text(row, READ_NAME);
	subscription->sink = column_text(row, READ_SINK);
	subscription->config = column_text(row, READ_CONFIG);
	subscription->ordered = strcmp(column_text(row, READ_ORDERING), "key") == 0;
	subscription->block = strcmp(column_text(row, READ_ON_BLOCKED), "block") == 0;
	subscription->all_tenants = column_bool(row, READ_ALL_TENANTS);
	read_lists(subscription, row);
	policy_read(DatumGetJsonbP(column_datum(row, READ_POLICY, &isnull)), &subscription->policy);
	Assert(subscription->id > 0 && subscription->tenant_id > 0);
}

Subscription *
subscriptions_read(int64 id, int *count)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext inside;
	Subscription *subscriptions;
	Arguments	arguments = {0};
	StatementScope scope;

	Assert(id >= 0 && count != NULL);
	scope = statement_begin(false);
	argument_int64(&arguments, id);
	*count = (int) statement_read(&read_statement, &arguments);
	inside = MemoryContextSwitchTo(caller);
	subscriptions = palloc(Max(*count, 1) * sizeof(Subscription));
	for (int row = 0; row < *count; row++)
		read_row(&subscriptions[row], row);
	MemoryContextSwitchTo(inside);
	statement_end(scope);
	return subscriptions;
}
