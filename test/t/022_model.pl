# 100 000 random operations over 8 connections against a model that says what each of
# them must answer; then the books are verified and each key answers again as it did.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Failsafe;

use constant OPERATIONS => 100_000;

my $seed = $ENV{FAILSAFE_SEED} // 1;
my $node = failsafe_node('model', conf => "fsync = off\ndeadlock_timeout = 20ms\n");

answer($node, q{
	SELECT failsafe.account_open('pool', 'EUR', floor => NULL);
	SELECT failsafe.account_open('fees', 'EUR', 'system')});

my ($out, $err) = run_command(
	[ 'python3', "$FindBin::Bin/drivers/model.py", $node->connstr('postgres'), 8, OPERATIONS, $seed ]);
is($err, '', 'no complaint');
my %count = map { /^(.*) (-?\d+)$/ } split /\n/, $out;
note("$_ $count{$_}") for sort keys %count;

cmp_ok($count{operations} // 0, '>=', OPERATIONS, 'operations');
is(join(', ', grep { /^WRONG/ } sort keys %count), '', "no difference to the model (FAILSAFE_SEED=$seed)");
cmp_ok($count{keys} // 0, '>', OPERATIONS / 2, 'each key was replayed at the end');
cmp_ok($count{$_} // 0, '>', 0, "some were $_") for qw(committed held rolled_back declined refused replayed raised);
is(answer($node, q{SELECT posted FROM failsafe.account_balance('pool')}), $count{pool}, 'the hot account has what all moved');
is(answer($node, 'SELECT count(*) FROM failsafe.ledger_verify()'), 0, 'the books balance');
is(answer($node, q{
	SELECT count(*) FROM failsafe.journal AS j
	LEFT JOIN (SELECT journal_id, count(*) AS events FROM failsafe.outbox GROUP BY journal_id) AS o ON o.journal_id = j.id
	WHERE o.events IS DISTINCT FROM 1}),
	0, 'each transaction has one event');

$node->stop;
done_testing();
