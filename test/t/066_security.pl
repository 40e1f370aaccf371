# Secrets are references: signed with, rotated, missing for a while, and shown nowhere.
# Addresses that may not be reached are not reached.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Delivery;
use Failsafe;

my $node = delivery_node('main', conf => "log_statement = none\n");
my $base = $node->basedir;
my %fast = (retry => { base_ms => 20, cap_ms => 200, attempts => 1000 }, breaker => { failures => 0 });
my %secret = (
	old => 'whsec_c2VjcmV0LXRoYXQtbm9ib2R5LW1heS1zZWUtMDEyMzQ1Njc4OQ==',
	new => 'whsec_c2VjcmV0LXRoYXQtYWxzby1ub2JvZHktbWF5LXNlZS05ODc2NTQ=',
	token => 'Bearer token-that-nobody-may-see-4711',
	query => 'query-that-nobody-may-see-0815');

sub put_file
{
	my ($name, $text) = @_;

	unlink "$base/$name.new";
	append_to_file("$base/$name.new", "$text\n");
	rename "$base/$name.new", "$base/$name" or die "rename: $!";
	return;
}

sub attempts
{
	my ($name) = @_;

	return answer($node, qq{SELECT concat_ws(' ', class, code, reason) FROM failsafe.attempts
		WHERE subscription = '$name' ORDER BY id DESC LIMIT 1});
}

sub signatures
{
	return map { $_->{headers}{'webhook-signature'} // '' } arrivals(@_);
}

put_file($_, $secret{$_}) for 'old', 'new', 'token';
my @show = map { ('--show', $_) } qw(webhook-signature webhook-id webhook-timestamp authorization idempotency-key
  x-trace-id traceparent ce-source ce-specversion content-type user-agent x-extra);
my $old = receiver_start($node, 'old_key', '--secret', "$base/old", @show);
my $new = receiver_start($node, 'new_key', '--secret', "$base/new", @show);
my $open = receiver_start($node, 'open', @show);

# ---- signed with a secret in a file
subscribe($node, $old, 'signed', %fast, config => { secret => "file:$base/old" });
my $id = emit($node, 'signed', 'a', 1, trace_id => 'trace_66', traceparent => '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01');
wait_until('the receiver takes what is signed', sub { numbers($old, 'signed') eq '1' });
my ($request) = arrivals($old, 'signed');
like($request->{headers}{'webhook-signature'}, qr/\Av1,[A-Za-z0-9+\/]{43}=\z/, 'by one signature');
is($request->{headers}{'webhook-id'}, $id, 'webhook-id is the event');
cmp_ok(abs($request->{headers}{'webhook-timestamp'} - $request->{at}), '<', 5, 'webhook-timestamp is now');
is($request->{headers}{'idempotency-key'}, $id, 'Idempotency-Key is the event');
is($request->{headers}{'x-trace-id'}, 'trace_66', 'X-Trace-Id is that of the event');
like($request->{headers}{traceparent}, qr/\A00-4bf92f3577b34da6a3ce929d0e0e4736-(?!00f067aa0ba902b7)[0-9a-f]{16}-01\z/, 'traceparent goes on');
like($request->{headers}{'ce-source'}, qr{\A/pg_failsafe/\d+/\d+\z}, 'ce-source is this database');
ok(!exists $request->{signature}, 'and the signature is right');

# ---- another key is refused by the receiver, and the subscription can be repaired
subscribe($node, $new, 'wrong', %fast, config => { secret => "file:$base/old" });
answer($node, q{SELECT failsafe.failure_rule_set(20, 'http', 401, 401, NULL, 'temporary', 'keys are rotated')});
emit($node, 'wrong', 'a', 1);
wait_until('a wrong signature is refused', sub { (grep { ($_->{signature} // '') eq 'wrong' && $_->{status} == 401 } arrivals($new, 'wrong')) > 0 });

# ---- rotation: two secrets, then the new one alone
my $config = json(http_config($new, 'wrong', secrets => [ "file:$base/old", "file:$base/new" ]));
answer($node, qq{SELECT failsafe.subscription_alter('wrong', config => '$config', reason => 'rotation')});
wait_until('with both keys the new receiver takes it', sub { numbers($new, 'wrong') eq '1' });
like((signatures($new, 'wrong'))[-1], qr/\Av1,\S+ v1,\S+\z/, 'by two signatures');
$config = json(http_config($old, 'signed', secrets => [ "file:$base/old", "file:$base/new" ]));
answer($node, qq{SELECT failsafe.subscription_alter('signed', config => '$config', reason => 'rotation')});
emit($node, 'signed', 'a', 2);
wait_until('the old one takes it, too', sub { numbers($old, 'signed') eq '1 2' });
$config = json(http_config($new, 'wrong', secret => "file:$base/new"));
answer($node, qq{SELECT failsafe.subscription_alter('wrong', config => '$config', reason => 'rotated')});
emit($node, 'wrong', 'a', 2);
wait_until('then the new key alone', sub { numbers($new, 'wrong') eq '1 2' });
like((signatures($new, 'wrong'))[-1], qr/\Av1,\S+\z/, 'by one signature');

# ---- a file that is replaced is read again
$config = json(http_config($new, 'replaced', secret => "file:$base/key"));
put_file('key', $secret{old});
subscribe($node, $new, 'replaced', %fast, config => { secret => "file:$base/key" });
emit($node, 'replaced', 'a', 1);
wait_until('the old key does not fit', sub { (grep { ($_->{signature} // '') eq 'wrong' } arrivals($new, 'replaced')) > 0 });
put_file('key', $secret{new});
wait_until('the new one in its place does', sub { numbers($new, 'replaced') eq '1' });
answer($node, q{SELECT failsafe.failure_rule_remove(20)});

# ---- a missing file: nothing is sent, nothing is lost
my $log = log_size($node);
subscribe($node, $old, 'missing', %fast, config => { secret => "file:$base/later" });
emit($node, 'missing', 'a', $_) for 1 .. 3;
wait_until('a missing secret is a failure of the configuration', sub {
	attempts('missing') =~ m{\Atemporary config The file \Q$base\E/later that "secret" names cannot be read: No such file or directory\.\z} });
ok(log_has($node, qr/WARNING: .*pg_failsafe: subscription "missing" cannot be delivered to: The file/, $log), 'the log says so');
is((() = arrivals($old, 'missing')), 0, 'nothing is sent without a signature');
is(answer($node, q{SELECT count(*) FROM failsafe.deliveries WHERE subscription = 'missing'}), 3, 'nothing is lost');
put_file('later', $secret{old});
wait_until('when the file is there all arrive', sub { numbers($old, 'missing') eq '1 2 3' });

# ---- a header with a secret, and a query
subscribe($node, $open, 'headers', %fast, config => {
	url => "http://127.0.0.1:$open->{port}/headers?key=$secret{query}",
	headers => { Authorization => "file:$base/token", 'X-Extra' => 'plain' } });
emit($node, 'headers', 'a', 1);
wait_arrivals($open, "headers?key=$secret{query}", 1);
($request) = arrivals($open, "headers?key=$secret{query}");
is($request->{headers}{authorization}, $secret{token}, 'a header whose value is in a file is sent');
is($request->{headers}{'x-extra'}, 'plain', 'and a plain one');
ok(!exists $request->{headers}{'webhook-signature'}, 'without a secret nothing is signed');
receiver_rules($open, { if => { path => "/headers?key=$secret{query}" }, kind => '500', times => 2 });
emit($node, 'headers', 'a', 2);
wait_delivered($node, 'headers');

# ---- redirects are not followed
receiver_rules($open, { if => { path => '/moved', n => 1 }, kind => '302', location => 'http://169.254.169.254/latest/meta-data/' },
	{ if => { path => '/moved', n => 2 }, kind => '307', location => "http://127.0.0.1:$open->{port}/elsewhere" });
subscribe($node, $open, 'moved', %fast);
emit($node, 'moved', 'a', $_) for 1 .. 3;
wait_until('what comes after them arrives', sub { numbers($open, 'moved') eq '3' });
is(answer($node, q{SELECT string_agg(concat_ws(' ', q.class, q.attempts, a.status, a.code, regexp_replace(a.reason, '^\S+ ', '')), '; ' ORDER BY q.seq)
	FROM failsafe.dlq AS q JOIN failsafe.attempts AS a USING (event_id) WHERE q.subscription = 'moved'}),
	'permanent 1 302 status answered 302; redirects are not followed.; permanent 1 307 status answered 307; redirects are not followed.',
	'redirects end as dead letters');
is((() = arrivals($open, 'elsewhere')), 0, 'there was no second request');
is((() = arrivals($open, 'moved')), 3, 'one for each event');

# ---- addresses that may not be reached
my $number = 0;
for my $url ("http://localhost:$open->{port}/blocked", "http://127.0.0.1:$open->{port}/blocked", "http://[::ffff:127.0.0.1]:$open->{port}/blocked",
	"http://2130706433:$open->{port}/blocked", 'http://169.254.169.254/latest/meta-data/')
{
	$number++;
	subscribe($node, $open, "blocked$number", %fast, config => { url => $url, allow_addresses => ['192.0.2.0/24'] });
	emit($node, "blocked$number", 'a', 1);
	wait_until("$url is not reached", sub {
		attempts("blocked$number") =~ /\Apermanent blocked_address \S+ is \S+ \((?:loopback|link-local)\), which may not be reached; / });
}
is(answer($node, q{SELECT DISTINCT class FROM failsafe.dlq WHERE subscription LIKE 'blocked%'}), 'permanent', 'each is a dead letter');
is((() = arrivals($open, 'blocked')), 0, 'the receiver never saw a request');
my $allowed = json(http_config($open, 'blocked1', allow_addresses => ['127.0.0.0/8']));
answer($node, qq{SELECT failsafe.subscription_alter('blocked1', config => '$allowed', reason => 'it is ours')});
answer($node, q{SELECT failsafe.dlq_replay(subscription => 'blocked1', reason => 'allowed now')});
wait_until('allowed and replayed it arrives', sub { numbers($open, 'blocked1') eq '1' });

# ---- a secret in the place of a reference is refused, and not repeated
my ($state, undef, $error) = try_sql($node, qq{SET log_min_error_statement = panic;
	SELECT failsafe.subscription_create('literal', 'http', '{"url": "http://127.0.0.1/", "secret": "$secret{old}"}')});
is($state, 'SF072', 'a secret itself is refused');
unlike($error, qr/c2VjcmV0/, 'and is not in the error');

# ---- no secret is anywhere
my @processes = map { /\A(\d+)\z/ ? $1 : () } (worker_row($node, 'postgres', 'pid'), worker_row($node, 'postgres', 'relay_pid'));
is(scalar @processes, 2, 'worker and relay run');
answer($node, q{
	CREATE FUNCTION views_with(secret text) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		name text;
		found text[] := '{}';
		has bool;
	BEGIN
		FOR name IN SELECT c.relname FROM pg_class AS c WHERE c.relnamespace = 'failsafe'::regnamespace AND c.relkind IN ('v', 'r', 'p')
		LOOP
			EXECUTE format('SELECT count(*) > 0 FROM failsafe.%I AS v WHERE strpos(v::text, %L) > 0', name, secret) INTO has;
			found := found || CASE WHEN has THEN name END;
		END LOOP;
		RETURN array_to_string(found, ' ');
	END $$});
for my $name (sort keys %secret)
{
	my $text = $secret{$name} =~ s/\A(?:whsec_|Bearer )//r;
	my $lines = join "\n", grep { index($_, $text) >= 0 } split /\n/, slurp_file($node->logfile);

	is($lines, '', "secret $name: not in the log");
	for my $pid (@processes)
	{
		for my $file ('cmdline', 'environ')
		{
			is(index(slurp_file("/proc/$pid/$file"), $text), -1, "not in /proc/$pid/$file");
		}
	}
	# the table has the URL to send to, the view does not show its query
	is(answer($node, "SELECT views_with(convert_from(decode('" . unpack('H*', $text) . "', 'hex'), 'UTF8'))"),
		$name eq 'query' ? 'subscription' : '', 'not in a view or table');
	is(answer($node, qq{SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND (query || application_name) LIKE '%$text%'}),
		0, 'not in pg_stat_activity');
}
is(answer($node, q{SELECT config->>'url' FROM failsafe.subscriptions WHERE name = 'headers'}), "http://127.0.0.1:$open->{port}/headers?***",
	'the view shows a URL without its query');
is(answer($node, q{SELECT config->'headers' FROM failsafe.subscriptions WHERE name = 'headers'}), '{"X-Extra": "***", "Authorization": "***"}',
	'and the names of headers');

is(answer($node, q{SELECT errors FROM failsafe.stat_workers WHERE database = 'postgres'}), 0, 'the worker had no error');
$node->stop;
done_testing();
