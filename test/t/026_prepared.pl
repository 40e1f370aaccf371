# Prepared transactions: refused unless failsafe.allow_prepare; allowed, they hold their
# keys and accounts until they are resolved, across a crash too.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Failsafe;

my $node = failsafe_node('prepared', conf => "max_prepared_transactions = 5\n");

answer($node, q{
	SELECT failsafe.account_open('acc', 'EUR');
	SELECT failsafe.wallet_credit('acc', 100, 'EUR', 'seed')});

sub debit { return "SELECT status, posted, replayed FROM failsafe.wallet_debit('acc', 10, 'EUR', '$_[0]');"; }
sub prepare { return "SET failsafe.allow_prepare = on; BEGIN; " . debit($_[0]) . " PREPARE TRANSACTION '$_[0]';"; }
sub state { return answer($node, "SELECT state FROM failsafe.idempotency_status('$_[0]')"); }
my $short = "SET failsafe.key_wait = '50ms'; SET failsafe.lock_wait = '50ms'; ";
my $posted = q{SELECT posted, version FROM failsafe.account_balance('acc')};

fails_with($node, 'SF062', 'BEGIN; ' . debit('k0') . q{ PREPARE TRANSACTION 'k0';}, 'PREPARE TRANSACTION is refused');
is(answer($node, 'SELECT count(*) FROM pg_prepared_xacts'), 0, 'and nothing is prepared');
is(state('k0'), 'none', 'the key is free');
succeeds($node, 'BEGIN; SELECT failsafe.account_balance(\'acc\'); ' . debit('seed2') =~ s/.*//r
	. q{ PREPARE TRANSACTION 'reads';}, 'one that only reads may be prepared');
answer($node, q{ROLLBACK PREPARED 'reads'});

# --- committed later
succeeds($node, prepare('k1'), 'PREPARE TRANSACTION where it is allowed');
is(state('k1'), 'in_progress', 'the key is in progress');
is(answer($node, $posted), '100|1', 'the money is not moved yet');
fails_with($node, '55P03', $short . debit('k1'), 'the key is held');
fails_with($node, '55P03', $short . debit('k2'), 'and so is the account');
is(answer($node, q{SELECT replayed FROM failsafe.wallet_credit('acc', 100, 'EUR', 'seed')}), 't',
	'a replay does not wait for it');
is(answer($node, 'SELECT count(*) FROM failsafe.ledger_verify()'), 0, 'the books balance beside it');

kill_server($node);
$node->start;
is(state('k1'), 'in_progress', 'after a crash the key is still held');
fails_with($node, '55P03', $short . debit('k1'), 'and nobody gets it');
answer($node, q{COMMIT PREPARED 'k1'});
is(answer($node, $posted), '90|2', 'COMMIT PREPARED moves the money');
is(answer($node, debit('k1')), 'committed|90|t', 'and the key replays');

# --- rolled back later
succeeds($node, prepare('k3'), 'another one');
answer($node, q{ROLLBACK PREPARED 'k3'});
is(state('k3'), 'none', 'ROLLBACK PREPARED frees the key');
is(answer($node, debit('k3')), 'committed|80|f', 'which has its effect now');

# --- an event of a prepared transaction appears with its commit
succeeds($node, prepare('k4'), 'one more');
my $events = q{SELECT count(*) FROM failsafe.events WHERE envelope ->> 'idempotency_key' = 'k4'};
is(answer($node, $events), 0, 'no event before the commit');
answer($node, q{COMMIT PREPARED 'k4'});
is(answer($node, $events), 1, 'one after it');

is(answer($node, $posted), '70|4', 'each had its effect once');
is(answer($node, 'SELECT count(*) FROM failsafe.ledger_verify()'), 0, 'the books balance');
$node->stop;
done_testing();
