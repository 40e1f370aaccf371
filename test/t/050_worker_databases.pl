# Each database that has the extension has its worker, whenever it came; and no worker is in
# the way of a statement that needs a database empty.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Failsafe;
use Workers;

my $node = worker_node('main', conf => "max_worker_processes = 20\n");
my $start;

sub make_database
{
	my ($name, %option) = @_;

	answer($node, "CREATE DATABASE $name " . ($option{options} // ''));
	$node->safe_psql($name, 'CREATE EXTENSION pg_failsafe');
	subscribe($node, $name);
	wait_for_worker($node, $name);
	return;
}

sub run_in_time
{
	my ($sql, $name) = @_;
	my $began = time;

	succeeds($node, $sql, $name);
	note(sprintf '%s: %d s', $sql, time - $began);
	return;
}

# --- where a worker is, and where none
is(worker_row($node, 'postgres', 'starts'), 1, 'the worker of the first database runs at once');
is(answer($node, q{SELECT string_agg(application_name || '|' || coalesce(datname, ''), ' ' ORDER BY backend_type)
	FROM pg_stat_activity WHERE backend_type LIKE 'pg_failsafe%'}),
	'pg_failsafe launcher| pg_failsafe worker|postgres', 'pg_stat_activity shows both');
is(answer($node, q{SELECT string_agg(check_name || ' ' || status, ', ' ORDER BY check_name)
	FROM failsafe._doctor_delivery_worker()}),
	'relay_program ok, worker ok, worker_launcher ok, worker_processes ok', 'doctor() is content');

make_database('late');
answer($node, 'CREATE DATABASE without');
answer($node, 'CREATE DATABASE pattern IS_TEMPLATE true');
$node->safe_psql('pattern', 'CREATE EXTENSION pg_failsafe');
answer($node, 'CREATE DATABASE closed');
$node->safe_psql('closed', 'CREATE EXTENSION pg_failsafe');
subscribe($node, 'closed');
wait_for_worker($node, 'closed');
answer($node, 'ALTER DATABASE closed ALLOW_CONNECTIONS false');
wait_for_no_worker($node, 'closed', 'it leaves a database that is closed');
answer($node, 'ALTER DATABASE closed ALLOW_CONNECTIONS true');
wait_for_worker($node, 'closed', 'and comes back when it is open');
is(worker_row($node, 'without', 'true'), '', 'none where the extension is not');
is(worker_row($node, 'pattern', 'true'), '', 'none in a template');

# a copy of a database has the extension from the first moment; it is not adopted
run_in_time('CREATE DATABASE copy TEMPLATE pattern', 'a template with the extension can be copied');
wait_until('a copy has a worker', sub { worker_row($node, 'copy', 'pid > 0') eq 't' });

# after CREATE EXTENSION ... ROLLBACK there is nothing to do
answer($node, 'CREATE DATABASE undone');
$node->safe_psql('undone', 'BEGIN; CREATE EXTENSION pg_failsafe; ROLLBACK');
is(worker_row($node, 'undone', 'true'), '', 'none after a rollback');
$node->safe_psql('undone', 'BEGIN; CREATE EXTENSION pg_failsafe; COMMIT');
subscribe($node, 'undone');
wait_for_worker($node, 'undone');

# --- statements that need the database empty
my $tablespace = $node->basedir . '/space';
mkdir $tablespace;
answer($node, "CREATE TABLESPACE space LOCATION '$tablespace'");
$start = log_size($node);
my $pid = worker_pid($node, 'late');
run_in_time('ALTER DATABASE late RENAME TO renamed', 'a database is renamed');
wait_for_worker($node, 'renamed');
isnt(worker_pid($node, 'renamed'), $pid, 'by another worker than before');
run_in_time('ALTER DATABASE renamed SET TABLESPACE space', 'moved');
wait_for_worker($node, 'renamed');
run_in_time('CREATE DATABASE copied TEMPLATE renamed', 'copied');
wait_for_worker($node, 'renamed', 'the worker of the source comes back');
wait_until('and the copy has one', sub { worker_row($node, 'copied', 'pid > 0') eq 't' });
run_in_time('DROP DATABASE copied', 'dropped');
run_in_time('DROP DATABASE renamed WITH (FORCE)', 'dropped by force');
wait_until('their slots are free', sub {
	answer($node, 'SELECT count(*) FROM failsafe._stat_workers() AS w
		WHERE NOT EXISTS (SELECT FROM pg_database AS d WHERE d.oid = w.database_id)') == 0 });
ok(!log_has($node, qr/FATAL|PANIC/, $start), 'nobody had to be terminated');

# --- statements that fail: the worker comes back
make_database('kept');
my $session = $node->background_psql('kept', on_error_stop => 0);
$session->query_safe('SELECT 1');
fails_with($node, '55006', 'DROP DATABASE kept', 'a database in use is not dropped');
wait_for_worker($node, 'kept', 'its worker comes back');
$session->quit;
fails_with($node, '25001', 'BEGIN; DROP DATABASE kept', 'nor inside a transaction block');
wait_for_worker($node, 'kept', 'its worker comes back again');

# --- not everybody can send a worker away
answer($node, 'CREATE ROLE stranger LOGIN CREATEDB');
$pid = worker_pid($node, 'kept');
fails_with($node, '42501', 'DROP DATABASE kept', 'a stranger drops nothing',
	connstr => $node->connstr('postgres') . ' user=stranger');
fails_with($node, '42501', 'CREATE DATABASE stolen TEMPLATE kept', 'nor copies',
	connstr => $node->connstr('postgres') . ' user=stranger');
is(worker_pid($node, 'kept'), $pid, 'and the worker has stayed');

# --- DROP EXTENSION
$start = log_size($node);
$node->safe_psql('kept', 'BEGIN; DROP EXTENSION pg_failsafe; ROLLBACK');
wait_for_worker($node, 'kept', 'after a DROP EXTENSION that was rolled back it is there', $pid);
$node->safe_psql('kept', "SET lock_timeout = '5s'; DROP EXTENSION pg_failsafe");
wait_for_no_worker($node, 'kept', 'DROP EXTENSION does not hang, and the worker is gone');
wait_until('so is its slot', sub { worker_row($node, 'kept', 'true') eq '' });
$node->safe_psql('kept', 'CREATE EXTENSION pg_failsafe');
subscribe($node, 'kept');
wait_for_worker($node, 'kept', 'created again, it is back');
$node->safe_psql('kept', "SET lock_timeout = '5s'; DROP SCHEMA failsafe CASCADE");
wait_for_no_worker($node, 'kept', 'it sees itself that the extension is gone');
ok(!log_has($node, qr/FATAL|PANIC|pg_failsafe worker: /, $start), 'all of it without a word in the log');

# --- by hand
fails_with($node, 'SF041', q{SELECT failsafe.worker_stop('{"a": 1}')}, 'an unknown option');
is(answer($node, 'SELECT failsafe.worker_stop()'), 'stopped', 'worker_stop()');
is(answer($node, 'SELECT failsafe.worker_stop()'), 'not_running', 'twice');
is(worker_row($node, 'postgres', 'state'), 'stopped', 'and it stays so');
is(answer($node, 'SELECT failsafe.worker_start()'), 'started', 'worker_start()');
is(answer($node, 'SELECT failsafe.worker_start()'), 'running', 'twice');
wait_for_worker($node, 'postgres');

# --- switched off: it waits, and its relay is gone
$node->append_conf('postgresql.conf', "failsafe.delivery = off\n");
$node->reload;
wait_until('failsafe.delivery = off ends the relay',
	sub { worker_row($node, 'postgres', "state = 'off' AND relay_pid IS NULL") eq 't' });
$node->append_conf('postgresql.conf', "failsafe.delivery = on\n");
$node->reload;
wait_for_worker($node, 'postgres', 'on: it works again');

# --- the launcher ends: the workers stay
$pid = worker_pid($node, 'postgres');
answer($node, q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'pg_failsafe launcher'});
make_database('after');
is(worker_pid($node, 'postgres'), $pid, 'the workers have outlived their launcher');
run_in_time('DROP DATABASE after', 'and the next one knows them');

# --- a restart
$node->restart;
wait_for_worker($node, 'postgres', 'after a restart there is a worker');
wait_for_worker($node, 'undone', 'in each database');
$node->stop;

# --- no background worker to be had
$node->append_conf('postgresql.conf', "max_worker_processes = 2\n");
$start = log_size($node);
$node->start;
wait_until('a shortage is logged', sub { log_has($node, qr/no background worker is to be had/, $start) });
is(answer($node, q{SELECT status FROM failsafe._doctor_delivery_worker() WHERE check_name = 'worker_processes'}),
	'error', 'doctor() shows it');
$node->stop;

done_testing();
