# What happens to an event that does not arrive at the first try: it is tried again by its
# policy, and ends as delivered or as a dead letter that says why.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Delivery;
use Failsafe;

my $node = delivery_node('main');
my $receiver = receiver_start($node, 'receiver');
my %fast = (retry => { base_ms => 20, cap_ms => 100 }, breaker => { failures => 0 });

# Attempts of the events of a subscription, one a line.
sub attempts
{
	my ($name, $columns) = @_;

	return answer($node, qq{SELECT concat_ws(' ', $columns) FROM failsafe.attempts
		WHERE subscription = '$name' ORDER BY id});
}

sub wait_dead
{
	my ($name, $count) = @_;

	return wait_until("$count dead letters of $name", sub {
		answer($node, "SELECT count(*) FROM failsafe.dlq WHERE subscription = '$name'") == $count });
}

sub dead
{
	my ($name) = @_;

	return row($node, qq{SELECT class, state, attempts, reason FROM failsafe.dlq WHERE subscription = '$name'});
}

subscribe($node, $receiver, 'barrier');
subscribe($node, $receiver, 'own', types => ['failsafe.*']);

# ---- 500, then ok
subscribe($node, $receiver, 'twice', %fast);
receiver_rules($receiver, { if => { path => '/twice' }, kind => '500', times => 2 });
my $id = emit($node, 'twice', 'a', 1);
wait_arrivals($receiver, 'twice', 3);
wait_delivered($node, 'twice');
my @requests = arrivals($receiver, 'twice');
is(join(' ', map { "$_->{status}/$_->{attempt}" } @requests), '500/1 500/2 200/3', 'two failures, then it arrives');
is(join(' ', map { $_->{event_id} eq $id ? 'same' : 'other' } @requests), 'same same same', 'each time with the same id');
is(attempts('twice', q{number, class, coalesce(code, '-'), status}),
	"1 temporary status 500\n2 temporary status 500\n3 delivered  200", 'each attempt is listed');
like(attempts('twice', 'reason'), qr/\A127\.0\.0\.1:\d+ answered 500\.\n/, 'with a sentence');
like(attempts('twice', 'response'), qr/\A\{"error":"refused on purpose"\}\n/, 'and what the receiver said');
is(row($node, q{SELECT delivered, failed, retried, dead_letters, waiting, in_flight FROM failsafe.stat_subscriptions
	WHERE subscription = 'twice'}), '1 2 1 0 0 0', 'the counters agree');
is(answer($node, q{SELECT count(*) FROM failsafe.deliveries}), 0, 'and no row is left');

# ---- 429 with Retry-After: for the event and for the destination
subscribe($node, $receiver, 'throttled', %fast, retry => { base_ms => 20, cap_ms => 10000 });
receiver_rules($receiver, { if => { path => '/throttled', n => 1 }, kind => '429', retry_after => 2, times => 1 });
emit($node, 'throttled', 'a', 1);
wait_until('the throttling is noted', sub { attempts('throttled', 'class') eq 'throttled' });
emit($node, 'throttled', 'b', 2);
wait_arrivals($receiver, 'throttled', 3);
@requests = arrivals($receiver, 'throttled');
cmp_ok($requests[1]{at} - $requests[0]{at}, '>=', 2, 'nothing is sent before the time the receiver asks for');
cmp_ok($requests[1]{at} - $requests[0]{at}, '<', 10, 'nor much later');
is(join(' ', sort map { $_->{event}{n} } arrived($receiver, 'throttled')), '1 2', 'then both arrive');
like(attempts('throttled', 'number, class, status, reason'),
	qr/\A1 throttled 429 \S+ answered 429 and asks to wait 2000 ms\.\n2 delivered 200\z/, 'the wish is in the attempt');

# ---- ... but never longer than the policy allows
subscribe($node, $receiver, 'bounded', %fast);
receiver_rules($receiver, { if => { path => '/bounded' }, kind => '503', retry_after => 86400, times => 1 });
emit($node, 'bounded', 'a', 1);
wait_arrivals($receiver, 'bounded', 2, 'Retry-After of a day is cut to the cap');

# ---- no answer in time; an answer that breaks off; no connection
subscribe($node, $receiver, 'slow', %fast, timeout_ms => 300);
receiver_rules($receiver, { if => { path => '/slow' }, kind => '200', delay => 1, times => 1 },
	{ if => { path => '/closing' }, kind => 'partial', times => 1 });
emit($node, 'slow', 'a', 1);
wait_arrivals($receiver, 'slow', 2);
wait_delivered($node, 'slow');
like(attempts('slow', 'number, class, code, reason'),
	qr/\A1 temporary timeout \S+: no answer came within 300 ms\.\n2 delivered/, 'a timeout is tried again');
my @slow = map { $_->{event_id} } arrived($receiver, 'slow');
is($slow[0], $slow[1], 'a consumer tells by the id that it had it already');

subscribe($node, $receiver, 'closing', %fast);
emit($node, 'closing', 'a', 1);
wait_arrivals($receiver, 'closing', 2);
wait_delivered($node, 'closing');
like(attempts('closing', 'number, class, code, reason'),
	qr/\A1 temporary closed \S+ closed the connection before its answer was complete\.\n2 delivered/,
	'so is an answer that breaks off');

my $gone = receiver_start($node, 'gone');
subscribe($node, $gone, 'gone', %fast);
my $port = $gone->{port};
receiver_stop($gone);
emit($node, 'gone', 'a', 1);
wait_until('an address where nobody listens', sub { attempts('gone', 'class, code, reason') =~
	/\Atemporary refused 127\.0\.0\.1:$port cannot be connected to: Connection refused\.$/m });
$gone = receiver_start($node, 'gone', '--port', $port);
wait_arrivals($gone, 'gone', 1, 'is tried until somebody does');
receiver_stop($gone);

# ---- refused for good
subscribe($node, $receiver, 'poison', %fast);
receiver_rules($receiver, { if => { path => '/poison', n => 1 }, kind => '422' });
$id = emit($node, 'poison', 'a', 1, trace_id => 'trace_7');
wait_dead('poison', 1);
is(dead('poison'), 'permanent dead 1 HTTP 422 from the receiver after 1 attempt: permanent; '
	. 'the receiver refuses this event. Answer: {"error":"refused on purpose"}', 'a person can read why it died');
is(row($node, qq{SELECT event_id = '$id', order_key, trace_id, first_attempt_at <= died_at, resolved_at IS NULL
	FROM failsafe.dlq WHERE subscription = 'poison'}), 't a trace_7 t t', 'with what it was');
is(row($node, q{SELECT envelope->>'n', attempt_list->0->>'status', json_array_length(attempt_list)
	FROM failsafe.dlq AS q, failsafe.dlq_get(q.id) WHERE q.subscription = 'poison'}), '1 422 1', 'dlq_get() shows the event and its attempts');
wait_arrivals($receiver, 'own', 1);
my ($told) = arrived($receiver, 'own');
is(join(' ', $told->{event_type}, @{ $told->{event} }{qw(subscription dead_event_type dead_order_key class attempts trace_id)}),
	'failsafe.delivery.dead poison poison.test a permanent 1 trace_7', 'an event tells about it');
is($told->{event}{dead_event_id}, $id, 'and which one it was');
is((() = arrivals($receiver, 'poison')), 1, 'it was sent once');
wait_delivered($node, 'poison', 'and holds nothing up');

# ---- 410: the subscription is disabled, the event stays
subscribe($node, $receiver, 'leaving', %fast);
receiver_rules($receiver, { if => { path => '/leaving' }, kind => '410' });
emit($node, 'leaving', 'a', 1);
wait_until('410 disables the subscription', sub {
	answer($node, q{SELECT state FROM failsafe.subscriptions WHERE name = 'leaving'}) eq 'disabled' });
like(answer($node, q{SELECT state_reason FROM failsafe.subscriptions WHERE name = 'leaving'}), qr/answered 410/, 'and says why');
is(row($node, q{SELECT state, class, attempts FROM failsafe.deliveries WHERE subscription = 'leaving'}),
	'waiting gone 1', 'the event waits');
emit($node, 'leaving', 'a', 2);
barrier($node, $receiver);
is((() = arrivals($receiver, 'leaving')), 1, 'nothing more is sent');
wait_until('an event tells about it', sub {
	(grep { $_->{event_type} eq 'failsafe.subscription.disabled' && $_->{event}{subscription} eq 'leaving' } arrived($receiver, 'own')) == 1 });
receiver_rules($receiver);
answer($node, q{SELECT failsafe.subscription_resume('leaving', 'they want it again')});
wait_until('resumed: both arrive', sub { numbers($receiver, 'leaving') eq '1 2' });
is(answer($node, q{SELECT string_agg(action || ': ' || coalesce(reason, '-'), ', ' ORDER BY changed_at)
	FROM failsafe.subscription_changes WHERE subscription = 'leaving'}),
	'created: -, disabled: the receiver answered 410: it does not want this subscription any more, resumed: they want it again',
	'and who did what is kept');
is(answer($node, q{SELECT count(*) FROM failsafe.dlq WHERE subscription = 'leaving'}), 0, 'nothing died');

# ---- its attempts, or its age, are used up
subscribe($node, $receiver, 'worn', %fast, retry => { base_ms => 10, cap_ms => 20, attempts => 3 });
subscribe($node, $receiver, 'aged', %fast, retry => { base_ms => 50, cap_ms => 200, attempts => 1000, age_s => 1 });
receiver_rules($receiver, map { { if => { path => $_ }, kind => '503' } } '/worn', '/aged');
emit($node, $_, 'a', 1) for 'worn', 'aged';
wait_dead($_, 1) for 'worn', 'aged';
like(dead('worn'), qr/\Atemporary dead 3 gave up after 3 attempts in less than a second; last: HTTP 503 from the receiver\./,
	'its attempts are used up');
is((() = arrivals($receiver, 'worn')), 3, 'and no more were made');
like(dead('aged'), qr/\Atemporary dead \d+ gave up after \d+ attempts in .*second.*, the longest that the policy allows; last: HTTP 503/,
	'its age is used up');
@requests = arrivals($receiver, 'aged');
cmp_ok(scalar @requests, '>', 2, 'after several attempts');
cmp_ok($requests[-1]{at} - $requests[0]{at}, '<=', 1.1, 'all within the second');

# ---- expires_at: before it could be sent, and between two tries
subscribe($node, $receiver, 'expiring', %fast, retry => { base_ms => 100, cap_ms => 400 });
answer($node, q{SELECT failsafe.subscription_pause('expiring', 'test')});
emit($node, 'expiring', 'a', 1, expires_at => answer($node, q{SELECT clock_timestamp() + '300 ms'}));
emit($node, 'expiring', 'a', 2);
wait_for($node, q{SELECT bool_and(expires_at <= clock_timestamp()) FROM failsafe.events WHERE event_type = 'expiring.test'}, 'it expires');
receiver_rules($receiver, { if => { path => '/expiring', n => 3 }, kind => '500' });
answer($node, q{SELECT failsafe.subscription_resume('expiring', 'test')});
wait_dead('expiring', 1);
is(dead('expiring'), 'expired dead 0 expired before it could be sent: its expires_at has passed', 'it is not sent any more');
wait_until('the next one of the key is', sub { numbers($receiver, 'expiring') eq '2' });
my $expires = answer($node, q{SELECT extract(epoch FROM clock_timestamp()) + 1});
emit($node, 'expiring', 'a', 3, expires_at => answer($node, "SELECT to_timestamp($expires)"));
wait_dead('expiring', 2);
like(answer($node, q{SELECT class || ' ' || reason FROM failsafe.dlq WHERE subscription = 'expiring' ORDER BY id DESC LIMIT 1}),
	qr/\Aexpired the event expired after \d+ attempts? in .*; last: HTTP 500/, 'one that expires while it waits says so');
is((() = grep { $_->{at} > $expires } arrivals($receiver, 'expiring')), 0, 'no request was made after its time');

# ---- deliver_after; its age counts from the first try
subscribe($node, $receiver, 'later', %fast, retry => { base_ms => 10, cap_ms => 10, age_s => 1 });
receiver_rules($receiver, { if => { path => '/later', n => 1 }, kind => '500', times => 3 });
my $due = answer($node, q{SELECT extract(epoch FROM clock_timestamp()) + 2});
emit($node, 'later', 'a', 1, deliver_after => answer($node, "SELECT to_timestamp($due)"));
emit($node, 'later', 'a', 2);
wait_until('a later event of the key does not wait for it', sub { numbers($receiver, 'later') eq '2' });
is(row($node, q{SELECT state, class, attempts FROM failsafe.deliveries WHERE subscription = 'later'}),
	'waiting delayed 0', 'it waits');
wait_delivered($node, 'later');
is(numbers($receiver, 'later'), '2 1', 'it arrives, after failures too');
is((() = grep { $_->{at} < $due } arrivals($receiver, 'later')), 1, 'not before its time');
is(dead('later'), '', 'the time that it waited is not its age');

# ---- what a failure means is data
subscribe($node, $receiver, 'rules', %fast);
receiver_rules($receiver, { if => { path => '/rules' }, kind => '404', times => 1 });
emit($node, 'rules', 'a', 1);
wait_dead('rules', 1);
like(dead('rules'), qr/\Apermanent dead 1 HTTP 404/, '404 is permanent');
answer($node, q{SELECT failsafe.failure_rule_set(10, 'http', 404, 404, NULL, 'temporary', 'deployed by and by')});
emit($node, 'rules', 'b', 2);
wait_until('by a rule it is temporary', sub { numbers($receiver, 'rules') eq '2' });
is(answer($node, q{SELECT string_agg(concat_ws(' ', number, class, status), ', ' ORDER BY a.id)
	FROM failsafe.attempts AS a JOIN failsafe.events AS e USING (event_id) WHERE e.order_key = 'b' AND a.subscription = 'rules'}),
	'1 temporary 404, 2 delivered 200', 'as its attempts say');
answer($node, q{SELECT failsafe.failure_rule_remove(10)});
emit($node, 'rules', 'c', 3);
wait_dead('rules', 2);

is(answer($node, q{SELECT errors FROM failsafe.stat_workers WHERE database = 'postgres'}), 0, 'the worker had no error');
$node->stop;
done_testing();
