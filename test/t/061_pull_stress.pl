# Pull consumers beside writers that commit, roll back, use savepoints, take their time
# and prepare, with a crash of the server in the middle: each committed event is taken exactly once (a
# claim, what it notes and its answer are one transaction here), none that was rolled
# back, and the events of an account in the order of its versions.
# FS_STRESS_SECONDS: how long the writers write, twice (default 4).

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Failsafe;

my $seconds = $ENV{FS_STRESS_SECONDS} // 4;
my $node = failsafe_node('pull_stress', conf => q{
max_connections = 50
max_prepared_transactions = 20
failsafe.allow_prepare = on
failsafe.lock_wait = '30s'
failsafe.key_wait = '30s'
});

answer($node, q{
	SELECT count(failsafe.account_open('acc' || i, 'EUR')) FROM generate_series(1, 5) AS i;
	CREATE TABLE written (event_id uuid);
	CREATE TABLE taken (place int8 GENERATED ALWAYS AS IDENTITY, consumer text, event_id uuid,
						event_type text, order_key text, version int8);
	CREATE TABLE stop_at (at timestamptz);
	CREATE FUNCTION emit(key text) RETURNS void LANGUAGE sql AS
		$$ INSERT INTO written SELECT failsafe.outbox_emit('stress.event', key, '{}') $$;
	-- takes until nothing came for a while after the end was called
	CREATE PROCEDURE consume(name text) LANGUAGE plpgsql AS $$
	DECLARE
		ids int8[];
		fences int8[];
		empty int := 0;
	BEGIN
		LOOP
			WITH c AS (SELECT * FROM failsafe.outbox_claim(name, 200)),
				i AS (INSERT INTO taken (consumer, event_id, event_type, order_key, version)
					  SELECT name, event_id, event_type, order_key, (envelope->>'account_version')::int8 FROM c)
			SELECT array_agg(delivery_id), array_agg(fence) INTO ids, fences FROM c;
			PERFORM FROM failsafe.outbox_ack(name, coalesce(ids, '{}'), coalesce(fences, '{}'));
			COMMIT;
			empty := CASE WHEN ids IS NULL THEN empty + 1 ELSE 0 END;
			EXIT WHEN empty > 20 AND EXISTS (SELECT FROM stop_at);
			PERFORM pg_sleep(CASE WHEN ids IS NULL THEN 0.02 ELSE 0 END);
		END LOOP;
	END $$;
	SELECT failsafe.subscription_create('keyed', 'pull', '{}', '{wallet.*,stress.*}', 'key');
	SELECT failsafe.subscription_create('free', 'pull', '{}', '{wallet.*,stress.*}', 'none')});

my %script = (
	wallet => q{
\set a random(1, 5)
\set k random(1, 1000000000000000)
SELECT failsafe.wallet_credit('acc' || :a, 1, 'EUR', 'k' || :k);
},
	wallet_rollback => q{
\set a random(1, 5)
\set k random(1, 1000000000000000)
BEGIN;
SELECT failsafe.wallet_credit('acc' || :a, 1, 'EUR', 'r' || :k);
SELECT emit('key' || :a);
ROLLBACK;
},
	emit => q{
\set a random(1, 20)
SELECT emit('key' || :a);
},
	savepoints => q{
\set a random(1, 20)
BEGIN;
SAVEPOINT one;
SELECT emit('key' || :a);
ROLLBACK TO one;
SAVEPOINT two;
SELECT emit('key' || :a);
RELEASE two;
SELECT emit('key' || :a);
COMMIT;
},
	long => q{
\set a random(1, 20)
\set ms random(1, 800)
\set commits random(0, 1)
BEGIN;
SELECT emit('key' || :a);
\sleep :ms ms
SELECT emit('key' || :a);
\if :commits
COMMIT;
\else
ROLLBACK;
\endif
},
	prepared => q{
\set a random(1, 20)
\set k random(1, 1000000000000000)
\set ms random(1, 300)
\set commits random(0, 1)
BEGIN;
SELECT emit('key' || :a);
PREPARE TRANSACTION 'p:k';
\sleep :ms ms
\if :commits
COMMIT PREPARED 'p:k';
\else
ROLLBACK PREPARED 'p:k';
\endif
});

for my $name (keys %script)
{
	append_to_file($node->basedir . "/$name.sql", $script{$name});
}

sub start_consumers
{
	return map {
		my $name = $_;
		my $log = $node->basedir . "/$name.log";
		{ log => $log, run => IPC::Run::start(
			[ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-c', "CALL consume('$name')" ],
			'>', $log, '2>&1') };
	} qw(keyed free);
}

sub start_writers
{
	my ($time) = @_;

	return map {
		my $log = $node->basedir . "/$_.log";
		{ log => $log, run => IPC::Run::start(
			[ 'pgbench', '-n', '-c', 2, '-T', $time, '-f', $node->basedir . "/$_.sql", $node->connstr('postgres') ],
			'>', $log, '2>&1') };
	} sort keys %script;
}

sub finish
{
	my ($what, @runs) = @_;
	my @failed = grep { !eval { $_->{run}->finish } } @runs;

	is(scalar @failed, 0, "$what ended well") or diag(map { slurp_file($_->{log}) } @failed);
	return;
}

# Until the server is killed in the middle of it all.
my @runs = (start_consumers(), start_writers(60));
sleep $seconds;
kill_server($node);
eval { $_->{run}->finish } for @runs;
$node->start;

# Prepared transactions outlive the crash; they end only now.
my @consumers = start_consumers();
my @writers = start_writers($seconds);
sleep 1;
answer($node, "COMMIT PREPARED '$_'") for split /\n/, answer($node, "SELECT gid FROM pg_prepared_xacts WHERE prepared < now() - interval '1 second'");
finish('the writers', @writers);
answer($node, 'INSERT INTO stop_at VALUES (now())');
finish('the consumers', @consumers);

answer($node, q{CREATE VIEW committed AS SELECT event_id, event_type FROM failsafe.outbox WHERE event_type NOT LIKE 'account.%'});
my $committed = answer($node, 'SELECT count(*) FROM committed');
cmp_ok($committed, '>', 100, "$committed events were committed");
is(answer($node, q{SELECT count(*) FROM written AS w FULL JOIN (SELECT event_id FROM committed WHERE event_type LIKE 'stress.%') AS o
				   USING (event_id) WHERE w.event_id IS NULL OR o.event_id IS NULL}),
	'0', 'the outbox has what the writers wrote');
for my $consumer (qw(keyed free))
{
	is(answer($node, "SELECT count(*) FROM committed AS o LEFT JOIN taken AS t ON t.event_id = o.event_id AND t.consumer = '$consumer' WHERE t.event_id IS NULL"),
		'0', "$consumer: every committed event was taken");
	is(answer($node, "SELECT count(*) FROM taken AS t LEFT JOIN committed AS o USING (event_id) WHERE t.consumer = '$consumer' AND o.event_id IS NULL"),
		'0', "$consumer: none that was rolled back");
	is(answer($node, "SELECT count(*) - count(DISTINCT event_id) FROM taken WHERE consumer = '$consumer'"),
		'0', "$consumer: each once");
	is(answer($node, "SELECT count(*) FROM (SELECT version, lag(version) OVER (PARTITION BY order_key ORDER BY place) AS before
					  FROM taken WHERE consumer = '$consumer' AND event_type LIKE 'wallet.%') AS t WHERE version <= before"),
		'0', "$consumer: the events of an account came in the order of its versions");
}
is(answer($node, 'SELECT count(*) FROM failsafe.delivery'), '0', 'nothing is left on its way');
is(answer($node, q{SELECT bool_and(p.done = (SELECT count(*) FROM taken AS t JOIN failsafe.subscription AS s ON s.name = t.consumer
				   WHERE s.id = p.subscription_id AND p.lane = (failsafe._event_position(t.event_id)).lane)) FROM failsafe.position AS p}),
	't', 'positions count what was taken');
is(answer($node, 'SELECT count(*) FROM failsafe.ledger_verify()'), '0', 'the books balance');
$node->stop;
done_testing();
