# A worker that may not deliver waits and says why; an error in its work is logged, undone
# and survived.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Failsafe;
use Workers;

my $node = worker_node('main', conf => "log_min_messages = log\n");

sub state_is
{
	my ($state, $name) = @_;

	return wait_until($name, sub { worker_row($node, 'postgres', 'state') eq $state });
}

# --- an error of the upkeep: somebody keeps a table for himself
my $session = $node->background_psql('postgres');
$session->query_safe('BEGIN; LOCK TABLE failsafe.hold IN ACCESS EXCLUSIVE MODE');
my $start = log_size($node);
wait_until('a lock that is not to be had is an error after a second',
	sub { worker_row($node, 'postgres', 'errors > 0') eq 't' });
ok(log_has($node, qr/LOG:  pg_failsafe worker: canceling statement due to lock timeout/, $start),
	'it is in the log with the prefix of workers');
is(worker_row($node, 'postgres', "state || ' ' || last_error"), 'running canceling statement due to lock timeout',
	'and in stat_workers');
is(answer($node, q{SELECT status FROM failsafe._doctor_delivery_worker() WHERE check_name = 'worker_errors'}),
	'warning', 'and in doctor()');
wait_until('the other tasks were done', sub { worker_row($node, 'postgres', 'maintained_at IS NOT NULL') eq 't' });
is(worker_row($node, 'postgres', 'starts'), 1, 'the worker has survived it');
$session->query_safe('ROLLBACK');
$session->quit;

# --- library and extension differ
answer($node, q{UPDATE pg_extension SET extversion = '0.0.1' WHERE extname = 'pg_failsafe';
	CREATE FUNCTION public.noticed() RETURNS int LANGUAGE sql AS 'SELECT 1'});
state_is('version_skew', 'another version of the extension: it waits');
is(worker_row($node, 'postgres', 'relay_pid IS NULL'), 't', 'without a relay');
is(answer($node, q{SELECT status FROM failsafe._doctor_delivery_worker() WHERE check_name = 'worker'}),
	'error', 'doctor() finds it wrong');
answer($node, q{UPDATE pg_extension SET extversion = failsafe._library_version() WHERE extname = 'pg_failsafe';
	DROP FUNCTION public.noticed()});
wait_for_worker($node, 'postgres', 'the right version again: it works');

# --- a database that was not told to deliver
answer($node, 'CREATE DATABASE fresh');
$node->safe_psql('fresh', 'CREATE EXTENSION pg_failsafe');
wait_until('a database without a subscription is not delivered from',
	sub { worker_row($node, 'fresh', "state = 'not_adopted' AND relay_pid IS NULL") eq 't' });
is($node->safe_psql('fresh', q{SELECT status FROM failsafe._doctor_delivery_worker() WHERE check_name = 'worker'}),
	'info', 'which is nothing wrong');
subscribe($node, 'fresh');
wait_for_worker($node, 'fresh', 'with its first subscription it is');

# --- a restored database keeps silent
answer($node, 'CREATE DATABASE copy TEMPLATE fresh');
wait_until('a copy is another database: it sends nothing',
	sub { worker_row($node, 'copy', "state = 'not_adopted' AND relay_pid IS NULL") eq 't' });

# --- settings
fails_with($node, '42704', 'ALTER SYSTEM SET failsafe.relay_paths = 1', 'no such setting');
fails_with($node, '22023', "ALTER SYSTEM SET failsafe.relay_path = 'relay'", 'a relative path is refused');
fails_with($node, '55P02', 'SET failsafe.delivery = off', 'delivery is not a session\'s to switch');
$node->stop;

done_testing();
