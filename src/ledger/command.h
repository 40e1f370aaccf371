/*
 * ledger/command.h
 *	  A command as every door (SQL, JSON, batch) hands it to ledger_apply(), and
 *	  the outcome as every door gets it back.
 */
#ifndef FAILSAFE_LEDGER_COMMAND_H
#define FAILSAFE_LEDGER_COMMAND_H

#include "base/errors.h"
#include "base/money.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

typedef enum LedgerCommandType
{
	LEDGER_DEBIT,
	LEDGER_CREDIT,
	LEDGER_TRANSFER,
	LEDGER_HOLD,
	LEDGER_EXTEND,
	LEDGER_COMMIT,
	LEDGER_ROLLBACK,
	LEDGER_REVERSE,
	LEDGER_POST,
	LEDGER_EXPIRE				/* never asked for; written for an expired hold */
} LedgerCommandType;

#define LEDGER_COMMAND_TYPES	(LEDGER_EXPIRE + 1)

/* debit, credit, transfer, hold, extend, commit, rollback, reverse, post, expire */
extern const char *const ledger_command_names[LEDGER_COMMAND_TYPES];

typedef enum LedgerStatus
{
	LEDGER_COMMITTED,
	LEDGER_HELD,
	LEDGER_ROLLED_BACK,
	LEDGER_DECLINED,
	LEDGER_REFUSED,
	LEDGER_EXPIRED				/* status of an expiry's journal row */
} LedgerStatus;

extern const char *const ledger_status_names[LEDGER_EXPIRED + 1];

typedef struct LedgerLeg
{
	const char *account;
	int128		amount_minor;	/* signed: '+' raises posted */
	const char *currency;
} LedgerLeg;

/* Texts are palloc'd C strings, NULL where the caller gave nothing. */
typedef struct LedgerCommand
{
	LedgerCommandType type;
	const char *account;		/* transfer: from_account */
	const char *counterparty;	/* transfer: to_account */
	bool		has_amount;
	int128		amount_minor;
	const char *currency;
	const char *key;
	const char *target;			/* hold or transaction: h_ t_ e_ or key: */
	bool		final;			/* commit: release the rest; default true */
	Interval   *expires_in;		/* NULL = failsafe.hold_expiry */
	const char *reference;
	const char *reason;
	Jsonb	   *metadata;		/* NULL or an object */
	bool		records_declines;	/* on_decline = 'record' */
	bool		from_json;		/* amounts obey JSON's limits for the currency */
	int			leg_count;		/* post only */
	LedgerLeg  *legs;

	/* options */
	bool		has_expected_version;
	int64		expected_version;
	bool		has_min_available;
	int128		min_available_minor;
	TimestampTz effective_at;	/* 0 = not given */
	TimestampTz deadline;		/* 0 = none */
	const char *order_key;
	const char *trace_id;
	const char *traceparent;
	const char *region;

	/*
	 * A fault found while the command was read (wrong type, unknown member,
	 * fraction ...): the command is refused with it.  FAILSAFE_OK when none.
	 */
	FailsafeCode fault;
	const char *fault_field;
	const char *fault_text;		/* what is wrong, or NULL */
} LedgerCommand;

/*
 * Note a fault.  Of several the command keeps the one that the catalogue lists
 * first, which is the documented order of checks.
 */
extern void command_fault(LedgerCommand *command, FailsafeCode code,
						  const char *field, const char *text);

/* An empty command with the defaults of its type (final = true ...). */
extern void command_init(LedgerCommand *command, LedgerCommandType type);

/*
 * Read the options object: expected_version, min_available, effective_at,
 * order_key, deadline, trace_id, traceparent, region.  An unknown member, a
 * wrong type or value becomes the command's fault OPTION_INVALID.
 */
extern void command_options(LedgerCommand *command, Jsonb *options);

/*
 * Read one command from JSON text (contract 7): members are named as the SQL
 * arguments, and "command".  Never raises for bad input: the fault is in the
 * command.  on_decline defaults to 'record'.  The type is LEDGER_DEBIT where
 * the member "command" itself is at fault.
 */
extern void command_from_json(LedgerCommand *command, const char *json, int length);

/*
 * Split a JSON array of commands into element texts (pointers into json).
 * Raises COMMAND_INVALID where it is no array, BATCH_TOO_LARGE beyond max.
 */
extern int	command_split_array(const char *json, int length, int max,
								const char ***elements, int **lengths);

/* The outcome; the columns of wallet_result. */
typedef struct LedgerOutcome
{
	LedgerStatus status;
	FailsafeCode code;			/* declined and refused only */
	bool		replayed;
	int64		journal_id;		/* 0 = none */
	int64		entry_id;		/* 0 = none */
	int64		hold_id;		/* 0 = none */
	bool		has_balances;	/* posted: a wallet is described */
	bool		has_held;		/* an account is described */
	bool		has_available;	/* false: the account has no floor */
	int128		posted_minor;
	int128		held_minor;
	int128		available_minor;
	bool		has_amount;
	int128		amount_minor;
	bool		has_hold_remaining;
	int128		hold_remaining_minor;
	TimestampTz expires_at;		/* 0 = none */
	int64		version;		/* 0 = none */
	TimestampTz recorded_at;	/* 0 = none */
	const char *key;
	const char *detail;			/* JSON object for DETAIL, declined and refused */
} LedgerOutcome;

/* The JSON body of an outcome (contract 7), byte-stable per key. */
extern char *outcome_body(LedgerCommandType type, const LedgerOutcome *outcome);

#endif							/* FAILSAFE_LEDGER_COMMAND_H */
