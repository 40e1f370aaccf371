/*
 * base/error_catalog.h
 *	  The catalogue itself.  Included several times with FAILSAFE_ERROR defined;
 *	  no include guard on purpose.
 *
 * The order of the rows is the documented order of checks: when several apply,
 * the first row wins.  Messages are frozen once released, because a stored
 * decline answers with them byte for byte (docs/errors.md).
 *
 * FAILSAFE_ERROR(symbol, sqlstate, name, kind, retryable, http, message, meaning, action)
 */

/* The call as a whole */
FAILSAFE_ERROR(VERSION_SKEW, "SF063", "VERSION_SKEW", FAILSAFE_KIND_FAILURE, true, 503,
			   "the pg_failsafe library and its SQL objects have different versions",
			   "The shared library was replaced without ALTER EXTENSION UPDATE, or the update ran against a server that still has the old library loaded.",
			   "Run ALTER EXTENSION pg_failsafe UPDATE; if the library is preloaded, restart the server.")
FAILSAFE_ERROR(SCHEMA_ALTERED, "SF064", "SCHEMA_ALTERED", FAILSAFE_KIND_FAILURE, false, 500,
			   "a pg_failsafe table is not as the extension made it",
			   "A column, trigger, constraint or row security policy of a pg_failsafe table was added, changed or dropped by hand.",
			   "Undo the change; doctor() names the table and what differs.")
FAILSAFE_ERROR(TENANT_REQUIRED, "SF051", "TENANT_REQUIRED", FAILSAFE_KIND_REFUSED, false, 403,
			   "no tenant is set",
			   "More than one tenant exists and failsafe.tenant is empty in this session.",
			   "Set failsafe.tenant for the role: ALTER ROLE ... SET failsafe.tenant = '...'.")
FAILSAFE_ERROR(TENANT_UNKNOWN, "SF050", "TENANT_UNKNOWN", FAILSAFE_KIND_REFUSED, false, 403,
			   "the tenant does not exist",
			   "failsafe.tenant names a tenant that tenant_add() has not created.",
			   "Create it with tenant_add(), or correct the setting.")
FAILSAFE_ERROR(BATCH_TOO_LARGE, "SF042", "BATCH_TOO_LARGE", FAILSAFE_KIND_REFUSED, false, 413,
			   "the batch has too many commands",
			   "wallet_batch() takes at most 10000 commands, ledger_post() at most 1000 legs.",
			   "Send the commands in several batches.")
FAILSAFE_ERROR(COMMAND_INVALID, "SF040", "COMMAND_INVALID", FAILSAFE_KIND_REFUSED, false, 400,
			   "the command is not valid",
			   "The JSON is malformed, a member is unknown, repeated, missing or of the wrong type.",
			   "Correct the member that the detail names.")
FAILSAFE_ERROR(OPTION_INVALID, "SF041", "OPTION_INVALID", FAILSAFE_KIND_REFUSED, false, 400,
			   "an option is not valid",
			   "The options object has a member that this function does not know, or whose value it cannot take.",
			   "Correct the member that the detail names.")
FAILSAFE_ERROR(VALUE_REQUIRED, "SF038", "VALUE_REQUIRED", FAILSAFE_KIND_REFUSED, false, 400,
			   "a required value is missing",
			   "An argument that must have a value is NULL or absent.",
			   "Give the value that the detail names.")
FAILSAFE_ERROR(TEXT_INVALID, "SF039", "TEXT_INVALID", FAILSAFE_KIND_REFUSED, false, 400,
			   "a text value is not valid",
			   "A reference, reason, trace id or other text is too long or has control characters.",
			   "Shorten or clean the value that the detail names.")

/* The idempotency key */
FAILSAFE_ERROR(KEY_REQUIRED, "SF003", "IDEMPOTENCY_KEY_REQUIRED", FAILSAFE_KIND_REFUSED, false, 400,
			   "an idempotency key is required",
			   "Every command that moves money names its business operation by a key.",
			   "Pass idempotency_key; business_key() builds one from its parts.")
FAILSAFE_ERROR(KEY_INVALID, "SF002", "IDEMPOTENCY_KEY_INVALID", FAILSAFE_KIND_REFUSED, false, 400,
			   "the idempotency key is not valid",
			   "A key has 1 to 255 bytes, no blanks at its ends and no control characters.",
			   "Correct the key; do not trim it silently, two keys could become one.")
FAILSAFE_ERROR(SCOPE_INVALID, "SF004", "SCOPE_INVALID", FAILSAFE_KIND_REFUSED, false, 400,
			   "the scope is not valid",
			   "A scope has 1 to 63 bytes of letters, digits, '_', '-', '.' and ':'; 'wallet' belongs to the ledger.",
			   "Use the default scope 'app' or a name of your own.")

/* Amounts and currencies */
FAILSAFE_ERROR(AMOUNT_INVALID, "SF010", "AMOUNT_INVALID", FAILSAFE_KIND_REFUSED, false, 400,
			   "the amount is not valid",
			   "An amount is a positive, finite whole number of minor units; a leg's amount is signed and not zero.",
			   "Pass a positive whole number of minor units.")
FAILSAFE_ERROR(AMOUNT_HAS_FRACTION, "SF011", "AMOUNT_HAS_FRACTION", FAILSAFE_KIND_REFUSED, false, 400,
			   "the amount has decimal places",
			   "Amounts are whole minor units. A value such as 50.00 is refused, because it could be meant as 50 units or as 5000.",
			   "Use minor(50.00, 'EUR') to convert, or pass the whole number of minor units.")
FAILSAFE_ERROR(AMOUNT_TOO_LARGE, "SF012", "AMOUNT_TOO_LARGE", FAILSAFE_KIND_REFUSED, false, 400,
			   "the amount is too large",
			   "An amount is at most 10^36 - 1 minor units; in JSON a number is at most 2^53 - 1.",
			   "Split the amount, or send it as a string where the currency has more than 8 decimal places.")
FAILSAFE_ERROR(CURRENCY_UNKNOWN, "SF014", "CURRENCY_UNKNOWN", FAILSAFE_KIND_REFUSED, false, 400,
			   "the currency is not known",
			   "Currency codes are exact and upper case. The ISO 4217 codes are preloaded.",
			   "Correct the code, or add the currency with currency_add().")
FAILSAFE_ERROR(LEGS_INVALID, "SF034", "LEGS_INVALID", FAILSAFE_KIND_REFUSED, false, 400,
			   "the legs do not balance",
			   "A posting has at least two legs, none is NULL, and the legs of each currency add up to zero.",
			   "Correct the legs; the detail gives the sum per currency.")
FAILSAFE_ERROR(EXPIRY_INVALID, "SF035", "EXPIRY_INVALID", FAILSAFE_KIND_REFUSED, false, 400,
			   "the expiry is not valid",
			   "A hold expires between 1 second and 400 days from now.",
			   "Pass an interval inside these bounds.")
FAILSAFE_ERROR(EFFECTIVE_AT_INVALID, "SF036", "EFFECTIVE_AT_INVALID", FAILSAFE_KIND_REFUSED, false, 400,
			   "effective_at is not valid",
			   "An effective time is finite and not in the future.",
			   "Pass a time that is not after now.")
FAILSAFE_ERROR(DEADLINE_EXCEEDED, "SF037", "DEADLINE_EXCEEDED", FAILSAFE_KIND_REFUSED, true, 504,
			   "the deadline has passed",
			   "The caller's deadline option was over before the command could be decided. Nothing was stored.",
			   "Repeat the command with the same key and a later deadline.")

/* Accounts, holds and transactions that a command names */
FAILSAFE_ERROR(ACCOUNT_CODE_INVALID, "SF017", "ACCOUNT_CODE_INVALID", FAILSAFE_KIND_REFUSED, false, 400,
			   "the account code is not valid",
			   "An account code has 1 to 128 bytes, no blanks and no control characters.",
			   "Correct the code.")
FAILSAFE_ERROR(ACCOUNT_RESERVED, "SF01A", "ACCOUNT_RESERVED", FAILSAFE_KIND_REFUSED, false, 400,
			   "the account code is reserved",
			   "Codes that begin with 'world:' belong to the extension, which opens them at first use.",
			   "Choose another code.")
FAILSAFE_ERROR(ACCOUNT_UNKNOWN, "SF016", "ACCOUNT_UNKNOWN", FAILSAFE_KIND_REFUSED, false, 404,
			   "the account does not exist",
			   "No account of this tenant has the code.",
			   "Open the account with account_open(), or correct the code.")
FAILSAFE_ERROR(ACCOUNT_SAME, "SF018", "ACCOUNT_SAME", FAILSAFE_KIND_REFUSED, false, 400,
			   "both sides are the same account",
			   "Money moves between two different accounts.",
			   "Correct one of the two codes.")
FAILSAFE_ERROR(ACCOUNT_KIND, "SF01B", "ACCOUNT_KIND", FAILSAFE_KIND_REFUSED, false, 400,
			   "a system account cannot do this",
			   "System accounts have no floor, ceiling, hold, version or condition.",
			   "Use an account of kind 'wallet'.")
FAILSAFE_ERROR(ACCOUNT_CONFLICT, "SF019", "ACCOUNT_CONFLICT", FAILSAFE_KIND_REFUSED, false, 409,
			   "the account exists with another definition",
			   "account_open() was called again with another currency, kind, floor or ceiling.",
			   "Compare the definitions; change limits with account_set_limits().")
FAILSAFE_ERROR(ACCOUNT_NOT_EMPTY, "SF01C", "ACCOUNT_NOT_EMPTY", FAILSAFE_KIND_REFUSED, false, 409,
			   "the account is not empty",
			   "An account closes when its posted and held money are both zero.",
			   "Move the money and resolve the holds first.")
FAILSAFE_ERROR(CURRENCY_MISMATCH, "SF015", "CURRENCY_MISMATCH", FAILSAFE_KIND_REFUSED, false, 400,
			   "the currency is not the account's",
			   "The currency argument is a cross-check, never a conversion.",
			   "Use an account of this currency, or correct the currency.")
FAILSAFE_ERROR(HOLD_UNKNOWN, "SF030", "HOLD_UNKNOWN", FAILSAFE_KIND_REFUSED, false, 404,
			   "the hold does not exist",
			   "No hold of this tenant has this id or key.",
			   "Pass h_..., or key: followed by the key of the hold.")
FAILSAFE_ERROR(TRANSACTION_UNKNOWN, "SF031", "TRANSACTION_UNKNOWN", FAILSAFE_KIND_REFUSED, false, 404,
			   "the transaction does not exist",
			   "No transaction of this tenant has this id or key.",
			   "Pass t_..., e_..., or key: followed by the key of the transaction.")
FAILSAFE_ERROR(REVERSAL_NOT_ALLOWED, "SF032", "REVERSAL_NOT_ALLOWED", FAILSAFE_KIND_REFUSED, false, 409,
			   "the transaction cannot be reversed",
			   "A reversal, a hold, a decline and a release move no money that could be returned; a transaction with more than two legs is reversed whole.",
			   "Void a hold with wallet_rollback(); reverse the original transaction instead.")
FAILSAFE_ERROR(KEY_MISMATCH, "SF001", "IDEMPOTENCY_MISMATCH", FAILSAFE_KIND_REFUSED, false, 422,
			   "IDEMPOTENCY_MISMATCH: the key was used for another command",
			   "The same key was sent with another command, account, amount or other fingerprinted field. The detail names the fields.",
			   "Use a new key for a new business operation; repeat the first command exactly to get its answer.")
FAILSAFE_ERROR(VERSION_MISMATCH, "SF033", "VERSION_MISMATCH", FAILSAFE_KIND_REFUSED, true, 409,
			   "the account has another version",
			   "The option expected_version differs from the number of the account's entries.",
			   "Read the account again and decide anew.")

/* Declines: judged under the account's lock, in this order */
FAILSAFE_ERROR(HOLD_RESOLVED, "SF025", "HOLD_RESOLVED", FAILSAFE_KIND_DECLINED, false, 409,
			   "the hold is already resolved",
			   "The hold was captured in full, rolled back or released before.",
			   "Read hold_history(); place a new hold if money must be reserved again.")
FAILSAFE_ERROR(HOLD_EXPIRED, "SF024", "HOLD_EXPIRED", FAILSAFE_KIND_DECLINED, false, 409,
			   "the hold has expired",
			   "The hold's time was over when the command was decided.",
			   "Place a new hold or debit the account.")
FAILSAFE_ERROR(HOLD_EXCEEDED, "SF026", "HOLD_EXCEEDED", FAILSAFE_KIND_DECLINED, false, 409,
			   "the amount is more than the hold has left",
			   "A capture takes at most what remains of the hold.",
			   "Capture the rest, and debit the difference under a key of its own.")
FAILSAFE_ERROR(REVERSAL_EXCEEDED, "SF027", "REVERSAL_EXCEEDED", FAILSAFE_KIND_DECLINED, false, 409,
			   "the reversals would exceed the transaction",
			   "All reversals together return at most what the transaction moved.",
			   "Reverse the rest; the detail says how much is left.")
FAILSAFE_ERROR(ACCOUNT_CLOSED, "SF023", "ACCOUNT_CLOSED", FAILSAFE_KIND_DECLINED, false, 409,
			   "the account is closed",
			   "A closed account takes no movement of any kind.",
			   "Use another account.")
FAILSAFE_ERROR(ACCOUNT_FROZEN, "SF022", "ACCOUNT_FROZEN", FAILSAFE_KIND_DECLINED, false, 409,
			   "the account is frozen",
			   "Frozen 'out' refuses debits, holds and transfers out; frozen 'all' refuses everything but releases.",
			   "Lift the freeze with account_unfreeze(), or wait for it.")
FAILSAFE_ERROR(BALANCE_OVERFLOW, "SF013", "BALANCE_OVERFLOW", FAILSAFE_KIND_REFUSED, false, 409,
			   "a balance would become too large",
			   "A balance is at most 10^38 - 1 minor units in either direction.",
			   "Spread the money over several accounts.")
FAILSAFE_ERROR(INSUFFICIENT_FUNDS, "SF020", "INSUFFICIENT_FUNDS", FAILSAFE_KIND_DECLINED, false, 402,
			   "insufficient funds",
			   "After the command the posted money less the held money would be below the account's floor.",
			   "Credit the account, lower the amount, or change the floor with account_set_limits().")
FAILSAFE_ERROR(CEILING_EXCEEDED, "SF021", "CEILING_EXCEEDED", FAILSAFE_KIND_DECLINED, false, 409,
			   "the account's ceiling would be exceeded",
			   "After the command the posted money would be above the account's ceiling.",
			   "Lower the amount, or change the ceiling with account_set_limits().")
FAILSAFE_ERROR(MIN_AVAILABLE, "SF028", "MIN_AVAILABLE_MISSED", FAILSAFE_KIND_DECLINED, false, 409,
			   "less than min_available would be left",
			   "The option min_available asks for more than the command would leave available.",
			   "Lower the amount or the condition.")

/* Application keys, events, tenants, administration */
FAILSAFE_ERROR(KEY_NOT_CLAIMED, "SF005", "KEY_NOT_CLAIMED", FAILSAFE_KIND_REFUSED, false, 404,
			   "the key is not claimed",
			   "idempotency_complete() and idempotency_release() need a key that idempotency_claim() returned as new or unfinished.",
			   "Claim the key first.")
FAILSAFE_ERROR(KEY_COMPLETED, "SF006", "KEY_COMPLETED", FAILSAFE_KIND_REFUSED, false, 409,
			   "the key already has another answer",
			   "The key was completed before, with another response, or cannot be released any more.",
			   "Read the stored response with idempotency_claim().")
FAILSAFE_ERROR(EVENT_INVALID, "SF066", "EVENT_INVALID", FAILSAFE_KIND_REFUSED, false, 400,
			   "the event is not valid",
			   "The event type, order key, headers, priority or times of an event cannot be taken.",
			   "Correct the field that the detail names.")
FAILSAFE_ERROR(PAYLOAD_TOO_LARGE, "SF067", "PAYLOAD_TOO_LARGE", FAILSAFE_KIND_REFUSED, false, 413,
			   "the payload is too large",
			   "A payload has at most failsafe.event_max_bytes bytes, metadata at most 16 kB.",
			   "Store the document elsewhere and send a reference to it.")
FAILSAFE_ERROR(TENANT_CONFLICT, "SF052", "TENANT_CONFLICT", FAILSAFE_KIND_REFUSED, false, 409,
			   "the tenant exists with another definition",
			   "tenant_add() was called again with other options, or the name is not valid.",
			   "Use another name; a name has 1 to 63 bytes of letters, digits, '_', '-' and '.'.")
FAILSAFE_ERROR(CURRENCY_CONFLICT, "SF068", "CURRENCY_CONFLICT", FAILSAFE_KIND_REFUSED, false, 409,
			   "the currency exists with another definition, or its code or exponent is not valid",
			   "A currency code has 1 to 16 upper-case letters, digits or '_'; the exponent is 0 to 24 and never changes.",
			   "Choose another code.")
FAILSAFE_ERROR(LIMIT_INVALID, "SF069", "LIMIT_INVALID", FAILSAFE_KIND_REFUSED, false, 400,
			   "the limits are not valid",
			   "Floor and ceiling are whole minor units, at most 10^38 - 1, and the floor is not above the ceiling. 'Infinity' and '-Infinity' mean none.",
			   "Correct the limit that the detail names.")
FAILSAFE_ERROR(APPEND_ONLY, "SF060", "APPEND_ONLY", FAILSAFE_KIND_FAILURE, false, 403,
			   "pg_failsafe tables cannot be changed by SQL",
			   "UPDATE, DELETE and TRUNCATE are refused on every table of the extension, for its owner too.",
			   "Correct money with wallet_reverse() or a new transaction.")
FAILSAFE_ERROR(DROP_REFUSED, "SF061", "DROP_REFUSED", FAILSAFE_KIND_FAILURE, false, 403,
			   "the extension still holds a ledger",
			   "DROP EXTENSION, DROP SCHEMA and DROP OWNED would destroy the books.",
			   "Dump the database first; then set failsafe.allow_drop = on in this session.")
FAILSAFE_ERROR(SCHEMA_PROTECTED, "SF06A", "SCHEMA_PROTECTED", FAILSAFE_KIND_FAILURE, false, 403,
			   "pg_failsafe objects cannot be altered by hand",
			   "The C code relies on the columns, indexes, triggers and sequences that the extension made. Storage parameters, statistics, tablespace and owner may be changed, and indexes added.",
			   "Leave the object as it is; a superuser who knows better can set failsafe.allow_drop = on in this session.")
FAILSAFE_ERROR(PREPARE_REFUSED, "SF062", "PREPARE_REFUSED", FAILSAFE_KIND_FAILURE, false, 409,
			   "PREPARE TRANSACTION is refused after a pg_failsafe command",
			   "A prepared transaction holds keys and account locks until somebody resolves it.",
			   "Commit normally, or set failsafe.allow_prepare = on.")
FAILSAFE_ERROR(REPLICATION_WAIT_CANCELED, "SF065", "REPLICATION_WAIT_CANCELED", FAILSAFE_KIND_FAILURE, true, 503,
			   "the answer is not on the synchronous standby yet",
			   "The rows that the answer rests on are committed here, but the wait for the synchronous standby was canceled or timed out.",
			   "Repeat the call with the same key.")

/* Delivery */
FAILSAFE_ERROR(SUBSCRIPTION_UNKNOWN, "SF070", "SUBSCRIPTION_UNKNOWN", FAILSAFE_KIND_REFUSED, false, 404,
			   "the subscription does not exist",
			   "No subscription of this tenant has the name.",
			   "Look the name up in the view subscriptions.")
FAILSAFE_ERROR(SUBSCRIPTION_CONFLICT, "SF071", "SUBSCRIPTION_CONFLICT", FAILSAFE_KIND_REFUSED, false, 409,
			   "the subscription exists with another definition",
			   "subscription_create() was called again with another definition; the detail names the first member that differs.",
			   "Change it with subscription_alter(), or choose another name.")
FAILSAFE_ERROR(SUBSCRIPTION_INVALID, "SF072", "SUBSCRIPTION_INVALID", FAILSAFE_KIND_REFUSED, false, 400,
			   "the subscription is not valid",
			   "The name, sink, config, patterns or ordering of a subscription cannot be taken.",
			   "Correct the member that the detail names.")
FAILSAFE_ERROR(SUBSCRIPTION_BUSY, "SF073", "SUBSCRIPTION_BUSY", FAILSAFE_KIND_REFUSED, false, 409,
			   "the subscription still has events or dead letters",
			   "subscription_drop() would lose events that were not delivered yet, or leave dead letters behind that nobody has resolved.",
			   "Let it deliver, replay or discard its dead letters; or drop it with force => true.")
FAILSAFE_ERROR(NOT_ADOPTED, "SF074", "NOT_ADOPTED", FAILSAFE_KIND_FAILURE, false, 503,
			   "this database was not told to deliver events",
			   "It was restored, copied or upgraded from the database that delivers. Nothing is sent from here, so that receivers do not get everything twice.",
			   "Make sure that the other database does not deliver any more, then call adopt().")
FAILSAFE_ERROR(FAILURE_RULE_INVALID, "SF07A", "FAILURE_RULE_INVALID", FAILSAFE_KIND_REFUSED, false, 400,
			   "the failure rule is not valid",
			   "The place, status range, pattern or class of a failure rule cannot be taken.",
			   "Correct the member that the detail names.")
FAILSAFE_ERROR(REPLAY_UNKNOWN, "SF078", "REPLAY_UNKNOWN", FAILSAFE_KIND_REFUSED, false, 404,
			   "the replay does not exist",
			   "No replay of this tenant has this id.",
			   "Look the id up in the view replays.")
FAILSAFE_ERROR(REPLAY_ENDED, "SF079", "REPLAY_ENDED", FAILSAFE_KIND_REFUSED, false, 409,
			   "the replay has ended",
			   "A replay that is done or canceled cannot be paused, resumed or canceled.",
			   "Start a new one with dlq_replay().")
