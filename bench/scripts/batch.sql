-- One call of many commands; fails unless each of them was committed.
\set n :n + 1
SELECT 1 / (count(*) FILTER (WHERE r.status = 'committed') / :batch_commands) FROM bench.batch AS b, LATERAL failsafe.wallet_batch(b.commands) AS r WHERE b.run = :run AND b.n = :n;
