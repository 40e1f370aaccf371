/*
 * relay/address.h
 *	  Which addresses a destination may have.  Pure: no look-up, no socket.
 */
#ifndef FAILSAFE_RELAY_ADDRESS_H
#define FAILSAFE_RELAY_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ADDRESS_TEXT_BYTES	64
#define ALLOW_ENTRIES_MAX	100

struct sockaddr;

/* IPv6; an IPv4 address is in its mapped form, ::ffff:a.b.c.d. */
typedef struct Address
{
	uint8_t		byte[16];
} Address;

typedef struct AddressRange
{
	Address		first;
	int			bits;			/* of 128 */
} AddressRange;

/* What a destination may reach beyond the public internet. */
typedef struct AllowList
{
	int			range_count;
	AddressRange range[ALLOW_ENTRIES_MAX];
	int			name_count;
	char	   *name[ALLOW_ENTRIES_MAX];
} AllowList;

extern bool address_parse(const char *text, Address *address);
extern bool address_from_socket(const struct sockaddr *socket_address, Address *address);
extern void address_text(const Address *address, char text[ADDRESS_TEXT_BYTES]);

/* "10.0.0.0/8", "::1", "fd00::/8" */
extern bool address_range_parse(const char *text, AddressRange *range);
extern bool address_range_contains(const AddressRange *range, const Address *address);

/*
 * Why the address is not reachable by default: the name of its range, NULL for a public
 * one.  *never_by_name: an allowed host name is not enough for it either.
 */
extern const char *address_restricted(const Address *address, bool *never_by_name);

/* false: not an address, not a range, not a host name, or too many */
extern bool allow_list_add(AllowList *list, const char *entry);
extern void allow_list_free(AllowList *list);

/* May the host, which has this address, be reached?  *range says why not. */
extern bool address_allowed(const AllowList *list, const char *host, const Address *address,
							const char **range);

#endif							/* FAILSAFE_RELAY_ADDRESS_H */
