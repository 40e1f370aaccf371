# Early lock release: a hot account shares flushes, whoever else wrote in the
# transaction keeps it from being released early, and a crash loses nothing that
# was acknowledged.

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Failsafe;

my $clients = 8;

# With commit_delay, the one who flushes waits for company.  Company comes only when
# the account's lock is free by then, so the ratio does not depend on the disk.
my $node = failsafe_node('hot', conf => q{
fsync = on
full_page_writes = on
wal_sync_method = fdatasync
commit_delay = 2000
commit_siblings = 1
max_connections = 50
autovacuum = off
});

sub credit
{
	my ($key) = @_;
	return "SELECT status FROM failsafe.wallet_credit('hot', 1, 'EUR', $key)";
}

answer($node, q{SELECT failsafe.account_open('hot', 'EUR')});
answer($node, credit("'first'"));
answer($node, 'CREATE TABLE jobs (a int)');

# --- how many flushes a transaction costs
my $script = $node->basedir . '/hot.sql';
append_to_file($script, credit('gen_random_uuid()::text') . ";\n");

# Flushes for each transaction of a run with this setting.
sub flushes_each
{
	my ($setting) = @_;
	my ($out, $err) = ('', '');
	local $ENV{PGOPTIONS} = "-c failsafe.early_lock_release=$setting";

	answer($node, q{SELECT pg_stat_reset_shared('wal')});
	IPC::Run::run([ 'pgbench', '-h', $node->host, '-p', $node->port, '-n', '-M', 'prepared',
		'-c', $clients, '-j', 2, '-t', 200, '-f', $script, 'postgres' ], '>', \$out, '2>', \$err)
	  or BAIL_OUT("pgbench failed: $err");
	# backends report their counters when they end
	$node->poll_query_until('postgres', q{
		SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'pgbench'});
	my $flushes = answer($node, 'SELECT wal_sync FROM pg_stat_wal');
	note("$setting: $flushes flushes for " . $clients * 200 . ' transactions');
	return $flushes / ($clients * 200);
}

cmp_ok(flushes_each('off'), '>=', 0.95, 'without it each transaction has a flush of its own');
cmp_ok(flushes_each('own'), '<', 0.7, 'with it they share');

# --- which transactions are released early
sub is_released
{
	my ($expected, $name, $sql, $warmed) = @_;
	my $warm = $warmed // 1 ? q{LOAD 'pg_failsafe';} : '';

	$sql =~ s/CREDIT/credit("gen_random_uuid()::text") . ';'/ge;
	my $out = answer($node, "$warm $sql; SELECT 'early ' || failsafe._released_early()");
	like($out, qr/early $expected$/, "$name: $expected");
	return;
}

answer($node, q{
CREATE FUNCTION pay() RETURNS text LANGUAGE plpgsql AS $$
BEGIN RETURN (SELECT status FROM failsafe.wallet_credit('hot', 1, 'EUR', gen_random_uuid()::text)); END $$;
CREATE FUNCTION pay_and_write() RETURNS text LANGUAGE plpgsql AS $$
BEGIN PERFORM pay(); INSERT INTO jobs VALUES (1); RETURN 'done'; END $$;
CREATE FUNCTION pay_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM 1; PERFORM pay(); RETURN new; END $$;
CREATE TABLE orders (a int);
CREATE TRIGGER pay BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION pay_trigger();
});

# alone, nobody waits
is_released('false', 'nobody waits', 'CREDIT');
$node->safe_psql('postgres', q{ALTER SYSTEM SET failsafe.early_lock_release_when = always});
$node->reload;
ok($node->poll_query_until('postgres', q{SHOW failsafe.early_lock_release_when}, 'always'), 'set to always');

is_released('true', 'a statement of its own', 'CREDIT');
is_released('true', 'a transaction block', 'BEGIN; CREDIT CREDIT COMMIT');
is_released('true', 'with reads around it',
	'BEGIN; SELECT count(*) FROM jobs; CREDIT SELECT count(*) FROM jobs; CREDIT COMMIT');
is_released('true', 'from PL/pgSQL', 'SELECT pay()');
is_released('true', 'in a savepoint', 'BEGIN; SAVEPOINT s; CREDIT RELEASE s; SAVEPOINT t; SELECT 1; ROLLBACK TO t; COMMIT');
is_released('true', 'in a procedure that commits',
	'DO $$ BEGIN PERFORM pay(); COMMIT; PERFORM pay(); COMMIT; END $$');
is_released('false', 'in a procedure that commits, with a write',
	'DO $$ BEGIN PERFORM pay(); COMMIT; PERFORM pay(); INSERT INTO jobs VALUES (1); COMMIT; END $$');
is_released('true', 'by a cursor', 'BEGIN; DECLARE c CURSOR FOR SELECT pay(); FETCH c; CLOSE c; COMMIT');
is_released('true', 'SERIALIZABLE', 'BEGIN ISOLATION LEVEL SERIALIZABLE; CREDIT COMMIT');
is_released('false', 'a write before', 'BEGIN; INSERT INTO jobs VALUES (1); CREDIT COMMIT');
is_released('false', 'a write after', 'BEGIN; CREDIT INSERT INTO jobs VALUES (1); COMMIT');
is_released('false', 'a write between', 'BEGIN; CREDIT INSERT INTO jobs VALUES (1); CREDIT COMMIT');
is_released('false', 'a write in the same statement', q{INSERT INTO jobs SELECT length(pay())});
is_released('false', 'a write in the same statement, not the first',
	q{BEGIN; CREDIT INSERT INTO jobs SELECT length(pay()); COMMIT});
is_released('false', 'a write in a CTE before',
	q{WITH x AS (INSERT INTO jobs VALUES (1) RETURNING 1) SELECT pay() FROM x});
is_released('false', 'a write in a CTE after',
	q{WITH x AS (SELECT pay() AS r), y AS (INSERT INTO jobs SELECT length(r) FROM x RETURNING 1) SELECT * FROM y});
is_released('false', 'called by a trigger', 'INSERT INTO orders VALUES (1)');
is_released('false', 'a function that writes on', 'SELECT pay_and_write()');
is_released('false', 'a row lock before', 'BEGIN; SELECT * FROM orders FOR UPDATE; CREDIT COMMIT');
is_released('false', 'a write that was rolled back', 'BEGIN; SAVEPOINT s; INSERT INTO jobs VALUES (1); ROLLBACK TO s; CREDIT COMMIT');
is_released('false', 'NOTIFY before', 'BEGIN; NOTIFY x; CREDIT COMMIT');
is_released('false', 'NOTIFY after', 'BEGIN; CREDIT NOTIFY x; COMMIT');
is_released('false', 'pg_notify()', q{BEGIN; CREDIT SELECT pg_notify('x', 'y'); COMMIT});
is_released('false', 'DDL', 'BEGIN; CREDIT CREATE TEMP TABLE t (a int); COMMIT');
is_released('false', 'synchronous_commit = off', 'BEGIN; CREDIT SET LOCAL synchronous_commit = off; COMMIT');
is_released('false', 'switched off', 'SET failsafe.early_lock_release = off; CREDIT');
is_released('true', 'all, with a write before',
	q{SET failsafe.early_lock_release = 'all'; BEGIN; INSERT INTO jobs VALUES (1); CREDIT COMMIT});
is(answer($node, credit("gen_random_uuid()::text") . '; SHOW synchronous_commit'), "committed\non",
	'synchronous_commit has its value back');

# --- a crash under load
$node->adjust_conf('postgresql.conf', 'commit_delay', '0');
$node->reload;

for my $round (1 .. 3)
{
	my @sessions = map { start_commands($node, 'hot', "r${round}_s$_", 20000) } 1 .. $clients;
	my $enough = $node->poll_query_until('postgres', qq{
		SELECT count(*) > 1000 FROM failsafe.idempotency_key WHERE key LIKE 'r${round}\\_%'});
	ok($enough, "round $round: the load runs");

	kill_server($node);
	my @acked = acknowledged_keys(@sessions);
	$node->start;

	cmp_ok(scalar @acked, '>', 0, 'round ' . $round . ': ' . @acked . ' were acknowledged');
	my $list = $node->basedir . "/all_$round";
	append_to_file($list, join('', map { "$_\n" } @acked));
	answer($node, 'DROP TABLE IF EXISTS acked; CREATE TABLE acked (key text)');
	answer($node, "COPY acked FROM '$list'");
	is(answer($node, q{
		SELECT count(*) FROM acked AS a
		WHERE NOT EXISTS (SELECT FROM failsafe.idempotency_key AS k WHERE k.key = a.key)}),
		0, "round $round: each of them is there");
	is(answer($node, q{
		SELECT (SELECT posted FROM failsafe.account_balance('hot')) - (SELECT count(*) FROM failsafe.idempotency_key)}),
		0, "round $round: the balance is the number of keys");
}
is(answer($node, 'SELECT count(*) FROM failsafe.ledger_verify()'), 0, 'the books balance');

$node->stop;
done_testing();
