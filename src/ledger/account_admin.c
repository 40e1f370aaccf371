/*
 * ledger/account_admin.c
 *	  The SQL functions about accounts: open, freeze, unfreeze, close, limits,
 *	  balance.
 *
 * Each change locks the account's balance, writes the new status or limits, an
 * append-only row in failsafe.account_change, and an event account.<change>.
 * What already is so is answered and changes nothing.
 *
 * The freeze of a system account is not serialised with postings in flight,
 * because nothing locks its balance; it holds for every command that begins
 * after its commit.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/value.h"
#include "parser/parse_func.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "base/commit.h"
#include "base/currency.h"
#include "base/json.h"
#include "base/options.h"
#include "base/row.h"
#include "base/settings.h"
#include "base/tenant.h"
#include "base/text.h"
#include "base/version.h"
#include "ledger/apply.h"
#include "ledger/snapshot.h"
#include "ledger/surface.h"
#include "outbox/outbox.h"

PG_FUNCTION_INFO_V1(failsafe_account_open);
PG_FUNCTION_INFO_V1(failsafe_account_freeze);
PG_FUNCTION_INFO_V1(failsafe_account_unfreeze);
PG_FUNCTION_INFO_V1(failsafe_account_close);
PG_FUNCTION_INFO_V1(failsafe_account_set_limits);
PG_FUNCTION_INFO_V1(failsafe_account_balance);

#define ACCOUNT_INFO_COLUMNS	8
#define ACCOUNT_BALANCE_COLUMNS	5

/* ---------- arguments ---------- */

/* What every function about an account begins with. */
static void
admin_begin(const char *function, bool writes)
{
	if (writes)
	{
		PreventCommandIfReadOnly(function);
		PreventCommandDuringRecovery(function);
	}
	version_check();
	account_cache_pin();
}

/* Refuse with the account and, where one differs, the field in DETAIL. */
static void
admin_refuse(FailsafeCode code, const char *field, const char *account)
{
	StringInfoData detail;

	error_detail_begin(&detail, code);
	error_detail_text(&detail, "account", account);
	error_detail_text(&detail, "field", field);
	error_detail_end(&detail);
	error_raise(code, field != NULL ? field : psprintf("\"%s\"", account), detail.data);
}

static const char *
required_text(FunctionCallInfo fcinfo, int number, const char *name, int max_bytes)
{
	char	   *value = argument_text(fcinfo, number);

	if (value == NULL)
		error_raise_field(FAILSAFE_VALUE_REQUIRED, name, NULL);
	if (!text_is_clean(value, 1, max_bytes))
		error_raise_field(FAILSAFE_TEXT_INVALID, name, NULL);
	return value;
}

static Account *
required_account(FunctionCallInfo fcinfo, int number)
{
	char	   *code = argument_text(fcinfo, number);
	Account    *account;

	if (code == NULL)
		error_raise_field(FAILSAFE_VALUE_REQUIRED, "code", NULL);
	if (account_code_validate(code) != FAILSAFE_OK)
		error_raise_field(FAILSAFE_ACCOUNT_CODE_INVALID, "code", NULL);
	account = account_find(tenant_current(), code);
	if (account == NULL)
		admin_refuse(FAILSAFE_ACCOUNT_UNKNOWN, NULL, code);
	return account;
}

/* A limit: a whole number, or the infinity that means none. */
static void
limit_from_numeric(Numeric value, const char *name, int infinity_means_none,
				   bool *given, int128 *minor)
{
	*minor = 0;
	*given = false;
	if (money_numeric_infinity(value) == infinity_means_none)
		return;
	if (money_from_numeric(value, minor) != MONEY_OK)
		error_raise_field(FAILSAFE_LIMIT_INVALID, name,
						  DatumGetCString(DirectFunctionCall1(numeric_out,
															  NumericGetDatum(value))));
	*given = true;
}

static void
limits_check(const Balance *balance)
{
	if (balance->has_floor && balance->has_ceiling &&
		balance->floor_minor > balance->ceiling_minor)
		error_raise_field(FAILSAFE_LIMIT_INVALID, "floor", "above the ceiling");
}

/* ---------- results and events ---------- */

/* account_info: code, currency, kind, status, floor, ceiling, created, metadata */
static Datum
account_info(const Balance *balance, bool created)
{
	const Account *account = balance->account;
	Datum		values[ACCOUNT_INFO_COLUMNS];
	bool		isnull[ACCOUNT_INFO_COLUMNS] = {false};
	TupleDesc	descriptor = surface_descriptor("account_info");
	HeapTuple	tuple;

	values[0] = CStringGetTextDatum(account->code);
	values[1] = CStringGetTextDatum(account->currency);
	values[2] = CStringGetTextDatum(account->is_system ? "system" : "wallet");
	values[3] = CStringGetTextDatum(account_status_names[balance->status]);
	isnull[4] = !balance->has_floor;
	if (balance->has_floor)
		values[4] = NumericGetDatum(money_to_numeric(balance->floor_minor));
	isnull[5] = !balance->has_ceiling;
	if (balance->has_ceiling)
		values[5] = NumericGetDatum(money_to_numeric(balance->ceiling_minor));
	values[6] = BoolGetDatum(created);
	values[7] = account_metadata(account->id);
	tuple = heap_form_tuple(descriptor, values, isnull);
	ReleaseTupleDesc(descriptor);
	return HeapTupleGetDatum(tuple);
}

static void
account_event(const Balance *balance, const char *change, const char *reason)
{
	OutboxEvent event = {.priority = OUTBOX_PRIORITY_MONEY};
	const Account *account = balance->account;
	StringInfoData payload;

	event.event_type = psprintf("account.%s", change);
	if (!settings_event_type_enabled(event.event_type))
		return;
	initStringInfo(&payload);
	appendStringInfoChar(&payload, '{');
	json_member_text(&payload, "account_id", account->code);
	json_member_text(&payload, "currency", account->currency);
	json_member_text(&payload, "kind", account->is_system ? "system" : "wallet");
	json_member_text(&payload, "account_status", account_status_names[balance->status]);
	if (balance->has_floor)
		json_member_money(&payload, "floor", balance->floor_minor, account->exponent);
	if (balance->has_ceiling)
		json_member_money(&payload, "ceiling", balance->ceiling_minor, account->exponent);
	json_member_text(&payload, "reason", reason);
	appendStringInfoChar(&payload, '}');
	event.tenant_id = account->tenant_id;
	event.order_key = account->code;
	event.payload = payload.data;
	event.payload_length = payload.len;
	event.region = setting_region[0] != '\0' ? setting_region : NULL;
	event.trace_id = setting_trace_id[0] != '\0' ? setting_trace_id : NULL;
	event.traceparent = setting_traceparent[0] != '\0' ? setting_traceparent : NULL;
	event.occurred_at = GetCurrentTimestamp();
	outbox_append(&event, 1);
}

/* ---------- open ---------- */

static void
open_limits(FunctionCallInfo fcinfo, bool is_system, Balance *balance)
{
	if (!PG_ARGISNULL(3))
		limit_from_numeric(PG_GETARG_NUMERIC(3), "floor", -1,
						   &balance->has_floor, &balance->floor_minor);
	if (!PG_ARGISNULL(4))
		limit_from_numeric(PG_GETARG_NUMERIC(4), "ceiling", 1,
						   &balance->has_ceiling, &balance->ceiling_minor);
	limits_check(balance);
	if (!is_system)
		return;

	/* the default floor of 0 means nothing to a system account */
	if (balance->has_ceiling || (balance->has_floor && balance->floor_minor != 0))
		error_raise_field(FAILSAFE_ACCOUNT_KIND, "floor", NULL);
	balance->has_floor = false;
}

static bool
open_is_system(FunctionCallInfo fcinfo)
{
	char	   *kind = argument_text(fcinfo, 2);

	if (kind == NULL || strcmp(kind, "wallet") == 0)
		return false;
	if (strcmp(kind, "system") != 0)
		error_raise_field(FAILSAFE_COMMAND_INVALID, "kind", kind);
	return true;
}

static Datum
open_metadata(FunctionCallInfo fcinfo)
{
	Jsonb	   *metadata = argument_jsonb(fcinfo, 5);

	if (metadata == NULL)
		return DirectFunctionCall1(jsonb_in, CStringGetDatum("{}"));
	if (!JB_ROOT_IS_OBJECT(metadata))
		error_raise_field(FAILSAFE_TEXT_INVALID, "metadata", "no object");
	if (VARSIZE_ANY_EXHDR(metadata) > METADATA_BYTES_MAX)
		error_raise_field(FAILSAFE_PAYLOAD_TOO_LARGE, "metadata", NULL);
	return JsonbPGetDatum(metadata);
}

/* The account existed: is it the same one?  Its first limits count, not today's. */
static void
open_compare(const Account *account, const char *currency, bool is_system,
			 const Balance *asked)
{
	Balance		opened = {.account = unconstify(Account *, account)};
	const char *field = NULL;

	if (strcmp(account->currency, currency) != 0)
		field = "currency";
	else if (account->is_system != is_system)
		field = "kind";
	else
	{
		account_change_read_opened(&opened);
		if (opened.has_floor != asked->has_floor || opened.floor_minor != asked->floor_minor)
			field = "floor";
		else if (opened.has_ceiling != asked->has_ceiling ||
				 opened.ceiling_minor != asked->ceiling_minor)
			field = "ceiling";
	}
	if (field != NULL)
		admin_refuse(FAILSAFE_ACCOUNT_CONFLICT, field, account->code);
}

/* account_open(code, currency, kind, floor, ceiling, metadata, options) */
Datum
failsafe_account_open(PG_FUNCTION_ARGS)
{
	Balance		balance = {0};
	Balance		current;
	bool		is_system = open_is_system(fcinfo);
	char	   *code = argument_text(fcinfo, 0);
	char	   *currency = argument_text(fcinfo, 1);
	Datum		metadata = open_metadata(fcinfo);
	int			exponent;
	bool		created;

	admin_begin("account_open", true);
	options_read(argument_jsonb(fcinfo, 6), NULL, 0, NULL);
	if (code == NULL)
		error_raise_field(FAILSAFE_VALUE_REQUIRED, "code", NULL);
	if (currency == NULL)
		error_raise_field(FAILSAFE_VALUE_REQUIRED, "currency", NULL);
	if (strlen(currency) > CURRENCY_BYTES_MAX || !currency_exponent(currency, &exponent))
		error_raise_field(FAILSAFE_CURRENCY_UNKNOWN, "currency", currency);
	if (account_code_validate(code) != FAILSAFE_OK)
		error_raise_field(FAILSAFE_ACCOUNT_CODE_INVALID, "code", NULL);
	if (account_code_is_world(code))
		admin_refuse(FAILSAFE_ACCOUNT_RESERVED, NULL, code);
	open_limits(fcinfo, is_system, &balance);

	balance.account = account_find(tenant_current(), code);
	created = balance.account == NULL;
	if (created)
		balance.account = account_insert(tenant_current(), code, currency, is_system,
										 metadata, &created);
	if (created)
	{
		balance_insert(&balance);
		account_change_insert(&balance, "opened", NULL);
		account_event(&balance, "opened", NULL);
		commit_write_end();
		PG_RETURN_DATUM(account_info(&balance, true));
	}
	if (commit_is_writing())
		commit_write_end();
	open_compare(balance.account, currency, is_system, &balance);
	if (!balance_read(balance.account, &current))
		elog(ERROR, "balance of account \"%s\" is missing", code);
	commit_wait_durable(current.xmin);
	PG_RETURN_DATUM(account_info(&current, false));
}

/* ---------- change ---------- */

/* Lock the account's balance, whatever its kind. */
static void
change_lock(Balance *balance)
{
	Balance    *balances[1] = {balance};

	commit_write_begin();
	if (balance->account->is_system)
		balance_lock_system(balance);
	else
		balances_lock(balances, 1);
}

static void
change_write(Balance *balance, const char *change, const char *reason)
{
	Balance    *balances[1] = {balance};

	Assert(commit_is_writing());
	balance->changed = true;
	if (balance->account->is_system)
	{
		balance_write_system(balance);
		CacheInvalidateRelcacheByRelid(row_relation_id("account"));	/* A2 */
	}
	else
		balances_write(balances, 1);
	account_change_insert(balance, change, reason);
	account_event(balance, change, reason);
}

/* Change the status under the lock; a closed account stays closed. */
static Datum
change_status(Account *account, AccountStatus status, const char *change, const char *reason)
{
	Balance		balance = {.account = account};

	change_lock(&balance);
	if (balance.status == ACCOUNT_STATUS_CLOSED && status != ACCOUNT_STATUS_CLOSED)
		admin_refuse(FAILSAFE_ACCOUNT_CLOSED, NULL, account->code);
	if (status == ACCOUNT_STATUS_CLOSED && balance.status != ACCOUNT_STATUS_CLOSED &&
		(balance.posted_minor != 0 || balance.held_minor != 0))
		admin_refuse(FAILSAFE_ACCOUNT_NOT_EMPTY, NULL, account->code);
	if (balance.status != status)
	{
		balance.status = status;
		change_write(&balance, change, reason);
	}
	commit_write_end();
	return account_info(&balance, false);
}

/* account_freeze(code, reason, scope, options) */
Datum
failsafe_account_freeze(PG_FUNCTION_ARGS)
{
	const char *reason = required_text(fcinfo, 1, "reason", REASON_BYTES_MAX);
	const char *scope = argument_text(fcinfo, 2);
	AccountStatus status = ACCOUNT_STATUS_FROZEN_OUT;

	admin_begin("account_freeze", true);
	options_read(argument_jsonb(fcinfo, 3), NULL, 0, NULL);
	if (scope != NULL && strcmp(scope, "all") == 0)
		status = ACCOUNT_STATUS_FROZEN_ALL;
	else if (scope != NULL && strcmp(scope, "out") != 0)
		error_raise_field(FAILSAFE_COMMAND_INVALID, "scope", scope);
	PG_RETURN_DATUM(change_status(required_account(fcinfo, 0), status, "frozen", reason));
}

/* account_unfreeze(code, reason, options) */
Datum
failsafe_account_unfreeze(PG_FUNCTION_ARGS)
{
	const char *reason = required_text(fcinfo, 1, "reason", REASON_BYTES_MAX);

	admin_begin("account_unfreeze", true);
	options_read(argument_jsonb(fcinfo, 2), NULL, 0, NULL);
	PG_RETURN_DATUM(change_status(required_account(fcinfo, 0), ACCOUNT_STATUS_OPEN,
								  "unfrozen", reason));
}

/* account_close(code, reason, options) */
Datum
failsafe_account_close(PG_FUNCTION_ARGS)
{
	const char *reason = required_text(fcinfo, 1, "reason", REASON_BYTES_MAX);
	Account    *account;

	admin_begin("account_close", true);
	options_read(argument_jsonb(fcinfo, 2), NULL, 0, NULL);
	account = required_account(fcinfo, 0);
	if (account->is_system)
		admin_refuse(FAILSAFE_ACCOUNT_KIND, NULL, account->code);
	(void) ledger_expire_account(account->id);
	PG_RETURN_DATUM(change_status(account, ACCOUNT_STATUS_CLOSED, "closed", reason));
}

/* account_set_limits(code, floor, ceiling, reason, options): NULL leaves a limit */
Datum
failsafe_account_set_limits(PG_FUNCTION_ARGS)
{
	const char *reason = required_text(fcinfo, 3, "reason", REASON_BYTES_MAX);
	Balance		balance = {0};
	Balance		before;

	admin_begin("account_set_limits", true);
	options_read(argument_jsonb(fcinfo, 4), NULL, 0, NULL);
	balance.account = required_account(fcinfo, 0);
	if (balance.account->is_system)
		admin_refuse(FAILSAFE_ACCOUNT_KIND, NULL, balance.account->code);
	change_lock(&balance);
	if (balance.status == ACCOUNT_STATUS_CLOSED)
		admin_refuse(FAILSAFE_ACCOUNT_CLOSED, NULL, balance.account->code);
	before = balance;
	if (!PG_ARGISNULL(1))
		limit_from_numeric(PG_GETARG_NUMERIC(1), "floor", -1,
						   &balance.has_floor, &balance.floor_minor);
	if (!PG_ARGISNULL(2))
		limit_from_numeric(PG_GETARG_NUMERIC(2), "ceiling", 1,
						   &balance.has_ceiling, &balance.ceiling_minor);
	limits_check(&balance);
	if (before.has_floor != balance.has_floor || before.floor_minor != balance.floor_minor ||
		before.has_ceiling != balance.has_ceiling ||
		before.ceiling_minor != balance.ceiling_minor)
		change_write(&balance, "limits_changed", reason);
	commit_write_end();
	PG_RETURN_DATUM(account_info(&balance, false));
}

/* ---------- balance ---------- */

/*
 * posted of a system account: its last checkpoint and the entries since.  Called
 * as a function, not by SPI: it runs with its owner's rights, and nobody else has
 * the privilege to call it.
 */
static Datum
system_posted(int64 account_id)
{
	Oid			types[1] = {INT8OID};
	Oid			function_id = LookupFuncName(list_make2(makeString("failsafe"),
														makeString("_system_posted")),
											 1, types, false);
	Snapshot	snapshot = snapshot_fresh();
	Datum		posted;

	Assert(account_id > 0);
	PushActiveSnapshot(snapshot);
	posted = OidFunctionCall1(function_id, Int64GetDatum(account_id));
	PopActiveSnapshot();
	UnregisterSnapshot(snapshot);
	return posted;
}

/* account_balance(code, options): currency, posted, held, available, version */
Datum
failsafe_account_balance(PG_FUNCTION_ARGS)
{
	Datum		values[ACCOUNT_BALANCE_COLUMNS] = {0};
	bool		isnull[ACCOUNT_BALANCE_COLUMNS] = {false};
	Account    *account;
	Balance		balance;
	TupleDesc	descriptor;
	HeapTuple	tuple;
	Snapshot	snapshot;
	int128		available;

	admin_begin("account_balance", false);
	options_read(argument_jsonb(fcinfo, 1), NULL, 0, NULL);
	account = required_account(fcinfo, 0);
	if (!balance_read(account, &balance))
		elog(ERROR, "balance of account \"%s\" is missing", account->code);
	commit_wait_durable(balance.xmin);
	if (balance.next_hold_expiry != 0 && balance.next_hold_expiry <= GetCurrentTimestamp())
	{
		snapshot = snapshot_fresh();
		balance.held_minor -= hold_sum_due(account->id, GetCurrentTimestamp(), snapshot);
		UnregisterSnapshot(snapshot);
	}
	values[0] = CStringGetTextDatum(account->currency);
	values[1] = account->is_system ? system_posted(account->id) :
		NumericGetDatum(money_to_numeric(balance.posted_minor));
	values[2] = NumericGetDatum(money_to_numeric(balance.held_minor));
	isnull[3] = account->is_system || !balance_available(&balance, &available);
	if (!isnull[3])
		values[3] = NumericGetDatum(money_to_numeric(available));
	isnull[4] = account->is_system;
	values[4] = Int64GetDatum(balance.version);
	descriptor = surface_descriptor("account_balance_result");
	tuple = heap_form_tuple(descriptor, values, isnull);
	ReleaseTupleDesc(descriptor);
	PG_RETURN_DATUM(HeapTupleGetDatum(tuple));
}
