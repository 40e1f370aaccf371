/*
 * base/guard.h
 *	  Keeps SQL from changing or dropping what the C code wrote.
 */
#ifndef FAILSAFE_BASE_GUARD_H
#define FAILSAFE_BASE_GUARD_H

/*
 * Retention removes rows by SQL: it opens the guard for its own statement and
 * closes it at once.  An abort of the transaction or subtransaction closes it
 * too.  There is no setting that does the same [I2].
 */
extern void guard_open(void);
extern void guard_close(void);

extern void guard_init(void);

#endif							/* FAILSAFE_BASE_GUARD_H */
