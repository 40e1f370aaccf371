# A destination that is down is left in peace, and one that is slow gets what it can take:
# breaker, rate, requests in flight.  A refusal costs no attempt.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Delivery;
use Failsafe;

my $node = delivery_node('main');
my $receiver = receiver_start($node, 'receiver');

sub emit_many
{
	my ($name, $count, $keys) = @_;

	return answer($node, qq{SELECT count(failsafe.outbox_emit('$name.test', 'k' || n % $keys, jsonb_build_object('n', n)))
		FROM generate_series(1, $count) AS n});
}

sub breaker
{
	my ($name) = @_;

	return answer($node, "SELECT breaker FROM failsafe.stat_subscriptions WHERE subscription = '$name'");
}

# How many requests were open at once, at most.
sub most_open
{
	my ($name) = @_;
	my $most = 0;

	for my $request (arrivals($receiver, $name))
	{
		$most = $request->{open} if $request->{open} > $most;
	}
	return $most;
}

subscribe($node, $receiver, 'barrier');
subscribe($node, $receiver, 'own', types => ['failsafe.*']);

# ---- it opens after three failures in a row
my $log = log_size($node);
subscribe($node, $receiver, 'breaker', in_flight => 1, breaker => { failures => 3, open_ms => 1500 },
	retry => { base_ms => 10, cap_ms => 20, attempts => 100 });
receiver_rules($receiver, { if => { path => '/breaker' }, kind => '500' });
emit_many('breaker', 20, 20);
wait_until('it opens', sub { breaker('breaker') eq 'open' });
is((() = arrivals($receiver, 'breaker')), 3, 'after three requests');
like(answer($node, q{SELECT refused_until - clock_timestamp() BETWEEN '0' AND '1.5 s' FROM failsafe.stat_subscriptions
	WHERE subscription = 'breaker'}), qr/t/, 'stat_subscriptions says until when');
barrier($node, $receiver);
is((() = arrivals($receiver, 'breaker')), 3, 'while it is open nothing is sent');
ok(log_has($node, qr/LOG: .*pg_failsafe: breaker of subscription "breaker" opened: 127\.0\.0\.1:\d+ answered 500/, $log), 'the log says so');
wait_until('an event says so', sub { (grep { $_->{event_type} eq 'failsafe.subscription.breaker_opened'
	&& $_->{event}{subscription} eq 'breaker' && $_->{event}{reason} =~ /answered 500/ } arrived($receiver, 'own')) == 1 });

# ---- half open: one probe; it fails, and the pause doubles
wait_arrivals($receiver, 'breaker', 4, 'one probe is sent');
my @requests = arrivals($receiver, 'breaker');
cmp_ok($requests[3]{at} - $requests[2]{at}, '>=', 1.4, 'after the pause');
wait_until('it opens again', sub { breaker('breaker') eq 'open' });
barrier($node, $receiver);
is((() = arrivals($receiver, 'breaker')), 4, 'no more than the probe was sent');

# ---- the next probe is answered: it closes
receiver_rules($receiver);
wait_delivered($node, 'breaker', 'the next probe closes it, and all is delivered');
is(breaker('breaker'), 'closed', 'closed');
@requests = arrivals($receiver, 'breaker');
cmp_ok($requests[4]{at} - $requests[3]{at}, '>=', 2.9, 'the second pause was twice as long');
is((grep { $_->{taken} } @requests) + 0, 20, 'every event arrived');
is((grep { !$_->{taken} } @requests) + 0, answer($node, q{SELECT count(*) FROM failsafe.attempts
	WHERE subscription = 'breaker' AND class = 'temporary'}), 'an attempt is a request: refusals cost none');
is(answer($node, q{SELECT count(*) FROM failsafe.dlq}), 0, 'nothing died');

# ---- what expires behind an open breaker is not sent any more
subscribe($node, $receiver, 'behind', in_flight => 1, breaker => { failures => 1, open_ms => 1000 }, retry => { base_ms => 10, cap_ms => 20 });
receiver_rules($receiver, { if => { path => '/behind' }, kind => '500', times => 1 });
emit($node, 'behind', 'a', 1);
wait_until('it opens', sub { breaker('behind') eq 'open' });
emit($node, 'behind', 'b', 2, expires_at => answer($node, q{SELECT clock_timestamp() + '300 ms'}));
wait_until('an event expires', sub { answer($node, q{SELECT class || attempts FROM failsafe.dlq WHERE subscription = 'behind'}) eq 'expired0' });
wait_delivered($node, 'behind');
is(join(' ', map { $_->{event}{n} // 'failed' } arrivals($receiver, 'behind')), 'failed 1', 'and was never sent');

# ---- an answer that refuses the event is no failure of the destination
subscribe($node, $receiver, 'alive', in_flight => 1, breaker => { failures => 2, open_ms => 60000 });
receiver_rules($receiver, { if => { path => '/alive' }, kind => '422' });
emit_many('alive', 6, 6);
wait_until('all are refused', sub { answer($node, q{SELECT count(*) FROM failsafe.dlq WHERE subscription = 'alive'}) == 6 });
is(breaker('alive'), 'closed', '422 opens no breaker');

# ---- a rate
subscribe($node, $receiver, 'rate', rate => 20);
emit_many('rate', 40, 40);
wait_delivered($node, 'rate');
@requests = arrivals($receiver, 'rate');
is(scalar @requests, 40, 'with a rate each is sent once');
cmp_ok($requests[-1]{at} - $requests[0]{at}, '>=', 1.8, 'not faster');
cmp_ok($requests[-1]{at} - $requests[0]{at}, '<', 8, 'nor much slower');
my $fastest = 0;
for my $first (@requests)
{
	my $in_half = grep { $_->{at} >= $first->{at} && $_->{at} < $first->{at} + 0.5 } @requests;
	$fastest = $in_half if $in_half > $fastest;
}
cmp_ok($fastest, '<=', 15, 'and evenly');
is(answer($node, q{SELECT count(*) FROM failsafe.attempts WHERE subscription = 'rate'}), 0, 'waiting for it was no attempt');

# ---- requests in flight
subscribe($node, $receiver, 'flight', in_flight => 3);
subscribe($node, $receiver, 'wide', in_flight => 16);
receiver_rules($receiver, map { { if => { path => $_ }, kind => '200', delay => 0.05 } } '/flight', '/wide');
emit_many('flight', 30, 30);
wait_delivered($node, 'flight');
is(most_open('flight'), 3, 'three requests at once, and no more');
emit_many('wide', 60, 60);
wait_delivered($node, 'wide');
is(most_open('wide'), 12, 'of 16, a quarter is kept for money');
receiver_rules($receiver, { if => { path => '/wide', type => 'wide.test' }, kind => 'hold' });
emit_many('wide', 20, 20);
wait_until('when the others fill their part', sub { most_open('wide') == 12 && (grep { $_->{kind} eq 'hold' } arrivals($receiver, 'wide')) == 12 });
my $before = arrived($receiver, 'wide');
emit($node, 'wide', 'money', 100, type => 'money', priority => 0);
wait_until('money still goes', sub { (arrived($receiver, 'wide'))[-1]{event}{n} == 100 });
is(scalar(arrived($receiver, 'wide')), $before + 1, 'and nothing else');
receiver_rules($receiver);
wait_delivered($node, 'wide');

# ---- the budget of retries: first tries are not held up by those that fail
subscribe($node, $receiver, 'budget', ordering => 'none', in_flight => 8, breaker => { failures => 0 },
	retry => { base_ms => 10, cap_ms => 10, attempts => 1000, budget_percent => 0 });
receiver_rules($receiver, { if => { path => '/budget', key => 'k0' }, kind => '500' });
emit_many('budget', 100, 2);
wait_until('first tries go', sub { numbers($receiver, 'budget') =~ /\b99\b/ });
wait_until('and retries', sub { (grep { $_->{attempt} > 3 } arrivals($receiver, 'budget')) > 0 });
my %second;
$second{ int $_->{at} }++ for grep { $_->{attempt} > 1 } arrivals($receiver, 'budget');
my ($most) = sort { $b <=> $a } values %second;
cmp_ok($most, '<=', 20, 'about ten retries a second are allowed');
receiver_rules($receiver);
wait_delivered($node, 'budget');

is(answer($node, q{SELECT errors FROM failsafe.stat_workers WHERE database = 'postgres'}), 0, 'the worker had no error');
$node->stop;
done_testing();
