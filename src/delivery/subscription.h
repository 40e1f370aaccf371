/*
 * delivery/subscription.h
 *	  What the files about subscriptions share with each other, and with nobody else:
 *	  lists of texts, checks of what a caller defines.
 */
#ifndef FAILSAFE_DELIVERY_SUBSCRIPTION_H
#define FAILSAFE_DELIVERY_SUBSCRIPTION_H

#include "utils/array.h"

#include "base/errors.h"
#include "delivery/delivery.h"

#define TENANTS_MAX				1000	/* named by one subscription */
#define REGIONS_MAX				100
#define CONFIG_BYTES_MAX		16384

extern const char *const subscription_state_names[];

typedef struct TextList
{
	int			count;
	const char **items;
} TextList;

/* What a caller defines, or what a row says. */
typedef struct Definition
{
	int64		id;				/* 0: no row yet */
	int64		actor_id;		/* of a new one: who creates it */
	SubscriptionState state;
	const char *name;
	const char *sink;
	Jsonb	   *config;
	TextList	event_types;
	const char *ordering;		/* key, none */
	const char *on_blocked;		/* block, skip */
	TextList	tenants;		/* empty: the creator's own; '*' alone: all */
	TextList	regions;		/* empty: all */
	Policy		policy;
	const char *start;			/* of a new one: now, beginning, time */
	TimestampTz start_at;
} Definition;

/* ---------- definition.c: effects are look-ups only ---------- */

/* Sink, config, patterns and ordering; raises SUBSCRIPTION_INVALID. */
extern void definition_check(const Definition *definition);

/*
 * Read the options over what the definition says already; NULL changes nothing.  start is
 * known to a new one only.
 */
extern void definition_options(Jsonb *options, bool is_new, Definition *definition);

/* "now", "beginning", or a time that is not in the future; raises OPTION_INVALID. */
extern void definition_start(const char *text, const char **start, TimestampTz *start_at);

/* Raise 42501 unless the caller may decide about tenants other than its own. */
extern void definition_check_rights(const Definition *definition);

/* A JSON object of the members in which the second differs; NULL: they are the same. */
extern char *definition_difference(const Definition *from, const Definition *to);

/* The name of the first member that differs, or NULL. */
extern const char *definition_conflict(const Definition *a, const Definition *b);

/* A NOTICE for each pattern that fits no type that is known. */
extern void definition_notices(const Definition *definition);

/* ---------- subscription_read.c: lists of texts ---------- */

/* From an array; a NULL element is a NULL item.  An array of more dimensions is flat. */
extern void text_list_from_array(ArrayType *array, TextList *list);

/* text[]; an empty list is an empty array. */
extern ArrayType *text_list_to_array(const TextList *list);
extern bool text_list_equal(const TextList *a, const TextList *b);

/* ---------- pattern.c: pure but for errors ---------- */

/* Raise SUBSCRIPTION_INVALID for a list of patterns that cannot be used. */
extern void event_patterns_check(const TextList *patterns);

/* Does the pattern, without a '!' before it, fit the type? */
extern bool event_pattern_fits(const char *pattern, const char *event_type);

/* Does it fit a type that the extension itself emits? */
extern bool event_pattern_fits_builtin(const char *pattern);

/* ---------- subscription.c ---------- */

/* Raise the code about the subscription of this name; field: which of its members, or NULL. */
pg_noreturn extern void subscription_refuse(FailsafeCode code, const char *name,
											const char *field);

/* ---------- config.c: pure but for errors ---------- */

extern void sink_check(const char *sink);

/* Raise SUBSCRIPTION_INVALID, with the member's name and never with its value. */
extern void config_check(const char *sink, Jsonb *config);

/* The config as it may be shown: references stay, what may be a secret does not. */
extern Jsonb *config_shown(Jsonb *config);

#endif							/* FAILSAFE_DELIVERY_SUBSCRIPTION_H */
