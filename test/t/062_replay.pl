# The way back from the dead letters: how many, how fast, when, by whom; and never beside a
# live event of the same key.

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

sub letters
{
	my ($name, $columns, $where) = @_;

	return answer($node, "SELECT $columns FROM failsafe.dlq WHERE subscription = '$name' AND " . ($where // 'true'));
}

# That many dead letters of the subscription, over that many keys.
sub make_letters
{
	my ($name, $count, $keys, $from) = @_;
	my $before = letters($name, 'count(*)');

	receiver_rules($receiver, { if => { path => "/$name" }, kind => '422' });
	answer($node, qq{SELECT count(failsafe.outbox_emit('$name.test', 'k' || n % $keys, jsonb_build_object('n', n)))
		FROM generate_series($from, $from + $count - 1) AS n});
	wait_until("$count dead letters", sub { letters($name, 'count(*)') == $before + $count });
	receiver_rules($receiver);
	return;
}

# Starts a replay; its id.
sub replay
{
	my ($name, $rest) = @_;

	return answer($node, qq{SELECT replay_id FROM failsafe.dlq_replay(subscription => '$name', $rest)});
}

sub replay_row
{
	my ($id, $columns) = @_;

	return row($node, "SELECT $columns FROM failsafe.replays WHERE id = $id");
}

sub wait_replay
{
	my ($id, $state) = @_;

	return wait_until("the replay is $state", sub { replay_row($id, 'state') eq $state });
}

# Those that were sent again, in their order.
sub again
{
	my ($name) = @_;

	return join ' ', map { $_->{event}{n} } arrived($receiver, $name);
}

subscribe($node, $receiver, 'barrier');

# ---- a dry run counts, and does nothing
subscribe($node, $receiver, 'replayed', %fast);
make_letters('replayed', 30, 5, 1);
my $requests = arrivals($receiver, 'replayed');
is($requests, 30, 'each was sent once');
is(row($node, q{BEGIN READ ONLY; SELECT replay_id IS NULL, matching, events_per_second, estimated_seconds, note
	FROM failsafe.dlq_replay(subscription => 'replayed', rate => 20, dry_run => true); COMMIT}),
	't 30 20 2 dry run: nothing was changed', 'a dry run says how many and how long');
is(answer($node, q{SELECT matching FROM failsafe.dlq_replay(subscription => 'replayed', event_type => 'other.*', dry_run => true)}),
	0, 'with the same filters');
is(answer($node, q{SELECT matching FROM failsafe.dlq_replay(subscription => 'replayed', dry_run => true, options => '{"order_key": "k1"}')}),
	6, 'by key');
is(answer($node, q{SELECT matching FROM failsafe.dlq_replay(subscription => 'replayed', dry_run => true,
	ids => ARRAY(SELECT id FROM failsafe.dlq ORDER BY id LIMIT 4))}), 4, 'by ids');
barrier($node, $receiver);
is((() = arrivals($receiver, 'replayed')), $requests, 'nothing was sent');
is(letters('replayed', "count(*) FILTER (WHERE state = 'dead')"), 30, 'and all are dead as before');

# ---- at a rate
my $id = replay('replayed', q{rate => 20, reason => 'receiver repaired'});
like($id, qr/\A\d+\z/, 'a replay has an id');
wait_replay($id, 'done');
my @again = arrived($receiver, 'replayed');
is(scalar @again, 30, 'all were sent again');
cmp_ok($again[-1]{at} - $again[0]{at}, '>=', 1.3, 'not faster than the rate');
cmp_ok($again[-1]{at} - $again[0]{at}, '<', 10, 'nor much slower');
my $fastest = 0;
for my $first (0 .. $#again)
{
	my $in_half = grep { $_->{at} >= $again[$first]{at} && $_->{at} < $again[$first]{at} + 0.5 } @again;
	$fastest = $in_half if $in_half > $fastest;
}
cmp_ok($fastest, '<=', 14, 'evenly: at most about ten in half a second');
for my $key ('k0', 'k4')
{
	my @of_key = map { $_->{event}{n} } grep { $_->{key} eq $key } @again;
	is("@of_key", join(' ', sort { $a <=> $b } @of_key), "$key in its order");
}
is(replay_row($id, 'state, total, taken, done, failed, remaining, on_the_way, rate, reason, created_by IS NOT NULL, ended_at >= started_at'),
	'done 30 30 30 0 0 0 20 receiver repaired t t', 'replays shows how it went, why and by whom');
is(replay_row($id, q{filter->>'subscription'}), 'replayed', 'and what was asked for');
is(letters('replayed', 'DISTINCT concat_ws($$ $$, state, attempts, resolution, resolved_by IS NOT NULL, resolved_at >= died_at)'),
	'replayed 2 replayed t t', 'each letter says that it was replayed, by whom and when');
is(answer($node, q{SELECT DISTINCT string_agg(concat_ws(' ', number, class), ', ' ORDER BY id) FROM failsafe.attempts
	WHERE subscription = 'replayed' GROUP BY event_id}), '1 permanent, 2 delivered', 'and its attempts go on');
is(answer($node, q{SELECT string_agg(action || ' ' || (detail->>'count') || ' ' || reason, ', ') FROM failsafe.subscription_changes
	WHERE subscription = 'replayed' AND action <> 'created'}), 'replay_started 30 receiver repaired', 'it is among the changes');
is(answer($node, q{SELECT matching || note FROM failsafe.dlq_replay(subscription => 'replayed', reason => 'again')}),
	'0nothing fits', 'there is nothing to be replayed now');

# ---- one that fails again is dead again
make_letters('replayed', 2, 1, 100);
receiver_rules($receiver, { if => { path => '/replayed', n => 100 }, kind => '422' }, { if => { path => '/replayed', n => 101 }, kind => '500', times => 1 });
$id = replay('replayed', q{reason => 'hope'});
wait_replay($id, 'done');
is(replay_row($id, 'total, done, failed'), '2 1 1', 'a replay counts what failed again');
is(letters('replayed', q{string_agg(concat_ws(' ', state, attempts, class, resolution), ', ' ORDER BY id)}, 'seq > 30'),
	'dead 2 permanent, replayed 3 permanent replayed', 'which is dead again, the other is not');
is(answer($node, q{SELECT string_agg(concat_ws(' ', e.envelope->>'n', a.number, a.class), ', ' ORDER BY a.id)
	FROM failsafe.attempts AS a JOIN failsafe.events AS e USING (event_id)
	WHERE a.subscription = 'replayed' AND (e.envelope->>'n')::int >= 100}),
	'100 1 permanent, 101 1 permanent, 100 2 permanent, 101 2 temporary, 101 3 delivered', 'the numbers of the attempts go on');
is(answer($node, q{SELECT count(*), max((envelope->>'attempts')::int) FROM failsafe.events
	WHERE event_type = 'failsafe.delivery.dead' AND envelope->>'dead_event_id' = (SELECT event_id::text FROM failsafe.dlq WHERE state = 'dead')}),
	'2|2', 'an event tells about each death');
answer($node, q{SELECT failsafe.dlq_discard(ARRAY(SELECT id FROM failsafe.dlq WHERE state = 'dead'), 'never mind')});

# ---- discard
is(letters('replayed', q{concat_ws(' ', resolution, resolved_by IS NOT NULL, resolved_at IS NOT NULL)}, q{state = 'discarded'}),
	'never mind t t', 'a discarded letter says why, by whom and when');
is(answer($node, q{SELECT failsafe.dlq_discard(ARRAY(SELECT id FROM failsafe.dlq), 'again')}), 0, 'only dead ones can be discarded');
is(answer($node, q{SELECT matching FROM failsafe.dlq_replay(subscription => 'replayed', dry_run => true)}), 0, 'it is not replayed');
is(answer($node, q{SELECT matching FROM failsafe.dlq_replay(subscription => 'replayed', dry_run => true, options => '{"state": "discarded"}')}),
	1, 'unless one asks for it');

# ---- pause, resume
subscribe($node, $receiver, 'paused', %fast);
make_letters('paused', 12, 12, 1);
$id = replay('paused', q{rate => 4, reason => 'slowly'});
wait_until('it begins', sub { again('paused') =~ / / });
is(answer($node, "SELECT failsafe.replay_pause($id, 'lunch')"), 't', 'paused');
is(answer($node, "SELECT failsafe.replay_pause($id, 'lunch')"), 'f', 'it is already');
wait_until('what it had taken arrives', sub { replay_row($id, 'on_the_way') eq '0' });
my $taken = replay_row($id, 'taken');
cmp_ok($taken, '<', 12, 'the rest stays');
is(replay_row($id, 'state, remaining_time > $$0$$, remaining'), 'paused t ' . (12 - $taken), 'paused, with time left');
barrier($node, $receiver);
is(scalar(arrived($receiver, 'paused')), $taken, 'nothing more is sent');
is(answer($node, "SELECT failsafe.replay_resume($id, 'back')"), 't', 'resumed');
wait_replay($id, 'done');
is(join(' ', sort { $a <=> $b } split / /, again('paused')), join(' ', 1 .. 12), 'all arrive, once');
is(answer($node, q{SELECT string_agg(action || ': ' || reason, ', ' ORDER BY changed_at) FROM failsafe.subscription_changes
	WHERE subscription = 'paused' AND action <> 'created'}), 'replay_started: slowly, replay_paused: lunch, replay_resumed: back',
	'who and why is kept');
fails_with($node, 'SF079', "SELECT failsafe.replay_pause($id, 'late')", 'a replay that has ended cannot be paused');
fails_with($node, 'SF078', q{SELECT failsafe.replay_pause(99999, 'late')}, 'nor one that does not exist');

# ---- cancel, and a subscription that is paused meanwhile
subscribe($node, $receiver, 'canceled', %fast);
make_letters('canceled', 12, 1, 1);
answer($node, q{SELECT failsafe.subscription_pause('canceled', 'test')});
$id = replay('canceled', q{rate => 4, reason => 'slowly'});
is(replay_row($id, 'state, note, taken'), 'running waits: the subscription is paused 0', 'a paused subscription holds it up');
answer($node, q{SELECT failsafe.subscription_resume('canceled', 'test')});
wait_until('it begins', sub { again('canceled') =~ / / });
my $back = answer($node, "SELECT failsafe.replay_cancel($id, 'wrong ones')");
wait_until('what it had taken arrives', sub { replay_row($id, 'state, on_the_way') eq 'canceled 0' });
is(replay_row($id, 'remaining'), $back, 'it says how many were given back');
is(letters('canceled', q{count(*) FILTER (WHERE state = 'dead') || ' ' || count(*) FILTER (WHERE state = 'replayed')}),
	"$back " . (12 - $back), 'they are dead again, the others replayed');
is(scalar(arrived($receiver, 'canceled')), 12 - $back, 'and only those were sent');

# ---- in a window
my $opens = answer($node, q{SELECT extract(epoch FROM clock_timestamp()) + 1});
$id = answer($node, qq{SELECT replay_id FROM failsafe.dlq_replay(subscription => 'canceled', rate => 3, reason => 'at night',
	not_before => to_timestamp($opens), not_after => to_timestamp($opens + 1))});
is(replay_row($id, 'state, note'), 'running waits for not_before', 'it waits for its window');
wait_replay($id, 'canceled');
wait_until('what it had taken arrives', sub { replay_row($id, 'on_the_way') eq '0' });
my @window = (arrived($receiver, 'canceled'))[ 12 - $back .. 12 ];
@window = grep { defined } @window;
cmp_ok(scalar @window, '>', 0, 'some are sent in the window');
cmp_ok($window[0]{at}, '>=', $opens, 'not before it');
cmp_ok($window[-1]{at}, '<', $opens + 1.5, 'not after it');
is(replay_row($id, 'note, remaining > 0'), 'its window ended t', 'then it ends');
is(letters('canceled', q{count(*) FILTER (WHERE state = 'dead') > 0}), 't', 'and the rest is dead again');

# ---- beside live events of the same key
subscribe($node, $receiver, 'beside', %fast);
make_letters('beside', 20, 1, 1);
receiver_rules($receiver, { if => { path => '/beside', n => 25 }, kind => '500', times => 3 }, { if => { path => '/beside' }, kind => '200', delay => 0.02 });
my $first = arrivals($receiver, 'beside');
$id = replay('beside', q{rate => 1000, reason => 'with live events'});
for my $n (21 .. 40)
{
	emit($node, 'beside', 'k0', $n);
}
wait_replay($id, 'done');
wait_delivered($node, 'beside');
my @beside = arrivals($receiver, 'beside');
@beside = @beside[ $first .. $#beside ];
is((grep { $_->{open_of_key} > 1 } @beside) + 0, 0, 'never two of the key are on their way');
my @numbers = map { $_->{event}{n} } grep { $_->{taken} } @beside;
is(join(' ', grep { $_ <= 20 } @numbers), join(' ', 1 .. 20), 'the letters arrive in their order');
is(join(' ', grep { $_ > 20 } @numbers), join(' ', 21 .. 40), 'the live events in theirs');

# ---- events that were delivered are sent again on request
subscribe($node, $receiver, 'old', %fast);
my @ids = map { emit($node, 'old', 'a', $_) } 1 .. 5;
wait_delivered($node, 'old');
is(row($node, q{SELECT replay_id IS NULL, matching FROM failsafe.outbox_replay('old', dry_run => true)}), 't 5', 'outbox_replay: a dry run');
$id = answer($node, q{SELECT replay_id FROM failsafe.outbox_replay('old', rate => 1000, reason => 'the receiver lost its disk')});
wait_replay($id, 'done');
is(numbers($receiver, 'old'), '1 2 3 4 5 1 2 3 4 5', 'all are sent again, in their order');
is(join(' ', map { $_->{event_id} } arrived($receiver, 'old')), join(' ', @ids, @ids), 'under their ids');
is(letters('old', q{DISTINCT concat_ws(' ', state, class, attempts, reason)}), 'replayed resend 1 sent again on request, it was not refused',
	'the letters say that they were no dead ones');
is(answer($node, q{SELECT count(*) FROM failsafe.events WHERE event_type = 'failsafe.delivery.dead' AND envelope->>'subscription' = 'old'}),
	0, 'and nobody was told that they died');

is(answer($node, q{SELECT count(*) FROM failsafe.deliveries}), 0, 'no row is left');
is(answer($node, q{SELECT errors || ' ' || starts FROM failsafe.stat_workers WHERE database = 'postgres'}), '0 1', 'the worker had no error');
$node->stop;
done_testing();
