-- base: currencies, and the functions that convert by them.

-- ISO 4217.  Left out are the codes to which it gives no minor unit (metals, bond
-- units, special drawing rights, testing): an exponent never changes once money is
-- counted in it, so whoever needs one chooses it with currency_add().  A few codes that
-- were withdrawn lately stay, because old books name them.
INSERT INTO failsafe.currency (code, exponent, builtin)
SELECT code, exponent, true
FROM (VALUES
	(0, 'BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF'),
	(2, 'AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN
		BWP BYN BZD CAD CDF CHE CHF CHW CNY COP COU CRC CUC CUP CVE CZK DKK DOP DZD EGP ERN
		ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HRK HTG HUF IDR ILS INR IRR JMD
		KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR
		MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB
		SAR SBD SCR SDG SEK SGD SHP SLE SLL SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY
		TTD TWD TZS UAH USD USN UYU UZS VED VES WST XAD XCD XCG YER ZAR ZMW ZWG ZWL'),
	(3, 'BHD IQD JOD KWD LYD OMR TND'),
	(4, 'CLF UYW')
) AS list (exponent, codes),
	pg_catalog.regexp_split_to_table(pg_catalog.btrim(codes), '\s+') AS code
ORDER BY code;

COMMENT ON TABLE failsafe.currency IS
	'Currencies: ISO 4217 is preloaded, currency_add() adds others. Rows never change.';
COMMENT ON COLUMN failsafe.currency.code IS
	'1 to 16 upper-case letters, digits or _: EUR, USD, BTC.';
COMMENT ON COLUMN failsafe.currency.exponent IS
	'Decimal places of one major unit: 2 for EUR, so that 5000 is 50.00 EUR.';
COMMENT ON COLUMN failsafe.currency.builtin IS
	'True for the preloaded rows, which a dump leaves out.';
COMMENT ON COLUMN failsafe.currency.created_at IS
	'When the row was added.';

CREATE FUNCTION failsafe.currency_add(code text, exponent int)
RETURNS bool
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'failsafe_currency_add';

COMMENT ON FUNCTION failsafe.currency_add(text, int) IS
	'Adds a currency. code: 1 to 16 upper-case letters, digits or _. exponent: decimal places, 0 to 24, for ever. Returns true when it is new, false when it was there with this exponent. Another exponent is CURRENCY_CONFLICT.';

CREATE FUNCTION failsafe.minor(amount numeric, currency text)
RETURNS numeric
LANGUAGE C STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'failsafe_minor';

COMMENT ON FUNCTION failsafe.minor(numeric, text) IS
	'Major units to minor units, exactly: minor(50.00, ''EUR'') is 5000. An amount with more decimal places than the currency is AMOUNT_HAS_FRACTION, an unknown currency CURRENCY_UNKNOWN.';

CREATE FUNCTION failsafe.major(amount numeric, currency text)
RETURNS numeric
LANGUAGE C STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'failsafe_major';

COMMENT ON FUNCTION failsafe.major(numeric, text) IS
	'Minor units to major units, with the decimal places of the currency: major(5000, ''EUR'') is 50.00.';

CREATE FUNCTION failsafe.business_key(VARIADIC parts text[])
RETURNS text
LANGUAGE C IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'failsafe_business_key';

COMMENT ON FUNCTION failsafe.business_key(text[]) IS
	'An idempotency key from the parts of a business operation: business_key(''payout'', ''po_001'') is payout:po_001. Different parts give different keys: inside a part, '':'', ''%'', blanks and control characters are written as %XX. A NULL or empty part, and more than 255 bytes, are IDEMPOTENCY_KEY_INVALID.';
