# SQL objects of another version than the library: commands are refused with what is
# installed and what to do, reports say the same, and nothing is written.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Failsafe;

my $node = failsafe_node('skew', conf => "fsync = off\n");

answer($node, q{
	SELECT failsafe.account_open('acc', 'EUR');
	SELECT failsafe.wallet_credit('acc', 100, 'EUR', 'seed')});
my $version = answer($node, q{SELECT extversion FROM pg_extension WHERE extname = 'pg_failsafe'});
my @commands = (
	q{SELECT failsafe.wallet_debit('acc', 1, 'EUR', 'k1')},
	q{SELECT failsafe.wallet_credit('acc', 100, 'EUR', 'seed')},
	q{SELECT failsafe.wallet_http('{"command": "debit"}')},
	q{SELECT * FROM failsafe.wallet_batch('[]')},
	q{SELECT failsafe.account_open('other', 'EUR')},
	q{SELECT failsafe.account_freeze('acc', 'test')},
	q{SELECT failsafe.holds_sweep()},
	q{SELECT failsafe.account_balance('acc')},
	q{SELECT failsafe.idempotency_claim('app', NULL)},
	q{SELECT failsafe.outbox_emit('a.b', 'k', '{}')});

for my $other ('0.0.1', '99.0')
{
	answer($node, "UPDATE pg_extension SET extversion = '$other' WHERE extname = 'pg_failsafe'");
	for my $command (@commands)
	{
		my $error = fails_with($node, 'SF063', $command, "$other: $command");
		like($error, qr/"installed":"\Q$other\E"/, 'the detail names the version that is installed');
	}
}

# --- a session that began before the change finds out when the functions change
my $session = $node->background_psql('postgres', on_error_stop => 0);
answer($node, "UPDATE pg_extension SET extversion = '$version' WHERE extname = 'pg_failsafe'");
is($session->query_safe(q{SELECT status FROM failsafe.wallet_debit('acc', 1, 'EUR', 'k2')}), 'committed', 'a session with the right version');
answer($node, q{
	UPDATE pg_extension SET extversion = '99.0' WHERE extname = 'pg_failsafe';
	COMMENT ON FUNCTION failsafe._library_version() IS 'as an update script replaces it';
	ALTER FUNCTION failsafe._library_version() COST 2});
is($session->query(q{SELECT status FROM failsafe.wallet_debit('acc', 1, 'EUR', 'k3')}), '', 'is refused after an update');
like($session->{stderr}, qr/different versions/, 'which another session made');
$session->quit;

# --- put right, everything goes on
answer($node, "UPDATE pg_extension SET extversion = '$version' WHERE extname = 'pg_failsafe'");
is(answer($node, q{SELECT posted, version FROM failsafe.account_balance('acc')}), '99|2', 'nothing was written meanwhile');
succeeds($node, q{SELECT failsafe.wallet_debit('acc', 1, 'EUR', 'k1')}, 'and commands go on');
is(answer($node, 'SELECT count(*) FROM failsafe.ledger_verify()'), 0, 'the books balance');
$node->stop;
done_testing();
