# Who hears what: tenants, regions, types of events, where a subscription begins, and what
# happens when it is rewound or dropped.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Delivery;
use Failsafe;

my $node = delivery_node('main');
my $receiver = receiver_start($node, 'receiver');
my %fast = (retry => { base_ms => 20, cap_ms => 200, attempts => 1000 }, breaker => { failures => 0 });

# Two tenants, each with a program of its own and a person who subscribes; and an operator.
answer($node, q{
	SELECT failsafe.tenant_add('blue');
	CREATE ROLE red_app LOGIN; CREATE ROLE blue_app LOGIN; CREATE ROLE red_admin LOGIN; CREATE ROLE blue_admin LOGIN;
	CREATE ROLE operator LOGIN;
	GRANT failsafe_app TO red_app, blue_app;
	GRANT failsafe_admin TO red_admin, blue_admin;
	GRANT failsafe_operator TO operator;
	GRANT SET ON PARAMETER failsafe.tenant TO blue_app, blue_admin, red_app, red_admin, operator;
	ALTER ROLE blue_app SET failsafe.tenant = 'blue';
	ALTER ROLE blue_admin SET failsafe.tenant = 'blue';
	ALTER ROLE red_app SET failsafe.tenant = 'default';
	ALTER ROLE red_admin SET failsafe.tenant = 'default';
	ALTER ROLE operator SET failsafe.tenant = 'default'});

sub as
{
	my ($role, $sql) = @_;
	my ($ret, $out, $err) = $node->psql('postgres', $sql, on_error_stop => 1,
		extra_params => [ '-U', $role, '-v', 'VERBOSITY=verbose' ]);

	return $ret == 0 ? $out : $err =~ /ERROR:\s+([0-9A-Z]{5}):/ ? $1 : $err;
}

sub subscribe_as
{
	my ($role, $name, %option) = @_;
	my $types = join ',', @{ delete $option{types} // ["*"] };
	my $config = json(http_config($receiver, delete $option{path} // $name));
	my $options = json({ %fast, %option });

	return as($role, qq{SELECT tenant FROM failsafe.subscription_create('$name', 'http', \$\$$config\$\$, '{$types}', 'key', \$\$$options\$\$)});
}

sub emit_as
{
	my ($role, $type, $n, %option) = @_;
	my $options = json(\%option);

	return as($role, qq{SELECT failsafe.outbox_emit('$type', 'k$n', '{"n": $n}', options => \$\$$options\$\$) IS NOT NULL});
}

sub heard
{
	my ($path) = @_;

	return join ' ', sort { $a <=> $b } map { $_->{event}{n} // -1 } arrived($receiver, $path);
}

sub hears
{
	my ($path, $numbers, $name) = @_;

	return wait_until($name, sub { heard($path) eq $numbers }) || diag(heard($path));
}

$node->append_conf('pg_hba.conf', "local all all trust\n");
$node->reload;

# ---- tenants
is(subscribe_as('red_admin', 'mine', types => ['*', '!failsafe.*'], path => 'red'), 'default', 'a subscription is its creator\'s tenant\'s');
is(subscribe_as('blue_admin', 'mine', types => ['*', '!failsafe.*'], path => 'blue'), 'blue', 'two tenants may use one name');
is(subscribe_as('blue_admin', 'theirs', tenants => ['default']), 'SF041', 'nobody names another tenant');
is(subscribe_as('blue_admin', 'all', tenants => ['*']), 'SF041', 'or all');
is(subscribe_as('operator', 'all', tenants => ['*'], types => ['*', '!failsafe.*']), 'default', 'but an operator');
is(subscribe_as('operator', 'blues', tenants => ['blue'], types => ['*', '!failsafe.*']), 'default', 'who may name one, too');
is(emit_as('red_app', 'shop.sold', 1), 't', 'red emits');
is(emit_as('blue_app', 'shop.sold', 2), 't', 'blue emits');
hears('red', '1', 'red hears its own');
hears('blue', '2', 'blue hears its own');
hears('all', '1 2', 'the operator\'s hears both');
hears('blues', '2', 'the other one hears blue');
is(join(' ', sort map { "$_->{event}{n} $_->{event}{tenant}" } arrived($receiver, 'all')), '1 default 2 blue', 'each event says whose it is');

# money too
as('blue_admin', q{SELECT failsafe.account_open('acc', 'EUR'); SELECT failsafe.wallet_credit('acc', 5, 'EUR', 'k1')});
wait_until('money of blue', sub { (grep { $_->{event_type} eq 'wallet.credit.committed' } arrived($receiver, 'blue')) == 1 });
wait_until('is heard by the operator', sub { (grep { $_->{event_type} eq 'wallet.credit.committed' } arrived($receiver, 'blues')) == 1 });
is((grep { $_->{event_type} =~ /^(?:wallet|account)/ } arrived($receiver, 'red')) + 0, 0, 'and not by red');

# what each sees
receiver_rules($receiver, { if => { path => '/blue', n => 3 }, kind => '422' }, { if => { path => '/blue', n => 4 }, kind => '500' });
emit_as('blue_app', 'shop.sold', $_) for 3, 4;
wait_until('blue has a dead letter and a retry', sub { as('blue_admin', q{SELECT (SELECT count(*) FROM failsafe.dlq) + count(*) FROM failsafe.deliveries}) eq '2' });
is(as('red_admin', q{SELECT (SELECT count(*) FROM failsafe.dlq) + (SELECT count(*) FROM failsafe.attempts) + count(*) FROM failsafe.deliveries}), 0, 'red sees neither');
is(as('red_admin', q{SELECT string_agg(name, ',') FROM failsafe.subscriptions WHERE tenant <> 'default'}), '', 'nor blue\'s subscriptions');
is(as('red_admin', q{SELECT count(*) FROM failsafe.stat_subscriptions WHERE tenant <> 'default'}), 0, 'nor their numbers');
is(as('red_admin', q{SELECT count(*) FROM failsafe.subscription_changes WHERE tenant <> 'default'}), 0, 'nor their changes');
is(as('red_admin', q{SELECT count(*) FROM failsafe.dlq_get((SELECT min(1)::int8))}), 0, 'nor a letter by its id');
is(as('red_admin', q{SELECT sum(matching) FROM failsafe.dlq_replay(dry_run => true)}), 0, 'and can replay nothing');
is(as('blue_admin', q{SELECT sum(matching) FROM failsafe.dlq_replay(dry_run => true)}), 1, 'blue can');
is(as('operator', q{SELECT string_agg(DISTINCT tenant, ',' ORDER BY tenant) FROM failsafe.stat_subscriptions}), 'blue,default', 'the operator sees all');
is(as('operator', q{SELECT sum(matching) FROM failsafe.dlq_replay(dry_run => true, options => '{"tenant": "blue"}')}), 1, 'and may replay it');
receiver_rules($receiver);

# ---- types
my %patterns = (
	one => ['pat.a.done'], prefix => ['pat.a.*'], middle => ['pat.*.done'], but => [ '*', '!pat.a.*', '!wallet.*' ],
	again => [ 'pat.*', '!pat.a.*', 'pat.a.done' ]);
subscribe_as('red_admin', "pat_$_", types => $patterns{$_}) for keys %patterns;
$node->safe_psql('postgres', q{SELECT failsafe.outbox_emit(type, 'pat', jsonb_build_object('n', n)) FROM unnest(
	'{pat.a.done,pat.a.failed,pat.b.done,pat.b.c.done,other.thing}'::text[]) WITH ORDINALITY AS t (type, n)},
	extra_params => [ '-U', 'red_app' ]);
hears('pat_one', '1', 'one type');
hears('pat_prefix', '1 2', 'all that begins so');
hears('pat_middle', '1 3', 'any word in the middle');
hears('pat_but', '3 4 5', 'all but');
hears('pat_again', '1 3 4', 'the last pattern that fits decides');
like((try_sql($node, q{SET client_min_messages = notice; SET failsafe.tenant = 'default';
	SELECT failsafe.subscription_create('never', 'pull', event_types => '{no.such.type}')}))[2],
	qr/NOTICE: .*pattern "no\.such\.type" fits no event type/, 'a pattern that fits nothing: a notice');

# ---- regions
subscribe_as('red_admin', 'europe', types => ['region.*'], regions => [ 'eu', 'uk' ]);
subscribe_as('red_admin', 'world', types => ['region.*']);
emit_as('red_app', 'region.test', 1, region => 'eu');
emit_as('red_app', 'region.test', 2, region => 'us');
emit_as('red_app', 'region.test', 3);
emit_as('red_app', 'region.test', 4, region => 'uk');
hears('europe', '1 4', 'the regions that it names');
hears('world', '1 2 3 4', 'or all');

# ---- where a subscription begins
emit_as('red_app', 'start.test', $_) for 1 .. 3;
my $time = as('red_admin', 'SELECT clock_timestamp()');
emit_as('red_app', 'start.test', $_) for 4 .. 5;
subscribe_as('red_admin', 'start_now', types => ['start.*']);
subscribe_as('red_admin', 'start_beginning', types => ['start.*'], start => 'beginning');
subscribe_as('red_admin', 'start_time', types => ['start.*'], start => $time);
is(subscribe_as('red_admin', 'start_future', types => ['start.*'], start => '2100-01-01T00:00:00Z'), 'SF041', 'not in the future');
emit_as('red_app', 'start.test', 6);
hears('start_now', '6', 'now: what comes');
hears('start_beginning', '1 2 3 4 5 6', 'from the beginning');
hears('start_time', '4 5 6', 'from a time');

# an event of a transaction that was open when the subscription was made
my $session = $node->background_psql('postgres', on_error_stop => 1);
$session->query_safe(q{SET failsafe.tenant = 'default'; BEGIN; SELECT failsafe.outbox_emit('open.test', 'a', '{"n": 1}')});
as('red_admin', q{SET failsafe.lock_wait = '100ms'; } . qq{SELECT tenant FROM failsafe.subscription_create('opened', 'http', \$\$}
	. json(http_config($receiver, 'opened')) . q{$$, '{open.*}')});
emit_as('red_app', 'open.test', 2);
hears('opened', '2', 'a long transaction holds up nobody');
$session->query_safe('COMMIT');
$session->quit;
hears('opened', '1 2', 'and its event is heard when it commits');

# ---- rewind
my %first = map { $_->{event}{n} => $_->{event_id} } arrived($receiver, 'start_now');
is(as('red_admin', "SELECT name FROM failsafe.subscription_rewind('start_now', '$time', 'they lost them')"), 'start_now', 'rewound to a time');
hears('start_now', '4 5 6 6', 'what was since is sent again');
is(join(' ', map { $_->{event_id} } grep { $_->{event}{n} == 6 } arrived($receiver, 'start_now')), "$first{6} $first{6}", 'with the same id');
is(as('red_admin', "SELECT name FROM failsafe.subscription_rewind('start_now', '-infinity', 'everything')"), 'start_now', 'to the beginning');
hears('start_now', '1 2 3 4 4 5 5 6 6 6', 'all that is kept is sent');
is(as('red_admin', q{SELECT string_agg(reason, ', ' ORDER BY changed_at) FROM failsafe.subscription_changes WHERE subscription = 'start_now' AND action = 'rewound'}),
	'they lost them, everything', 'who and why is kept');

# a key that is blocked is read anew, once
receiver_rules($receiver, { if => { path => '/start_time', n => 7 }, kind => '500' });
$node->safe_psql('postgres', q{SELECT failsafe.outbox_emit('start.test', 'blocked', jsonb_build_object('n', n)) FROM generate_series(7, 9) AS n},
	extra_params => [ '-U', 'red_app' ]);
wait_until('a key is blocked', sub { as('red_admin', q{SELECT count(*) FROM failsafe.deliveries WHERE subscription = 'start_time'}) == 3 });
as('red_admin', "SELECT failsafe.subscription_rewind('start_time', '$time', 'again')");
hears('start_time', '4 4 5 5 6 6', 'rewound: other keys are sent again');
wait_until('it is blocked again', sub { as('red_admin', q{SELECT count(*) FROM failsafe.deliveries WHERE subscription = 'start_time'}) == 3 });
receiver_rules($receiver);
hears('start_time', '4 4 5 5 6 6 7 8 9', 'and is sent once');

# ---- the same again, another one
is(subscribe_as('red_admin', 'start_now', types => ['start.*']), 'default', 'the same definition again is no error');
is(subscribe_as('red_admin', 'start_now', types => ['other.*']), 'SF071', 'another one is');

# ---- drop
receiver_rules($receiver, { if => { path => '/world', n => 5 }, kind => '500' });
emit_as('red_app', 'region.test', 5);
wait_until('a delivery waits', sub { as('red_admin', q{SELECT count(*) FROM failsafe.deliveries WHERE subscription = 'world'}) == 1 });
is(as('red_admin', q{SELECT failsafe.subscription_drop('world', reason => 'not needed')}), 'SF073', 'one with deliveries is not dropped');
is(as('red_admin', q{SELECT name || deliveries FROM failsafe.subscription_drop('world', true, 'not needed')}), 'world1', 'unless by force');
is(as('red_admin', q{SELECT count(*) FROM failsafe.deliveries WHERE event_type LIKE 'region.%'}), 0, 'its deliveries are gone');
is(as('red_admin', q{SELECT action || ' ' || reason FROM failsafe.subscription_changes WHERE subscription = 'world' ORDER BY changed_at DESC LIMIT 1}),
	'dropped not needed', 'who and why is kept');
my $before = arrivals($receiver, 'world');
emit_as('red_app', 'region.test', 6, region => 'eu');
hears('europe', '1 4 6', 'others go on');
cmp_ok(arrivals($receiver, 'world') - $before, '<=', 1, 'it hears nothing more');
is((grep { ($_->{event}{n} // 0) == 6 } arrived($receiver, 'world')) + 0, 0, 'not what came later');
receiver_rules($receiver);
subscribe_as('red_admin', 'world', types => ['region.*']);
emit_as('red_app', 'region.test', 7);
wait_until('one of its name begins anew', sub { heard('world') =~ /\A1 2 3 4 7\z/ });

# ---- dropped while an answer comes in
subscribe_as('red_admin', 'dropped', types => ['dropped.*']);
receiver_rules($receiver, { if => { path => '/dropped' }, kind => '500', delay => 2 });
emit_as('red_app', 'dropped.test', 1);
wait_arrivals($receiver, 'dropped', 1);
$session = $node->background_psql('postgres', on_error_stop => 1);
$session->query_safe(q{SET failsafe.tenant = 'default'; BEGIN; SELECT failsafe.subscription_drop('dropped', true, 'not needed')});
wait_until('the answer is written down', sub { as('red_admin', q{SELECT count(*) FROM failsafe.attempts WHERE subscription = 'dropped'}) > 0 });
$session->query_safe('COMMIT');
$session->quit;
receiver_rules($receiver);
emit_as('red_app', 'region.test', 8, region => 'eu');
hears('europe', '1 4 6 8', 'others go on');
answer($node, q{SELECT failsafe.delivery_prune()});
is(answer($node, q{SELECT count(*) FROM failsafe.delivery AS d WHERE NOT EXISTS (SELECT FROM failsafe.subscription AS s WHERE s.id = d.subscription_id)}),
	0, 'upkeep takes the row that was left');

# ---- altered while it delivers
emit_as('red_app', 'shop.sold', $_) for 10 .. 19;
as('red_admin', q{SELECT failsafe.subscription_alter('mine', event_types => '{shop.*}', reason => 'shop only')});
emit_as('red_app', 'other.sold', 20);
emit_as('red_app', 'shop.sold', 21);
wait_until('altered it loses nothing', sub { my %n = map { $_->{event}{n} => 1 } arrived($receiver, 'red'); !grep { !$n{$_} } 10 .. 19, 21 });
is((grep { $_->{event_type} eq 'other.sold' } arrived($receiver, 'red')) + 0, 0, 'and hears what it says now');

is(answer($node, q{SELECT errors FROM failsafe.stat_workers WHERE database = 'postgres'}), 0, 'the worker had no error')
  or diag(answer($node, q{SELECT last_error FROM failsafe.stat_workers}));
$node->stop;
done_testing();
