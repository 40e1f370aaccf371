/*
 * base/version.h
 *	  Do the loaded library and the installed SQL objects belong together?
 */
#ifndef FAILSAFE_BASE_VERSION_H
#define FAILSAFE_BASE_VERSION_H

/*
 * Raise VERSION_SKEW unless the extension installed in this database has the
 * version that the library was built for.  Every public command calls it first;
 * costs a test of one flag when nothing changed.
 */
extern void version_check(void);

extern void version_init(void);

#endif							/* FAILSAFE_BASE_VERSION_H */
