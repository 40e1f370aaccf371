# The relay is a child of the worker: born clean, replaced whichever way it ends, and never
# left behind.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes;

use Failsafe;
use Workers;

my $node = worker_node('main', conf => "restart_after_crash = on\n");
my $start;

sub relay_pid { return worker_row($node, 'postgres', 'relay_pid') }

sub wait_for_another_relay
{
	my ($old, $name) = @_;

	return wait_until($name, sub { my $pid = relay_pid(); $pid ne '' && $pid ne $old });
}

sub postmaster_started
{
	return answer($node, 'SELECT pg_postmaster_start_time()');
}

# How long stopping the server takes, in seconds.
sub stop_in
{
	my ($mode) = @_;
	my $began = Time::HiRes::time;

	$node->stop($mode);
	return Time::HiRes::time - $began;
}

# --- how it is born
wait_until('the relay speaks', sub { log_has($node, qr/pg_failsafe relay: born/) });
my ($birth) = slurp_file($node->logfile) =~ /pg_failsafe relay: born: (.*)/;
is($birth, 'descriptors 0 1 2 3, own session, directory /, oom 500, blocked 0, ignored 0',
	'it inherits four descriptors and nothing else');
wait_until('what it says on stderr is logged', sub { log_has($node, qr/pg_failsafe relay: stderr reaches the log/) });

my $server = postmaster_started();
my $worker = worker_pid($node, 'postgres');

# --- one that hangs is replaced after 30 seconds
my $relay = relay_pid();
$start = log_size($node);
kill 'STOP', $relay;
wait_for_another_relay($relay, 'one that does not answer is replaced');
ok(log_has($node, qr/is ended: it does not answer any more/, $start), 'and the log says why');
wait_until('it is dead', sub { !process_lives($relay) });

# --- it ends in every way
for my $signal ('KILL', 'SEGV', 'TERM')
{
	$relay = relay_pid();
	kill $signal, $relay;
	wait_for_another_relay($relay, "after SIG$signal there is another one");
}
relay_mode($node, 'malformed');
$relay = relay_pid();
$start = log_size($node);
kill 'KILL', $relay;
wait_until('one that talks nonsense is ended', sub { log_has($node, qr/is ended: it sent a malformed frame/, $start) });
relay_mode($node, 'exit');
$start = log_size($node);
wait_until('one that ends at once is tried again', sub {
	my @ends = slurp_file($node->logfile, $start) =~ /(the relay \(PID \d+\) exited with exit code 3)/g;
	@ends > 2 });
relay_mode($node);
wait_for_worker($node, 'postgres', 'and a good one comes at last');

unlink $node->basedir . '/relay.pl';
$start = log_size($node);
kill 'KILL', relay_pid();
wait_until('a missing program is logged',
	sub { log_has($node, qr/could not start the relay .*: No such file or directory/, $start) });
is(answer($node, q{SELECT status FROM failsafe._doctor_delivery_worker() WHERE check_name = 'relay_program'}),
	'warning', 'and doctor() shows it');
relay_install($node);
wait_for_worker($node, 'postgres', 'when it is there again it is started');

is(postmaster_started(), $server, 'the server has not been restarted');
is(worker_pid($node, 'postgres'), $worker, 'nor the worker');
ok(!log_has($node, qr/terminating any other active server processes/), 'nobody was terminated');

# --- the worker ends: so does the relay, and both come back
for my $signal ('TERM', 'INT')
{
	$relay = relay_pid();
	$worker = worker_pid($node, 'postgres');
	kill $signal, $worker;
	if ($signal eq 'INT')
	{
		sleep 1;
		is(worker_pid($node, 'postgres'), $worker, 'between statements there is nothing to cancel');
		next;
	}
	wait_for_worker($node, 'postgres', "after SIG$signal there is another worker", $worker);
	ok(!process_lives($relay), 'and the relay of the old one is gone');
}
is(postmaster_started(), $server, 'still the same server');

# --- kill -9 of a worker restarts the server, as of any backend; everything comes back
$relay = relay_pid();
$worker = worker_pid($node, 'postgres');
kill 'KILL', $worker;
wait_until('the server recovers', sub { ($node->psql('postgres', 'SELECT 1'))[0] == 0 });
wait_for_worker($node, 'postgres', 'there is another worker', $worker);
wait_until('the orphan has ended by itself', sub { !process_lives($relay) });

# --- the server ends
my $orphan = relay_pid();
kill 'STOP', $orphan;
cmp_ok(my $took = stop_in('fast'), '<', 5, 'a fast shutdown waits for no relay');
note("fast shutdown: $took s");
ok(!process_lives($orphan), 'and leaves none, not even one that hung');
$node->start;
wait_for_worker($node, 'postgres');
$orphan = relay_pid();
$node->stop('immediate');
wait_until('an immediate shutdown leaves none either', sub { !process_lives($orphan) });
$node->start;
wait_for_worker($node, 'postgres');
$orphan = relay_pid();
kill_server($node);
wait_until('nor does kill -9 of everything', sub { !process_lives($orphan) });

done_testing();
