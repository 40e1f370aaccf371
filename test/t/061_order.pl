# Events of one key arrive one after the other, whatever fails: block, skip, no order.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Delivery;
use Failsafe;

my $node = delivery_node('main');
my $receiver = receiver_start($node, 'receiver', '--seed', 7);
my %fast = (retry => { base_ms => 20, cap_ms => 100, attempts => 1000, budget_percent => 100 }, breaker => { failures => 0 });

sub emit_many
{
	my ($name, @pairs) = @_;

	return answer($node, join ';', map {
		my ($key, $n) = @$_;
		qq{SELECT failsafe.outbox_emit('$name.test', '$key', '{"n": $n}')} } @pairs);
}

# States of the deliveries of a subscription, by key and number.
sub states
{
	my ($name) = @_;

	return answer($node, qq{SELECT string_agg(order_key || ' ' || state, ', ' ORDER BY order_key, seq)
		FROM failsafe.deliveries WHERE subscription = '$name'});
}

sub of_key
{
	my ($name, $key) = @_;

	return join ' ', map { $_->{event}{n} } grep { $_->{key} eq $key } arrived($receiver, $name);
}

# ---- block: later events of the key are parked, other keys go on
subscribe($node, $receiver, 'block', %fast);
receiver_rules($receiver, { if => { path => '/block', n => 2 }, kind => '500' });
emit_many('block', [ 'a', 1 ], [ 'a', 2 ], [ 'a', 3 ], [ 'b', 4 ], [ 'a', 5 ], [ 'b', 6 ]);
wait_until('other keys go on', sub { of_key('block', 'b') eq '4 6' });
is(of_key('block', 'a'), '1', 'the key of the failing event does not');
wait_until('what is behind it is parked', sub { states('block') eq 'a waiting, a parked, a parked' });
emit_many('block', [ 'a', 7 ], [ 'c', 8 ]);
wait_until('a key that was not seen before goes on', sub { of_key('block', 'c') eq '8' });
wait_until('a new event of the key is parked too', sub { states('block') eq 'a waiting, a parked, a parked, a parked' });
is(row($node, q{SELECT order_key, parked, state, attempts > 0, class, reason LIKE '%answered 500%' FROM failsafe.blocked_keys
	WHERE subscription = 'block'}), 'a 3 waiting t temporary t', 'blocked_keys says what blocks and how much waits');
# what is done counts as lag until its position is stored
wait_until('stat_subscriptions counts them', sub {
	row($node, q{SELECT waiting, parked, lag_events FROM failsafe.stat_subscriptions WHERE subscription = 'block'}) eq '1 3 4' });

# ... over a restart of the server, which reads it all again from the tables
$node->restart('fast');
my $before = arrivals($receiver, 'block');
wait_until('after a restart it is tried again', sub { arrivals($receiver, 'block') > $before + 1 });
is(states('block'), 'a waiting, a parked, a parked, a parked', 'and nothing has changed');
receiver_rules($receiver);
wait_until('when it is through the others follow in order', sub { of_key('block', 'a') eq '1 2 3 5 7' });
wait_delivered($node, 'block');
is(answer($node, q{SELECT count(*) FROM failsafe.deliveries}), 0, 'no row is left');

# ---- a delayed event whose time comes while its key is blocked waits too
receiver_rules($receiver, { if => { path => '/block', n => 11 }, kind => '500' });
emit($node, 'block', 'd', 12, deliver_after => answer($node, q{SELECT clock_timestamp() + '500 ms'}));
emit_many('block', [ 'd', 11 ], [ 'd', 13 ]);
wait_until('its time comes', sub { states('block') eq 'd parked, d waiting, d parked' });
is(of_key('block', 'd'), '', 'it does not overtake the one that fails');
receiver_rules($receiver);
wait_delivered($node, 'block');
is(of_key('block', 'd'), '11 12 13', 'and goes before those that came after it');

# ---- a dead letter lets its key go on
subscribe($node, $receiver, 'dead', %fast);
receiver_rules($receiver, { if => { path => '/dead', n => 2 }, kind => '422' }, { if => { path => '/dead', n => 4 }, kind => '500' });
answer($node, q{SELECT failsafe.subscription_alter('dead', reason => 'test', options => '{"retry": {"attempts": 3}}')});
emit_many('dead', map { [ 'a', $_ ] } 1 .. 6);
wait_until('after both dead letters the rest arrives', sub { of_key('dead', 'a') eq '1 3 5 6' });
is(answer($node, q{SELECT string_agg(class || ' ' || attempts, ', ' ORDER BY seq) FROM failsafe.dlq WHERE subscription = 'dead'}),
	'permanent 1, temporary 3', 'one died at once, one after its attempts');
is(join(' ', map { $_->{attempt} } grep { $_->{kind} eq '500' } arrivals($receiver, 'dead')), '1 2 3', 'before anything behind it went');
wait_delivered($node, 'dead');

# ---- skip
subscribe($node, $receiver, 'skip', %fast, on_blocked => 'skip');
receiver_rules($receiver, { if => { path => '/skip', n => 1 }, kind => '500' }, { if => { path => '/skip', n => 2 }, kind => '200', delay => 0.1 });
emit_many('skip', map { [ 'a', $_ ] } 1 .. 4);
wait_until('skip: later events of the key go on', sub { of_key('skip', 'a') eq '2 3 4' });
is(states('skip'), 'a waiting', 'and the failing one waits alone');
receiver_rules($receiver);
wait_until('until it is through', sub { of_key('skip', 'a') eq '2 3 4 1' });
is((grep { $_->{open_of_key} > 1 } arrivals($receiver, 'skip')) + 0, 0, 'never two of the key at once');

# ---- no order: events of one key go at once
subscribe($node, $receiver, 'none', %fast, ordering => 'none', in_flight => 6);
receiver_rules($receiver, { if => { path => '/none' }, kind => 'hold' });
emit_many('none', map { [ 'a', $_ ] } 1 .. 4);
wait_until('four events of one key are on their way', sub { (grep { $_->{open_of_key} == 4 } arrivals($receiver, 'none')) == 1 });
receiver_rules($receiver);
wait_delivered($node, 'none');
is(join(' ', sort { $a <=> $b } split / /, numbers($receiver, 'none')), '1 2 3 4', 'all arrive');

# ---- first arrivals of 50 keys are in order with 10 % failures
receiver_stop($receiver);
$receiver = receiver_start($node, 'many', '--seed', 11, '--fail', '500=0.05', '--fail', 'lost=0.02', '--fail', 'close=0.02', '--fail', '503=0.01');
subscribe($node, $receiver, 'many', %fast);
answer($node, q{SELECT count(failsafe.outbox_emit('many.test', 'key' || n % 50, jsonb_build_object('n', n))) FROM generate_series(1, 1000) AS n});
wait_delivered($node, 'many', '1000 events of 50 keys are delivered');
my @requests = arrivals($receiver, 'many');
cmp_ok((grep { !$_->{taken} } @requests) + 0, '>', 50, 'many requests have failed');
is((grep { $_->{open_of_key} > 1 } @requests) + 0, 0, 'never two of a key at once');
check_arrivals($node, $receiver, 'many', q{event_type = 'many.test'});
is(answer($node, q{SELECT delivered FROM failsafe.stat_subscriptions WHERE subscription = 'many'}), 1000, 'each is counted once');

is(answer($node, q{SELECT errors FROM failsafe.stat_workers WHERE database = 'postgres'}), 0, 'the worker had no error');
$node->stop;
done_testing();
