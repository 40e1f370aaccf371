# A standby and a READ ONLY transaction: commands are refused with 25006, also those
# that would replay; reads answer.  After a promotion the keys replay and the books
# balance.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Failsafe;

my $primary = failsafe_node('primary', init => { allows_streaming => 1 }, conf => "autovacuum = off\n");
answer($primary, q{
	SELECT failsafe.account_open('acc', 'EUR');
	SELECT failsafe.wallet_credit('acc', 100, 'EUR', 'topup');
	SELECT failsafe.wallet_hold('acc', 30, 'EUR', 'held')});

$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
$primary->wait_for_catchup($standby);

my @commands = (
	q{wallet_debit('acc', 10, 'EUR', 'new')},
	q{wallet_credit('acc', 100, 'EUR', 'topup')},
	q{wallet_commit('key:held', 'capture')},
	q{wallet_command('{"command":"debit","account":"acc","amount":1,"currency":"EUR","idempotency_key":"json"}')},
	q{wallet_batch('[]')},
	q{account_open('other', 'EUR')},
	q{account_freeze('acc', 'test')},
	q{holds_sweep()},
	q{outbox_emit('app.test', 'key', '{}')},
	q{idempotency_claim('key', '{}')});
my @reads = (
	[ q{SELECT posted, held, available FROM failsafe.account_balance('acc')}, '100|30|70' ],
	[ q{SELECT state FROM failsafe.idempotency_status('topup')}, 'committed' ],
	[ q{SELECT count(*) FROM failsafe.holds('acc')}, '1' ],
	[ q{SELECT count(*) FROM failsafe.account_statement('acc', NULL, NULL)}, '1' ],
	[ q{SELECT count(*) FROM failsafe.ledger_verify()}, '0' ]);

for my $place ([ $standby, '', 'a standby' ], [ $primary, 'SET transaction_read_only = on;', 'a READ ONLY transaction' ])
{
	my ($node, $before, $name) = @$place;

	fails_with($node, '25006', "BEGIN; $before SELECT * FROM failsafe.$_", "$name refuses $_")
	  for @commands;
	is(answer($node, "BEGIN; $before $_->[0]"), $_->[1], "$name answers: $_->[0]") for @reads;
}

$standby->promote;
wait_for($standby, 'SELECT NOT pg_is_in_recovery()', 'the standby was promoted');
is(answer($standby, q{SELECT status, replayed FROM failsafe.wallet_credit('acc', 100, 'EUR', 'topup')}),
	'committed|t', 'a key of before replays');
is(answer($standby, q{SELECT status, posted FROM failsafe.wallet_commit('key:held', 'capture')}),
	'committed|70', 'a hold of before is captured');
is(answer($standby, 'SELECT count(*) FROM failsafe.ledger_verify()'), 0, 'the books balance');

$standby->stop;
$primary->stop;
done_testing();
