# Many connections at once: one key has one effect, and an account never pays more
# than it has.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Failsafe;

my $node = failsafe_node('concurrency', conf => "fsync = off\nmax_connections = 80\n");

# Run the driver; what it printed.
sub race
{
	my @arguments = @_;
	my ($out, $err) = run_command(
		[ 'python3', "$FindBin::Bin/drivers/race.py", $node->connstr('postgres'), @arguments ]);

	is($err, '', "@arguments: no complaint");
	return $out;
}

# --- 50 connections, one key
answer($node, q{
	SELECT failsafe.account_open('race', 'EUR');
	SELECT failsafe.wallet_credit('race', 1000, 'EUR', 'race_seed')});
is(race('same_key', 50, 'one', 'READ COMMITTED', 0), "committed new 990 1\ncommitted replayed 990 49",
	'one effect, 49 replays');
is(race('same_key', 50, 'two', 'REPEATABLE READ', 0), "committed new 980 1\ncommitted replayed 980 49",
	'the same under REPEATABLE READ, which repeats what it may not see');
is(race('same_key', 50, 'three', 'SERIALIZABLE', 0), "committed new 970 1\ncommitted replayed 970 49",
	'and under SERIALIZABLE');
is(race('same_key', 50, 'four', 'READ COMMITTED', 25),
	"committed new 960 1\ncommitted replayed 960 24\nrolled back 25",
	'half of them roll back: still one effect');
is(answer($node, q{SELECT posted, version FROM failsafe.account_balance('race')}), '960|5', 'and the money says so');

# --- 32 connections, money for half of what they ask
answer($node, q{
	SELECT failsafe.account_open('half', 'EUR');
	SELECT failsafe.wallet_credit('half', 10 * 32 * 20 / 2, 'EUR', 'half_seed')});
is(race('half', 32, 20), "SF020 320\ncommitted 320", 'exactly half of them are committed');
is(answer($node, q{
	SELECT b.posted, min(e.posted), count(*)
	FROM failsafe.account_balance('half') AS b, failsafe.entry AS e
	JOIN failsafe.account AS a ON a.id = e.account_id
	WHERE a.code = 'half' GROUP BY b.posted}), '0|0|321', 'never below the floor');

# --- the same batches in any order
answer($node, q{
	SELECT failsafe.account_open('batch_' || i, 'EUR', floor => -1000) FROM generate_series(0, 19) AS i});
my %batches = map { /^(.*) (\d+)$/ } split /\n/, race('batches', 8, 20);
my $commands = answer($node, q{SELECT count(*) FROM failsafe.idempotency_key WHERE key LIKE 'batch%'});
is(join(' ', sort keys %batches), 'committed new committed replayed', 'no deadlock, no refusal');
is($batches{'committed new'}, $commands, 'one effect for each key');
is($batches{'committed replayed'}, 7 * $commands, 'and 7 replays');

is(answer($node, 'SELECT count(*) FROM failsafe.ledger_verify()'), 0, 'the books balance');
$node->stop;
done_testing();
