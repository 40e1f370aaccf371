# What a worker has decided it forgets: its memory does not grow with the events that it
# delivers, nor with those that fail.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Failsafe;
use Workers;

use constant EVENTS => 4000;
use constant GROWTH_BYTES_MAX => 1_000_000;

my $node = failsafe_node('main');
my $undecided = q{SELECT lag_events + in_flight + queued = 0
	FROM failsafe.stat_subscriptions WHERE subscription = 'memory'};

# All that the worker's memory contexts hold, as it says itself.
sub memory_bytes
{
	my $pid = worker_pid($node, 'postgres');
	my $from = log_size($node);
	my $bytes;

	answer($node, "SELECT pg_log_backend_memory_contexts($pid)");
	wait_until('the worker tells its memory', sub {
		($bytes) = slurp_file($node->logfile, $from) =~ /\[$pid\].*Grand total: (\d+) bytes/; });
	return $bytes;
}

sub deliver
{
	my ($name) = @_;

	answer($node, q{SELECT count(failsafe.outbox_emit('test.event.made', 'key_' || n % 100, '{"a":1}'))
		FROM generate_series(1, } . EVENTS . q{) AS n});
	wait_for($node, $undecided, $name);
	return;
}

$node->append_conf('postgresql.conf', "failsafe.relay_path = '" . relay_install($node) . "'\n");
$node->reload;
answer($node, q{SELECT failsafe.subscription_create('memory', 'http', '{"url":"http://127.0.0.1:9/"}',
	'{test.*}', options => '{"retry":{"attempts":1},"breaker":{"failures":0}}')});

deliver('the first events arrive');
my $before = memory_bytes();
deliver('more arrive');
cmp_ok(memory_bytes() - $before, '<', GROWTH_BYTES_MAX, 'events that arrived are forgotten');

relay_mode($node, 'refuse');
kill 'KILL', worker_row($node, 'postgres', 'relay_pid');
deliver('the first events fail');
$before = memory_bytes();
deliver('more fail');
cmp_ok(memory_bytes() - $before, '<', GROWTH_BYTES_MAX, 'so are those that failed');
is(answer($node, q{SELECT count(*) FROM failsafe.dlq WHERE subscription = 'memory'}), 2 * EVENTS,
	'each of them is a dead letter');
$node->stop;

done_testing();
