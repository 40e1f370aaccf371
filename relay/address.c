/*
 * relay/address.c
 *	  Decides by the resolved address, so a name that changes what it resolves to
 *	  gains nothing.
 *
 * Invariants
 *	 1. IPv4 in any IPv6 clothes is judged as IPv4 (mapped), or is restricted as a whole
 *		(compatible, NAT64, 6to4, Teredo).
 *	 2. IPv6 outside 2000::/3 is restricted, known or not.
 *	 3. An allowed range decides alone; an allowed name never opens link-local, multicast,
 *		unspecified or broadcast addresses: that is where clouds keep credentials.
 */
#include "address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "assertion.h"
#include "text.h"

#define V4_PREFIX_BITS	96
#define ADDRESS_BITS	128
#define HOST_BYTES_MAX	253

typedef struct RestrictedRange
{
	const char *range;
	const char *name;
	bool		never_by_name;
} RestrictedRange;

/* IANA's special-purpose registries; the first that fits gives the name. */
static const RestrictedRange restricted[] = {
	{"0.0.0.0/8", "this network", true},
	{"10.0.0.0/8", "private", false},
	{"100.64.0.0/10", "shared address space", false},
	{"127.0.0.0/8", "loopback", false},
	{"169.254.0.0/16", "link-local", true},
	{"172.16.0.0/12", "private", false},
	{"192.0.0.0/24", "protocol assignments", false},
	{"192.0.2.0/24", "documentation", false},
	{"192.88.99.0/24", "6to4 relay", false},
	{"192.168.0.0/16", "private", false},
	{"198.18.0.0/15", "benchmarking", false},
	{"198.51.100.0/24", "documentation", false},
	{"203.0.113.0/24", "documentation", false},
	{"224.0.0.0/4", "multicast", true},
	{"255.255.255.255/32", "broadcast", true},
	{"240.0.0.0/4", "reserved", true},
	{"::/128", "unspecified", true},
	{"::1/128", "loopback", false},
	{"::/96", "IPv4-compatible", true},
	{"64:ff9b::/96", "NAT64", true},
	{"64:ff9b:1::/48", "NAT64", true},
	{"100::/64", "discard-only", true},
	{"2001::/32", "Teredo", true},
	{"2001:10::/28", "ORCHID", false},
	{"2001:20::/28", "ORCHID", false},
	{"2001:db8::/32", "documentation", false},
	{"2002::/16", "6to4", true},
	{"3fff::/20", "documentation", false},
	{"5f00::/16", "segment routing", false},
	{"fc00::/7", "unique local", false},
	{"fe80::/10", "link-local", true},
	{"fec0::/10", "site-local", false},
	{"ff00::/8", "multicast", true},
};

#define RESTRICTED_COUNT	(sizeof(restricted) / sizeof(restricted[0]))

static const uint8_t v4_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};

static bool
is_v4(const Address *address)
{
	return memcmp(address->byte, v4_prefix, sizeof(v4_prefix)) == 0;
}

static void
set_v4(Address *address, const void *bytes)
{
	memcpy(address->byte, v4_prefix, sizeof(v4_prefix));
	memcpy(address->byte + sizeof(v4_prefix), bytes, 4);
}

bool
address_parse(const char *text, Address *address)
{
	struct in_addr v4;

	if (inet_pton(AF_INET, text, &v4) == 1)
	{
		set_v4(address, &v4);
		return true;
	}
	return inet_pton(AF_INET6, text, address->byte) == 1;
}

bool
address_from_socket(const struct sockaddr *socket_address, Address *address)
{
	if (socket_address->sa_family == AF_INET)
	{
		struct sockaddr_in v4;

		memcpy(&v4, socket_address, sizeof(v4));
		set_v4(address, &v4.sin_addr);
		return true;
	}
	if (socket_address->sa_family == AF_INET6)
	{
		struct sockaddr_in6 v6;

		memcpy(&v6, socket_address, sizeof(v6));
		memcpy(address->byte, &v6.sin6_addr, sizeof(address->byte));
		return true;
	}
	return false;
}

void
address_text(const Address *address, char text[ADDRESS_TEXT_BYTES])
{
	const char *written;

	if (is_v4(address))
		written = inet_ntop(AF_INET, address->byte + sizeof(v4_prefix), text, ADDRESS_TEXT_BYTES);
	else
		written = inet_ntop(AF_INET6, address->byte, text, ADDRESS_TEXT_BYTES);
	Assert(written == text);
	(void) written;
}

/* The digits of a prefix length, or -1. */
static int
prefix_bits(const char *digits, int most)
{
	int			bits = 0;

	if (*digits == '\0' || strlen(digits) > 3)
		return -1;
	for (; *digits != '\0'; digits++)
	{
		if (*digits < '0' || *digits > '9')
			return -1;
		bits = bits * 10 + (*digits - '0');
	}
	return bits <= most ? bits : -1;
}

bool
address_range_parse(const char *text, AddressRange *range)
{
	char		host[ADDRESS_TEXT_BYTES];
	const char *slash = strchr(text, '/');
	size_t		length = slash != NULL ? (size_t) (slash - text) : strlen(text);
	bool		dotted;
	int			bits;

	if (length == 0 || length >= sizeof(host))
		return false;
	memcpy(host, text, length);
	host[length] = '\0';
	if (!address_parse(host, &range->first))
		return false;
	dotted = strchr(host, ':') == NULL;
	bits = dotted ? ADDRESS_BITS - V4_PREFIX_BITS : ADDRESS_BITS;
	if (slash != NULL)
		bits = prefix_bits(slash + 1, bits);
	if (bits < 0)
		return false;
	range->bits = dotted ? bits + V4_PREFIX_BITS : bits;
	Assert(range->bits <= ADDRESS_BITS);
	return true;
}

bool
address_range_contains(const AddressRange *range, const Address *address)
{
	int			whole = range->bits / 8;
	int			rest = range->bits % 8;
	uint8_t		mask = (uint8_t) (0xFF << (8 - rest));

	Assert(range->bits >= 0 && range->bits <= ADDRESS_BITS);
	if (memcmp(range->first.byte, address->byte, (size_t) whole) != 0)
		return false;
	return rest == 0 || ((range->first.byte[whole] ^ address->byte[whole]) & mask) == 0;
}

/* The table as ranges, read once. */
static const AddressRange *
restricted_ranges(void)
{
	static AddressRange ranges[RESTRICTED_COUNT];
	static bool read = false;

	for (size_t i = 0; !read && i < RESTRICTED_COUNT; i++)
	{
		bool		good = address_range_parse(restricted[i].range, &ranges[i]);

		Assert(good);
		(void) good;
	}
	read = true;
	return ranges;
}

const char *
address_restricted(const Address *address, bool *never_by_name)
{
	const AddressRange *ranges = restricted_ranges();

	for (size_t i = 0; i < RESTRICTED_COUNT; i++)
	{
		if (address_range_contains(&ranges[i], address))
		{
			*never_by_name = restricted[i].never_by_name;
			return restricted[i].name;
		}
	}
	*never_by_name = true;
	if (!is_v4(address) && (address->byte[0] & 0xE0) != 0x20)
		return "not global unicast";
	return NULL;
}

static bool
host_name_valid(const char *name)
{
	size_t		length = strlen(name);

	if (length == 0 || length > HOST_BYTES_MAX)
		return false;
	for (size_t i = 0; i < length; i++)
	{
		char		c = name[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
			  c == '-' || c == '_' || c == '.'))
			return false;
	}
	/* 127.1 and the like look like names, and nobody means one by them. */
	return !(name[length - 1] >= '0' && name[length - 1] <= '9' &&
			 strspn(name, "0123456789.") == length);
}

bool
allow_list_add(AllowList *list, const char *entry)
{
	if (list->range_count == ALLOW_ENTRIES_MAX || list->name_count == ALLOW_ENTRIES_MAX)
		return false;
	if (address_range_parse(entry, &list->range[list->range_count]))
	{
		list->range_count++;
		return true;
	}
	if (!host_name_valid(entry))
		return false;
	list->name[list->name_count++] = memory_copy(entry, strlen(entry));
	return true;
}

void
allow_list_free(AllowList *list)
{
	for (int i = 0; i < list->name_count; i++)
		free(list->name[i]);
	memset(list, 0, sizeof(AllowList));
}

bool
address_allowed(const AllowList *list, const char *host, const Address *address,
				const char **range)
{
	bool		never_by_name;

	*range = address_restricted(address, &never_by_name);
	if (*range == NULL)
		return true;
	for (int i = 0; i < list->range_count; i++)
	{
		if (address_range_contains(&list->range[i], address))
			return true;
	}
	for (int i = 0; !never_by_name && i < list->name_count; i++)
	{
		if (strcasecmp(list->name[i], host) == 0)
			return true;
	}
	return false;
}
