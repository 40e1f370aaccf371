# What a subscription that stands still may pin: by number and by age, then its events become
# dead letters; inside its limits the outbox keeps them.  And the largest event.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Delivery;
use Failsafe;

my $node = delivery_node('main', conf => "failsafe.maintenance = off\n");
my $receiver = receiver_start($node, 'receiver');

# A leaf of lane 2 that is neither current nor next, with events of that age.
answer($node, q{
	CREATE TABLE old_leaf AS SELECT 32 + (extract(epoch FROM clock_timestamp())::int8 / 75600 + 5) % 16 AS slot;
	CREATE FUNCTION put(type text, age interval, first int, last int) RETURNS bigint LANGUAGE sql AS $$
		WITH put AS (
			INSERT INTO failsafe.outbox (seq, occurred_at, event_id, tenant_id, slot, priority, event_type, order_key, payload)
			SELECT nextval('failsafe.outbox_seq_2'), clock_timestamp() - age, gen_random_uuid(), 1, slot, 5, type, 'old',
				json_build_object('n', n)
			FROM old_leaf, generate_series(first, last) AS n RETURNING 1)
		SELECT count(*) FROM put $$});

sub emit_some
{
	my ($name, $first, $last) = @_;

	return answer($node, qq{SELECT count(failsafe.outbox_emit('$name.test', 'k' || n, jsonb_build_object('n', n)))
		FROM generate_series($first, $last) AS n});
}

sub pause { return answer($node, "SELECT failsafe.subscription_pause('$_[0]', 'test')") }
sub resume { return answer($node, "SELECT failsafe.subscription_resume('$_[0]', 'test')") }

sub dead
{
	my ($name, $columns) = @_;

	return row($node, "SELECT $columns FROM failsafe.dlq WHERE subscription = '$name'");
}

# A change lets the worker look at a subscription at once, and not within ten seconds.
sub look
{
	my ($name) = @_;
	my $rounds = 'SELECT rounds FROM failsafe.stat_workers WHERE database = $$postgres$$';
	my $before = answer($node, $rounds);

	answer($node, "SELECT failsafe.subscription_alter('$name', reason => 'look', options => jsonb_build_object('rate', 1000 + random() * 1000))");
	return wait_until("the worker looks at $name", sub { answer($node, $rounds) > $before + 1 });
}

sub retain
{
	return answer($node, q{SELECT r.action FROM old_leaf, failsafe.outbox_retain() AS r
		WHERE r.leaf = 'outbox_2_' || lpad((slot - 32)::text, 2, '0')});
}

subscribe($node, $receiver, 'own', types => ['failsafe.*']);

# ---- too many
my $log = log_size($node);
subscribe($node, $receiver, 'many', max_lag => { events => 100 });
pause('many');
emit_some('many', 1, 60);
look('many');
wait_until('beyond half of the limit the log warns', sub { log_has($node, qr/WARNING: .*subscription "many" is about 60 events behind/, $log) });
is(dead('many', 'count(*)'), 0, 'and nothing happens');
emit_some('many', 61, 150);
wait_until('beyond it the oldest become dead letters', sub { dead('many', 'count(*)') >= 50 }, 30);
is(dead('many', 'DISTINCT class, state, attempts, reason'),
	'lag dead 0 the subscription was too far behind: see max_lag of its policy', 'which say why');
wait_until('an event tells about it', sub { (grep { $_->{event_type} eq 'failsafe.subscription.lag_exceeded'
	&& $_->{event}{subscription} eq 'many' } arrived($receiver, 'own')) > 0 });
look('many') for 1 .. 3;
my ($dead, $oldest, $newest) = split / /, row($node, q{SELECT count(*), min((e.envelope->>'n')::int), max((e.envelope->>'n')::int)
	FROM failsafe.dlq AS q JOIN failsafe.events AS e USING (event_id) WHERE q.subscription = 'many'});
cmp_ok($dead, '<=', 55, 'only as many as are too many, and a few for the events that told about it');
is("$oldest $newest", "1 $dead", 'the oldest of them');
resume('many');
wait_delivered($node, 'many');
is(join(' ', sort { $a <=> $b } map { $_->{event}{n} } arrivals($receiver, 'many')), join(' ', $dead + 1 .. 150), 'the others arrive');
wait_until('the lag ends', sub { row($node, q{SELECT lag_events, dead_letters FROM failsafe.stat_subscriptions WHERE subscription = 'many'}) eq "0 $dead" });

# ---- others' numbers count for what is pinned, but nothing is killed for them
subscribe($node, $receiver, 'rare', max_lag => { events => 100 });
pause('rare');
emit_some('rare', 1, 3);
emit_some('others', 1, 98);
look('rare');
wait_until('what stands in the way of the limit dies', sub { dead('rare', 'count(*)') > 0 }, 30);
resume('rare');
wait_delivered($node, 'rare');
like(join(' ', sort split / /, numbers($receiver, 'rare')), qr/\A(?:2 )?3\z/, 'and nothing else');

# ---- too old
$log = log_size($node);
subscribe($node, $receiver, 'aged', max_lag => { age_s => 3600 });
pause('aged');
answer($node, q{SELECT put('aged.test', '8 days', 1, 30)});
emit_some('aged', 31, 35);
look('aged');
wait_until('what is too old becomes dead letters', sub { dead('aged', 'count(*)') == 30 }, 30);
is(dead('aged', q{min(age) < '1 minute', max(occurred_at) < clock_timestamp() - interval '1 day', min(class)}), 't t lag', 'at once, all of it');
resume('aged');
wait_until('the others arrive', sub { join(' ', sort split / /, numbers($receiver, 'aged')) eq '31 32 33 34 35' });
wait_delivered($node, $_) for 'many', 'rare';
answer($node, q{SELECT failsafe.dlq_discard(ARRAY(SELECT id FROM failsafe.dlq), 'test')});

# ---- retention: a paused subscription inside its limits keeps what it needs
wait_until('nobody needs the old leaf any more', sub { retain() =~ /\A(?:emptied)?\z/ });
subscribe($node, $receiver, 'keeping', max_lag => { age_s => 30 * 86400 });
pause('keeping');
answer($node, q{SELECT put('keeping.test', '8 days', 1, 10)});
wait_delivered($node, 'many');
look('keeping');
is(retain(), 'kept', 'a leaf that a paused subscription needs is kept');
is(answer($node, q{SELECT count(*) FROM failsafe.events WHERE event_type = 'keeping.test'}), 10, 'with its events');
is(dead('keeping', 'count(*)'), 0, 'none of them died');
receiver_rules($receiver, { if => { path => '/keeping', n => 1 }, kind => '500' });
answer($node, q{SELECT failsafe.subscription_alter('keeping', reason => 'test', options =>
	'{"retry": {"base_ms": 20, "cap_ms": 50, "attempts": 1000, "age_s": 100000}, "breaker": {"failures": 0}}')});
resume('keeping');
wait_until('one that waits for a retry, and those behind it', sub { answer($node, q{SELECT count(*) FROM failsafe.deliveries WHERE subscription = 'keeping'}) == 10 });
wait_arrivals($receiver, 'keeping', 3);
is(retain(), 'kept', 'keep it, too');
receiver_rules($receiver);
wait_delivered($node, 'keeping');
is(numbers($receiver, 'keeping'), join(' ', 1 .. 10), 'all arrive');
wait_until('then the leaf is emptied', sub { retain() =~ /\A(?:emptied)?\z/
	&& answer($node, q{SELECT count(*) FROM failsafe.events WHERE event_type = 'keeping.test'}) == 0 });

# ---- what a paused subscription does not want it does not pin for longer than its age
subscribe($node, $receiver, 'quiet', max_lag => { age_s => 3600 });
pause('quiet');
answer($node, q{SELECT put('noise.test', '8 days', 1, 10)});
look('quiet');
wait_until('unwanted old events are let go', sub { retain() =~ /\A(?:emptied)?\z/ }, 30);
is(dead('quiet', 'count(*)'), 0, 'and none became a dead letter');
resume('quiet');

# ---- a pull subscription that is served stays inside its limits; one that is not does not
answer($node, qq{SELECT failsafe.subscription_create('$_', 'pull', '{}', '{pulled.*}', 'none', '{"max_lag": {"events": 50}}')}) for 'served', 'left';
$log = log_size($node);
for my $batch (0 .. 3)
{
	emit_some('pulled', 1 + 20 * $batch, 20 + 20 * $batch);
	is(answer($node, q{WITH c AS MATERIALIZED (SELECT array_agg(delivery_id) AS ids, array_agg(fence) AS fences FROM failsafe.outbox_claim('served'))
		SELECT count(*) FROM c, failsafe.outbox_ack('served', c.ids, c.fences) WHERE status = 'acked'}), 20, 'a consumer takes what there is');
}
wait_until('what nobody pulls dies at last', sub { dead('left', 'count(*)') == 30 }, 30);
is(dead('served', 'count(*)'), 0, 'what was taken does not');
ok(!log_has($node, qr/subscription "served" is about/, $log), 'nor is it behind');
is(answer($node, q{SELECT count(*) FROM failsafe.outbox_claim('left')}), 50, 'the rest can still be taken');

# ---- the largest payload
subscribe($node, $receiver, 'large');
sub payload
{
	my ($bytes) = @_;

	return qq{jsonb_build_object('n', 1, 'pad', repeat('x', $bytes - octet_length('{"n": 1, "pad": ""}')))};
}
my $setting = answer($node, q{SHOW failsafe.event_max_bytes});
is($setting, '256kB', 'the limit is 256 kB');
answer($node, q{SELECT failsafe.outbox_emit('large.test', 'a', } . payload(262144) . ')');
fails_with($node, 'SF067', q{SELECT failsafe.outbox_emit('large.test', 'a', } . payload(262145) . ')', 'one byte more is refused');
wait_delivered($node, 'large');
is(join(' ', map { length $_->{event}{pad} } arrived($receiver, 'large')), 262144 - length '{"n": 1, "pad": ""}', 'the largest arrives whole');

my $huge = receiver_start($node, 'huge');
subscribe($node, $huge, 'huge');
answer($node, q{SET failsafe.event_max_bytes = '16MB';
	SELECT failsafe.outbox_emit('huge.test', 'a', } . payload(16777216) . ')');
fails_with($node, 'SF067', q{SET failsafe.event_max_bytes = '16MB';
	SELECT failsafe.outbox_emit('huge.test', 'a', } . payload(16777217) . ')', 'one byte more than can be allowed');
wait_delivered($node, 'huge');
is(slurp_file($huge->{log}) =~ /"taken": true.*"pad": "(x+)"/ ? length $1 : 0, 16777216 - length '{"n": 1, "pad": ""}',
	'the largest that can be allowed arrives, too');
receiver_stop($huge);

is(answer($node, q{SELECT errors FROM failsafe.stat_workers WHERE database = 'postgres'}), 0, 'the worker had no error')
  or diag(answer($node, q{SELECT last_error FROM failsafe.stat_workers}));
$node->stop;
done_testing();
