/*
 * base/money.c
 *	  Whole minor units between numeric, int128 and text.
 *
 * Owns: the codec of money.h.  Every function here is pure: the answer depends
 * on the arguments alone, and nothing raises but a failing allocation.
 *
 * Numerics are read from and written as their stored digits.  The server has no
 * exported conversion between numeric and 128-bit integers, and its text form
 * costs several times more.  The stored layout has not changed since it got its
 * short header, and cannot: data directories carry it through pg_upgrade.
 *
 * Invariants: M1 to M4 of money.h, and
 *	M5	A numeric made here is, byte for byte, the one that numeric_in() makes of
 *		the same number, so grouping and datumIsEqual() treat both alike.
 *
 * Takes no locks.
 */
#include "postgres.h"

#include "base/compat.h"
#include "base/money.h"
#include "utils/builtins.h"

/*
 * The stored form: a varlena header, a 16-bit header, in the long form a 16-bit
 * weight, then base-10000 digits, the most significant first.  The value is
 * digit[0] * 10000^weight + digit[1] * 10000^(weight - 1) + ..., and neither the
 * first nor the last digit is zero.
 */
#define NUMERIC_BASE				10000
#define NUMERIC_BASE_DIGITS			4	/* decimal digits in one base digit */
#define NUMERIC_FORM_MASK			0xC000
#define NUMERIC_FORM_NEGATIVE		0x4000	/* long form, below zero */
#define NUMERIC_FORM_SHORT			0x8000
#define NUMERIC_FORM_SPECIAL		0xC000
#define NUMERIC_SPECIAL_MASK		0xF000
#define NUMERIC_SPECIAL_INFINITY	0xD000
#define NUMERIC_SPECIAL_MINUS_INFINITY	0xF000
#define NUMERIC_LONG_SCALE_MASK		0x3FFF
#define NUMERIC_SHORT_NEGATIVE		0x2000
#define NUMERIC_SHORT_SCALE_MASK	0x1F80
#define NUMERIC_SHORT_WEIGHT_SIGN	0x0040
#define NUMERIC_SHORT_WEIGHT_MASK	0x003F

#define MONEY_E16				INT64CONST(10000000000000000)
#define MONEY_DIGITS_MAX		38	/* decimal digits of BALANCE_MINOR_MAX */
#define MONEY_BASE_DIGITS_MAX	10	/* base digits of any int128 */
#define MONEY_CHUNKS_MAX		3	/* groups of 16 decimal digits of any int128 */

/* A finite numeric, taken apart. */
typedef struct NumericParts
{
	bool		negative;
	int			scale;			/* decimal places shown */
	int			weight;
	int			digit_count;
	const int16 *digits;
} NumericParts;

static inline uint16
numeric_header(Numeric value)
{
	Assert(value != NULL && !VARATT_IS_EXTENDED(value));
	Assert(VARSIZE(value) >= VARHDRSZ + sizeof(uint16));

	return *(const uint16 *) VARDATA(value);
}

/* Take a numeric apart; false when it is NaN or an infinity. */
static bool
numeric_parts(Numeric value, NumericParts *parts)
{
	uint16		header = numeric_header(value);
	int			header_bytes;

	if ((header & NUMERIC_FORM_MASK) == NUMERIC_FORM_SPECIAL)
		return false;

	if (header & NUMERIC_FORM_SHORT)
	{
		header_bytes = VARHDRSZ + sizeof(uint16);
		parts->negative = (header & NUMERIC_SHORT_NEGATIVE) != 0;
		parts->scale = (header & NUMERIC_SHORT_SCALE_MASK) >> 7;
		parts->weight = header & NUMERIC_SHORT_WEIGHT_MASK;
		if (header & NUMERIC_SHORT_WEIGHT_SIGN)
			parts->weight -= NUMERIC_SHORT_WEIGHT_MASK + 1;
	}
	else
	{
		header_bytes = VARHDRSZ + sizeof(uint16) + sizeof(int16);
		parts->negative = (header & NUMERIC_FORM_MASK) == NUMERIC_FORM_NEGATIVE;
		parts->scale = header & NUMERIC_LONG_SCALE_MASK;
		parts->weight = *(const int16 *) (VARDATA(value) + sizeof(uint16));
	}

	parts->digit_count = (VARSIZE(value) - header_bytes) / sizeof(int16);
	parts->digits = (const int16 *) ((const char *) value + header_bytes);
	Assert(parts->digit_count >= 0);
	Assert(parts->digit_count == 0 ||
		   (parts->digits[0] > 0 && parts->digits[0] < NUMERIC_BASE));
	return true;
}

/* 10^power; power is 0 .. MONEY_DIGITS_MAX. */
static int128
power_of_ten(int power)
{
	int128		result = 1;

	Assert(power >= 0 && power <= MONEY_DIGITS_MAX);
	while (power-- > 0)
		result *= 10;
	return result;
}

/*
 * Add digit * 10^power to *sum.  A negative power asks for an exact division.
 * The sum never passes BALANCE_MINOR_MAX: the digits of one number don't overlap.
 */
static MoneyStatus
add_digit(int128 *sum, int digit, int power)
{
	Assert(digit >= 0 && digit < NUMERIC_BASE);
	Assert(*sum >= 0 && *sum <= BALANCE_MINOR_MAX);

	if (digit == 0)
		return MONEY_OK;
	if (power <= -NUMERIC_BASE_DIGITS)
		return MONEY_HAS_SCALE;
	if (power < 0)
	{
		int			divisor = (int) power_of_ten(-power);

		if (digit % divisor != 0)
			return MONEY_HAS_SCALE;
		*sum += digit / divisor;
		return MONEY_OK;
	}
	if (power >= MONEY_DIGITS_MAX ||
		digit > BALANCE_MINOR_MAX / power_of_ten(power))
		return MONEY_TOO_LARGE;
	*sum += digit * power_of_ten(power);
	return MONEY_OK;
}

MoneyStatus
money_from_numeric(Numeric value, int128 *minor)
{
	NumericParts parts;
	int64		sum = 0;

	if (!numeric_parts(value, &parts))
		return MONEY_NOT_FINITE;
	if (parts.scale > 0)
		return MONEY_HAS_SCALE;

	/* Nearly every amount has at most 16 digits: 64-bit arithmetic is enough. */
	if (parts.weight >= NUMERIC_BASE_DIGITS || parts.digit_count > parts.weight + 1)
		return money_from_major(value, 0, minor);
	for (int i = 0; i < parts.digit_count; i++)
		sum = sum * NUMERIC_BASE + parts.digits[i];
	for (int i = parts.digit_count; i <= parts.weight; i++)
		sum *= NUMERIC_BASE;

	Assert(sum >= 0 && sum < MONEY_E16);
	*minor = parts.negative ? -sum : sum;
	return MONEY_OK;
}

MoneyStatus
money_from_major(Numeric value, int exponent, int128 *minor)
{
	NumericParts parts;
	MoneyStatus status = MONEY_OK;
	int128		sum = 0;

	Assert(exponent >= 0 && exponent <= CURRENCY_EXPONENT_MAX);

	if (!numeric_parts(value, &parts))
		return MONEY_NOT_FINITE;

	/* A fraction outranks the size, as in the catalogue: look at the end first. */
	for (int i = parts.digit_count - 1; i >= 0; i--)
	{
		MoneyStatus found = add_digit(&sum, parts.digits[i],
									  (parts.weight - i) * NUMERIC_BASE_DIGITS + exponent);

		if (found == MONEY_HAS_SCALE)
			return found;
		if (found != MONEY_OK)
			status = found;
	}
	if (status == MONEY_OK)
		*minor = parts.negative ? -sum : sum;
	return status;
}

int
money_numeric_infinity(Numeric value)
{
	uint16		special = numeric_header(value) & NUMERIC_SPECIAL_MASK;

	StaticAssertStmt((NUMERIC_SPECIAL_INFINITY & NUMERIC_FORM_MASK) == NUMERIC_FORM_SPECIAL &&
					 (NUMERIC_SPECIAL_MINUS_INFINITY & NUMERIC_FORM_MASK) == NUMERIC_FORM_SPECIAL,
					 "a finite numeric must not look like an infinity");

	if (special == NUMERIC_SPECIAL_INFINITY)
		return 1;
	if (special == NUMERIC_SPECIAL_MINUS_INFINITY)
		return -1;
	return 0;
}

/* |minor|; well defined for the smallest int128 too. */
static inline uint128
magnitude(int128 minor)
{
	return minor < 0 ? -(uint128) minor : (uint128) minor;
}

/*
 * Cut a magnitude into groups of 16 decimal digits, the least significant first.
 * At most two 128-bit divisions; everything after works on 64 bits.
 */
static int
split_chunks(uint128 value, uint64 chunks[MONEY_CHUNKS_MAX])
{
	int			count = 0;

	while (value >= MONEY_E16)
	{
		chunks[count++] = (uint64) (value % MONEY_E16);
		value /= MONEY_E16;
	}
	chunks[count++] = (uint64) value;

	Assert(count <= MONEY_CHUNKS_MAX);
	Assert(chunks[count - 1] > 0 || count == 1);
	return count;
}

/*
 * The base digits of a magnitude, the least significant first.  Returns their
 * number, without leading zeros: 0 for zero.
 */
static int
split_base_digits(uint128 value, int16 digits[MONEY_CHUNKS_MAX * NUMERIC_BASE_DIGITS])
{
	uint64		chunks[MONEY_CHUNKS_MAX];
	int			chunk_count = split_chunks(value, chunks);
	int			count = 0;

	for (int i = 0; i < chunk_count; i++)
	{
		for (int j = 0; j < NUMERIC_BASE_DIGITS; j++)
		{
			digits[count++] = (int16) (chunks[i] % NUMERIC_BASE);
			chunks[i] /= NUMERIC_BASE;
		}
		Assert(chunks[i] == 0);
	}
	while (count > 0 && digits[count - 1] == 0)
		count--;

	Assert(count <= MONEY_BASE_DIGITS_MAX);
	return count;
}

Numeric
money_to_numeric(int128 minor)
{
	int16		digits[MONEY_CHUNKS_MAX * NUMERIC_BASE_DIGITS];
	int			count = split_base_digits(magnitude(minor), digits);
	int			weight = count > 0 ? count - 1 : 0;
	int			zeros = 0;
	uint16		header = NUMERIC_FORM_SHORT | (uint16) weight;
	Size		size;
	Numeric		result;
	int16	   *target;

	Assert(weight <= NUMERIC_SHORT_WEIGHT_MASK);

	/* Zeros at the end are not stored; the weight tells of them. */
	while (zeros < count && digits[zeros] == 0)
		zeros++;
	if (minor < 0)
		header |= NUMERIC_SHORT_NEGATIVE;

	size = VARHDRSZ + sizeof(uint16) + (count - zeros) * sizeof(int16);
	result = (Numeric) palloc(size);
	SET_VARSIZE(result, size);
	*(uint16 *) VARDATA(result) = header;
	target = (int16 *) (VARDATA(result) + sizeof(uint16));
	for (int i = count - 1; i >= zeros; i--)
		*target++ = digits[i];

	Assert((char *) target == (char *) result + size);
	return result;
}

int
money_to_text(int128 minor, char *buffer)
{
	uint64		chunks[MONEY_CHUNKS_MAX];
	int			count = split_chunks(magnitude(minor), chunks);
	char	   *end = buffer;

	if (minor < 0)
		*end++ = '-';
	end += pg_ulltoa_n(chunks[count - 1], end);
	for (int i = count - 2; i >= 0; i--)
	{
		uint64		rest = chunks[i];

		for (int j = 15; j >= 0; j--)
		{
			end[j] = (char) ('0' + rest % 10);
			rest /= 10;
		}
		end += 16;
	}
	*end = '\0';

	Assert(end - buffer > 0 && end - buffer < MONEY_TEXT_SIZE);
	return (int) (end - buffer);
}

static inline bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* The end of a run of digits. */
static inline const char *
skip_digits(const char *text, const char *end)
{
	while (text < end && is_digit(*text))
		text++;
	return text;
}

/*
 * What follows the digits of a number that is not whole: ".5", "e3", ".5e-3".
 * True when that is well formed and goes up to the end.
 */
static bool
is_number_tail(const char *text, const char *end)
{
	Assert(text < end);

	if (*text == '.')
	{
		const char *digits = ++text;

		text = skip_digits(text, end);
		if (text == digits)
			return false;
	}
	if (text < end && (*text == 'e' || *text == 'E'))
	{
		const char *digits;

		text++;
		if (text < end && (*text == '+' || *text == '-'))
			text++;
		digits = text;
		text = skip_digits(text, end);
		if (text == digits)
			return false;
	}
	return text == end;
}

MoneyStatus
money_from_text(const char *text, int length, int128 *minor)
{
	const char *end = text + length;
	bool		negative = length > 0 && *text == '-';
	const char *digits = text + (negative ? 1 : 0);
	const char *after = skip_digits(digits, end);
	int128		sum = 0;

	Assert(length >= 0);

	if (after == digits || (*digits == '0' && after - digits > 1))
		return MONEY_NOT_FINITE;
	if (after < end)
		return is_number_tail(after, end) ? MONEY_HAS_SCALE : MONEY_NOT_FINITE;
	if (after - digits > MONEY_DIGITS_MAX)
		return MONEY_TOO_LARGE;

	for (; digits < after; digits++)
		sum = sum * 10 + (*digits - '0');

	Assert(sum >= 0 && sum <= BALANCE_MINOR_MAX);
	*minor = negative ? -sum : sum;
	return MONEY_OK;
}
