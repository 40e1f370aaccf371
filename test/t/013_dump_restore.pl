# A dump carries every row and every sequence: the restored books are equal, answer
# with the same replays, and go on with new numbers.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Failsafe;

my $node = failsafe_node('dump', conf => "fsync = off\n");

answer($node, q{
	SELECT failsafe.currency_add('POINTS', 0);
	SELECT failsafe.tenant_add('north', '{"region": "eu-1"}');
	ALTER DATABASE postgres SET failsafe.tenant = 'default'});
answer($node, q{
	SELECT failsafe.account_open(code, 'EUR') FROM (VALUES ('a'), ('b'), ('c')) AS v(code);
	SELECT failsafe.account_open('points', 'POINTS', floor => -1000);
	SELECT failsafe.wallet_credit('a', 10000, 'EUR', 'c1', reference => 'ref', metadata => '{"x": 1}');
	SELECT failsafe.wallet_transfer('a', 'b', 2500, 'EUR', 't1');
	SELECT failsafe.wallet_debit('points', 500, 'POINTS', 'p1');
	SELECT failsafe.wallet_hold('a', 1000, 'EUR', 'h1');
	SELECT failsafe.wallet_hold('b', 100, 'EUR', 'h2', expires_in => '1 hour');
	SELECT failsafe.wallet_commit('key:h1', 'h1c', 400, final => false);
	SELECT failsafe.wallet_reverse('key:t1', 'r1', 100);
	SELECT failsafe.wallet_debit('c', 1, 'EUR', 'declined', on_decline => 'record');
	SELECT failsafe.ledger_post(ARRAY[('a', -30, 'EUR'), ('b', 10, 'EUR'), ('c', 20, 'EUR')]::failsafe.leg[], 'post1');
	SELECT failsafe.account_freeze('c', 'looked at');
	SELECT failsafe.outbox_emit('app.made', 'k', '{"a": 1}');
	SELECT failsafe.idempotency_claim('app1', '{}');
	SELECT failsafe.idempotency_complete('app1', '{"ok": true}');
	SELECT failsafe.ledger_checkpoint();
	SET failsafe.tenant = 'north';
	SELECT failsafe.account_open('a', 'USD');
	SELECT failsafe.wallet_credit('a', 7, 'USD', 'c1')});

# Every row of every table and the state of every sequence, one line each.  Rows that
# the extension makes itself are not dumped.
sub contents
{
	my ($database) = @_;
	my $queries = $node->safe_psql($database, q{
		SELECT format(
			CASE relkind WHEN 'S' THEN 'SELECT %1$L, last_value, is_called FROM %2$s'
			ELSE 'SELECT %1$L, count(*), md5(string_agg(t::text, E''\n'' ORDER BY t::text)) FROM %2$s AS t %3$s' END,
			relname, c.oid::regclass, CASE WHEN relname IN ('tenant', 'currency') THEN 'WHERE NOT builtin' ELSE '' END)
		FROM pg_class AS c
		WHERE relnamespace = 'failsafe'::regnamespace AND relkind IN ('r', 'S')
		ORDER BY relname});
	return join "\n", map { $node->safe_psql($database, $_) } split /\n/, $queries;
}

sub differences
{
	my ($expected, $got) = @_;
	my %seen = map { $_ => 1 } split /\n/, $expected;
	return grep { !$seen{$_} } split /\n/, $got;
}

my @replays = (
	q{SELECT * FROM failsafe.wallet_credit('a', 10000, 'EUR', 'c1', reference => 'ref', metadata => '{"x": 1}')},
	q{SELECT * FROM failsafe.wallet_commit('key:h1', 'h1c', 400, final => false)},
	q{SELECT * FROM failsafe.wallet_reverse('key:t1', 'r1', 100)},
	q{SELECT * FROM failsafe.wallet_debit('c', 1, 'EUR', 'declined', on_decline => 'record')},
	q{SELECT state, response FROM failsafe.idempotency_claim('app1', '{}')});
my $before = contents('postgres');
my $answers = join "\n", map { answer($node, $_) } @replays;
my $dir = $node->basedir;

$node->command_ok([ 'pg_dump', '-Fc', '-f', "$dir/dump.custom", 'postgres' ], 'pg_dump, custom format');
$node->command_ok([ 'pg_dump', '-f', "$dir/dump.sql", 'postgres' ], 'pg_dump, plain');
$node->command_ok([ 'pg_dump', '-Fd', '-j', '2', '-f', "$dir/dump.dir", 'postgres' ], 'pg_dump, directory, two jobs');

my %restore = (
	custom => sub { [ 'pg_restore', '-1', '-e', '-d', $_[0], "$dir/dump.custom" ] },
	plain => sub { [ 'psql', '-Xq', '-1', '-v', 'ON_ERROR_STOP=1', '-d', $_[0], '-f', "$dir/dump.sql" ] },
	directory => sub { [ 'pg_restore', '-e', '-j', '2', '-d', $_[0], "$dir/dump.dir" ] });

for my $format (sort keys %restore)
{
	my $database = "copy_$format";

	answer($node, "CREATE DATABASE $database TEMPLATE template0");
	$node->command_ok($restore{$format}->($database), "$format: restored without an error");
	answer($node, "ALTER DATABASE $database SET failsafe.tenant = 'default'");
	is_deeply([ differences($before, contents($database)) ], [],
		"$format: every row and every sequence is the same");
	is($node->safe_psql($database, 'SELECT count(*) FROM failsafe.ledger_verify()'), 0,
		"$format: the books balance");
	is(join("\n", map { $node->safe_psql($database, $_) } @replays), $answers,
		"$format: replays answer the same");
	is($node->safe_psql($database, q{
		SELECT status FROM failsafe.wallet_credit('a', 1, 'EUR', 'after');
		SELECT status FROM failsafe.wallet_rollback('key:h2', 'h2r');
		SELECT created FROM failsafe.account_open('d', 'EUR');
		SELECT failsafe.outbox_emit('app.made', 'k', '{}') IS NOT NULL;
		SELECT created FROM failsafe.tenant_add('south')}), "committed\nrolled_back\nt\nt\nt",
		"$format: it goes on with new numbers");
	is($node->safe_psql($database, 'SELECT count(*) FROM failsafe.ledger_verify()'), 0,
		"$format: and still balances");
	fails_with($node, 'SF060', 'DELETE FROM failsafe.entry', "$format: its guards are there", database => $database);
}

my ($out, $err) = run_command([ 'pg_restore', '--clean', '--if-exists', '-d', $node->connstr('copy_plain'), "$dir/dump.custom" ]);
like($err, qr/still holds a ledger/, 'a restore that would drop a ledger first is refused');
is($node->safe_psql('copy_plain', q{SELECT count(*) FROM failsafe.idempotency_key WHERE key = 'after'}), 1,
	'and the ledger is untouched');

$node->stop;
done_testing();
