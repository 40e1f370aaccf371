# Many sessions at once: a key is new to one of them; ordered events of a key have
# numbers in commit order; retention beside writers neither fails nor blocks.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('race');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'pg_failsafe'
max_connections = 100
});
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION pg_failsafe;
	CREATE TABLE effect (key text, client int);
	CREATE TABLE counter (n int);
	INSERT INTO counter VALUES (0)});

# Runs the script in that many sessions, each as often as said; fails on any error.
sub sessions
{
	my ($clients, $times, $script, $what) = @_;
	my $file = $node->basedir . '/script';
	unlink $file;
	append_to_file($file, $script);
	$node->command_like(
		[
			'pgbench', '-n', '-c', $clients, '-j', 2, '-t', $times, '-f', $file,
			$node->connstr('postgres')
		],
		qr/number of failed transactions: 0 /,
		$what);
	return;
}

# 50 sessions, one key.
my $claims = q{
BEGIN;
WITH claim AS MATERIALIZED (SELECT state FROM failsafe.idempotency_claim(KEY, '{"a": 1}'))
INSERT INTO effect SELECT KEY, :client_id FROM claim WHERE state = 'new';
SELECT failsafe.idempotency_complete(KEY, '"done"');
END;
};
sessions(50, 1, "SET failsafe.key_wait = '60s';" . $claims =~ s/KEY/'one'/gr,
	'50 sessions claim one key');
is($node->safe_psql('postgres', 'SELECT count(*) FROM effect'), '1', 'one of them has the effect');

# 20 sessions, 50 keys, in and out of order of time.
sessions(20, 100, '\set k random(1, 50)' . $claims =~ s/KEY/'many-' || :k/gr,
	'20 sessions claim 50 keys');
is($node->safe_psql('postgres', q{
		SELECT count(*) = count(DISTINCT key),
			   count(*) = (SELECT count(*) FROM failsafe.application_keys
						   WHERE key LIKE 'many-%' AND state = 'completed')
		FROM effect WHERE key LIKE 'many-%'}),
	't|t', 'each key has one effect and one row');

# Ordered: the lock comes before the draw, so the pairs of two transactions never mix.
sessions(8, 50, q{
BEGIN;
SELECT failsafe.outbox_emit('t.first', 'pair', '{}', options => '{"ordered": true}');
UPDATE counter SET n = n + 1 RETURNING n \gset
SELECT failsafe.outbox_emit('t.second', 'pair', jsonb_build_object('n', :n), options => '{"ordered": true}');
END;
}, '8 sessions emit ordered events of one key');
is($node->safe_psql('postgres', q{
		SELECT count(*), count(*) FILTER (WHERE event_type = CASE place % 2 WHEN 1 THEN 't.first' ELSE 't.second' END),
			   count(*) FILTER (WHERE (envelope->>'n')::int * 2 = place)
		FROM (SELECT event_type, envelope, row_number() OVER (ORDER BY seq) AS place
			  FROM failsafe.events WHERE order_key = 'pair') AS e}),
	'800|800|400', 'their numbers are in commit order');

# Retention in a loop beside writers of all lanes.
sessions(6, 100, q{
\set p random(0, 9)
SET lock_timeout = '1s';
SELECT failsafe.outbox_emit('t.beside', 'beside', '{}', options => jsonb_build_object('priority', :p));
SELECT count(*) FROM failsafe.outbox_retain();
}, 'writers and retention side by side');
is($node->safe_psql('postgres', q{SELECT count(*) FROM failsafe.events WHERE order_key = 'beside'}),
	'600', 'every event is there');

$node->stop;
done_testing();
