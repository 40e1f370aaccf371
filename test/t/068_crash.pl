# kill -9 of the relay, the worker and the whole server, while transactions of every kind
# write events and the receiver fails: nothing is lost, the order is kept, and a repeat has
# the id of the first.

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Delivery;
use Failsafe;

my $node = delivery_node('main', conf => q{
fsync = on
restart_after_crash = on
max_prepared_transactions = 20
});
my $receiver = receiver_start($node, 'receiver', '--seed', 68, '--slow', 2,
	'--fail', '500=0.04', '--fail', 'lost=0.02', '--fail', 'close=0.01', '--fail', '429=0.001', '--fail', 'timeout=0.001', '--poison', 'crash.poison');
my $acknowledged = $node->basedir . '/acknowledged';
my %policy = (retry => { base_ms => 30, cap_ms => 500, attempts => 1000, budget_percent => 100 }, timeout_ms => 1000,
	breaker => { failures => 20, open_ms => 200 });

# Ask as often as is needed: the server is killed now and then.
sub asked
{
	my ($sql) = @_;

	for (1 .. 300)
	{
		my ($ret, $out) = $node->psql('postgres', $sql, timeout => 20);

		return $out if defined $ret && $ret == 0;
		select undef, undef, undef, 0.1;
	}
	return '';
}

# An event that is written now arrives.
my $marks = 0;

sub goes_on
{
	my ($name) = @_;

	$marks++;
	asked(qq{SELECT failsafe.outbox_emit('crash.mark', 'mark', '{"n": $marks}')});
	return wait_until($name, sub {
		(grep { $_->{event_type} eq 'crash.mark' && $_->{event}{n} == $marks } arrived($receiver)) > 0 });
}

sub wait_more
{
	my ($count) = @_;
	my $end = arrived($receiver) + $count;

	return wait_until("$count events arrive", sub { arrived($receiver) >= $end });
}

answer($node, q{
	SELECT count(failsafe.account_open('acc_' || n, 'EUR')) FROM generate_series(0, 199) AS n;
	SELECT count(failsafe.wallet_credit('acc_' || n, 1000000, 'EUR', 'fund_' || n)) FROM generate_series(0, 199) AS n});
subscribe($node, $receiver, 'all', types => [ '*', '!failsafe.*' ], start => 'beginning', %policy);
answer($node, q{SELECT count(failsafe.outbox_emit('crash.bulk', 'bulk_' || n % 50, jsonb_build_object('n', n))) FROM generate_series(1, 1000) AS n});
my ($out, $err) = ('', '');
local @ENV{qw(PGHOST PGPORT PGDATABASE PGUSER)} = ($node->host, $node->port, 'postgres', scalar getpwuid $>);
my $producer = IPC::Run::start(
	[ '/usr/bin/python3', test_file('chaos/producer.py'), '--seconds', 16, '--pause', 0.002, '--seed', 68,
		'--acknowledged', $acknowledged ],
	'>', \$out, '2>', \$err, IPC::Run::timeout(180));

# ---- the relay, three times; the last time with a request on its way for certain
for my $time (1 .. 3)
{
	wait_more(100);
	my $relay = worker_row($node, 'postgres', 'relay_pid');

	if ($time == 3)
	{
		receiver_rules($receiver, { if => { type => 'crash.held' }, kind => 'hold' });
		asked(q{SELECT failsafe.outbox_emit('crash.held', 'held', '{"n": 1}')});
		wait_until('a request is on its way', sub { (grep { $_->{event_type} eq 'crash.held' } arrivals($receiver)) > 0 });
	}
	kill 'KILL', $relay;
	wait_until("relay $time is replaced", sub { my $pid = worker_row($node, 'postgres', 'relay_pid'); $pid ne '' && $pid ne $relay });
}
receiver_rules($receiver);
goes_on('events go on');
wait_until('what was on its way counted as unknown, and was sent again',
	sub { asked(q{SELECT count(*) FROM failsafe.attempts WHERE class = 'unknown' AND code = 'unknown'}) > 0 });

# ---- the worker: the server recovers
my $worker = worker_pid($node, 'postgres');
kill 'KILL', $worker;
wait_until('another worker comes', sub {
	asked(q{SELECT pid FROM failsafe.stat_workers WHERE database = 'postgres' AND state = 'running'}) !~ /\A(?:$worker)?\z/ });
goes_on('events go on');

# ---- an event that nobody takes, and a delayed one, over the next crashes
asked(q{SELECT failsafe.outbox_emit('crash.poison', 'poison', '{"n": 1}');
	SELECT failsafe.outbox_emit('crash.after', 'poison', '{"n": 2}');
	SELECT failsafe.outbox_emit('crash.later', 'later', '{"n": 3}', options => jsonb_build_object('deliver_after', clock_timestamp() + '4 s'))});

# ---- the server, twice
for my $time (1 .. 2)
{
	kill_server($node);
	# processes that the killed server had just started keep its memory for a moment
	wait_until('the server starts again', sub { $node->start(fail_ok => 1) });
	goes_on("after crash $time of the server events go on");
}

# ---- the end: everything is there
$producer->finish;
like($out, qr/long \d+ plain \d+ rolled_back \d+ savepoints \d+ two_phase \d+/, 'transactions of every kind were made') or diag($out, $err);
note($out, $err);
unlike("$out$err", qr/unexpected|Traceback/, 'none failed in an unexpected way');
for my $name (split /\n/, answer($node, 'SELECT gid FROM pg_prepared_xacts'))
{
	answer($node, "ROLLBACK PREPARED '$name'");
}
wait_delivered($node, 'all', 'everything is delivered');
my $events = answer($node, q{SELECT count(*) FROM failsafe.events WHERE event_type NOT LIKE 'failsafe.%'});
cmp_ok($events, '>', 2000, "of $events events");
check_arrivals($node, $receiver, 'all', q{event_type NOT LIKE 'failsafe.%'});
is(row($node, q{SELECT event_type, class, attempts FROM failsafe.dlq}), 'crash.poison permanent 1', 'the poisoned one is the only dead letter');
my %seen = map { $_->{event_type} => 1 } arrived($receiver);
ok($seen{'crash.after'} && $seen{'crash.later'} && !$seen{'crash.poison'}, 'what came after it arrived, and what was delayed');
is(answer($node, q{SELECT count(*) FROM failsafe.deliveries}), 0, 'no row is left');
append_to_file("$receiver->{log}.cured", '');
answer($node, q{SELECT failsafe.dlq_replay(subscription => 'all', reason => 'cured')});
wait_until('cured, it arrives', sub { (grep { $_->{event_type} eq 'crash.poison' } arrived($receiver)) > 0 });

# ---- and so is the money
my @keys = split /\n/, slurp_file($acknowledged);
answer($node, 'CREATE TABLE acknowledged (key text)');
$node->safe_psql('postgres', "COPY acknowledged FROM stdin;\n" . join('', map { "$_\n" } @keys) . "\\.\n");
is(answer($node, q{SELECT count(*) FROM acknowledged, LATERAL failsafe.idempotency_status(key) AS s WHERE s.state <> 'committed'}),
	0, scalar(@keys) . ' acknowledged commands are there');
is(answer($node, q{SELECT count(*) FROM failsafe.ledger_verify()}), 0, 'the books balance');
ok(!log_has($node, qr/PANIC:|TRAP:|signal 11|signal 6/), 'nothing crashed by itself');
$node->stop;
done_testing();
