/*
 * base/actor.h
 *	  Who did it.  failsafe.actor has one row for each distinct combination of
 *	  session user, role, client address and application name; append-only rows
 *	  of the ledger point at it, so that the actor costs eight bytes a row.
 */
#ifndef FAILSAFE_BASE_ACTOR_H
#define FAILSAFE_BASE_ACTOR_H

/*
 * The id of the row that describes the caller now; inserts it when the
 * combination is new.  The role is GetOuterUserId()'s: what SET ROLE chose, not
 * the owner of a SECURITY DEFINER function around us.  Cached by backend; an id
 * whose row was inserted by a transaction or subtransaction that aborted leaves
 * the cache again.  Two backends may insert the same combination: harmless, the
 * look-up index is not unique.
 */
extern int64 actor_current(void);

extern void actor_init(void);

#endif							/* FAILSAFE_BASE_ACTOR_H */
