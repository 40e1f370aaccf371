/*
 * base/currency.h
 *	  Which currencies there are, and how many decimal places each has.
 */
#ifndef FAILSAFE_BASE_CURRENCY_H
#define FAILSAFE_BASE_CURRENCY_H

#define CURRENCY_CODE_BYTES_MAX	16

/*
 * The exponent of a currency: 2 for EUR.  False when there is none of this code.
 * Cached; only committed rows enter the cache [F10].
 */
extern bool currency_exponent(const char *code, int *exponent);

#endif							/* FAILSAFE_BASE_CURRENCY_H */
