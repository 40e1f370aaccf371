# Workers and standbys: a lost synchronous standby holds up neither the worker nor DROP
# DATABASE; on a standby nothing runs, and its promotion starts the worker.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Failsafe;
use Workers;

my $primary = worker_node('primary', init => { allows_streaming => 1 }, conf => "max_worker_processes = 16\n");
for my $name ('own', 'other', 'plain')
{
	answer($primary, "CREATE DATABASE $name");
	next if $name eq 'plain';
	$primary->safe_psql($name, 'CREATE EXTENSION pg_failsafe');
	subscribe($primary, $name);
	wait_for_worker($primary, $name);
}
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf', "failsafe.relay_path = '" . relay_install($standby) . "'\n");
$standby->start;
$primary->append_conf('postgresql.conf', "synchronous_standby_names = 'standby'\n");
$primary->reload;
wait_for($primary, q{SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'},
	'the standby is synchronous');

# --- a standby
is(answer($standby, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_failsafe%'}), 0,
	'nothing of ours runs on a standby');
is(answer($standby, q{SELECT string_agg(check_name || ' ' || status, ', ' ORDER BY check_name)
	FROM failsafe._doctor_delivery_worker() WHERE check_name LIKE 'worker%'}),
	'worker ok, worker_launcher info, worker_processes ok', 'which doctor() there finds right');
fails_with($standby, '25006', 'SELECT failsafe.worker_start()', 'nobody can start one');

# --- the standby is lost: the worker goes on, and databases can be dropped
$standby->stop;
answer($primary, q{
	SET synchronous_commit = local;
	SELECT failsafe.account_open('acc', 'EUR');
	SELECT failsafe.wallet_credit('acc', 100, 'EUR', 'topup');
	SELECT failsafe.wallet_hold('acc', 30, 'EUR', 'held', expires_in => '1 second')});
my $worker = worker_pid($primary, 'postgres');
answer($primary, "SELECT pg_terminate_backend($worker)");    # the next one begins with the upkeep soon
wait_until('the worker writes and commits without the standby', sub {
	answer($primary, q{SELECT count(*) FROM failsafe.hold WHERE status = 'expired'}) == 1 });
wait_until('all of its upkeep', sub { worker_row($primary, 'postgres', 'maintained_at IS NOT NULL') eq 't' });
is(answer($primary, q{SELECT count(*) FROM pg_stat_activity
	WHERE backend_type LIKE 'pg_failsafe%' AND wait_event = 'SyncRep'}), 0, 'no worker waits for it');
for my $name ('plain', 'own')
{
	my $began = time;

	succeeds($primary, "SET statement_timeout = '20s'; SET synchronous_commit = local; DROP DATABASE $name",
		"DROP DATABASE $name");
	cmp_ok(time - $began, '<', 10, 'at once');
}
is($primary->safe_psql('other', q{SET synchronous_commit = local; SET statement_timeout = '20s';
	SELECT 1}), 1, 'another database goes on');
ok(worker_pid($primary, 'other') > 0, 'with its worker');
answer($primary, q{SET synchronous_commit = local; CREATE DATABASE made});
$primary->safe_psql('made', 'SET synchronous_commit = local; CREATE EXTENSION pg_failsafe');
wait_until('a new one gets its worker', sub { worker_row($primary, 'made', 'pid > 0') eq 't' });

# --- promotion
$standby->start;
$primary->wait_for_catchup($standby);
$primary->stop('immediate');
$standby->promote;
$standby->append_conf('postgresql.conf', "synchronous_standby_names = ''\n");
$standby->reload;
wait_for_worker($standby, 'postgres', 'promotion starts the worker');
wait_for_worker($standby, 'other', 'of each database');
$standby->stop;

done_testing();
