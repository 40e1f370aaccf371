# Money before everything, telemetry last; delayed events at their time.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Delivery;
use Failsafe;

my $node = delivery_node('main');
my $receiver = receiver_start($node, 'receiver');

# ---- 5000 telemetry events into a slow receiver; then money moves
answer($node, q{SELECT failsafe.account_open('acc', 'EUR')});
subscribe($node, $receiver, 'flood', types => ['*']);
receiver_rules($receiver, { if => { path => '/flood' }, kind => '200', delay => 0.02 });
answer($node, q{SELECT count(failsafe.outbox_emit('flood.telemetry', 'k' || n, jsonb_build_object('n', n), options => '{"priority": 9}'))
	FROM generate_series(1, 5000) AS n});
wait_arrivals($receiver, 'flood', 200, 'the flood is on its way');
for my $i (1 .. 3)
{
	answer($node, "SELECT failsafe.wallet_credit('acc', $i, 'EUR', 'topup_$i')");
	my $committed = arrivals($receiver, 'flood');    # that arrived before or soon after the commit

	wait_until("wallet event $i arrives", sub {
		(grep { $_->{event_type} eq 'wallet.credit.committed' } arrivals($receiver, 'flood')) == $i });
	my @requests = arrivals($receiver, 'flood');
	my ($place) = grep { ($requests[$_]{event}{idempotency_key} // '') eq "topup_$i" } 0 .. $#requests;
	cmp_ok($place - $committed, '<=', 64, 'among the first that arrive after its commit');
	cmp_ok(scalar @requests, '<', 5000, 'while the flood goes on');
}
answer($node, q{SELECT failsafe.outbox_emit('flood.application', 'app', '{"n": 6000}')});
my $committed = arrivals($receiver, 'flood');
wait_until('an event of an application overtakes it, too', sub {
	(grep { $_->{event_type} eq 'flood.application' } arrivals($receiver, 'flood')) == 1 });
my @requests = arrivals($receiver, 'flood');
my ($place) = grep { $requests[$_]{event_type} eq 'flood.application' } 0 .. $#requests;
cmp_ok($place - $committed, '<=', 64, 'among the first after its commit');
cmp_ok(scalar @requests, '<', 5000, 'while the flood goes on');
receiver_rules($receiver);
wait_delivered($node, 'flood', 'the flood is delivered');
check_arrivals($node, $receiver, 'flood', q{event_type <> 'account.opened'});

# ---- priorities
subscribe($node, $receiver, 'order', in_flight => 1);
answer($node, q{SELECT failsafe.subscription_pause('order', 'test')});
my $n = 0;
for my $priority (9, 5, 8, 4, 1, 0, 9, 0)
{
	emit($node, 'order', 'k' . ++$n, "1$priority$n", priority => $priority);
}
answer($node, q{SELECT failsafe.subscription_resume('order', 'test')});
wait_delivered($node, 'order');
is(numbers($receiver, 'order'), '106 108 144 115 152 183 191 197', 'lane by lane, in the order of their numbers inside');

# ---- the same key in two lanes: the lanes go on without each other
receiver_rules($receiver, { if => { path => '/order', n => 1 }, kind => '500' });
answer($node, q{SELECT failsafe.subscription_alter('order', reason => 'test', options =>
	'{"retry": {"base_ms": 20, "cap_ms": 50, "attempts": 1000}, "breaker": {"failures": 0}, "in_flight": 8}')});
emit($node, 'order', 'same', 1, priority => 5);
emit($node, 'order', 'same', 2, priority => 5);
emit($node, 'order', 'same', 3, priority => 0);
wait_until('a key that is blocked in one lane goes on in another', sub { numbers($receiver, 'order') =~ / 3\z/ });
receiver_rules($receiver);
wait_delivered($node, 'order');
like(numbers($receiver, 'order'), qr/ 3 1 2\z/, 'and then in the first');

# ---- delayed events
subscribe($node, $receiver, 'delayed');
my $now = answer($node, q{SELECT extract(epoch FROM clock_timestamp())});
for my $after (1.5, 0.5, 1)
{
	emit($node, 'delayed', "k$after", $after, deliver_after => answer($node, "SELECT to_timestamp($now + $after)"));
}
wait_delivered($node, 'delayed', 'delayed events are delivered', );
is(numbers($receiver, 'delayed'), '0.5 1 1.5', 'in the order of their times');
is((grep { $_->{at} < $now + $_->{event}{n} } arrivals($receiver, 'delayed')) + 0, 0, 'none too early');
is((grep { $_->{at} > $now + $_->{event}{n} + 5 } arrivals($receiver, 'delayed')) + 0, 0, 'none much too late');

is(answer($node, q{SELECT errors FROM failsafe.stat_workers WHERE database = 'postgres'}), 0, 'the worker had no error');
$node->stop;
done_testing();
