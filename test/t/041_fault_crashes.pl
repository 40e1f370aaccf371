# A command whose process dies at any point of its way, also while it commits: before the
# commit record nothing is left, after its flush all of it is there, between the two either;
# the key runs anew or replays, and the books balance.  Needs a library with fault points
# (make FAULTS=1): ./check faults.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Failsafe;
use Faults;

my $node = faults_node('crashes');
learn_points();

# Wait until the server is there again; offset: where its log ended before the crash.
sub wait_for_restart
{
	my ($offset) = @_;

	$node->wait_for_log(qr/all server processes terminated; reinitializing.*ready to accept connections/s, $offset);
	return;
}

# What may be left of a command that died: nothing, all of it, or either.
sub crash_is_clean
{
	my ($name, $command, $stage, $number, $before) = @_;
	my $run = numbered($command->{run}, $number);
	my ($out, $err) = session($number, q{SELECT 'state ' || state()}, q{SELECT 'first'}, $run, q{SELECT 'again'}, $run,
		'SET client_min_messages = warning', q{SELECT 'faults ' || count(*) FROM failsafe.ledger_verify()});
	my ($after) = $out =~ /\A(state .*)/;
	my $undone = defined $after && $after eq $before;
	my $answer = $undone ? $command->{first} : $command->{again};

	ok($stage eq 'written' || ($stage eq 'running') == $undone,
		"$name: " . ($undone ? 'nothing is left' : 'all of it is there'));
	is($err . $out, join("\n", $after, 'first', lines($answer), 'again', lines($command->{again}), 'faults 0', ''),
		"$name: the key " . ($undone ? 'runs anew' : 'replays'));
	return;
}

for my $name (sort keys %commands)
{
	my $command = $commands{$name};
	my @faults = grep { $command->{passes}{$_} } @points;
	my @numbers = prepare($command, scalar @faults);

	for my $fault (@faults)
	{
		my $number = shift @numbers;
		prepare_one($command, $number);
		my $offset = -s $node->logfile;
		my ($out, $err) = session($number, q{SELECT 'state ' || state()}, "SET failsafe.fault = '$fault:crash'",
			numbered($command->{run}, $number), q{SELECT 'still there'});
		chomp $out;
		like($err, qr/server closed the connection unexpectedly/, "$name, $fault:crash");
		wait_for_restart($offset);
		crash_is_clean("$name, $fault:crash", $command, $stage{$fault}, $number, $out);
	}
}

is(answer($node, 'SELECT count(*) FROM failsafe.ledger_verify()'), '0', 'the books balance');
$node->stop;
done_testing();
