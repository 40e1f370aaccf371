# Statements cancelled and timed out at every point: what was not answered has either
# its whole effect or none, and the same key sent again settles it.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Failsafe;

use constant { CONNECTIONS => 6, COMMANDS => 3000 };

my $node = failsafe_node('cancel', conf => "fsync = off\nlog_min_messages = fatal\ndeadlock_timeout = 20ms\n");

answer($node, q{SELECT failsafe.account_open('cancel_' || i, 'EUR') FROM generate_series(0, 3) AS i});
my ($out, $err) = run_command(
	[ 'python3', "$FindBin::Bin/drivers/cancel.py", $node->connstr('postgres'), CONNECTIONS, COMMANDS ]);
is($err, '', 'no complaint');
my %count = map { /^(.*) (\d+)$/ } split /\n/, $out;
note("$_ $count{$_}") for sort keys %count;

cmp_ok($count{57014} // 0, '>', 20, 'statements were interrupted');
is($count{answered}, CONNECTIONS * COMMANDS, 'all were answered in the end');
is(answer($node, q{SELECT count(*) FROM failsafe.idempotency_key}), CONNECTIONS * COMMANDS, 'one key each');
is(answer($node, q{SELECT sum(b.posted) FROM generate_series(0, 3) AS i, failsafe.account_balance('cancel_' || i) AS b}),
	CONNECTIONS * COMMANDS, 'one effect each');
is(answer($node, 'SELECT count(*) FROM failsafe.ledger_verify()'), 0, 'the books balance');

# --- a wait that is cancelled, in a transaction that goes on
my $holder = $node->background_psql('postgres');
$holder->query_safe(q{BEGIN; SELECT failsafe.wallet_credit('cancel_0', 1, 'EUR', 'held')});
fails_with($node, '57014', q{SET statement_timeout = '50ms'; SELECT failsafe.wallet_credit('cancel_0', 1, 'EUR', 'held')},
	'a wait for a key ends with the statement');
fails_with($node, '57014', q{SET statement_timeout = '50ms'; SELECT failsafe.wallet_credit('cancel_0', 1, 'EUR', 'other')},
	'and so one for an account');
fails_with($node, '55P03', q{SET failsafe.key_wait = '50ms'; SELECT failsafe.wallet_credit('cancel_0', 1, 'EUR', 'held')},
	'failsafe.key_wait ends it as a lock timeout');
fails_with($node, '55P03', q{SET failsafe.lock_wait = '50ms'; SELECT failsafe.wallet_credit('cancel_0', 1, 'EUR', 'other')},
	'failsafe.lock_wait too');
fails_with($node, '55P03', q{SET lock_timeout = '50ms'; SELECT failsafe.wallet_credit('cancel_0', 1, 'EUR', 'other')},
	'and lock_timeout is respected where it is shorter');
succeeds($node, q{SET statement_timeout = '10s'; SELECT failsafe.wallet_credit('cancel_1', 1, 'EUR', 'free');},
	'other accounts are free');
$holder->query_safe('ROLLBACK');
$holder->quit;
succeeds($node, q{SELECT failsafe.wallet_credit('cancel_0', 1, 'EUR', 'held')}, 'and the key after it');
is(answer($node, 'SELECT count(*) FROM failsafe.ledger_verify()'), 0, 'the books balance');

$node->stop;
done_testing();
