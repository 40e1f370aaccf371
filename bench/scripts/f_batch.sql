-- As many rows into F's table with one statement.
\set n :n + 1
INSERT INTO bench.f (key) SELECT 'fb_' || :run || '_' || :client_id || '_' || :n || '_' || i FROM generate_series(1, :batch_commands) AS i;
