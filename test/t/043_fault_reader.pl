# Readers of the outbox between the steps of a writer, and writers between the steps of a
# reader: no event is lost, none comes before a smaller number of its key.  Needs a
# library with fault points (make FAULTS=1): ./check faults.

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Failsafe;
use Faults;

my $node = faults_node('reader');

answer($node, q{
	SELECT failsafe.subscription_create('reader', 'pull', '{}', '{app.*}', 'none');
	CREATE FUNCTION emit(n text) RETURNS boolean LANGUAGE sql AS
		$$ SELECT failsafe.outbox_emit('app.event', 'key', jsonb_build_object('n', n), '{}', '{"ordered": true}') IS NOT NULL $$});

my $claim = q{SELECT coalesce(string_agg(envelope->>'n', ' '), 'nothing') FROM failsafe.outbox_claim('reader')};
my $open = q{SELECT coalesce(sum(cardinality(open_numbers) / 3), 0) FROM failsafe.position};

# A session that is fed statement by statement; each answers before the next one is sent.
sub start_session
{
	my %session = (in => '', out => '', count => 0);

	$session{run} = IPC::Run::start([ 'psql', '-XqAt', '-d', $node->connstr('postgres') ],
		'<', \$session{in}, '>', \$session{out}, '2>&1', IPC::Run::timeout(120));
	return \%session;
}

sub send_to
{
	my ($session, $sql) = @_;

	$session->{count}++;
	$session->{in} .= "$sql;\n\\echo end $session->{count}\n";
	$session->{run}->pump_nb;
	return;
}

sub answer_of
{
	my ($session) = @_;

	$session->{run}->pump until $session->{out} =~ /^end $session->{count}\n/m;
	my ($text) = $session->{out} =~ /\A(.*?)^end $session->{count}\n/ms;
	$session->{out} = '';
	chomp $text;
	return $text;
}

sub ask { send_to(@_); return answer_of($_[0]); }

my ($gate, $a, $b, $w, $r) = map { start_session() } 1 .. 5;

my $waiting = q{FROM pg_stat_activity WHERE backend_type = 'client backend' AND wait_event_type = 'Extension'};

sub wait_at_gate
{
	my ($count) = @_;
	return wait_for($node, "SELECT count(*) = $count $waiting", "$count at the gate");
}

# W stands between the draw of its number and its insert; A and B have older xids.
ask($gate, 'SELECT pg_advisory_lock(40)');
ask($_, 'BEGIN; SELECT pg_current_xact_id() IS NOT NULL') for $a, $b;
ask($w, q{SET failsafe.fault = 'events_drawn:wait'; BEGIN});
send_to($w, q{SELECT failsafe.outbox_emit('app.event', 'other', '{"n": "w"}') IS NOT NULL});
wait_at_gate(1);
is(answer($node, "SELECT backend_xid IS NOT NULL $waiting"), 't',
	'the writer has an xid before its number');
ask($a, q{SELECT emit('a')});
ask($a, 'COMMIT');
is(answer($node, $claim), 'a', 'the later number is read');
is(answer($node, $open), '1', 'the number without a row is open');
ask($b, 'COMMIT');
is(answer($node, $claim), 'nothing', 'the older transactions have ended');
is(answer($node, $open), '1', 'the number stays open');
ask($gate, 'SELECT pg_advisory_unlock(40)');
answer_of($w);
is(answer($node, $claim), 'nothing', 'it has a row, not committed');
ask($w, 'COMMIT');
is(answer($node, $claim), 'w', 'it is committed, and read');
is(answer($node, $open), '0', 'nothing is open');

# The writer fails there: the number is closed, when all older transactions have ended.
ask($b, 'BEGIN; SELECT pg_current_xact_id() IS NOT NULL');
like((try_sql($node, q{SET failsafe.fault = 'events_drawn:error'; SELECT emit('x')}))[2], qr/events_drawn/, 'a writer fails after its draw');
answer($node, q{SELECT emit('c')});
is(answer($node, $claim), 'c', 'the next number is read');
is(answer($node, $open), '1', 'the lost one is open');
ask($b, 'COMMIT');
is(answer($node, $claim), 'nothing', 'nothing comes');
is(answer($node, $open), '0', 'it is closed');

# The reader has looked at the open numbers; then their writer commits, and the next event
# of the key too: the same snapshot sees neither, so they come in order.
ask($w, q{SET failsafe.fault = ''; BEGIN; SELECT emit('t1')});
is(answer($node, $claim), 'nothing', 'one is open');
ask($gate, 'SELECT pg_advisory_lock(40)');
ask($r, q{SET failsafe.fault = 'open_numbers_judged:wait'});
answer($node, q{SELECT failsafe.outbox_emit('app.event', 'other', '{"n": "before"}') IS NOT NULL});
send_to($r, $claim);
wait_at_gate(1);
ask($w, 'COMMIT');
answer($node, q{SELECT emit('t2')});
ask($gate, 'SELECT pg_advisory_unlock(40)');
is(answer_of($r), 'before', 'the round sees neither of the two');
is(answer($node, $claim), 't1 t2', 'the next one sees both, in their order');
is(answer($node, $open), '0', 'nothing is open');

# The same with a number that has no row while the open numbers are looked at: its writer
# inserts and commits before the round ends, which must not close it.
ask($gate, 'SELECT pg_advisory_lock(40)');
ask($w, q{SET failsafe.fault = 'events_drawn:wait'});
send_to($w, q{SELECT emit('u1')});
wait_at_gate(1);
answer($node, q{SELECT failsafe.outbox_emit('app.event', 'other', '{"n": "u0"}') IS NOT NULL});
is(answer($node, $claim), 'u0', 'the number without a row is open');
ask($r, q{SET failsafe.fault = 'open_numbers_judged:wait'});
send_to($r, $claim);
wait_at_gate(2);
ask($gate, 'SELECT pg_advisory_unlock(40)');
answer_of($w);
my $first = answer_of($r);
my $second = answer($node, $claim);
is(join(' ', grep { $_ ne 'nothing' } $first, $second), 'u1', 'it is read, once');
is(answer($node, $open), '0', 'nothing is open');

for my $session ($gate, $a, $b, $w, $r)
{
	$session->{in} .= "\\q\n";
	$session->{run}->finish;
}
$node->stop;
done_testing();
