-- Currencies, minor and major units, business keys.

-- Major units to minor units, exactly or not at all.
SELECT failsafe.minor(50.00, 'EUR') AS eur, failsafe.minor(50, 'JPY') AS jpy,
	failsafe.minor(1.234, 'KWD') AS kwd, failsafe.minor(-0.01, 'USD') AS usd;
SELECT failsafe.minor(50.005, 'EUR');
SELECT failsafe.minor('NaN', 'EUR');
SELECT failsafe.minor(1e35, 'EUR');
SELECT failsafe.minor(1, 'eur');
SELECT failsafe.minor(NULL, 'EUR') IS NULL AS is_null;

-- And back, with the currency's decimal places.
SELECT failsafe.major(5000, 'EUR') AS eur, failsafe.major(5000, 'JPY') AS jpy,
	failsafe.major(1, 'KWD') AS kwd, failsafe.major(-5, 'USD') AS usd;
SELECT failsafe.major(50.00, 'EUR');

-- Currencies beyond ISO 4217.
BEGIN;
SELECT failsafe.currency_add('WEI', 18) AS is_new;
SELECT failsafe.currency_add('WEI', 18) AS is_new;
SELECT failsafe.major(1, 'WEI');
ROLLBACK;
SELECT failsafe.major(1, 'WEI');
SELECT failsafe.currency_add('EUR', 2) AS is_new;
SELECT failsafe.currency_add('EUR', 3);
SELECT failsafe.currency_add('wei', 18);
SELECT failsafe.currency_add('WEI', 25);
SELECT failsafe.currency_add(NULL, 2);

-- The preloaded ones.
SELECT exponent, count(*) FROM failsafe.currency WHERE builtin GROUP BY 1 ORDER BY 1;

-- Keys from parts; other parts, another key.
SELECT failsafe.business_key('payout', 'po_001') AS plain,
	failsafe.business_key('a:b', 'c') AS colon_first,
	failsafe.business_key('a', 'b:c') AS colon_last,
	failsafe.business_key(' a%') AS escaped;
SELECT failsafe.business_key('payout', NULL);
SELECT failsafe.business_key('payout', '');
SELECT failsafe.business_key(VARIADIC '{}'::text[]);
SELECT failsafe.business_key(repeat('x', 256));
