-- Expectations of the delivery's pure parts; read by unit.sql.

CREATE FUNCTION destination(failures int, open_ms int, rate float8, budget_percent int, steps text)
	RETURNS text AS :'module', 'unit_destination' LANGUAGE C STRICT;
CREATE FUNCTION replay_pace(rate float8, times text) RETURNS text
	AS :'module', 'unit_replay_pace' LANGUAGE C STRICT;
CREATE FUNCTION dead_reason(verdict int, sink text, attempts int, elapsed_s int, class text,
							status int, code text, reason text, response text) RETURNS text
	AS :'module', 'unit_dead_reason' LANGUAGE C;
CREATE FUNCTION fuzz_destination(int, int8) RETURNS int8
	AS :'module', 'unit_fuzz_destination' LANGUAGE C STRICT;

-- ==== breaker: 3 failures in a row open it for 100 ms

SELECT expect('breaker ' || what, destination(failures, 100, 0, 100, steps), e)
FROM (VALUES
	('no policy', 0, '0 note temporary,0 note temporary,0 note temporary,0 first 5',
	 'closed, closed, closed, 5'),
	('opens', 3, '0 note temporary,0 note unknown,0 note temporary,0 first 1,99 first 1',
	 'closed, closed, open!, 0 breaker 100, 0 breaker 100'),
	('a success between', 3, '0 note temporary,0 note temporary,0 note delivered,0 note temporary,0 first 1',
	 'closed, closed, closed, closed, 1'),
	('a refused event is an answer', 1, '0 note permanent,0 note gone,0 note throttled,0 first 1',
	 'closed, closed, closed, 1'),
	('one probe', 1, '0 note temporary,100 first 2,150 first 1',
	 'open!, 1 breaker 300100, 0 breaker 300100'),
	('the probe is answered', 1, '0 note temporary,100 first 1,110 note delivered,110 first 9',
	 'open!, 1, closed, 9'),
	('the probe fails: twice as long', 1,
	 '0 note temporary,100 first 1,110 note temporary,110 first 1,310 first 1,320 note temporary,320 first 1',
	 'open!, 1, open!, 0 breaker 310, 1, open!, 0 breaker 720'),
	('short again after a success', 1,
	 '0 note temporary,100 first 1,100 note temporary,300 first 1,300 note delivered,300 note temporary,300 first 1',
	 'open!, 1, open!, 1, closed, open!, 0 breaker 400'),
	('answers from before', 1, '0 note temporary,10 note temporary,20 note delivered,20 first 1',
	 'open!, open, open, 0 breaker 100'),
	('a probe that is never answered', 1, '0 note temporary,100 first 1,300099 first 1,300100 first 1',
	 'open!, 1, 0 breaker 300100, 1'),
	('the clock was put back', 1, '3600000 note temporary,0 first 1', 'open!, 1')
) AS t (what, failures, steps, e);

SELECT expect('breaker doubles up to an hour', destination(1, 1800000, 0, 100,
	'0 note temporary,1800000 first 1,1800000 note temporary,5400000 first 1,5400000 note temporary,'
	'5400000 first 1,9000000 first 1'), 'open!, 1, open!, 1, open!, 0 breaker 9000000, 1');

-- ==== rate

SELECT expect('rate ' || rate || ' ' || steps, destination(0, 100, rate, 100, steps), e)
FROM (VALUES
	(0, '0 first 1000', '1000'),
	(100, '0 first 50,10 first 1,20 first 5', '10 rate 10, 1, 1 rate 30'),
	(100, '0 first 50,10000 first 50', '10 rate 10, 10 rate 10010'),
	(1, '0 first 2,999 first 1,1000 first 2', '1 rate 1000, 0 rate 1000, 1 rate 2000'),
	(0.5, '0 first 1,1000 first 1,2000 first 1', '1, 0 rate 2000, 1'),
	(1, '5000 first 1,0 first 1,1000 first 1', '1, 0 rate 1000, 1')
) AS t (rate, steps, e);

-- ==== retry budget: 10 a second always, beyond them a share of the first tries

SELECT expect('budget ' || percent || ' ' || steps, destination(0, 100, 0, percent, steps), e)
FROM (VALUES
	(20, '0 retry 20,500 retry 1,1000 retry 20', '10 retry_budget 1000, 0 retry_budget 1000, 10 retry_budget 2000'),
	(20, '0 first 100,0 retry 50', '100, 30 retry_budget 1000'),
	(20, '0 first 100,59999 retry 50', '100, 30 retry_budget 60000'),
	(20, '0 first 100,60000 retry 50', '100, 10 retry_budget 61000'),
	(20, '0 first 100,0 retry 30,1000 retry 20', '100, 30, 10 retry_budget 2000'),
	(0, '0 first 100,0 retry 50', '100, 10 retry_budget 1000'),
	(20, '0 first 100,90000 first 5,90000 retry 12', '100, 5, 11 retry_budget 91000')
) AS t (percent, steps, e);

-- ==== throttle

SELECT expect('throttle ' || steps, destination(0, 100, 0, 100, steps), e)
FROM (VALUES
	('0 note throttled 500,499 first 1,500 first 1', 'closed, 0 throttled 500, 1'),
	('0 note throttled 90000,59999 first 1,60000 first 1', 'closed, 0 throttled 60000, 1'),
	('0 note throttled 500,0 note throttled 100,400 first 1', 'closed, closed, 0 throttled 500'),
	('0 note throttled,0 first 1', 'closed, 1'),
	('0 note temporary 500,0 first 1', 'closed, 1')
) AS t (steps, e);

SELECT expect('fuzz: destinations', fuzz_destination(200000, 5)::text, '0');

-- ==== pace of a replay

SELECT expect('pace ' || rate || ': ' || times, replay_pace(rate, times), e)
FROM (VALUES
	(50, '0 0 20 100 200', '1 0 1 4 5'),
	(2, '0 400 500 1000 1500', '1 0 1 1 1'),
	(2, '0 100000 100000 100500', '1 2 0 1'),
	(0.5, '0 1000 2000 60000 61999 62000', '1 0 1 1 0 1'),
	(1000000, '0 1 1000 100000000', '1 1000 999000 1000000'),
	(10, '100000 0 100 200', '1 0 1 1')
) AS t (rate, times, e);

-- ==== reasons

SELECT expect('reason', dead_reason(v, sink, attempts, elapsed, class, status, code, reason, response), e)
FROM (VALUES
	(4, 'http', 1, 0, 'permanent', 422, 'status', NULL, E'{"error":\n"unknown account"}',
	 'permanent: HTTP 422 from the receiver after 1 attempt: permanent; the receiver refuses this event. Answer: {"error": "unknown account"}'),
	(4, 'http', 3, 10, 'gone', 410, 'status', NULL, '',
	 'gone: HTTP 410 from the receiver after 3 attempts: gone; the receiver wants no event of this subscription any more'),
	(4, 'http', 1, 0, 'permanent', 0, 'blocked_address', '10.0.0.1 may not be reached', NULL,
	 'permanent: blocked_address after 1 attempt: permanent; 10.0.0.1 may not be reached'),
	(4, 'pull', 2, 5, 'permanent', 0, '', 'no such order', NULL,
	 'permanent: refused by the consumer after 2 attempts: permanent; no such order'),
	(1, 'http', 25, 3 * 86400, 'temporary', 0, 'timeout', 'no answer in 15 s', NULL,
	 'temporary: gave up after 25 attempts in 3 days; last: timeout: no answer in 15 s'),
	(2, 'http', 7, 7200, 'temporary', 503, 'status', NULL, 'busy',
	 'temporary: gave up after 7 attempts in 2 hours, the longest that the policy allows; last: HTTP 503 from the receiver. Answer: busy'),
	(1, 'sql', 1, 0, 'temporary', 7, 'status', NULL, NULL,
	 'temporary: gave up after 1 attempt in less than a second; last: status 7 from the receiver'),
	(1, 'http', 2, 1, 'unknown', 0, 'unknown', NULL, NULL,
	 'unknown: gave up after 2 attempts in 1 second; last: unknown'),
	(1, 'http', 2, 119, 'unknown', 0, '', NULL, NULL,
	 'unknown: gave up after 2 attempts in 119 seconds; last: failed'),
	(3, 'http', 0, 0, NULL, 0, '', NULL, NULL,
	 'expired: the event expired before it could be sent'),
	(3, 'http', 4, 5400, 'throttled', 429, 'status', NULL, NULL,
	 'expired: the event expired after 4 attempts in 90 minutes; last: HTTP 429 from the receiver')
) AS t (v, sink, attempts, elapsed, class, status, code, reason, response, e);

SELECT expect('a long answer is cut', (length(r) <= 1020 AND r LIKE '%Answer: xxx%')::text, 'true')
FROM dead_reason(4, 'http', 1, 0, 'permanent', 422, 'status', NULL, repeat('x', 2000)) AS r;
