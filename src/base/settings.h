/*
 * base/settings.h
 *	  Every failsafe.* setting, and the limits shared by settings, SQL and C.
 */
#ifndef FAILSAFE_BASE_SETTINGS_H
#define FAILSAFE_BASE_SETTINGS_H

/* Limits (MIN / DEFAULT / MAX); SQL texts and documentation repeat them. */
#define WAIT_TIMEOUT_MS_MIN			1
#define WAIT_TIMEOUT_MS_DEFAULT		2000
#define WAIT_TIMEOUT_MS_MAX			600000
#define HOLD_EXPIRY_S_MIN			1
#define HOLD_EXPIRY_S_DEFAULT		(7 * 86400)
#define HOLD_EXPIRY_S_MAX			(400 * 86400)
#define EVENT_RETENTION_S_MIN		60
#define EVENT_RETENTION_S_DEFAULT	(7 * 86400)
#define EVENT_RETENTION_S_MAX		(400 * 86400)
#define EVENT_BYTES_MIN				1024
#define EVENT_BYTES_DEFAULT			(256 * 1024)
#define EVENT_BYTES_MAX				(16 * 1024 * 1024)
#define APPLICATION_KEY_RETENTION_S_MIN		3600
#define APPLICATION_KEY_RETENTION_S_DEFAULT	(30 * 86400)
#define APPLICATION_KEY_RETENTION_S_MAX		(400 * 86400)
#define ATTEMPT_RETENTION_S_MIN		60
#define ATTEMPT_RETENTION_S_DEFAULT	(30 * 86400)
#define ATTEMPT_RETENTION_S_MAX		(400 * 86400)
#define DEAD_LETTER_RETENTION_S_MIN		60
#define DEAD_LETTER_RETENTION_S_DEFAULT	(90 * 86400)
#define DEAD_LETTER_RETENTION_S_MAX		(4000 * 86400)
#define BATCH_COMMANDS_MAX			10000
#define POST_LEGS_MIN				2
#define POST_LEGS_MAX				1000
#define KEY_BYTES_MAX				255
#define ACCOUNT_CODE_BYTES_MAX		128
#define REFERENCE_BYTES_MAX			255
#define REASON_BYTES_MAX			1000
#define TRACE_ID_BYTES_MAX			128
#define REGION_BYTES_MAX			63
#define METADATA_BYTES_MAX			16384
#define STATEMENT_ROWS_MAX			10000

typedef enum EarlyLockRelease
{
	EARLY_LOCK_RELEASE_OFF,
	EARLY_LOCK_RELEASE_OWN,		/* only where nothing but our functions wrote */
	EARLY_LOCK_RELEASE_ALL
} EarlyLockRelease;

typedef enum EarlyLockReleaseWhen
{
	EARLY_LOCK_RELEASE_WAITED,	/* somebody waits for us, or we had to wait */
	EARLY_LOCK_RELEASE_ALWAYS
} EarlyLockReleaseWhen;

extern char *setting_tenant;			/* failsafe.tenant, superuser-set; "" = none */
extern char *setting_region;			/* failsafe.region; "" = none */
extern char *setting_trace_id;			/* failsafe.trace_id; "" = none */
extern char *setting_traceparent;		/* failsafe.traceparent; "" = none */
extern int	setting_key_wait_ms;		/* failsafe.key_wait */
extern int	setting_lock_wait_ms;		/* failsafe.lock_wait */
extern int	setting_hold_expiry_s;		/* failsafe.hold_expiry */
extern int	setting_event_retention_s;	/* failsafe.event_retention */
extern int	setting_event_max_bytes;	/* failsafe.event_max_bytes */
extern int	setting_application_key_retention_s;	/* failsafe.application_key_retention */
extern int	setting_attempt_retention_s;	/* failsafe.attempt_retention */
extern int	setting_dead_letter_retention_s;	/* failsafe.dead_letter_retention */
extern char *setting_event_types;		/* failsafe.event_types: comma list, '*' and '!' */
extern int	setting_early_lock_release; /* failsafe.early_lock_release, superuser-set */
extern int	setting_early_lock_release_when;	/* ..._when, superuser-set */
extern bool setting_allow_prepare;		/* failsafe.allow_prepare, superuser-set */
extern bool setting_allow_drop;			/* failsafe.allow_drop, superuser-set */
extern bool setting_log_refusals;		/* failsafe.log_refusals, superuser-set */
extern bool setting_delivery;			/* failsafe.delivery, of the configuration file */
extern bool setting_maintenance;		/* failsafe.maintenance, of the configuration file */
extern char *setting_relay_path;		/* failsafe.relay_path, of the configuration file */

/* Define them all; called once from _PG_init. */
extern void settings_init(void);

/*
 * Does failsafe.event_types let this type through?  The list is comma separated;
 * each item is a type, a prefix followed by '*', or either with '!' before it.
 * The last item that matches wins; nothing matching means no.  Default '*'.
 */
extern bool settings_event_type_enabled(const char *event_type);

/* The relay's program: failsafe.relay_path with $libdir filled in; palloc'd. */
extern char *settings_relay_path(void);

/* Is the text a W3C traceparent?  Pure. */
extern bool settings_traceparent_valid(const char *text);

#endif							/* FAILSAFE_BASE_SETTINGS_H */
