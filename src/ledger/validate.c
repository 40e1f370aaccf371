/*
 * ledger/validate.c
 *	  What can be said of a command without looking at any row.  Pure: no
 *	  catalog, no table, no lock.
 *
 * The checks run in the documented order (base/error_catalog.h): the form of the
 * command, its key, its amounts, its times, its accounts.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"

#include "base/settings.h"
#include "base/text.h"
#include "ledger/apply.h"

#define CHECK(condition, error, name, text) \
	do { \
		if (!(condition)) \
		{ \
			*field = (name); \
			*value = (text); \
			return (error); \
		} \
	} while (0)

static bool
traceparent_is_valid(const char *text)
{
	/* W3C Trace Context, level 1, 3.2: version-trace_id-parent_id-flags */
	static const int lengths[] = {2, 32, 16, 2};
	int			position = 0;

	for (int part = 0; part < 4; part++)
	{
		bool		all_zero = true;

		for (int i = 0; i < lengths[part]; i++, position++)
		{
			char		c = text[position];

			if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
				return false;
			all_zero = all_zero && c == '0';
		}
		if ((part == 1 || part == 2) && all_zero)
			return false;
		if (text[position] != (part < 3 ? '-' : '\0'))
			return false;
		position++;
	}
	return strncmp(text, "ff", 2) != 0;
}

static FailsafeCode
validate_texts(const LedgerCommand *command, const char **field, const char **value)
{
	CHECK(command->reference == NULL ||
		  text_is_clean(command->reference, 1, REFERENCE_BYTES_MAX),
		  FAILSAFE_TEXT_INVALID, "reference", NULL);
	CHECK(command->reason == NULL || text_is_clean(command->reason, 1, REASON_BYTES_MAX),
		  FAILSAFE_TEXT_INVALID, "reason", NULL);
	CHECK(command->trace_id == NULL ||
		  text_is_clean(command->trace_id, 1, TRACE_ID_BYTES_MAX),
		  FAILSAFE_TEXT_INVALID, "trace_id", NULL);
	CHECK(command->traceparent == NULL || traceparent_is_valid(command->traceparent),
		  FAILSAFE_TEXT_INVALID, "traceparent", NULL);
	CHECK(command->region == NULL || text_is_clean(command->region, 1, REGION_BYTES_MAX),
		  FAILSAFE_TEXT_INVALID, "region", NULL);
	CHECK(command->order_key == NULL || text_is_clean(command->order_key, 1, KEY_BYTES_MAX),
		  FAILSAFE_TEXT_INVALID, "order_key", NULL);
	CHECK(command->metadata == NULL || JB_ROOT_IS_OBJECT(command->metadata),
		  FAILSAFE_TEXT_INVALID, "metadata", "no object");
	CHECK(command->metadata == NULL || VARSIZE_ANY_EXHDR(command->metadata) <= METADATA_BYTES_MAX,
		  FAILSAFE_PAYLOAD_TOO_LARGE, "metadata", NULL);
	return FAILSAFE_OK;
}

/* Which options a command can have. */
static FailsafeCode
validate_options(const LedgerCommand *command, const char **field, const char **value)
{
	bool		has_conditions = command->type != LEDGER_POST &&
	command->type != LEDGER_EXTEND && command->type != LEDGER_ROLLBACK;
	bool		moves_money = command->type != LEDGER_HOLD &&
	command->type != LEDGER_EXTEND && command->type != LEDGER_ROLLBACK;

	CHECK(has_conditions || !command->has_expected_version,
		  FAILSAFE_OPTION_INVALID, "expected_version", NULL);
	CHECK(has_conditions || !command->has_min_available,
		  FAILSAFE_OPTION_INVALID, "min_available", NULL);
	CHECK(moves_money || command->effective_at == 0,
		  FAILSAFE_OPTION_INVALID, "effective_at", NULL);
	return FAILSAFE_OK;
}

static FailsafeCode
validate_account(const char *code, const char *name, const char **field, const char **value)
{
	CHECK(code != NULL, FAILSAFE_VALUE_REQUIRED, name, NULL);
	CHECK(account_code_validate(code) == FAILSAFE_OK,
		  FAILSAFE_ACCOUNT_CODE_INVALID, name, NULL);
	return FAILSAFE_OK;
}

static FailsafeCode
validate_amount(const LedgerCommand *command, bool required, const char **field,
				const char **value)
{
	CHECK(command->has_amount || !required, FAILSAFE_VALUE_REQUIRED, "amount", NULL);
	CHECK(!command->has_amount || command->amount_minor > 0,
		  FAILSAFE_AMOUNT_INVALID, "amount", NULL);
	CHECK(!command->has_amount || command->amount_minor <= AMOUNT_MINOR_MAX,
		  FAILSAFE_AMOUNT_TOO_LARGE, "amount", NULL);
	return FAILSAFE_OK;
}

/* A sum of one currency while the legs are added up. */
typedef struct CurrencySum
{
	char		currency[NAMEDATALEN];
	int128		sum;
} CurrencySum;

static FailsafeCode
validate_legs(const LedgerCommand *command, const char **field, const char **value)
{
	CurrencySum *sums;
	int			sum_count = 0;

	CHECK(command->leg_count <= POST_LEGS_MAX, FAILSAFE_BATCH_TOO_LARGE, "legs", NULL);
	CHECK(command->leg_count >= POST_LEGS_MIN, FAILSAFE_LEGS_INVALID, "legs",
		  "fewer than two legs");
	sums = palloc0(command->leg_count * sizeof(CurrencySum));
	for (int i = 0; i < command->leg_count; i++)
	{
		const LedgerLeg *leg = &command->legs[i];
		FailsafeCode code;
		int			j;

		code = validate_account(leg->account, "legs.account", field, value);
		if (code != FAILSAFE_OK)
			return code;
		CHECK(leg->currency != NULL, FAILSAFE_VALUE_REQUIRED, "legs.currency", NULL);
		CHECK(strlen(leg->currency) <= CURRENCY_BYTES_MAX, FAILSAFE_CURRENCY_UNKNOWN,
			  "legs.currency", NULL);
		CHECK(leg->amount_minor != 0, FAILSAFE_AMOUNT_INVALID, "legs.amount", NULL);
		CHECK(leg->amount_minor <= AMOUNT_MINOR_MAX && leg->amount_minor >= -AMOUNT_MINOR_MAX,
			  FAILSAFE_AMOUNT_TOO_LARGE, "legs.amount", NULL);
		for (j = 0; j < sum_count; j++)
			if (strcmp(sums[j].currency, leg->currency) == 0)
				break;
		if (j == sum_count)
			strlcpy(sums[sum_count++].currency, leg->currency, NAMEDATALEN);
		CHECK(money_add(sums[j].sum, leg->amount_minor, &sums[j].sum),
			  FAILSAFE_AMOUNT_TOO_LARGE, "legs.amount", NULL);
	}
	for (int j = 0; j < sum_count; j++)
	{
		char		text[MONEY_TEXT_SIZE];

		if (sums[j].sum == 0)
			continue;
		money_to_text(sums[j].sum, text);
		*field = "legs";
		*value = psprintf("the legs in %s add up to %s", sums[j].currency, text);
		return FAILSAFE_LEGS_INVALID;
	}
	return FAILSAFE_OK;
}

/* The time at which a hold placed or extended now would expire. */
TimestampTz
command_hold_expiry(const LedgerCommand *command, TimestampTz now)
{
	Datum		expiry;

	if (command->expires_in == NULL)
		return now + (int64) setting_hold_expiry_s * USECS_PER_SEC;
	expiry = DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(now),
								 IntervalPGetDatum(command->expires_in));
	return DatumGetTimestampTz(expiry);
}

/* Bounds that keep the addition above from overflowing, too. */
static bool
expiry_is_valid(const LedgerCommand *command, TimestampTz now)
{
	const Interval *interval = command->expires_in;
	int64		seconds;

	if (interval == NULL)
		return true;
	if (interval->month < -1200 || interval->month > 1200 || interval->day < -36500 ||
		interval->day > 36500 || interval->time > INT64CONST(100) * 366 * USECS_PER_DAY ||
		interval->time < -INT64CONST(100) * 366 * USECS_PER_DAY)
		return false;
	seconds = (command_hold_expiry(command, now) - now) / USECS_PER_SEC;
	return seconds >= HOLD_EXPIRY_S_MIN && seconds <= HOLD_EXPIRY_S_MAX;
}

/* The deadline is judged with the balances: a key that was used answers after it, too. */
static FailsafeCode
validate_times(const LedgerCommand *command, TimestampTz now, const char **field,
			   const char **value)
{
	CHECK((command->type != LEDGER_HOLD && command->type != LEDGER_EXTEND) ||
		  expiry_is_valid(command, now), FAILSAFE_EXPIRY_INVALID, "expires_in", NULL);
	CHECK(command->effective_at == 0 ||
		  (!TIMESTAMP_NOT_FINITE(command->effective_at) && command->effective_at <= now),
		  FAILSAFE_EFFECTIVE_AT_INVALID, "effective_at", NULL);
	return FAILSAFE_OK;
}

/* What each command must name, beside its key. */
static FailsafeCode
validate_parts(const LedgerCommand *command, const char **field, const char **value)
{
	FailsafeCode code = FAILSAFE_OK;
	bool		transfer = command->type == LEDGER_TRANSFER;

	switch (command->type)
	{
		case LEDGER_DEBIT:
		case LEDGER_CREDIT:
		case LEDGER_TRANSFER:
		case LEDGER_HOLD:
			code = validate_amount(command, true, field, value);
			CHECK(code != FAILSAFE_OK || command->currency != NULL,
				  FAILSAFE_VALUE_REQUIRED, "currency", NULL);
			if (code == FAILSAFE_OK)
				code = validate_account(command->account,
										transfer ? "from_account" : "account", field, value);
			if (code == FAILSAFE_OK && (transfer || command->counterparty != NULL))
				code = validate_account(command->counterparty,
										transfer ? "to_account" : "counterparty", field, value);
			CHECK(code != FAILSAFE_OK || command->counterparty == NULL ||
				  strcmp(command->account, command->counterparty) != 0,
				  FAILSAFE_ACCOUNT_SAME, transfer ? "to_account" : "counterparty",
				  command->counterparty);
			return code;
		case LEDGER_EXTEND:
		case LEDGER_COMMIT:
		case LEDGER_ROLLBACK:
			code = validate_amount(command, false, field, value);
			CHECK(code != FAILSAFE_OK || command->target != NULL,
				  FAILSAFE_VALUE_REQUIRED, "hold", NULL);
			if (code == FAILSAFE_OK && command->counterparty != NULL)
				code = validate_account(command->counterparty, "counterparty", field, value);
			return code;
		case LEDGER_REVERSE:
			CHECK(command->target != NULL, FAILSAFE_VALUE_REQUIRED, "transaction", NULL);
			return validate_amount(command, false, field, value);
		case LEDGER_POST:
			return validate_legs(command, field, value);
		case LEDGER_EXPIRE:
			break;
	}
	return FAILSAFE_COMMAND_INVALID;
}

FailsafeCode
command_validate(LedgerCommand *command, TimestampTz now, const char **field,
				 const char **value)
{
	FailsafeCode code;

	Assert(now != 0);
	*field = NULL;
	*value = NULL;
	CHECK(command->fault == FAILSAFE_OK, command->fault, command->fault_field,
		  command->fault_text);
	code = validate_texts(command, field, value);
	if (code == FAILSAFE_OK)
		code = validate_options(command, field, value);
	if (code != FAILSAFE_OK)
		return code;
	CHECK((code = key_validate(command->key)) == FAILSAFE_OK, code, "idempotency_key", NULL);
	code = validate_parts(command, field, value);
	if (code == FAILSAFE_OK)
		code = validate_times(command, now, field, value);
	return code;
}
