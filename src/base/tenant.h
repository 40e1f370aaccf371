/*
 * base/tenant.h
 *	  The tenant of this session.
 */
#ifndef FAILSAFE_BASE_TENANT_H
#define FAILSAFE_BASE_TENANT_H

#define TENANT_DEFAULT_ID	1	/* the preloaded tenant 'default' */

/*
 * The session's tenant id, from failsafe.tenant.  Raises TENANT_UNKNOWN, or
 * TENANT_REQUIRED when the setting is empty and a second tenant exists.  Cached;
 * only committed rows enter the cache, and tenant_add() invalidates it by a
 * relcache message on failsafe.tenant.
 */
extern int32 tenant_current(void);

/* The name of the tenant that tenant_current() returned, valid until transaction end. */
extern const char *tenant_current_name(void);

extern void tenant_init(void);

#endif							/* FAILSAFE_BASE_TENANT_H */
