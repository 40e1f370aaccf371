# What the tests of delivery share: a server that delivers with its real relay, a receiver
# that fails as it is told, and what has arrived there.

package Delivery;

use strict;
use warnings;

use Exporter 'import';
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Failsafe;
use Workers qw(wait_until worker_row worker_pid wait_for_worker process_lives log_has log_size);

our @EXPORT = qw(delivery_node receiver_start receiver_stop receiver_rules arrivals arrived
  wait_arrivals subscribe http_config emit numbers wait_delivered check_arrivals row barrier json test_file
  wait_until worker_row worker_pid wait_for_worker process_lives log_has log_size);

my ($tests) = __FILE__ =~ m{(.*)/t/};
my $library = "$tests/lib";
my $json = JSON::PP->new->canonical->utf8;
my %receivers;    # running ones, by their logs

# A server with the extension; its worker starts to deliver with the first subscription.
sub delivery_node
{
	my ($name, %option) = @_;

	$option{conf} = "max_worker_processes = 16\nautovacuum = off\n" . ($option{conf} // '');
	return failsafe_node($name, %option);
}

# The path of a file of test/.
sub test_file
{
	return "$tests/$_[0]";
}

sub json
{
	return $json->encode($_[0]);
}

# ---- the receiver

# Start test/lib/receiver.py; again with the same name: its log goes on.
sub receiver_start
{
	my ($node, $name, @arguments) = @_;
	my $base = $node->basedir . "/$name";
	my %receiver = (log => "$base.jsonl", rules => "$base.rules", out => '', err => '');

	append_to_file($receiver{log}, '');
	$receiver{run} = IPC::Run::start(
		[ "$library/receiver.py", '--log', $receiver{log}, '--rules', $receiver{rules}, @arguments ],
		'>', \$receiver{out}, '2>', \$receiver{err}, IPC::Run::timeout(300));
	$receiver{run}->pump until $receiver{out} =~ /port (\d+)\n/ || !$receiver{run}->pumpable;
	$receiver{out} =~ /port (\d+)\n/ or die "the receiver did not start: $receiver{err}";
	$receiver{port} = $1;
	$receivers{ $receiver{log} } = \%receiver;
	return \%receiver;
}

sub receiver_stop
{
	my ($receiver) = @_;

	$receiver->{run}->kill_kill;
	delete $receivers{ $receiver->{log} };
	return;
}

END
{
	my $status = $?;
	receiver_stop($_) for values %receivers;
	$? = $status;
}

# From now on these rules hold; see receiver.py.
sub receiver_rules
{
	my ($receiver, @rules) = @_;

	unlink "$receiver->{rules}.new";
	append_to_file("$receiver->{rules}.new", json(\@rules));
	rename "$receiver->{rules}.new", $receiver->{rules} or die "rename: $!";
	return;
}

# The requests so far, those of one path if it is given.  What was read stays in memory.
sub arrivals
{
	my ($receiver, $path) = @_;
	my $text = slurp_file($receiver->{log}, $receiver->{read} // 0);

	$text =~ s/[^\n]*\z//;    # a line that is being written
	$receiver->{read} += length $text;
	for my $request (map { $json->decode($_) } split /\n/, $text)
	{
		push @{ $receiver->{requests}{$_} }, $request for '', $request->{path};
	}
	return @{ $receiver->{requests}{ defined $path ? "/$path" : '' } // [] };
}

# Of them, the events that were taken.
sub arrived
{
	return grep { $_->{taken} } arrivals(@_);
}

sub wait_arrivals
{
	my ($receiver, $path, $count, $name) = @_;

	return wait_until($name // "$count requests at /$path",
		sub { (() = arrivals($receiver, $path)) >= $count });
}

# The members "n" of the events that were taken, in their order.
sub numbers
{
	return join ' ', map { $_->{event}{n} } arrived(@_);
}

# ---- the database

sub http_config
{
	my ($receiver, $path, %more) = @_;

	return { url => "http://127.0.0.1:$receiver->{port}/$path", allow_addresses => ['127.0.0.1'], %more };
}

# A subscription whose name is its path at the receiver.  Options: types, ordering, config
# (further members), database; the others are options of subscription_create().
sub subscribe
{
	my ($node, $receiver, $name, %option) = @_;
	my $types = join ',', @{ delete $option{types} // ["$name.*"] };
	my $ordering = delete $option{ordering} // 'key';
	my $config = json(http_config($receiver, $name, %{ delete $option{config} // {} }));
	my $database = delete $option{database} // 'postgres';
	my $options = json(\%option);

	return $node->safe_psql($database, qq{SET client_min_messages = warning;
		SELECT state FROM failsafe.subscription_create('$name', 'http', \$\$$config\$\$, '{$types}', '$ordering', \$\$$options\$\$)});
}

# An event of type NAME.test with the member n; its id.
sub emit
{
	my ($node, $name, $key, $n, %option) = @_;
	my $database = delete $option{database} // 'postgres';
	my $type = delete $option{type} // 'test';
	my $options = %option ? '$$' . json(\%option) . '$$' : 'NULL';

	return $node->safe_psql($database,
		qq{SELECT failsafe.outbox_emit('$name.$type', '$key', '{"n": $n}', options => $options)});
}

# One row as a line, columns separated by blanks.
sub row
{
	my ($node, $sql, $database) = @_;

	return $node->safe_psql($database // 'postgres', $sql) =~ s/\|/ /gr;
}

# Nothing is left to be done for the subscription.
sub wait_delivered
{
	my ($node, $name, $title, $database) = @_;

	return wait_until($title // "$name has nothing left to deliver", sub {
		row($node, qq{SELECT lag_events + waiting + parked + coalesce(in_flight + queued, 0)
			FROM failsafe.stat_subscriptions WHERE subscription = '$name'}, $database) eq '0' });
}

# Whatever was due for others before has been sent when this event has arrived: it goes by
# a subscription of its own, made by subscribe($node, $receiver, 'barrier', ...).
my $barriers = 0;

sub barrier
{
	my ($node, $receiver) = @_;

	$barriers++;
	emit($node, 'barrier', "barrier$barriers", $barriers);
	return wait_until("barrier $barriers", sub {
		(grep { $_->{event}{n} == $barriers } arrived($receiver, 'barrier')) > 0 });
}

# test/lib/arrivals.py: nothing lost, nothing out of order, nothing that was not committed.
sub check_arrivals
{
	my ($node, $receiver, $name, $where, $title) = @_;
	my $base = $node->basedir . "/check_$name";
	my $received = join '', grep { m{"path": "/\Q$name\E"} } slurp_file($receiver->{log}) =~ /(.*\n)/g;

	unlink "$base.received", "$base.committed", "$base.dead";
	append_to_file("$base.received", $received);
	append_to_file("$base.committed", answer($node,
			"SELECT concat_ws(E'\\t', event_id, lane, seq, order_key) FROM failsafe.events WHERE $where") . "\n");
	append_to_file("$base.dead", answer($node, "SELECT event_id FROM failsafe.dlq WHERE subscription = '$name'") . "\n");
	my ($out, $err) = ('', '');
	ok(IPC::Run::run([ "$library/arrivals.py", "$base.received", "$base.committed", "$base.dead" ],
			'>', \$out, '2>', \$err), $title // 'nothing is lost, repeated under another id, or out of order')
	  or diag($out, $err);
	note($out);
	return;
}

1;
