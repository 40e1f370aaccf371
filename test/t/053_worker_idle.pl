# A worker with nothing to do runs no statement and begins no transaction.  What the
# processes cost is printed.

use strict;
use warnings;

use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Failsafe;
use Workers;

my $node = worker_node('main', conf => q{
shared_preload_libraries = 'pg_failsafe, pg_stat_statements'
pg_stat_statements.track = all
autovacuum = off
});
my $ticks = POSIX::sysconf(POSIX::_SC_CLK_TCK());

answer($node, 'CREATE EXTENSION pg_stat_statements');
answer($node, 'CREATE DATABASE watch');

# Seconds of CPU that a process has used.
sub cpu_seconds
{
	my ($pid) = @_;
	my @fields = split / /, slurp_file("/proc/$pid/stat") =~ s/.*\) //sr;

	return ($fields[11] + $fields[12]) / $ticks;
}

# Asked from another database: statements in the worker's database, and its transactions.
$node->safe_psql('watch', 'CREATE EXTENSION pg_stat_statements');

sub work_done
{
	return $node->safe_psql('watch', q{
		SELECT (SELECT sum(s.calls) FROM pg_stat_statements AS s WHERE s.dbid = d.datid),
			   d.xact_commit + d.xact_rollback
		FROM pg_stat_database AS d WHERE d.datname = 'postgres'});
}

# after the first upkeep there is nothing for most of a minute
wait_until('the upkeep is done', sub { worker_row($node, 'postgres', 'maintained_at IS NOT NULL') eq 't' });
my %process = (
	launcher => answer($node, q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_failsafe launcher'}),
	worker => worker_pid($node, 'postgres'),
	relay => worker_row($node, 'postgres', 'relay_pid'));
sleep 2;    # the statistics of the last transactions arrive
my $before = work_done();
my $log = log_size($node);
my %cpu = map { $_ => cpu_seconds($process{$_}) } keys %process;
my $began = time;
sleep 10;
my $seconds = time - $began;
is(work_done(), $before, 'no statement and no transaction in ten seconds');
ok(!log_has($node, qr/pg_failsafe (worker|relay|launcher)/, $log), 'and not a word in the log');
for my $name (sort keys %process)
{
	note(sprintf '%s: %.2f %% of a core', $name, 100 * (cpu_seconds($process{$name}) - $cpu{$name}) / $seconds);
}
is(worker_row($node, 'postgres', 'errors'), 0, 'no error');

# --- a setting of the database for its sessions does not reach the worker
answer($node, q{
	ALTER DATABASE postgres SET statement_timeout = '1ms';
	ALTER DATABASE postgres SET default_transaction_read_only = on;
	ALTER DATABASE postgres SET default_transaction_isolation = 'serializable';
	ALTER DATABASE postgres SET search_path = nowhere;
	ALTER DATABASE postgres SET synchronous_commit = off});
$node->restart;
local $ENV{PGOPTIONS} = '-c statement_timeout=0';
wait_until('upkeep works whatever a database sets', sub {
	$node->safe_psql('postgres', q{
		SELECT maintained_at IS NOT NULL AND errors = 0 FROM failsafe.stat_workers WHERE database = 'postgres'}) eq 't' });
$node->stop;

done_testing();
