# What the TAP tests share: a server with the extension, and questions to it.

package Failsafe;

use strict;
use warnings;

use Exporter 'import';
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(failsafe_node fails_with succeeds answer try_sql wait_for
  start_commands acknowledged_keys kill_server);

# A running server with the extension in database postgres.  Options: conf (text for
# postgresql.conf), init (arguments of init), preload (default 1), extension (default 1).
sub failsafe_node
{
	my ($name, %option) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(%{ $option{init} // {} });
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_failsafe'\n")
	  if $option{preload} // 1;
	$node->append_conf('postgresql.conf', $option{conf}) if $option{conf};
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION pg_failsafe')
	  if $option{extension} // 1;
	return $node;
}

# Run statements; (SQLSTATE of the first error or '', what was printed, stderr).
# Options: database, or connstr.
sub try_sql
{
	my ($node, $sql, %option) = @_;
	my ($ret, $out, $err) = $node->psql(
		$option{database} // 'postgres', $sql,
		extra_params => [ '-v', 'VERBOSITY=verbose' ], on_error_stop => 1, timeout => 120,
		$option{connstr} ? (connstr => $option{connstr}) : ());

	return ('', $out, $err) if $ret == 0;
	return ($err =~ /(?:ERROR|FATAL):\s+([0-9A-Z]{5}):/ ? $1 : "exit $ret", $out, $err);
}

sub fails_with
{
	my ($node, $sqlstate, $sql, $name, %option) = @_;
	my ($got, $out, $err) = try_sql($node, $sql, %option);

	is($got, $sqlstate, $name // "$sqlstate: $sql") or diag($err);
	return $err;
}

sub succeeds
{
	my ($node, $sql, $name, %option) = @_;
	my ($got, $out, $err) = try_sql($node, $sql, %option);

	is($got, '', $name // $sql) or diag($err);
	return $out;
}

# Like safe_psql in database postgres.
sub answer
{
	my ($node, $sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

# Poll until the query answers 't'.
sub wait_for
{
	my ($node, $sql, $name) = @_;

	ok($node->poll_query_until('postgres', $sql), $name // "waited for $sql");
	return;
}

# A session that credits one account again and again, each time with a key of its
# own that begins with the prefix; psql writes each acknowledged key into a file.
sub start_commands
{
	my ($node, $account, $prefix, $count) = @_;
	my $input = $node->basedir . "/input_$prefix";
	my $acknowledged = $node->basedir . "/acknowledged_$prefix";

	append_to_file($input, join '', map {
		"SELECT idempotency_key FROM failsafe.wallet_credit('$account', 1, 'EUR', '${prefix}_$_');\n"
	} 1 .. $count);
	return {
		file => $acknowledged,
		run => IPC::Run::start(
			[ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres') ],
			'<', $input, '>', $acknowledged, '2>', "$acknowledged.err") };
}

# What the sessions were told, when they have ended.
sub acknowledged_keys
{
	my @keys;

	for my $session (@_)
	{
		eval { $session->{run}->finish };
		my $text = slurp_file($session->{file});
		$text =~ s/[^\n]*\z//;    # a line that was cut is no acknowledgement
		push @keys, split /\n/, $text;
	}
	return @keys;
}

sub children_of
{
	my ($pid) = @_;
	my @pids;

	for my $status (glob '/proc/[0-9]*/stat')
	{
		open my $handle, '<', $status or next;
		my $line = <$handle> // '';
		push @pids, $1 if $line =~ /^(\d+) \(.*\) \S (\d+) / && $2 == $pid;
	}
	return @pids;
}

# kill -9 of the postmaster and all its processes at once.
sub kill_server
{
	my ($node) = @_;
	my $file = $node->data_dir . '/postmaster.pid';
	my $postmaster = (split /\n/, slurp_file($file))[0];

	kill 'KILL', $postmaster, children_of($postmaster);
	for (1 .. 300)
	{
		last unless kill 0, $postmaster;
		select undef, undef, undef, 0.1;
	}
	$node->{_pid} = undef;
	return;
}

1;
