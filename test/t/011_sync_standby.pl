# Synchronous standbys: the wait comes after the locks, a wait that was canceled
# confirms nothing to a later replay, and a promoted standby has what was acknowledged.

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Failsafe;

my $primary = failsafe_node('primary', init => { allows_streaming => 1 }, conf => q{
failsafe.early_lock_release_when = always
fsync = on
autovacuum = off
wal_receiver_status_interval = 1
});
answer($primary, q{
	SELECT failsafe.account_open('acc', 'EUR');
	SELECT failsafe.wallet_credit('acc', 100, 'EUR', 'before')});

$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf', "wal_receiver_status_interval = 1\n");
$standby->start;
$primary->append_conf('postgresql.conf', "synchronous_standby_names = 'standby'\n");
$primary->reload;
wait_for($primary, q{SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'},
	'the standby is synchronous');

sub credit
{
	my ($key, $account) = @_;
	return sprintf q{SELECT status, replayed FROM failsafe.wallet_credit('%s', 1, 'EUR', '%s')},
	  $account // 'acc', $key;
}

# A session of its own that commits a credit and waits.
sub start_commit
{
	my ($key) = @_;
	my %session = (out => '', err => '');

	$session{run} = IPC::Run::start(
		[ 'psql', '-XAtq', '-d', $primary->connstr('postgres') . " application_name=$key", '-c', credit($key) ],
		'<', '/dev/null', '>', \$session{out}, '2>', \$session{err});
	return \%session;
}

sub on_standby
{
	my ($key) = @_;
	return $standby->safe_psql('postgres', "SELECT count(*) FROM failsafe.idempotency_key WHERE key = '$key'");
}

# --- as usual
is(answer($primary, credit('k1')), 'committed|f', 'a commit with the standby up');
is(answer($primary, credit('k1')), 'committed|t', 'its replay');
is(answer($primary, "SET synchronous_commit = remote_apply; " . credit('k2')), 'committed|f', 'remote_apply');
is(on_standby('k2'), 1, 'the standby shows it at once');
is(answer($primary, "SET synchronous_commit = remote_write; " . credit('k3')), 'committed|f', 'remote_write');

# --- the standby is lost
$standby->stop;
my $waiting = start_commit('lost');
wait_for($primary, q{
	SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'lost' AND wait_event = 'SyncRep'},
	'a commit waits for the standby');
is(answer($primary, "SET lock_timeout = '5s'; SET synchronous_commit = local; " . credit('beside')), 'committed|f',
	'meanwhile the account is free for others');
is($waiting->{out}, '', 'the client has heard nothing');

answer($primary, q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'lost'});
$waiting->{run}->finish;
like($waiting->{err}, qr/canceling wait for synchronous replication/, 'a canceled wait says so');

fails_with($primary, 'SF065', "SET statement_timeout = '1s'; " . credit('lost'),
	'a replay does not confirm what the standby lacks');
fails_with($primary, 'SF065', "SET statement_timeout = '1s'; SELECT failsafe._wait_durable_all()",
	'neither does a report');
fails_with($primary, 'SF065', "SET statement_timeout = '1s'; SELECT * FROM failsafe.account_balance('acc')",
	'nor a balance');
is(answer($primary, "SET synchronous_commit = local; " . credit('lost')), 'committed|t',
	'a session that does not ask for the standby gets its answer');

# --- and comes back while a replay waits
$waiting = start_commit('lost');
wait_for($primary, q{
	SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'lost' AND wait_event = 'SyncRep'},
	'a replay waits for the standby');
$standby->start;
$waiting->{run}->finish;
is($waiting->{out}, "committed|t\n", 'it is confirmed when the standby is back');
$primary->wait_for_catchup($standby);
is(on_standby('lost'), 1, 'and has it');
is(answer($primary, credit('lost')), 'committed|t', 'later replays are confirmed at once');

# --- the standby itself: reads work, commands are refused
is($standby->safe_psql('postgres', q{SELECT posted >= 100 FROM failsafe.account_balance('acc')}), 't',
	'a balance on the standby');
fails_with($standby, '25006', credit('k1'), 'no command on the standby, not even a replay');

# --- the primary dies under load
my @sessions = map { start_commands($primary, 'acc', "s$_", 20000) } 1 .. 4;
wait_for($primary, q{SELECT count(*) > 500 FROM failsafe.idempotency_key WHERE key LIKE 's%\_%'}, 'the load runs');
$primary->stop('immediate');
my @acked = acknowledged_keys(@sessions);
$standby->promote;

my $list = $primary->basedir . '/acked';
append_to_file($list, join('', map { "$_\n" } @acked));
$standby->append_conf('postgresql.conf', "synchronous_standby_names = ''\n");
$standby->reload;
$standby->safe_psql('postgres', "CREATE TABLE acked (key text); COPY acked FROM '$list'");
cmp_ok($standby->safe_psql('postgres', 'SELECT count(*) FROM acked'), '>', 0, 'some were acknowledged');
is($standby->safe_psql('postgres', q{
	SELECT count(*) FROM acked AS a
	WHERE NOT EXISTS (SELECT FROM failsafe.idempotency_key AS k WHERE k.key = a.key)}),
	0, 'the promoted standby has each of them');
is($standby->safe_psql('postgres', 'SELECT count(*) FROM failsafe.ledger_verify()'), 0, 'its books balance');
is($standby->safe_psql('postgres', credit('lost')), 'committed|t', 'and it replays');

$standby->stop;
done_testing();
