/*
 * base/money.h
 *	  Whole minor units: numeric in SQL, int128 in C, never a float.
 *
 * Invariants:
 *	M1	An amount is a whole number, |amount| <= AMOUNT_MINOR_MAX (10^36 - 1).
 *	M2	A balance is a whole number, |balance| <= BALANCE_MINOR_MAX (10^38 - 1).
 *	M3	Every addition is checked; nothing wraps.
 *	M4	Numeric values made here have display scale 0.
 *
 * int128 is PostgreSQL's type (8-byte aligned); a raw __int128 crashes in
 * palloc'd memory because palloc aligns to 8 bytes only.
 */
#ifndef FAILSAFE_BASE_MONEY_H
#define FAILSAFE_BASE_MONEY_H

#include "utils/numeric.h"

#ifndef HAVE_INT128
#error "pg_failsafe needs a compiler with 128-bit integers"
#endif

#define MONEY_E18			((int128) INT64CONST(1000000000000000000))
#define AMOUNT_MINOR_MAX	(MONEY_E18 * MONEY_E18 - 1)
#define BALANCE_MINOR_MAX	(MONEY_E18 * MONEY_E18 * 100 - 1)

/* Decimal places of a currency. */
#define CURRENCY_EXPONENT_MAX	24

/* "-" and 39 digits and the end */
#define MONEY_TEXT_SIZE		41

typedef enum MoneyStatus
{
	MONEY_OK,
	MONEY_NOT_FINITE,			/* NaN, Infinity, -Infinity */
	MONEY_HAS_SCALE,			/* display scale above 0, even 50.00 */
	MONEY_TOO_LARGE				/* beyond BALANCE_MINOR_MAX */
} MoneyStatus;

/* Read a numeric; *minor is set only when MONEY_OK is returned. */
extern MoneyStatus money_from_numeric(Numeric value, int128 *minor);

/*
 * Read value * 10^exponent, whatever the display scale: 50.00 EUR is 5000.
 * MONEY_HAS_SCALE when that is no whole number.
 */
extern MoneyStatus money_from_major(Numeric value, int exponent, int128 *minor);

/* +1 when the numeric is Infinity, -1 for -Infinity, else 0. */
extern int	money_numeric_infinity(Numeric value);

/* A numeric of display scale 0, palloc'd in the current context. */
extern Numeric money_to_numeric(int128 minor);

/* Decimal text into buffer[MONEY_TEXT_SIZE]; returns its length. */
extern int	money_to_text(int128 minor, char *buffer);

/*
 * Strict decimal text: an optional '-', digits, nothing else; no leading '+',
 * no blanks, no fraction, no exponent.  Leading zeros are refused except "0".
 * Returns MONEY_OK, MONEY_HAS_SCALE (a '.' or exponent follows digits),
 * MONEY_TOO_LARGE, or MONEY_NOT_FINITE for everything else that is no number.
 */
extern MoneyStatus money_from_text(const char *text, int length, int128 *minor);

/* a + b into *sum; false when |sum| would pass BALANCE_MINOR_MAX. */
static inline bool
money_add(int128 a, int128 b, int128 *sum)
{
	int128		result;

	if (__builtin_add_overflow(a, b, &result) ||
		result > BALANCE_MINOR_MAX || result < -BALANCE_MINOR_MAX)
		return false;
	*sum = result;
	return true;
}

/* a - b into *difference; false when out of range. */
static inline bool
money_subtract(int128 a, int128 b, int128 *difference)
{
	return money_add(a, -b, difference);
}

#endif							/* FAILSAFE_BASE_MONEY_H */
