/*
 * delivery/pattern.c
 *	  Which events a subscription hears: patterns of event types, tenants, regions.
 *
 * A pattern is '*', or words with dots between; a word is made of a-z, 0-9 and '_', or is
 * '*'.  A '*' stands for one word; at the end, for one or more.  '!' before a pattern
 * takes away what the ones before it gave.
 *
 * Everything here is a pure function of its arguments; a list that cannot be used is
 * raised as SUBSCRIPTION_INVALID.
 *
 * Invariants:
 *	N1	The last pattern of a list that fits a type decides; where none fits, the event
 *		is not wanted.
 *	N2	A list that passed event_patterns_check() lets some type through.
 *	N3	A subscription hears the tenants that it names, else its creator's; never
 *		another one.
 *
 * Takes no locks.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "base/errors.h"
#include "delivery/subscription.h"

#define PATTERN_SHOWN_BYTES		64

/* What the extension itself emits; for notices only. */
static const char *const builtin_types[] = {
	"wallet.debit.committed", "wallet.debit.declined",
	"wallet.credit.committed", "wallet.credit.declined",
	"wallet.transfer.committed", "wallet.transfer.declined",
	"wallet.hold.held", "wallet.hold.declined", "wallet.hold.expired",
	"wallet.extend.held", "wallet.extend.declined",
	"wallet.commit.committed", "wallet.commit.declined",
	"wallet.rollback.rolled_back", "wallet.rollback.declined",
	"wallet.reverse.committed", "wallet.reverse.declined",
	"wallet.post.committed", "wallet.post.declined",
	"account.opened", "account.frozen", "account.unfrozen", "account.closed",
	"account.limits_changed",
	"failsafe.subscription.paused", "failsafe.subscription.disabled",
	"failsafe.subscription.breaker_opened", "failsafe.subscription.lag_exceeded",
	"failsafe.delivery.dead"
};

/* ---------- fitting ---------- */

static bool
word_is_star(const char *word, size_t length)
{
	return length == 1 && word[0] == '*';
}

bool
event_pattern_fits(const char *pattern, const char *event_type)
{
	Assert(pattern != NULL && pattern[0] != '!');
	Assert(event_type != NULL);
	for (;;)
	{
		size_t		wanted = strcspn(pattern, ".");
		size_t		given = strcspn(event_type, ".");
		bool		star = word_is_star(pattern, wanted);

		if (star && pattern[wanted] == '\0')
			return given > 0;
		if (!star && (wanted != given || memcmp(pattern, event_type, wanted) != 0))
			return false;
		if (pattern[wanted] == '\0' || event_type[given] == '\0')
			return pattern[wanted] == event_type[given];
		pattern += wanted + 1;
		event_type += given + 1;
	}
}

bool
event_pattern_fits_builtin(const char *pattern)
{
	for (int i = 0; i < lengthof(builtin_types); i++)
		if (event_pattern_fits(pattern, builtin_types[i]))
			return true;
	return false;
}

bool
event_patterns_match(const char *const *patterns, int count, const char *event_type)
{
	Assert(count == 0 || patterns != NULL);
	Assert(event_type != NULL);
	for (int i = count - 1; i >= 0; i--)
	{
		bool		negated = patterns[i][0] == '!';

		if (event_pattern_fits(patterns[i] + negated, event_type))
			return !negated;
	}
	return false;
}

static bool
wants_tenant(const Subscription *subscription, int32 tenant_id)
{
	if (subscription->all_tenants)
		return true;
	if (subscription->tenant_count == 0)
		return tenant_id == subscription->tenant_id;
	for (int i = 0; i < subscription->tenant_count; i++)
		if (subscription->tenants[i] == tenant_id)
			return true;
	return false;
}

static bool
wants_region(const Subscription *subscription, const char *region)
{
	if (subscription->region_count == 0)
		return true;
	for (int i = 0; region != NULL && i < subscription->region_count; i++)
		if (strcmp(subscription->regions[i], region) == 0)
			return true;
	return false;
}

bool
subscription_wants(const Subscription *subscription, const DeliveryEvent *event)
{
	Assert(subscription->tenant_id > 0 && event->tenant_id > 0);
	Assert(subscription->pattern_count > 0);
	return wants_tenant(subscription, event->tenant_id) &&
		wants_region(subscription, event->region) &&
		event_patterns_match(subscription->patterns, subscription->pattern_count,
							 event->event_type);
}

/* ---------- checking ---------- */

/* What is wrong with the pattern, or NULL. */
static const char *
pattern_fault(const char *pattern)
{
	int			words = 0;
	const char *word;

	if (pattern[0] == '!')
		pattern++;
	if (strlen(pattern) > EVENT_TYPE_BYTES_MAX)
		return "a pattern has at most 128 bytes";
	if (strcmp(pattern, "*") == 0)
		return NULL;
	for (word = pattern;; words++)
	{
		size_t		length = strcspn(word, ".");

		if (!word_is_star(word, length) &&
			(length == 0 || strspn(word, "abcdefghijklmnopqrstuvwxyz0123456789_") < length))
			return "expected are words of a-z, 0-9 and '_', or '*', with dots between, "
				"perhaps with '!' before them";
		if (word[length] == '\0')
			break;
		word += length + 1;
	}
	if (words == 0)
		return "an event type has at least two words: it would never fit";
	return NULL;
}

void
event_patterns_check(const TextList *patterns)
{
	bool		has_positive = false;

	if (patterns->count == 0)
		error_raise_field(FAILSAFE_SUBSCRIPTION_INVALID, "event_types", "the list is empty");
	if (patterns->count > EVENT_PATTERNS_MAX)
		error_raise_field(FAILSAFE_SUBSCRIPTION_INVALID, "event_types",
						  psprintf("at most %d patterns are allowed", EVENT_PATTERNS_MAX));
	for (int i = 0; i < patterns->count; i++)
	{
		const char *pattern = patterns->items[i];
		const char *fault = pattern == NULL ? "an element is NULL" : pattern_fault(pattern);

		if (fault != NULL)
			error_raise_field(FAILSAFE_SUBSCRIPTION_INVALID, "event_types",
							  pattern == NULL ? fault :
							  psprintf("\"%.*s\": %s",
									   pg_mbcliplen(pattern, strlen(pattern), PATTERN_SHOWN_BYTES),
									   pattern, fault));
		has_positive |= pattern[0] != '!';
	}
	if (!has_positive)
		error_raise_field(FAILSAFE_SUBSCRIPTION_INVALID, "event_types",
						  "with '!' alone nothing is heard: begin the list with '*'");
}
