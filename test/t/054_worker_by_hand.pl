# Without preload: worker_start() makes a worker that ends with the server, and that is in
# nobody's way although no hook tells it.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Failsafe;
use Workers;

my $node = worker_node('main', preload => 0, extension => 0);
answer($node, 'CREATE EXTENSION pg_failsafe');
subscribe($node);

is(answer($node, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_failsafe%'}), 0,
	'without preload nothing runs');
is(answer($node, q{SELECT status FROM failsafe._doctor_delivery_worker() WHERE check_name = 'worker_launcher'}),
	'info', 'doctor() tells');
my (undef, $out, $err) = try_sql($node, 'SELECT failsafe.worker_start()');
is($out, 'started', 'worker_start()');
like($err, qr/NOTICE: .*the worker ends with the server/, 'and says for how long');
wait_for_worker($node, 'postgres');
is(answer($node, 'SELECT failsafe.worker_start()'), 'running', 'there is never a second one');
answer($node, q{SELECT failsafe.outbox_emit('app.test', 'key', '{}')});
is(answer($node, 'SELECT failsafe.worker_stop()'), 'stopped', 'worker_stop()');
wait_for_no_worker($node, 'postgres');
is(answer($node, 'SELECT failsafe.worker_start()'), 'started', 'and again');
wait_for_worker($node, 'postgres');

# --- statements of sessions that have never loaded the library
answer($node, 'CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION pg_failsafe');
subscribe($node, 'other');
$node->safe_psql('other', 'SELECT failsafe.worker_start()');
wait_for_worker($node, 'other');
succeeds($node, 'ALTER DATABASE other RENAME TO renamed', 'a database with a worker is renamed');
wait_for_worker($node, 'renamed', 'and its worker is back');
succeeds($node, 'CREATE DATABASE copy TEMPLATE renamed', 'copied');
wait_for_worker($node, 'renamed', 'and its worker is back');
succeeds($node, 'DROP DATABASE renamed', 'dropped');
$node->safe_psql('copy', 'DROP EXTENSION pg_failsafe');
my $worker = worker_pid($node, 'postgres');
succeeds($node, "SET lock_timeout = '5s'; DROP EXTENSION pg_failsafe", 'and the extension');
wait_until('the worker has left', sub { !process_lives($worker) });

$node->restart;
answer($node, 'CREATE EXTENSION pg_failsafe');
subscribe($node);
is(answer($node, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_failsafe%'}), 0,
	'after a restart there is none');
$node->stop;

done_testing();
