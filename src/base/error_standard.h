/*
 * base/error_standard.h
 *	  PostgreSQL's own codes that a caller of ours meets and can act on.  Included
 *	  with FAILSAFE_STANDARD_ERROR defined; no include guard on purpose.
 *
 * All of them may succeed when they are repeated.  They have no place in the
 * order of checks and no frozen message.
 *
 * FAILSAFE_STANDARD_ERROR(sqlstate, name, http, meaning, action)
 */

FAILSAFE_STANDARD_ERROR("25006", "READ_ONLY_SQL_TRANSACTION", 503,
						"The transaction is read-only, or the server is a standby. A command is refused there even if it would replay.",
						"Repeat the call in a read-write transaction on the primary.")
FAILSAFE_STANDARD_ERROR("40001", "SERIALIZATION_FAILURE", 409,
						"Under REPEATABLE READ or SERIALIZABLE, another transaction changed or made what this one could not see.",
						"Repeat the whole transaction with the same keys.")
FAILSAFE_STANDARD_ERROR("40P01", "DEADLOCK_DETECTED", 409,
						"Transactions that take several accounts or keys in separate statements waited for each other.",
						"Repeat the whole transaction with the same keys.")
FAILSAFE_STANDARD_ERROR("55P03", "LOCK_NOT_AVAILABLE", 503,
						"A key or an account was in use by another transaction for longer than failsafe.key_wait or failsafe.lock_wait.",
						"Repeat the call with the same key.")
FAILSAFE_STANDARD_ERROR("57014", "QUERY_CANCELED", 504,
						"The statement was canceled or ran into statement_timeout.",
						"Repeat the call with the same key; it replays what was committed.")
