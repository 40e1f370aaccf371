-- Expectations of the unit tests in a database with encoding UTF8.

\ir helpers.sql

\o /dev/null

-- ==== numeric to int128

SELECT expect('money_read(' || v || ')', money_read(v::numeric), e)
FROM (VALUES
	('0', '0'), ('1', '1'), ('-1', '-1'), ('9999', '9999'), ('10000', '10000'),
	('-10000', '-10000'), ('10001', '10001'), ('100000000', '100000000'),
	('1234567890123456', '1234567890123456'), ('9999999999999999', '9999999999999999'),
	('10000000000000000', '10000000000000000'),
	('9223372036854775808', '9223372036854775808'),
	('-9223372036854775809', '-9223372036854775809'),
	(repeat('9', 36), repeat('9', 36)),
	(repeat('9', 38), repeat('9', 38)), ('-' || repeat('9', 38), '-' || repeat('9', 38)),
	('1' || repeat('0', 37), '1' || repeat('0', 37)),
	('1' || repeat('0', 38), 'too large'), ('-1' || repeat('0', 38), 'too large'),
	('1e40', 'too large'), ('1e131071', 'too large'),
	('0.0', 'has scale'), ('50.00', 'has scale'), ('0.5', 'has scale'), ('-0.001', 'has scale'),
	(repeat('9', 40) || '.5', 'has scale'),
	('NaN', 'not finite'), ('Infinity', 'not finite'), ('-Infinity', 'not finite')
) AS t (v, e);

SELECT expect('same bytes ' || v, money_same_bytes(v)::text, 'true')
FROM unnest('{0,1,-1,9999,10000,-10000,100000000,10001,120000,1000000000000000000000}'::numeric[]) v;

-- A value stored in a row is unaligned, may be compressed and may have the long header.
CREATE TABLE stored (pad "char", short numeric, wide numeric(200, 100));
INSERT INTO stored VALUES ('x', 5000, 5000);
SELECT expect('stored short', money_read(short), '5000') FROM stored;
SELECT expect('stored with scale', money_read(wide), 'has scale') FROM stored;
SELECT expect('stored with scale as major', money_major(wide, 2), '500000') FROM stored;

SELECT expect('infinity ' || v, infinity(v)::text, e)
FROM (VALUES ('Infinity'::numeric, '1'), ('-Infinity', '-1'), ('NaN', '0'), ('5', '0'),
	('-5', '0'), ('0.5', '0'), ('1e131071', '0'), ('1e-16000', '0')) AS t (v, e);

-- ==== text to int128

SELECT expect('text ' || v, money_text(v), e)
FROM (VALUES
	('0', '0'), ('-0', '0'), ('7', '7'), ('-7', '-7'), (repeat('9', 38), repeat('9', 38)),
	(repeat('9', 39), 'too large'), ('1.0', 'has scale'), ('1e3', 'has scale'),
	('1.5E-7', 'has scale'), (repeat('9', 50) || '.1', 'has scale'),
	('', 'not finite'), ('-', 'not finite'), ('+1', 'not finite'), (' 1', 'not finite'),
	('1 ', 'not finite'), ('01', 'not finite'), ('-01', 'not finite'), ('00', 'not finite'),
	('1.', 'not finite'), ('.5', 'not finite'), ('1e', 'not finite'), ('1e+', 'not finite'),
	('1.x', 'not finite'), ('0x10', 'not finite'), ('1_000', 'not finite'),
	('NaN', 'not finite'), ('Infinity', 'not finite'), ('١', 'not finite')
) AS t (v, e);

-- ==== major and minor units

SELECT expect('major ' || v || ' ' || x, money_major(v::numeric, x), e)
FROM (VALUES
	('50', 2, '5000'), ('50.00', 2, '5000'), ('50.0000', 2, '5000'), ('50.005', 2, 'has scale'),
	('0.01', 2, '1'), ('-0.01', 2, '-1'), ('0.001', 2, 'has scale'), ('1', 0, '1'),
	('0.000000000000000000000001', 24, '1'), ('1e13', 24, '1' || repeat('0', 37)),
	('1e14', 24, 'too large'), ('1e37', 0, '1' || repeat('0', 37)), ('1e38', 0, 'too large'),
	('0', 24, '0'), ('0.00', 0, '0'), ('NaN', 2, 'not finite'), ('Infinity', 2, 'not finite'),
	('123456789.123456789', 9, '123456789123456789'), ('1e-16000', 24, 'has scale')
) AS t (v, x, e);

SELECT expect(x, try(x), e)
FROM (VALUES
	($$failsafe.minor(50.00, 'EUR')$$, '5000'),
	($$failsafe.minor(50, 'EUR')$$, '5000'),
	($$failsafe.minor(-50.25, 'EUR')$$, '-5025'),
	($$failsafe.minor(50.005, 'EUR')$$, 'SF011 amount'),
	($$failsafe.minor(1, 'JPY')$$, '1'),
	($$failsafe.minor(0.5, 'JPY')$$, 'SF011 amount'),
	($$failsafe.minor(1.234, 'KWD')$$, '1234'),
	($$failsafe.minor(1.2345, 'CLF')$$, '12345'),
	($$failsafe.minor('NaN', 'EUR')$$, 'SF010 amount'),
	($$failsafe.minor('Infinity', 'EUR')$$, 'SF010 amount'),
	($$failsafe.minor(1e35, 'EUR')$$, 'SF012 amount'),
	($$failsafe.minor(1e33, 'EUR')$$, '1' || repeat('0', 35)),
	($$failsafe.minor(1, 'eur')$$, 'SF014 currency'),
	($$failsafe.minor(1, 'EUR ')$$, 'SF014 currency'),
	($$failsafe.minor(1, '')$$, 'SF014 currency'),
	($$failsafe.minor(1, repeat('X', 1000))$$, 'SF014 currency'),
	($$failsafe.minor(1, NULL)$$, NULL),
	($$failsafe.major(5000, 'EUR')$$, '50.00'),
	($$failsafe.major(5, 'EUR')$$, '0.05'),
	($$failsafe.major(-5, 'EUR')$$, '-0.05'),
	($$failsafe.major(0, 'EUR')$$, '0.00'),
	($$failsafe.major(100, 'EUR')$$, '1.00'),
	($$failsafe.major(5000, 'JPY')$$, '5000'),
	($$failsafe.major(1, 'KWD')$$, '0.001'),
	($$failsafe.major(5000.00, 'EUR')$$, 'SF011 amount'),
	($$failsafe.major('-Infinity', 'EUR')$$, 'SF010 amount'),
	($$failsafe.major(1e38, 'EUR')$$, 'SF012 amount'),
	($$failsafe.major(failsafe.minor(123.45, 'EUR'), 'EUR')$$, '123.45')
) AS t (x, e);

-- ==== currencies

SELECT expect('exponent ' || c, exponent(c)::text, e)
FROM (VALUES ('EUR', '2'), ('JPY', '0'), ('BHD', '3'), ('UYW', '4'), ('XAU', NULL),
	('xxx', NULL), ('', NULL)) AS t (c, e);
SELECT expect('all codes have three letters', count(*)::text, '0')
FROM failsafe.currency WHERE code !~ '^[A-Z]{3}$' OR NOT builtin;
SELECT expect('number of codes', count(*)::text, '171') FROM failsafe.currency;

SELECT expect(x, try(x), e)
FROM (VALUES
	($$failsafe.currency_add('BTC', 8)$$, 'true'),
	($$failsafe.currency_add('BTC', 8)$$, 'false'),
	($$failsafe.currency_add('BTC', 9)$$, 'SF068 exponent'),
	($$failsafe.currency_add('EUR', 2)$$, 'false'),
	($$failsafe.currency_add('EUR', 3)$$, 'SF068 exponent'),
	($$failsafe.currency_add('WEI', 18)$$, 'true'),
	($$failsafe.currency_add('A_1234567890ABCD', 24)$$, 'true'),
	($$failsafe.currency_add('A_1234567890ABCDE', 24)$$, 'SF068 code'),
	($$failsafe.currency_add('', 2)$$, 'SF068 code'),
	($$failsafe.currency_add('btc', 2)$$, 'SF068 code'),
	($$failsafe.currency_add('B C', 2)$$, 'SF068 code'),
	($$failsafe.currency_add('ÄÖÜ', 2)$$, 'SF068 code'),
	($$failsafe.currency_add('BAD', 25)$$, 'SF068 exponent'),
	($$failsafe.currency_add('BAD', -1)$$, 'SF068 exponent'),
	($$failsafe.currency_add(NULL, 2)$$, 'SF038 code'),
	($$failsafe.currency_add('BAD', NULL)$$, 'SF038 exponent'),
	($$failsafe.minor(0.00000001, 'BTC')$$, '1'),
	($$failsafe.major(1, 'WEI')$$, '0.000000000000000001')
) AS t (x, e);

-- A currency that is rolled back was never in the cache.
BEGIN;
SELECT failsafe.currency_add('GONE', 3);
SELECT expect('own currency is seen', exponent('GONE')::text, '3');
SELECT expect('and again', exponent('GONE')::text, '3');
ROLLBACK;
SELECT expect('rolled back currency', exponent('GONE')::text, NULL);
BEGIN;
SAVEPOINT s;
SELECT failsafe.currency_add('GONE', 4);
SELECT expect('own currency in a savepoint', exponent('GONE')::text, '4');
ROLLBACK TO s;
SELECT expect('savepoint rolled back', exponent('GONE')::text, NULL);
COMMIT;

-- A snapshot taken before does not hide a committed currency.
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT expect('read only, known', exponent('WEI')::text, '18');
SELECT expect('read only, add', try($$failsafe.currency_add('NEW', 2)$$), '25006');
SELECT expect('read only, add again', try($$failsafe.currency_add('WEI', 18)$$), 'false');
COMMIT;

-- The cache does not survive the table.
BEGIN;
SELECT expect('before the table changes', exponent('EUR')::text, '2');
UPDATE failsafe.currency SET exponent = 5 WHERE code = 'EUR';
SELECT expect('cached row', exponent('EUR')::text, '2');
ALTER TABLE failsafe.currency SET (fillfactor = 90);
SELECT expect('after an invalidation', exponent('EUR')::text, '5');
ROLLBACK;
SELECT expect('after the rollback', exponent('EUR')::text, '2');

-- The setting's name changed with 16.
SELECT set_config(name, 'on', false) FROM pg_settings
WHERE name IN ('force_parallel_mode', 'debug_parallel_query');
SELECT expect('in a parallel worker', failsafe.minor(v, 'EUR')::text, '100') FROM (SELECT 1 AS v) s;
SELECT set_config(name, 'off', false) FROM pg_settings
WHERE name IN ('force_parallel_mode', 'debug_parallel_query');

-- ==== business keys

SELECT expect(x, try(x), e)
FROM (VALUES
	($$failsafe.business_key('payout', 'po_001')$$, 'payout:po_001'),
	($$failsafe.business_key('one')$$, 'one'),
	($$failsafe.business_key('a:b', 'c')$$, 'a%3Ab:c'),
	($$failsafe.business_key('a', 'b:c')$$, 'a:b%3Ac'),
	($$failsafe.business_key('a%3Ab', 'c')$$, 'a%253Ab:c'),
	($$failsafe.business_key(' a ', E'b\n')$$, '%20a%20:b%0A'),
	($$failsafe.business_key('é')$$, 'é'),
	($$failsafe.business_key(repeat('x', 255))$$, repeat('x', 255)),
	($$failsafe.business_key(repeat('x', 256))$$, 'SF002 parts[1]'),
	($$failsafe.business_key('a', repeat(':', 85))$$, 'SF002 parts[2]'),
	($$failsafe.business_key('a', NULL)$$, 'SF002 parts[2]'),
	($$failsafe.business_key('', 'a')$$, 'SF002 parts[1]'),
	($$failsafe.business_key(VARIADIC '{}'::text[])$$, 'SF002 parts'),
	($$failsafe.business_key(VARIADIC NULL::text[])$$, 'SF002 parts'),
	($$failsafe.business_key(VARIADIC '{{a,b},{c,d}}'::text[])$$, 'SF002 parts')
) AS t (x, e);

-- ==== writing JSON

SELECT expect('members', members('a"b', 5000, 2),
	'{"text":"a\"b","lowest":-9223372036854775808,"money":5000,"bool":true,"raw":[1]}');
SELECT expect('members, plain', members('acc_42 é', -5000, 8),
	'{"text":"acc_42 é","lowest":-9223372036854775808,"money":-5000,"bool":true,"raw":[1]}');
SELECT expect('members, fine currency', members(E'\x01', 5000, 9),
	'{"text":"\u0001","lowest":-9223372036854775808,"money":"5000","bool":true,"raw":[1]}');
SELECT expect('time ' || v, time_text(v::timestamptz), '{"at":"' || e || '"}')
FROM (VALUES
	('2026-01-31 23:59:59.000001Z', '2026-01-31T23:59:59.000001Z'),
	('2026-01-31 12:00+02', '2026-01-31T10:00:00.000000Z'),
	('2000-01-01 00:00Z', '2000-01-01T00:00:00.000000Z'),
	('1999-12-31 23:59:59.999999Z', '1999-12-31T23:59:59.999999Z'),
	('1969-07-20 20:17:40Z', '1969-07-20T20:17:40.000000Z'),
	('2024-02-29 00:00Z', '2024-02-29T00:00:00.000000Z'),
	('0044-03-15 12:00Z BC', '-0043-03-15T12:00:00.000000Z'),
	('20000-01-01 00:00Z', '+020000-01-01T00:00:00.000000Z')
) AS t (v, e);

SELECT expect('read ' || v, time_read(v)::text, e)
FROM (VALUES
	('2026-01-31T12:00:00Z', '2026-01-31 12:00:00+00'),
	('2026-01-31t12:00:00z', '2026-01-31 12:00:00+00'),
	('2026-01-31 12:00:00+02', '2026-01-31 10:00:00+00'),
	('2026-01-31T12:00-0530', '2026-01-31 17:30:00+00'),
	('2026-01-31T12:00:00.5+05:30', '2026-01-31 06:30:00.5+00'),
	('2026-01-31T12:00:00.123456789Z', '2026-01-31 12:00:00.123456+00'),
	('2024-02-29T00:00:00Z', '2024-02-29 00:00:00+00'),
	('2023-02-29T00:00:00Z', NULL), ('2026-13-01T00:00:00Z', NULL),
	('2026-00-01T00:00:00Z', NULL), ('2026-01-00T00:00:00Z', NULL),
	('2026-01-31T24:00:00Z', NULL), ('2026-01-31T12:60:00Z', NULL),
	('2026-01-31T12:00:60Z', NULL), ('2026-01-31T12:00:00', NULL),
	('2026-01-31', NULL), ('2026-01-31T12Z', NULL), ('2026-01-31T12:00:00.Z', NULL),
	('2026-01-31T12:00:00+16', NULL), ('2026-01-31T12:00:00+1', NULL),
	('2026-01-31T12:00:00+01:60', NULL), ('2026-01-31T12:00:00+01:', NULL),
	('2026-01-31T12:00:00Z ', NULL), (' 2026-01-31T12:00:00Z', NULL),
	('infinity', NULL), ('now', NULL), ('', NULL), ('0000-01-01T00:00:00Z', NULL),
	('2026-01-31T12:00:00 Europe/Berlin', NULL)
) AS t (v, e);

-- ==== commands from JSON

SELECT expect(v, command(v), e)
FROM (VALUES
	('{"command":"debit","account":"acc_42","amount":5000,"currency":"EUR","idempotency_key":"k1"}',
	 'debit account=acc_42 amount=5000 currency=EUR key=k1'),
	('{"command":"credit","account":"a","amount":"5000","currency":"EUR","idempotency_key":"k","reference":"po","reason":"r","counterparty":"c","on_decline":"raise","metadata":{"a":[1,{"b":"\u00e9"}]}}',
	 'credit account=a counterparty=c amount=5000 currency=EUR key=k reference=po reason=r metadata={"a": [1, {"b": "é"}]} on_decline=raise'),
	('{"command":"transfer","from_account":"a","to_account":"b","amount":1,"currency":"EUR","idempotency_key":"k","options":{"expected_version":3,"min_available":-5,"order_key":"o","effective_at":"2026-01-31T12:00:00Z","deadline":"2026-02-01T00:00:00+01"}}',
	 'transfer account=a counterparty=b amount=1 currency=EUR key=k expected_version=3 min_available=-5 effective_at=2026-01-31 12:00:00+00 deadline=2026-01-31 23:00:00+00 order_key=o'),
	('{"command":"hold","account":"a","amount":1,"currency":"EUR","idempotency_key":"k","expires_in":"7 days"}',
	 'hold account=a amount=1 currency=EUR key=k expires_in=7 days'),
	('{"command":"extend","hold":"h_1","idempotency_key":"k","expires_in":"PT15M"}',
	 'extend key=k target=h_1 expires_in=00:15:00'),
	('{"command":"commit","hold":"key:x","idempotency_key":"k"}', 'commit key=k target=key:x'),
	('{"command":"commit","hold":"h_1","idempotency_key":"k","amount":3,"final":false}',
	 'commit amount=3 key=k target=h_1 final=false'),
	('{"command":"rollback","hold":"h_1","idempotency_key":"k","final":null}',
	 'rollback ! COMMAND_INVALID field=final text=does not belong to the command rollback'),
	('{"command":"rollback","hold":"h_1","idempotency_key":"k","reason":null}', 'rollback key=k target=h_1'),
	('{"command":"reverse","transaction":"t_1","idempotency_key":"k"}', 'reverse key=k target=t_1'),
	('{"command":"post","idempotency_key":"k","legs":[{"account":"a","amount":-5,"currency":"EUR"},{"account":"b","amount":"5","currency":"EUR"}]}',
	 'post key=k leg=a amount=-5 currency=EUR leg=b amount=5 currency=EUR'),
	('{"command":"post","idempotency_key":"k","legs":[]}', 'post key=k'),
	('{"command":"commit","hold":"h_1","idempotency_key":"k","trace_id":"t","traceparent":"p","region":"eu"}',
	 'commit key=k target=h_1 trace_id=t traceparent=p region=eu'),
	('{"command":"commit","hold":"h_1","idempotency_key":"k","options":{"trace_id":"t","region":null}}',
	 'commit key=k target=h_1 trace_id=t'),
	('{"command":"commit","hold":"h_1","idempotency_key":"k","trace_id":"t","options":{"trace_id":"t"}}',
	 'commit ! OPTION_INVALID field=trace_id text=is repeated'),
	(E' \n{ "command" :\t"\\u0064ebit", "account":"\\"\\\\\\/\\n", "amount" : 9007199254740991 , "currency":"EUR","idempotency_key":"\\ud83d\\ude00"} ',
	 E'debit account="\\/\n amount=9007199254740991 currency=EUR key=😀')
) AS t (v, e);

-- What is refused, and by which name.
SELECT expect(v, command(v), 'debit ! ' || e)
FROM (VALUES
	('null', 'COMMAND_INVALID text=must be an object'),
	('5', 'COMMAND_INVALID text=must be an object'),
	('"debit"', 'COMMAND_INVALID text=must be an object'),
	('[]', 'COMMAND_INVALID text=must be an object'),
	('{}', 'VALUE_REQUIRED field=command text=is missing'),
	('{"command":null}', 'VALUE_REQUIRED field=command text=is missing'),
	('{"command":5}', 'COMMAND_INVALID field=command text=must be a string'),
	('{"command":"expire"}', 'COMMAND_INVALID field=command text=must be debit, credit, transfer, hold, extend, commit, rollback, reverse or post'),
	('{"command":"Debit"}', 'COMMAND_INVALID field=command text=must be debit, credit, transfer, hold, extend, commit, rollback, reverse or post'),
	('{"command":"debit"}', 'VALUE_REQUIRED field=account text=is missing'),
	('{"command":"debit","account":"a"}', 'VALUE_REQUIRED field=amount text=is missing'),
	('{"command":"debit","account":"a","amount":null}', 'VALUE_REQUIRED field=amount text=is missing'),
	('{"command":"debit","account":"a","amount":5}', 'VALUE_REQUIRED field=currency text=is missing'),
	('{"command":"debit","account":"a","amount":5,"currency":"EUR"}', 'IDEMPOTENCY_KEY_REQUIRED field=idempotency_key text=is missing'),
	('{"command":"debit","Amount":5}', 'COMMAND_INVALID field=Amount text=is not known'),
	('{"command":"debit","":5}', 'COMMAND_INVALID field= text=is not known'),
	('{"command":"debit","deadline":"x"}', 'COMMAND_INVALID field=deadline text=is not known'),
	('{"command":"debit","legs":[]}', 'COMMAND_INVALID field=legs text=does not belong to the command debit'),
	('{"command":"debit","account":"a","account":"a"}', 'COMMAND_INVALID field=account text=is repeated'),
	('{"command":"debit","account":null,"\u0061ccount":"a"}', 'COMMAND_INVALID field=account text=is repeated'),
	('{"command":"debit","command":"debit"}', 'COMMAND_INVALID field=command text=is repeated'),
	('{"command":"debit","account":5}', 'COMMAND_INVALID field=account text=must be a string'),
	('{"command":"debit","amount":true}', 'COMMAND_INVALID field=amount text=must be a number or a string of digits'),
	('{"command":"debit","amount":{"a":1}}', 'COMMAND_INVALID field=amount text=must be a number or a string of digits'),
	('{"command":"debit","account":"a","on_decline":"ignore"}', 'COMMAND_INVALID field=on_decline text=must be raise or record'),
	('{"command":"debit","account":"a","metadata":[]}', 'COMMAND_INVALID field=metadata text=must be an object'),
	('{"command":"debit","account":"a","metadata":"{}"}', 'COMMAND_INVALID field=metadata text=must be an object'),
	('{"command":"debit","account":"a","options":[]}', 'OPTION_INVALID field=options text=must be an object'),
	('{"command":"debit","account":"a","options":{"x":1}}', 'OPTION_INVALID field=x text=is not known'),
	('{"command":"debit","account":"a","options":{"order_key":"a","order_key":"b"}}', 'OPTION_INVALID field=order_key text=is repeated'),
	('{"command":"debit","metadata":{"n":1e99999}}', 'COMMAND_INVALID text=a number has too many digits'),
	('{"command":"debit","metadata":{"n":' || repeat('9', 1001) || '}}', 'COMMAND_INVALID text=a number has too many digits'),
	('{"command":"debit","metadata":' || repeat('{"a":', 64) || '1' || repeat('}', 65), 'COMMAND_INVALID text=objects and arrays are nested too deeply'),
	(repeat('[', 1000000), 'COMMAND_INVALID text=objects and arrays are nested too deeply'),
	(repeat(' ', 1048577), 'COMMAND_INVALID text=is longer than 1048576 bytes'),
	('{"' || repeat('x', 1000) || '":1,"command":"debit"}', 'COMMAND_INVALID field=' || repeat('x', 64) || ' text=is not known'),
	('{' || (SELECT string_agg('"m' || i || '":1', ',') FROM generate_series(1, 33) i) || '}', 'COMMAND_INVALID text=has too many members')
) AS t (v, e);

SELECT expect('metadata 63 deep',
	(command('{"command":"rollback","hold":"h","idempotency_key":"k","metadata":' ||
		repeat('{"a":', 63) || '1' || repeat('}', 63) || '}') LIKE 'rollback key=k%')::text, 'true');

-- What the server's parser refuses; its words differ between versions.
SELECT expect(v, left(command(v), 29), 'debit ! COMMAND_INVALID text=')
FROM (VALUES
	(''),
	('{'),
	('nul'),
	('{"command":"debit","account":"\u0000"}'),
	('{"command":"debit","account":"\ud800"}'),
	('{"command":"debit","account":"\x"}'),
	('{"command":"debit",}'),
	('{"command":"debit"} x'),
	('{"command":"debit","amount":05}'),
	('{"command":"debit","amount":+5}')
) AS t (v);

-- Amounts.
SELECT expect('amount ' || v,
	command('{"command":"debit","account":"a","currency":"EUR","idempotency_key":"k","amount":' || v || '}'),
	'debit ' || e)
FROM (VALUES
	('1', 'account=a amount=1 currency=EUR key=k'),
	('0', 'account=a amount=0 currency=EUR key=k'),
	('-1', 'account=a amount=-1 currency=EUR key=k'),
	('9007199254740991', 'account=a amount=9007199254740991 currency=EUR key=k'),
	('9007199254740992', '! AMOUNT_TOO_LARGE field=amount text=a JSON number is at most 9007199254740991; send a string'),
	('1' || repeat('0', 40), '! AMOUNT_TOO_LARGE field=amount text=is beyond 10^36 - 1'),
	('"9007199254740992"', 'account=a amount=9007199254740992 currency=EUR key=k'),
	('"' || repeat('9', 36) || '"', 'account=a amount=' || repeat('9', 36) || ' currency=EUR key=k'),
	('"1' || repeat('0', 36) || '"', '! AMOUNT_TOO_LARGE field=amount text=is beyond 10^36 - 1'),
	('50.0', '! AMOUNT_HAS_FRACTION field=amount text=must be whole minor units, without a decimal point or exponent'),
	('"50.00"', '! AMOUNT_HAS_FRACTION field=amount text=must be whole minor units, without a decimal point or exponent'),
	('5e3', '! AMOUNT_HAS_FRACTION field=amount text=must be whole minor units, without a decimal point or exponent'),
	('"NaN"', '! AMOUNT_INVALID field=amount text=must be a number or a string of digits'),
	('" 5"', '! AMOUNT_INVALID field=amount text=must be a number or a string of digits'),
	('""', '! AMOUNT_INVALID field=amount text=must be a number or a string of digits')
) AS t (v, e);

-- Intervals: the same as SQL reads.
SELECT expect('interval ' || v,
	command('{"command":"extend","hold":"h","idempotency_key":"k","expires_in":"' || v || '"}'),
	'extend key=k target=h expires_in=' || v::interval::text)
FROM unnest('{7 days,01:30:00,90 seconds,PT15M,P1DT2H,P1W,1 mon 2 days,1.5 hours,@ 1 day,-1 day,
	1 year,2 weeks,5,1 day ago,00:00:01.5}'::text[]) AS v;
SELECT expect('interval ' || v,
	command('{"command":"extend","hold":"h","idempotency_key":"k","expires_in":' || v || '}'),
	'extend ! ' || e)
FROM (VALUES
	('"soon"', 'EXPIRY_INVALID field=expires_in text=is no interval; 7 days, 01:30:00 and PT15M are'),
	('""', 'EXPIRY_INVALID field=expires_in text=is no interval; 7 days, 01:30:00 and PT15M are'),
	('"P"', 'EXPIRY_INVALID field=expires_in text=is no interval; 7 days, 01:30:00 and PT15M are'),
	('"99999999999999 years"', 'EXPIRY_INVALID field=expires_in text=is no interval; 7 days, 01:30:00 and PT15M are'),
	('"infinity"', 'EXPIRY_INVALID field=expires_in text=is no interval; 7 days, 01:30:00 and PT15M are'),
	('"' || repeat('1 day ', 100) || '"', 'EXPIRY_INVALID field=expires_in text=is no interval; 7 days, 01:30:00 and PT15M are'),
	('900', 'COMMAND_INVALID field=expires_in text=must be a string, such as 7 days or PT15M')
) AS t (v, e);

-- Legs.
SELECT expect('legs ' || left(v, 100),
	command('{"command":"post","idempotency_key":"k","legs":' || v || '}'), 'post ! ' || e)
FROM (VALUES
	('{}', 'COMMAND_INVALID field=legs text=must be an array'),
	('null', 'VALUE_REQUIRED field=legs text=is missing'),
	('[null]', 'LEGS_INVALID field=legs[0] text=must be an object'),
	('[5]', 'COMMAND_INVALID field=legs[0] text=must be an object'),
	('[{"account":"a","amount":1,"currency":"EUR"},{}]', 'VALUE_REQUIRED field=legs[1].account text=is missing'),
	('[{"account":"a","amount":1}]', 'VALUE_REQUIRED field=legs[0].currency text=is missing'),
	('[{"account":"a","amount":1,"currency":"EUR","x":1}]', 'COMMAND_INVALID field=legs[0].x text=is not known'),
	('[{"account":"a","amount":1,"amount":1,"currency":"EUR"}]', 'COMMAND_INVALID field=legs[0].amount text=is repeated'),
	('[{"account":"a","amount":1.5,"currency":"EUR"}]', 'AMOUNT_HAS_FRACTION field=legs[0].amount text=must be whole minor units, without a decimal point or exponent'),
	('[{"account":1,"amount":1,"currency":"EUR"}]', 'COMMAND_INVALID field=legs[0].account text=must be a string'),
	('[' || repeat('{},', 1000) || '{}]', 'BATCH_TOO_LARGE field=legs text=has more than 1000 elements')
) AS t (v, e);

-- Bytes that are no text.
SELECT expect('invalid bytes ' || encode(v, 'hex'), command('{"command":"'::bytea || v || '"}'::bytea),
	'debit ! COMMAND_INVALID text=the text is not valid in the database''s encoding')
FROM (VALUES ('\xff'::bytea), ('\xc3'), ('\xeda080'), ('\x00'), ('\xf5808080')) AS t (v);

-- ==== options

SELECT expect('options ' || coalesce(v::text, 'NULL'), options(v), 'debit' || e)
FROM (VALUES
	(NULL::jsonb, ' on_decline=raise'),
	('{}', ' on_decline=raise'),
	('{"expected_version": 0, "min_available": "100", "order_key": "o", "trace_id": "t", "traceparent": "p", "region": "r"}',
	 ' on_decline=raise expected_version=0 min_available=100 order_key=o trace_id=t traceparent=p region=r'),
	('{"deadline": "2026-01-31T12:00:00Z", "effective_at": null}', ' on_decline=raise deadline=2026-01-31 12:00:00+00'),
	('[]', ' ! OPTION_INVALID field=options text=must be an object'),
	('5', ' ! OPTION_INVALID field=options text=must be an object'),
	('null', ' ! OPTION_INVALID field=options text=must be an object'),
	('{"x": 1}', ' ! OPTION_INVALID field=x text=is not known'),
	('{"x": {"y": [1]}, "order_key": "o"}', ' ! OPTION_INVALID field=x text=is not known'),
	('{"order_key": ["o"]}', ' ! OPTION_INVALID field=order_key text=must be a string'),
	('{"expected_version": "3"}', ' ! OPTION_INVALID field=expected_version text=must be a whole number from 0 up'),
	('{"expected_version": 1.0}', ' ! OPTION_INVALID field=expected_version text=must be a whole number from 0 up'),
	('{"expected_version": -1}', ' ! OPTION_INVALID field=expected_version text=must be a whole number from 0 up'),
	('{"expected_version": 9007199254740992}', ' ! OPTION_INVALID field=expected_version text=must be a whole number from 0 up'),
	('{"min_available": 5.5}', ' ! OPTION_INVALID field=min_available text=must be whole minor units, without a decimal point or exponent'),
	('{"deadline": "tomorrow"}', ' ! OPTION_INVALID field=deadline text=must be an ISO 8601 time with a zone, such as 2026-01-31T12:00:00Z'),
	('{"effective_at": 5}', ' ! OPTION_INVALID field=effective_at text=must be an ISO 8601 time with a zone, such as 2026-01-31T12:00:00Z'),
	('{"effective_at": "2000-01-01T00:00:00Z"}', ' ! OPTION_INVALID field=effective_at text=cannot be exactly 2000-01-01T00:00:00Z; use a microsecond later')
) AS t (v, e);

-- ==== batches and bodies

SELECT expect(x, try(x), e)
FROM (VALUES
	($$split('[]', 10)$$, ''),
	($$split(' [ {"a":[1,2]} , 5,"x]" ] ', 10)$$, '{"a":[1,2]}|5|"x]"'),
	($$split('[1,2,3]', 3)$$, '1|2|3'),
	($$split('[1,2,3,4]', 3)$$, 'SF042 commands'),
	($$split('[' || repeat('1,', 10000) || '1]', 10000)$$, 'SF042 commands'),
	($$length(split('[' || repeat('1,', 9999) || '1]', 10000))$$, '19999'),
	($$split('{}', 3)$$, 'SF040 commands'),
	($$split('5', 3)$$, 'SF040 commands'),
	($$split('[1', 3)$$, 'SF040 commands'),
	($$split('', 3)$$, 'SF040 commands')
) AS t (x, e);

-- Types 0..8: debit, credit, transfer, hold, extend, commit, rollback, reverse, post;
-- status 0..4: committed, held, rolled_back, declined, refused.
SELECT expect('body ' || t || ' ' || s, body(t, s), e)
FROM (VALUES
	(0, 0, '{"status":"committed","entry_id":"e_3"}'),
	(1, 0, '{"status":"committed","entry_id":"e_3"}'),
	(2, 0, '{"status":"committed","entry_id":"e_3"}'),
	(3, 1, '{"status":"held","hold_id":"h_7","expires_at":"2000-01-02T00:00:00.000000Z"}'),
	(4, 1, '{"status":"held","hold_id":"h_7","expires_at":"2000-01-02T00:00:00.000000Z"}'),
	(5, 0, '{"status":"committed","entry_id":"e_3","hold_id":"h_7"}'),
	(6, 2, '{"status":"rolled_back","hold_id":"h_7"}'),
	(7, 0, '{"status":"committed","entry_id":"e_3"}'),
	(8, 0, '{"status":"committed","transaction_id":"t_12"}'),
	(0, 3, '{"status":"declined","code":"INSUFFICIENT_FUNDS","error":"insufficient funds"}'),
	(8, 4, '{"status":"refused","code":"INSUFFICIENT_FUNDS","error":"insufficient funds"}')
) AS t (t, s, e);

\ir unit_breaker.sql

-- ==== random input, fixed seeds

SELECT expect('fuzz: numeric codec', fuzz_money(250000, 1)::text, '0');
SELECT expect('fuzz: major units', fuzz_major(100000, 2)::text, '0');
SELECT expect('fuzz: times', fuzz_time(100000, 3)::text, '0');
SELECT expect('fuzz: commands', fuzz_command(ARRAY[
	'{"command":"debit","account":"acc_42","amount":5000,"currency":"EUR","idempotency_key":"k1","reference":"po_001","reason":"payout"}',
	'{"command":"hold","account":"a","amount":"1","currency":"EUR","idempotency_key":"k","expires_in":"1 day 02:00:00"}',
	'{"command":"extend","hold":"h_1","idempotency_key":"k","expires_in":"P1Y2M3DT4H5M6S"}',
	'{"command":"post","idempotency_key":"k","legs":[{"account":"a","amount":-5,"currency":"EUR"},{"account":"b","amount":"5","currency":"EUR"}]}',
	'{"command":"credit","account":"a","amount":1,"currency":"EUR","idempotency_key":"k","metadata":{"a":[1,2.5e3,{"b":"\u00e9\ud83d\ude00"}],"c":null}}',
	'{"command":"commit","hold":"h_1","idempotency_key":"k","final":false,"options":{"expected_version":3,"min_available":"5","effective_at":"2026-01-31T12:00:00.5+02:00","deadline":"2027-01-31T12:00:00Z","order_key":"o"},"trace_id":"t"}'
	], 300000, 4)::text, '0');

-- ==== delivery: policies

SELECT expect('policy: defaults', policy(NULL, NULL)::text,
	'{"rate": 0, "retry": {"age_s": 259200, "cap_ms": 3600000, "base_ms": 1000, "attempts": 25, "budget_percent": 20}, '
	'"breaker": {"open_ms": 10000, "failures": 5}, "max_lag": {"age_s": 518400, "events": 10000000}, "in_flight": 32, '
	'"timeout_ms": 15000, "schema_version": "1"}');
SELECT expect('policy: what is written is read', policy(policy(NULL, c::jsonb), NULL)::text, policy(NULL, c::jsonb)::text)
FROM unnest(ARRAY['{"rate": 0.001}', '{"rate": 1000000, "in_flight": 7}', '{"max_lag": {"events": 1000000000000, "age_s": 60}}',
	'{"rate": 33.3333333333333333}', '{"breaker": {"failures": 0}}']) AS c;
SELECT expect('policy: the rest stays', policy('{"retry": {"attempts": 3}, "rate": 5}', '{"retry": {"age_s": 60}}')->'retry'->>'attempts', '3');
SELECT expect('policy: cap against a base that was there',
	try($$policy('{"retry": {"base_ms": 5000}}', '{"retry": {"cap_ms": 4999}}')$$), try($$policy(NULL, '{"retry": {"base_ms": 5000, "cap_ms": 4999}}')$$));

-- ==== delivery: when to try again

-- full jitter: uniform from 0 to the smaller of the cap and base * 2^(attempt - 1)
SELECT expect(format('delay %s/%s attempt %s after %s at %s', b, c, a, r, x), retry_delay(b, c, a, r, x)::text, e)
FROM (VALUES (1000, 60000, 1, -1, 0.0, '0'), (1000, 60000, 1, -1, 0.5, '500'), (1000, 60000, 1, -1, 0.9999, '999'),
	(1000, 60000, 2, -1, 0.5, '1000'), (1000, 60000, 6, -1, 0.5, '16000'), (1000, 60000, 7, -1, 0.5, '30000'),
	(1000, 60000, 31, -1, 0.5, '30000'), (1000, 60000, 32, -1, 0.5, '30000'), (1000, 60000, 1000, -1, 0.5, '30000'),
	(86400000, 86400000, 31, -1, 0.5, '43200000'), (10, 10, 5, -1, 0.5, '5'),
	-- Retry-After is the least, but never above the cap
	(1000, 60000, 1, 0, 0.5, '500'), (1000, 60000, 1, 2000, 0.5, '2000'), (1000, 60000, 1, 60000, 0.0, '60000'),
	(1000, 60000, 1, 9223372036854775807, 0.0, '60000'), (1000, 60000, 7, 100, 0.5, '30000')) AS t (b, c, a, r, x, e);

-- classes: temporary 1, throttled 2, unknown 3, permanent 4, gone 5; times in seconds
SELECT expect(format('judge class %s attempt %s due %s expires %s now %s', c, a, d, x, n), retry_judge(5, 100, c, a, 1000, d, x, n), e)
FROM (VALUES (1, 1, 1010, 0, 1001, 'later'), (2, 4, 1010, 0, 1001, 'later'), (3, 4, 1100, 0, 1001, 'later'),
	(4, 1, 1010, 0, 1001, 'never'), (5, 1, 1010, 0, 1001, 'never'),
	(1, 5, 1010, 0, 1001, 'attempts'), (3, 6, 1010, 0, 1001, 'attempts'),
	(1, 1, 1101, 0, 1001, 'old'), (1, 1, 1010, 0, 1101, 'old'), (1, 1, 1100, 0, 1100, 'later'),
	(1, 1, 1010, 1010, 1001, 'expired'), (1, 1, 1010, 1011, 1001, 'later'), (1, 1, 1002, 1005, 1005, 'expired'),
	(4, 9, 2000, 1001, 2000, 'never'), (1, 5, 2000, 1001, 2000, 'attempts'), (1, 1, 2000, 1001, 2000, 'expired')) AS t (c, a, d, x, n, e);

-- ==== delivery: which events are heard

SELECT expect(format('%s hears %s', p, t), patterns(p::text[], t)::text, e::bool::text)
FROM (VALUES ('{*}', 'a.b', 't'), ('{*}', 'a.b.c.d', 't'), ('{a.b}', 'a.b', 't'), ('{a.b}', 'a.b.c', 'f'), ('{a.b}', 'a.bc', 'f'),
	('{a.bc}', 'a.b', 'f'), ('{a.b.c}', 'a.b', 'f'), ('{a.*}', 'a.b', 't'), ('{a.*}', 'a.b.c', 't'), ('{a.*}', 'ab.c', 'f'),
	('{a.*}', 'b.a.c', 'f'), ('{*.c}', 'b.c', 't'), ('{*.c}', 'a.b.c', 'f'), ('{*.*.c}', 'a.b.c', 't'), ('{*.*}', 'a.b', 't'),
	('{*.*}', 'a.b.c', 't'), ('{a.*.c}', 'a.b.c', 't'), ('{a.*.c}', 'a.b.c.d', 'f'), ('{a.*.c}', 'a.b.x', 'f'), ('{a.*.*}', 'a.b', 'f'),
	('{*,!a.*}', 'a.b', 'f'), ('{*,!a.*}', 'b.a', 't'), ('{!a.*,*}', 'a.b', 't'), ('{*,!a.*,a.b}', 'a.b', 't'), ('{*,!a.*,a.b}', 'a.c', 'f'),
	('{!a.b}', 'a.b', 'f'), ('{!a.b}', 'x.y', 'f'), ('{}', 'a.b', 'f')) AS v (p, t, e);
SELECT expect(format('tenants %s/%s regions %s hear %s/%s', n, a, r, t, g), wants(n::int[], a::bool, r::text[], t, g)::text, e::bool::text)
FROM (VALUES ('{}', 'f', '{}', 1, NULL, 't'), ('{}', 'f', '{}', 2, NULL, 'f'), ('{2,3}', 'f', '{}', 2, NULL, 't'), ('{2,3}', 'f', '{}', 1, NULL, 'f'),
	('{0}', 'f', '{}', 1, NULL, 'f'), ('{}', 't', '{}', 9, NULL, 't'), ('{}', 'f', '{eu}', 1, 'eu', 't'), ('{}', 'f', '{eu,us}', 1, 'us', 't'),
	('{}', 'f', '{eu}', 1, 'us', 'f'), ('{}', 'f', '{eu}', 1, NULL, 'f'), ('{}', 't', '{eu}', 5, 'us', 'f')) AS v (n, a, r, t, g, e);

\o
SELECT currval('passed') || ' passed, ' || currval('failed') || ' failed';
