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

typedef enum VersionState
{
	VERSION_ABSENT,				/* the extension is not installed in this database */
	VERSION_SKEWED,
	VERSION_SAME
} VersionState;

/* The same question as an answer, not as an error; always looks.  In a transaction. */
extern VersionState version_look(void);

extern void version_init(void);

#endif							/* FAILSAFE_BASE_VERSION_H */
