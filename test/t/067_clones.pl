# A database that was restored or copied sends nothing before somebody says so, and then
# goes on without loss.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Delivery;
use Failsafe;

my $node = delivery_node('main');
my $receiver = receiver_start($node, 'receiver');
my %fast = (retry => { base_ms => 50, cap_ms => 1000, attempts => 1000 }, breaker => { failures => 0 });

sub in
{
	my ($database, $sql) = @_;

	return $node->safe_psql($database, $sql);
}

# How often each number arrived: "1 2x2 3".
sub tally
{
	my ($path, @from) = @_;
	my %count;

	$count{ $_->{event}{n} }++ for arrived($receiver, $path);
	return join ' ', map { $count{$_} > 1 ? "${_}x$count{$_}" : $_ } sort { $a <=> $b } keys %count;
}

sub wait_state
{
	my ($database, $state, $name) = @_;

	return wait_until($name // "the worker of $database is $state", sub { worker_row($node, $database, 'state') eq $state });
}

# ---- a database with deliveries in every state
answer($node, 'CREATE DATABASE shop');
in('shop', 'CREATE EXTENSION pg_failsafe');
subscribe($node, $receiver, 'barrier');
subscribe($node, $receiver, 'orders', %fast, database => 'shop');
receiver_rules($receiver, { if => { path => '/orders', n => 3 }, kind => '422' }, { if => { path => '/orders', n => 4 }, kind => '500' });
emit($node, 'orders', 'a', $_, database => 'shop') for 1 .. 3;
emit($node, 'orders', 'b', $_, database => 'shop') for 4 .. 5;
wait_until('delivered, dead, waiting and parked', sub { tally('orders') eq '1 2'
	&& row($node, q{SELECT (SELECT count(*) FROM failsafe.dlq), count(*) FILTER (WHERE state = 'waiting'), count(*) FILTER (WHERE state = 'parked')
		FROM failsafe.deliveries}, 'shop') eq '1 1 1' });
in('shop', q{SELECT failsafe.subscription_pause('orders', 'maintenance')});
emit($node, 'orders', 'c', 6, database => 'shop');

# ---- pg_dump and pg_restore into another database
my $dump = $node->basedir . '/dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, '-d', $node->connstr('shop') ], 'pg_dump');
answer($node, 'CREATE DATABASE restored');
$node->command_ok([ 'pg_restore', '-1', '-d', $node->connstr('restored'), $dump ], 'pg_restore');
wait_state('restored', 'not_adopted');
is(in('restored', q{SELECT state FROM failsafe.subscriptions}), 'paused', 'its subscription is there');
fails_with($node, 'SF074', q{SELECT failsafe.subscription_resume('orders', 'test')}, 'and cannot be resumed', database => 'restored');
fails_with($node, 'SF074', q{SELECT failsafe.subscription_rewind('orders', '-infinity', 'test')}, 'nor rewound', database => 'restored');
fails_with($node, 'SF074', q{SELECT failsafe.subscription_create('more', 'http', '{"url": "http://127.0.0.1/"}')}, 'nor joined by another', database => 'restored');
like(in('restored', q{SELECT concat_ws(' ', status, detail, hint) FROM failsafe.doctor() WHERE check_name = 'delivery'}),
	qr/\Aerror nothing is sent: .*(?:copy|restored).* call failsafe\.adopt\(\)/, 'doctor() says why');

# resumed at its source, and dumped again: active, and still silent
receiver_rules($receiver, { if => { path => '/orders', n => 4 }, kind => '500' });
in('shop', q{SELECT failsafe.subscription_resume('orders', 'test')});
wait_until('the source goes on', sub { tally('orders') eq '1 2 6' });
wait_until('its position is stored', sub {
	in('shop', q{SELECT lag_events - waiting - parked FROM failsafe.stat_subscriptions}) == 0 });
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, '-d', $node->connstr('shop') ], 'pg_dump of one that delivers');
answer($node, 'DROP DATABASE restored');
answer($node, 'CREATE DATABASE restored');
$node->command_ok([ 'pg_restore', '-1', '-d', $node->connstr('restored'), $dump ], 'pg_restore');
wait_state('restored', 'not_adopted');
is(in('restored', q{SELECT state FROM failsafe.subscriptions}), 'active', 'a restored subscription that is active');
emit($node, 'orders', 'c', 7, database => 'restored');
barrier($node, $receiver) for 1 .. 2;
is(worker_row($node, 'restored', 'relay_pid IS NULL'), 't', 'has no relay');
is(tally('orders'), '1 2 6', 'and sends nothing');

# ---- a template
in('shop', q{SELECT failsafe.subscription_pause('orders', 'copying')});
answer($node, 'CREATE DATABASE copied TEMPLATE shop');
wait_state('copied', 'not_adopted');
wait_state('shop', 'running', 'the worker of the template is back');
emit($node, 'orders', 'c', 8, database => 'copied');
in('shop', q{SELECT failsafe.subscription_resume('orders', 'copied')});
emit($node, 'orders', 'c', 9, database => 'shop');
wait_until('the source goes on', sub { tally('orders') eq '1 2 6 9' });
barrier($node, $receiver);
is(tally('orders'), '1 2 6 9', 'the copy sends nothing');

# ---- adopted: they go on where the copy was made
is(in('restored', q{SELECT changed FROM failsafe.adopt('the old one is gone')}), 't', 'adopt()');
wait_state('restored', 'running');
receiver_rules($receiver);
wait_delivered($node, 'orders', 'the restored one delivers all that it has', 'restored');
is(in('restored', q{SELECT changed FROM failsafe.adopt('again')}), 'f', 'once is enough');
wait_delivered($node, 'orders', 'the source too', 'shop');
is(tally('orders'), '1 2 4x2 5x2 6 7 9', 'what was waiting is sent by both, what was delivered by none again');
my %ids;
$ids{ $_->{event}{n} }{ $_->{event_id} } = 1 for arrived($receiver, 'orders');
is(join(' ', map { scalar keys %{ $ids{$_} } } sort keys %ids), '1 1 1 1 1 1 1', 'under the same ids');
is(in('restored', q{SELECT count(*) FROM failsafe.dlq WHERE state = 'dead'}), 1, 'its dead letter is there');
is(in('restored', q{SELECT replay_id IS NOT NULL FROM failsafe.dlq_replay(subscription => 'orders', reason => 'restored')}), 't', 'and can be replayed');
wait_until('it arrives', sub { tally('orders') eq '1 2 3 4x2 5x2 6 7 9' });
is(in('restored', q{SELECT count(*) FROM failsafe.doctor() WHERE check_name = 'delivery' AND status = 'ok'}), 1, 'doctor() is content');

is(in('copied', q{SELECT changed FROM failsafe.adopt('a second shop')}), 't', 'the copy is adopted');
in('copied', q{SELECT failsafe.subscription_resume('orders', 'test')});
wait_delivered($node, 'orders', 'and delivers all that it has', 'copied');
is(tally('orders'), '1 2 3 4x3 5x3 6 7 8 9', 'nothing is lost');

# ---- a number that was drawn after the dump is not drawn again
my ($before) = sort { $b <=> $a } split /\n/, in('restored', q{SELECT max(seq) FROM failsafe.events WHERE lane = 2});
emit($node, 'orders', 'd', 10, database => 'restored');
cmp_ok(in('restored', q{SELECT max(seq) FROM failsafe.events WHERE lane = 2}), '>', $before, 'numbers go on');
wait_until('it arrives', sub { tally('orders') =~ / 10\z/ });

# ---- failsafe.delivery = off
$node->append_conf('postgresql.conf', "failsafe.delivery = off\n");
$node->reload;
wait_state($_, 'off') for 'postgres', 'shop', 'restored', 'copied';
emit($node, 'orders', 'd', 11, database => 'shop');
is(answer($node, q{SELECT count(relay_pid) FROM failsafe.stat_workers}), 0, 'switched off there is no relay');
like(in('shop', q{SELECT status || ' ' || detail FROM failsafe.doctor() WHERE check_name = 'delivery_setting'}), qr/\Awarning .* off/, 'doctor() says so');
$node->restart;
wait_state('shop', 'off', 'also after a restart');
is(tally('orders') =~ /\b11\b/, '', 'nothing was sent');
$node->append_conf('postgresql.conf', "failsafe.delivery = on\n");
$node->reload;
wait_until('switched on it goes on', sub { tally('orders') =~ / 11\z/ });

$node->stop;
done_testing();
