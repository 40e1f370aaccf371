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

/* Its name; valid until failsafe.tenant changes or tenants are looked up again. */
extern const char *tenant_current_name(void);

/* failsafe.region, else the tenant's region, else NULL; valid as long as the name. */
extern const char *tenant_current_region(void);

extern void tenant_init(void);

#endif							/* FAILSAFE_BASE_TENANT_H */
