-- F: one row, an identity key and a unique text key.
\set n :n + 1
INSERT INTO bench.f (key) VALUES ('f_' || :run || '_' || :client_id || '_' || :n);
