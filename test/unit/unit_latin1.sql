-- Expectations of the unit tests in a database with encoding LATIN1, where the server's
-- parser would raise at an escape that the encoding cannot hold.

\ir helpers.sql

\o /dev/null

SELECT expect('escape in ASCII',
	command('{"command":"rollback","hold":"\u0068","idempotency_key":"k"}'),
	'rollback key=k target=h');
SELECT expect('escape that cannot be held',
	left(command('{"command":"rollback","hold":"\u4e2d","idempotency_key":"k"}'), 29),
	'debit ! COMMAND_INVALID text=');
SELECT expect('escape that cannot be held, in metadata',
	left(command('{"command":"rollback","hold":"h","idempotency_key":"k","metadata":{"a":"\u4e2d"}}'), 29),
	'debit ! COMMAND_INVALID text=');
SELECT expect('a character of the encoding',
	command('{"command":"rollback","hold":"é","idempotency_key":"k"}'),
	'rollback key=k target=é');
SELECT expect('fuzz: commands', fuzz_command(ARRAY[
	'{"command":"debit","account":"acc_42","amount":5000,"currency":"EUR","idempotency_key":"k1"}',
	'{"command":"credit","account":"a","amount":1,"currency":"EUR","idempotency_key":"k","metadata":{"a":[1,{"b":"\u0041"}]}}'
	], 100000, 5)::text, '0');

\o
SELECT currval('passed') || ' passed, ' || currval('failed') || ' failed';
