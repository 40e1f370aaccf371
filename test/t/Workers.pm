# What the tests of workers share: a server whose workers have a stand-in for the relay.

package Workers;

use strict;
use warnings;

use Exporter 'import';
use File::Copy;
use PostgreSQL::Test::Utils;
use Test::More;

use Failsafe;

our @EXPORT = qw(worker_node relay_install relay_mode subscribe worker_row worker_pid wait_for_worker
  wait_for_no_worker wait_until process_lives log_has log_size);

# Put the stand-in for the relay beside the server; its path.
sub relay_install
{
	my ($node) = @_;
	my $path = $node->basedir . '/relay.pl';
	my ($own) = __FILE__ =~ m{(.*)/};

	copy("$own/drivers/relay.pl", $path) or die "copy: $!";
	chmod 0755, $path;
	return $path;
}

# How the next relay behaves; see drivers/relay.pl.
sub relay_mode
{
	my ($node, $mode) = @_;
	my $file = $node->basedir . '/MODE';

	unlink $file;
	append_to_file($file, $mode) if $mode;
	return;
}

# A subscription that needs the relay and hears nothing; the first one of a database adopts it.
sub subscribe
{
	my ($node, $database) = @_;

	$node->safe_psql($database // 'postgres', q{
		SELECT failsafe.subscription_create('silent', 'http', '{"url": "https://127.0.0.1:9/"}',
											event_types => '{app.never.emitted}')});
	return;
}

# Like failsafe_node, with a relay; the worker of database postgres runs.
sub worker_node
{
	my ($name, %option) = @_;
	my $extension = $option{extension} // 1;
	my $node = failsafe_node($name, %option, extension => 0);

	$node->append_conf('postgresql.conf', "failsafe.relay_path = '" . relay_install($node) . "'\n");
	$node->reload;
	if ($extension)
	{
		answer($node, 'CREATE EXTENSION pg_failsafe');
		subscribe($node);
		wait_for_worker($node, 'postgres');
	}
	return $node;
}

# A column of the worker of a database; '' where there is none.
sub worker_row
{
	my ($node, $database, $column) = @_;

	return answer($node, "SELECT $column FROM failsafe.stat_workers WHERE database = '$database'");
}

sub worker_pid
{
	my ($node, $database) = @_;

	return worker_row($node, $database, 'pid');
}

# Until the condition holds, for a minute or so.
sub wait_until
{
	my ($name, $condition, $seconds) = @_;
	my $end = time + ($seconds // 60);

	while (time < $end)
	{
		if ($condition->())
		{
			pass($name);
			return 1;
		}
		select undef, undef, undef, 0.05;
	}
	fail($name);
	return 0;
}

sub wait_for_worker
{
	my ($node, $database, $name, $not) = @_;
	my $condition = "state = 'running' AND pid IS NOT NULL AND relay_pid IS NOT NULL"
	  . ($not ? " AND pid <> $not" : '');

	return wait_until($name // "a worker runs in $database",
		sub { worker_row($node, $database, $condition) eq 't' });
}

# No process of the server is connected to the database.
sub wait_for_no_worker
{
	my ($node, $database, $name) = @_;

	return wait_until($name // "no worker is in $database", sub {
		answer($node, "SELECT count(*) FROM pg_stat_activity WHERE datname = '$database'
			AND backend_type = 'pg_failsafe worker'") == 0 });
}

sub process_lives
{
	my ($pid) = @_;

	open my $file, '<', "/proc/$pid/stat" or return 0;
	return (<$file> // '') !~ /\) [ZX] /;
}

sub log_size
{
	my ($node) = @_;

	return -s $node->logfile;
}

sub log_has
{
	my ($node, $pattern, $from) = @_;

	return slurp_file($node->logfile, $from // 0) =~ $pattern;
}

1;
