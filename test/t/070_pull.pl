# Programs that fetch their events themselves: two at once, with leases that run out,
# refusals, delays, dead letters and replays.

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Delivery;
use Failsafe;

my $node = delivery_node('main');

sub pull
{
	my ($name, %option) = @_;
	my $ordering = delete $option{ordering} // 'key';

	return answer($node, qq{SET client_min_messages = warning; SELECT state FROM failsafe.subscription_create('$name', 'pull', '{}', '{$name.*}', '$ordering', \$\$}
		. json(\%option) . '$$)');
}

# Claim; what came, as "n/attempt ..."; the leases are kept by number.
my %lease;

sub claim
{
	my ($name, $max, $interval) = @_;
	my @got;

	for my $line (split /\n/, answer($node, qq{SELECT envelope->>'n', attempt, delivery_id, fence
		FROM failsafe.outbox_claim('$name', $max, '@{[ $interval // '30 s' ]}')}))
	{
		my ($n, $attempt, $id, $fence) = split /\|/, $line;
		$lease{"$name $n"} = "$id, $fence";
		push @got, "$n/$attempt";
	}
	return join ' ', @got;
}

sub ack
{
	my ($name, @numbers) = @_;
	my (@ids, @fences);

	for my $n (@numbers)
	{
		my ($id, $fence) = split /, /, $lease{"$name $n"};
		push @ids, $id;
		push @fences, $fence;
	}
	return join ' ', split /\n/, answer($node, sprintf q{SELECT status FROM failsafe.outbox_ack('%s', '{%s}', '{%s}')},
		$name, join(',', @ids), join(',', @fences));
}

sub nack
{
	my ($name, $n, $reason, $options) = @_;

	return answer($node, qq{SELECT status FROM failsafe.outbox_nack('$name', $lease{"$name $n"}, '$reason', '$options')});
}

sub states
{
	my ($name) = @_;

	return answer($node, qq{SELECT string_agg(state, ' ' ORDER BY seq) FROM failsafe.deliveries WHERE subscription = '$name'});
}

# ---- one event of a key at a time, others go on
pull('keyed');
emit($node, 'keyed', $$_[0], $$_[1]) for [ 'a', 1 ], [ 'a', 2 ], [ 'b', 3 ], [ 'a', 4 ];
is(claim('keyed', 10), '1/1 3/1', 'the first of each key');
is(claim('keyed', 10), '', 'and nothing more');
is(ack('keyed', 3, 1), 'acked acked', 'answered');
is(ack('keyed', 1), 'unknown', 'once');
is(claim('keyed', 10), '2/1', 'then the next of the key');
is(nack('keyed', 2, 'not now', '{"retry_after_ms": 300}'), 'waiting', 'which is refused for a while');
my $refused = answer($node, 'SELECT clock_timestamp()');
is(claim('keyed', 10), '', 'it and those behind it wait');
my $got = '';
wait_until('until it is handed out again', sub { ($got = claim('keyed', 10)) ne '' });
is($got, '2/2', 'at the second attempt');
is(answer($node, "SELECT clock_timestamp() >= '$refused'::timestamptz + '250 ms'"), 't', 'not too early');
is(ack('keyed', 2), 'acked', 'answered');
is(claim('keyed', 10), '4/1', 'and the last');
ack('keyed', 4);
is(answer($node, q{SELECT string_agg(concat_ws(' ', number, class, code, reason), ', ' ORDER BY id) FROM failsafe.attempts WHERE subscription = 'keyed'}),
	'1 temporary nack not now, 2 delivered ', 'each attempt is listed');
is(row($node, q{SELECT delivered, leased, waiting, parked, lag_events FROM failsafe.stat_subscriptions WHERE subscription = 'keyed'}), '4 0 0 0 0', 'and counted');

# ---- a program that dies: its lease runs out, and its late answer counts for nothing
pull('leased');
emit($node, 'leased', 'a', $_) for 1, 2;
is(claim('leased', 1, '1 s'), '1/1', 'claimed for a second');
my $late = $lease{'leased 1'};
isnt(answer($node, "SELECT failsafe.outbox_extend('leased', $late, '2 s')"), '', 'extended');
my $extended = answer($node, 'SELECT clock_timestamp()');
wait_until('another program gets it', sub { claim('leased', 1) eq '1/2' });
is(answer($node, "SELECT clock_timestamp() >= '$extended'::timestamptz + '1.8 s'"), 't', 'when the longer lease has ended');
is(answer($node, sprintf q{SELECT status FROM failsafe.outbox_ack('leased', '{%s}', '{%s}')}, split(/, /, $late)), 'stale', 'the late answer changes nothing');
is(answer($node, "SELECT status FROM failsafe.outbox_nack('leased', $late, 'late')"), 'stale', 'of either kind');
is(answer($node, "SELECT failsafe.outbox_extend('leased', $late, '2 s') IS NULL"), 't', 'nor can it be extended');
is(ack('leased', 1), 'acked', 'that of the other program counts');
is(answer($node, q{SELECT concat_ws(' ', number, class, code, reason) FROM failsafe.attempts WHERE subscription = 'leased' ORDER BY id LIMIT 1}),
	'1 unknown lease the lease ended without an answer', 'the attempt says what happened');

# ---- dead letters, by attempts and for good; the key goes on
pull('dying', retry => { base_ms => 10, cap_ms => 10, attempts => 2 });
emit($node, 'dying', 'a', $_) for 1 .. 4;
is(claim('dying', 10), '1/1', 'claimed');
is(nack('dying', 1, 'broken', '{}'), 'waiting', 'refused once');
wait_until('tried again', sub { claim('dying', 10) eq '1/2' });
is(nack('dying', 1, 'broken again', '{}'), 'dead', 'its attempts are used up');
is(claim('dying', 10), '2/1', 'the next one');
is(nack('dying', 2, 'no such customer', '{"permanent": true}'), 'dead', 'refused for good');
is(claim('dying', 10), '3/1', 'and the next');
is(ack('dying', 3), 'acked', 'is taken');
my $reasons = answer($node, q{SELECT string_agg(concat_ws(' ', class, attempts, reason), E'\n' ORDER BY seq) FROM failsafe.dlq WHERE subscription = 'dying'});
like($reasons, qr/\Atemporary 2 gave up after 2 attempts in .*; last: .*broken again.*\npermanent 1 refused by the consumer after 1 attempt: permanent; no such customer\z/, 'the reasons have the program\'s words');
is(answer($node, q{SELECT count(*) FROM failsafe.events WHERE event_type = 'failsafe.delivery.dead' AND envelope->>'subscription' = 'dying'}), 2, 'events tell about them');

# ---- a replay hands them out again, in their order and with live ones
is(answer($node, q{SELECT matching FROM failsafe.dlq_replay(subscription => 'dying', rate => 1000, reason => 'repaired')}), 2, 'replayed');
my @seen;
wait_until('the letters and the last event are handed out', sub {
	my ($n) = claim('dying', 1) =~ m{\A(\d+)/};
	push @seen, $n if defined $n;
	ack('dying', $n) if defined $n;
	return @seen == 3 });
is(join(' ', grep { $_ < 3 } @seen), '1 2', 'in their order');
is(row($node, q{SELECT state, total, done, failed FROM failsafe.replays}), 'done 2 2 0', 'the replay is done');
is(answer($node, q{SELECT DISTINCT state FROM failsafe.dlq WHERE subscription = 'dying'}), 'replayed', 'and so are the letters');

# ---- the age of a replayed letter counts from its replay
pull('aged', retry => { base_ms => 10, cap_ms => 10, age_s => 1 });
emit($node, 'aged', 'a', 1);
claim('aged', 1);
nack('aged', 1, 'first', '{}');
wait_until('it dies of age', sub { my $n = claim('aged', 1); $n ne '' && nack('aged', 1, 'again', '{}') eq 'dead' });
answer($node, q{SELECT failsafe.dlq_replay(subscription => 'aged', rate => 1000, reason => 'repaired')});
wait_until('replayed it is handed out', sub { claim('aged', 1) ne '' });
is(nack('aged', 1, 'once more', '{}'), 'waiting', 'and has its age anew');
wait_until('it is handed out again', sub { claim('aged', 1) ne '' });
is(ack('aged', 1), 'acked', 'and taken');

# ---- a delayed event whose key is blocked when its time comes
pull('delayed');
emit($node, 'delayed', 'a', 1);
emit($node, 'delayed', 'a', 2, deliver_after => answer($node, q{SELECT clock_timestamp() + '300 ms'}));
emit($node, 'delayed', 'a', 3);
is(claim('delayed', 10), '1/1', 'the first is claimed');
is(nack('delayed', 1, 'later', '{"retry_after_ms": 1000}'), 'waiting', 'and refused');
is(claim('delayed', 10), '', 'the others wait');
wait_until('its time comes', sub { claim('delayed', 10) eq '' && states('delayed') eq 'waiting parked parked' });
for my $n (1 .. 3)
{
	wait_until("number $n is handed out", sub { claim('delayed', 10) =~ m{\A$n/} });
	is(ack('delayed', $n), 'acked', 'and taken');
}
is(states('delayed'), '', 'nothing is left');

# ---- expired, paused, disabled
pull('expiring');
emit($node, 'expiring', 'a', 1, expires_at => answer($node, q{SELECT clock_timestamp() + '300 ms'}));
emit($node, 'expiring', 'a', 2);
answer($node, q{SELECT failsafe.subscription_pause('expiring', 'test')});
is(claim('expiring', 10), '', 'a paused subscription hands out nothing');
wait_for($node, q{SELECT bool_and(expires_at < clock_timestamp()) FROM failsafe.events WHERE event_type = 'expiring.test'}, 'an event expires');
answer($node, q{SELECT failsafe.subscription_resume('expiring', 'test')});
is(claim('expiring', 10), '2/1', 'it is not handed out');
is(answer($node, q{SELECT class || attempts FROM failsafe.dlq WHERE subscription = 'expiring'}), 'expired0', 'but a dead letter');

# ---- two programs, 1500 events of 40 keys: taken, refused, extended, forgotten
for my $name ('busy', 'free')
{
	pull($name, ordering => $name eq 'busy' ? 'key' : 'none', retry => { base_ms => 10, cap_ms => 50, attempts => 1000 });
}
answer($node, q{
	CREATE TABLE taken (place int8 GENERATED ALWAYS AS IDENTITY, subscription text, program text, n int, key text);
	CREATE PROCEDURE work(name text, program text, wanted int) LANGUAGE plpgsql AS $$
	DECLARE
		e record;
		dice float8;
		said text;
	BEGIN
		LOOP
			FOR e IN SELECT *, (envelope->>'n')::int AS n FROM failsafe.outbox_claim(name, 25, '1 second') LOOP
				dice := random();
				IF dice < 0.01 THEN
					CONTINUE;			-- forgotten: the lease runs out
				ELSIF dice < 0.1 THEN
					PERFORM failsafe.outbox_nack(name, e.delivery_id, e.fence, 'not now');
					CONTINUE;
				ELSIF dice < 0.2 THEN
					PERFORM failsafe.outbox_extend(name, e.delivery_id, e.fence, '20 seconds');
				END IF;
				SELECT status INTO said FROM failsafe.outbox_ack(name, ARRAY[e.delivery_id], ARRAY[e.fence]);
				IF said = 'acked' THEN
					INSERT INTO taken (subscription, program, n, key) VALUES (name, program, e.n, e.order_key);
				END IF;
			END LOOP;
			COMMIT;
			EXIT WHEN (SELECT count(*) FROM taken WHERE subscription = name) >= wanted;
			PERFORM pg_sleep(0.01);
		END LOOP;
	END $$;
	SELECT count(failsafe.outbox_emit(type, 'k' || n % 40, jsonb_build_object('n', n)))
	FROM unnest('{busy.test,free.test}'::text[]) AS type, generate_series(1, 750) AS n});
my @programs = map {
	my ($name, $program) = @$_;
	my ($out, $err) = ('', '');
	{ err => \$err, run => IPC::Run::start([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'),
			'-c', "SET failsafe.lock_wait = '30s'", '-c', "CALL work('$name', '$program', 750)" ],
		'>', \$out, '2>', \$err, IPC::Run::timeout(120)) }
} map { my $name = $_; map { [ $name, $_ ] } 'one', 'two' } 'busy', 'free';
ok($_->{run}->finish, 'a program has taken its part') || diag(${ $_->{err} }) for @programs;
is(row($node, q{SELECT subscription, count(*), count(DISTINCT n), count(DISTINCT program) FROM taken GROUP BY 1 ORDER BY 1}),
	"busy 750 750 2\nfree 750 750 2", 'each event was taken once, by one of the two');
is(answer($node, q{SELECT count(*) FROM (SELECT n, lag(n) OVER (PARTITION BY key ORDER BY place) AS previous FROM taken WHERE subscription = 'busy') AS t
	WHERE n < previous}), 0, 'those of a key in their order');
cmp_ok(answer($node, q{SELECT count(*) FROM failsafe.attempts WHERE class = 'temporary' AND subscription = 'busy'}), '>', 10, 'though some were refused');
cmp_ok(answer($node, q{SELECT count(*) FROM failsafe.attempts WHERE class = 'unknown' AND code = 'lease'}), '>', 3, 'and some forgotten');
is(answer($node, q{SELECT count(*) FROM failsafe.deliveries WHERE subscription IN ('busy', 'free')}), 0, 'nothing is left');
is(answer($node, q{SELECT count(*) FROM failsafe.dlq WHERE subscription IN ('busy', 'free')}), 0, 'nothing died');
is(row($node, q{SELECT subscription, delivered, lag_events FROM failsafe.stat_subscriptions WHERE subscription IN ('busy', 'free') ORDER BY 1}),
	"busy 750 0\nfree 750 0", 'and all are counted');

is(answer($node, q{SELECT coalesce(sum(errors), 0) FROM failsafe.stat_workers WHERE database = 'postgres'}), 0, 'the worker had no error');
$node->stop;
done_testing();
