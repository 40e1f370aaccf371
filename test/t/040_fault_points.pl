# Every command that fails, is canceled or times out at any point of its way leaves
# nothing: what was acknowledged before is as it was, the books balance, the key runs
# anew or replays, and the session goes on.  Needs a library with fault points (make
# FAULTS=1): ./check faults.

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Failsafe;
use Faults;

my $node = faults_node('faults');
learn_points();

# What a session does after its command failed: the state and what it holds, then the
# command twice, and the books.
sub aftermath
{
	my ($run, @between) = @_;

	return (
		q{SELECT 'state ' || state()}, q{SELECT 'holds ' || leaks()}, 'DELETE FROM failsafe.journal',
		q{SELECT 'synchronous_commit ' || current_setting('synchronous_commit')},
		@between, q{SELECT 'first'}, $run, q{SELECT 'again'}, $run, q{SELECT 'released ' || failsafe._released_early()},
		'SET client_min_messages = warning', q{SELECT 'faults ' || count(*) FROM failsafe.ledger_verify()});
}

# The lines that a session must have printed around a command that failed.
sub expected
{
	my ($command, $state) = @_;

	return join "\n", $state, $state, 'holds none', 'synchronous_commit on', 'first', lines($command->{first}),
	  'again', lines($command->{again}), "released $command->{released}", 'faults 0', '';
}

# One case: the command fails with this SQLSTATE, and nothing else happened.
sub fails_clean
{
	my ($name, $command, $sqlstate, $out, $err) = @_;
	my ($state) = $out =~ /\A(state .*)/;
	my $guard = () = $err =~ /ERROR:  SF060: /g;
	my @errors = grep { $_ ne 'SF060' } $err =~ /(?:ERROR|FATAL):  (\w{5}): /g;

	is("@errors $guard\n$out", "$sqlstate 1\n" . expected($command, $state // 'no state'), $name) or diag($err);
	return;
}

# ---- errors: alone, at the last pass, in a savepoint

for my $name (sort keys %commands)
{
	my $command = $commands{$name};
	my @faults = map { my $last = $command->{passes}{$_};
		($_ . ':error', $last > 1 ? "$_:error:$last" : ()) } running($command);
	my @numbers = prepare($command, scalar @faults);

	for my $fault (@faults)
	{
		my $number = shift @numbers;
		my $run = numbered($command->{run}, $number);
		prepare_one($command, $number);
		my ($out, $err) = session($number, q{SELECT 'state ' || state()}, "SET failsafe.fault = '$fault'",
			$run, aftermath($run));
		fails_clean("$name, $fault", $command, 'XX000', $out, $err);
	}

	@faults = grep { $_ ne 'before_commit' } running($command);
	@numbers = prepare($command, scalar @faults);
	for my $fault (@faults)
	{
		my $number = shift @numbers;
		my $run = numbered($command->{run}, $number);
		prepare_one($command, $number);
		my ($out, $err) = session($number, q{SELECT 'state ' || state()}, "SET failsafe.fault = '$fault:error'",
			'BEGIN', 'SAVEPOINT before', $run, 'ROLLBACK TO before', q{SELECT 'state ' || state()}, q{SELECT 'first'}, $run,
			'COMMIT', q{SELECT 'again'}, $run,
			'SET client_min_messages = warning', q{SELECT 'faults ' || count(*) FROM failsafe.ledger_verify()});
		my ($state) = $out =~ /\A(state .*)/;
		is(join(' ', $err =~ /ERROR:  (\w{5}): /g) . "\n" . $out,
			join("\n", 'XX000', $state, $state, 'first', lines($command->{first}), 'again', lines($command->{again}),
				'faults 0', ''), "$name in a savepoint, $fault:error") or diag($err);
	}
}

# ---- cancel and time-out while it stays at a point

my $gate = $node->background_psql('postgres');
$gate->query_safe('SELECT pg_advisory_lock(40)');
answer($node, q{
	CREATE PROCEDURE cancel_waiting(number text) LANGUAGE plpgsql AS $$
	BEGIN
		FOR attempt IN 1 .. 6000 LOOP
			PERFORM pg_stat_clear_snapshot();
			IF (SELECT bool_or(pg_cancel_backend(pid)) FROM pg_stat_activity
				WHERE application_name = 'case_' || number AND wait_event_type = 'Extension') THEN
				RETURN;
			END IF;
			PERFORM pg_sleep(0.005);
		END LOOP;
		RAISE 'case % does not wait', number;
	END $$});

for my $name (sort keys %commands)
{
	my $command = $commands{$name};
	my @faults = running($command);
	my @numbers = prepare($command, scalar @faults);

	for my $fault (@faults)
	{
		my $number = shift @numbers;
		my $run = numbered($command->{run}, $number);
		my ($out, $err) = ('', '');
		prepare_one($command, $number);
		local $ENV{PGAPPNAME} = "case_$number";
		my $file = $node->basedir . "/case_$number.sql";
		append_to_file($file, join ";\n", q{SELECT 'state ' || state()}, "SET failsafe.fault = '$fault:wait'", $run,
			aftermath($run), '');
		my $psql = IPC::Run::start(
			[ 'psql', '-XqAt', '-v', 'VERBOSITY=verbose', '-d', $node->connstr('postgres'), '-f', $file ],
			'>', \$out, '2>', \$err, IPC::Run::timeout(120));
		$gate->query_safe("CALL cancel_waiting('$number')");
		eval { $psql->finish };
		unlink $file;
		fails_clean("$name canceled, $fault:wait", $command, '57014', $out, $err);
	}

	# the server ends a statement's time before it commits, so there is no time-out there
	@faults = grep { $_ ne 'before_commit' } @faults;
	@numbers = prepare($command, scalar @faults);
	for my $fault (@faults)
	{
		my $number = shift @numbers;
		my $run = numbered($command->{run}, $number);
		prepare_one($command, $number);
		my ($out, $err) = session($number, q{SELECT 'state ' || state()}, "SET failsafe.fault = '$fault:wait'",
			q{SET statement_timeout = '60ms'}, $run, 'RESET statement_timeout', aftermath($run));
		fails_clean("$name timed out, $fault:wait", $command, '57014', $out, $err);
	}
}
$gate->query_safe('SELECT pg_advisory_unlock(40)');
my ($waited) = session(next_case(), q{SET failsafe.fault = 'order_locked:wait'},
	numbered($commands{outbox_emit}{run}, 1), 'SELECT passed()');
like($waited, qr/\At\norder_locked 1/, 'a wait that nobody keeps up ends by itself');
$gate->quit;

is(answer($node, 'SELECT count(*) FROM failsafe.ledger_verify()'), '0', 'the books balance');
$node->stop;
done_testing();
