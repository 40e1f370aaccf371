# failsafe.waits tells who waits for what, who holds it and what to do; and shows
# nobody more than is theirs.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Failsafe;

my $node = failsafe_node('waits', conf => q{
max_prepared_transactions = 2
deadlock_timeout = '10min'
failsafe.key_wait = '5min'
failsafe.lock_wait = '5min'
});
answer($node, q{
	SELECT failsafe.account_open(code, 'EUR'), failsafe.wallet_credit(code, 1000, 'EUR', 'fund_' || code)
	FROM unnest('{hot,cold}'::text[]) AS code;
	CREATE TABLE orders (a int);
	INSERT INTO orders VALUES (1)});

my %pid;

# A session with a name; what it runs next may wait.
sub open_session
{
	my ($name) = @_;
	local $ENV{PGAPPNAME} = $name;
	my $session = $node->background_psql('postgres', on_error_stop => 0);

	$pid{$name} = $session->query_safe('SELECT pg_backend_pid()');
	return $session;
}

# Let a session run a statement that has to wait.
sub start_waiting
{
	my ($session, $name, $statement) = @_;

	$session->query_until(qr/started/, "\\echo started\n$statement;\n");
	$node->poll_query_until('postgres', "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid{$name}")
	  or BAIL_OUT("$name does not wait: $statement");
	return;
}

sub waits
{
	my ($columns, $as) = @_;

	return answer($node, ($as // '') . "SELECT $columns FROM failsafe.waits ORDER BY waiter_application");
}

sub debit { my ($account, $key) = @_; return "SELECT failsafe.wallet_debit('$account', 1, 'EUR', '$key')"; }

my ($first, $second, $third) = map { open_session($_) } qw(first second third);
my $transaction = answer($node, q{SELECT transaction_id FROM failsafe.transactions WHERE idempotency_key = 'fund_hot'});

is(waits('*'), '', 'nobody waits');

# --- each kind: what the first session does, what the second then waits for
for my $case (
	[ 'account', 'hot', debit('hot', 'a1'), debit('hot', 'a2') ],
	[ 'key', 'same', debit('hot', 'same'), debit('cold', 'same') ],
	[ 'application_key', 'job', q{SELECT failsafe.idempotency_claim('job', NULL)}, q{SELECT failsafe.idempotency_claim('job', NULL)} ],
	[ 'account_code', 'new', q{SELECT failsafe.account_open('new', 'EUR')}, q{SELECT failsafe.account_open('new', 'EUR')} ],
	[ 'transaction', $transaction, q{SELECT failsafe.wallet_reverse('key:fund_hot', 'r1', 1)},
		q{SELECT failsafe.wallet_reverse('key:fund_hot', 'r2', 1)} ],
	[ 'order_key', '', q{SELECT failsafe.outbox_emit('app.x', 'k', '{}', '{}', '{"ordered": true}')},
		q{SELECT failsafe.outbox_emit('app.x', 'k', '{}', '{}', '{"ordered": true}')} ],
	[ 'table', 'balance', 'LOCK TABLE failsafe.balance IN ACCESS EXCLUSIVE MODE', debit('hot', 't1') ])
{
	my ($kind, $object, $holds, $waits) = @$case;

	$first->query_safe("BEGIN; $holds");
	start_waiting($second, 'second', $waits);
	is(waits('kind, object, tenant, waiter_pid, waiter_application, holder_pids, holder_pid, holder_application, holder_state'),
		join('|', $kind, $object, ($kind =~ /order_key|table/ ? '' : 'default'), $pid{second}, 'second', "{$pid{first}}",
			$pid{first}, 'first', 'idle in transaction'), "$kind: what waits for what");
	is(waits(q{waiter_query, rtrim(split_part(holder_query, ';', 1), E'\n'), waiting BETWEEN '0' AND '10s',
		holder_transaction_age > waiting, hint ~ ('^Session ' || holder_pid || ' left .* pg_terminate_backend')}),
		"$waits;|$holds|t|t|t", "$kind: since when, and what to do");
	$first->query_safe('ROLLBACK');
	$second->query_safe('SELECT 1');
	is(waits('*'), '', "$kind: over");
	answer($node, q{SELECT failsafe.idempotency_release('job', 'again')}) if $kind eq 'application_key';
}

# --- a queue: everybody learns who is at its head, also when the balance changed meanwhile
$first->query_safe('BEGIN; ' . debit('hot', 'q1'));
start_waiting($second, 'second', 'BEGIN; ' . debit('hot', 'q2'));
start_waiting($third, 'third', debit('hot', 'q3'));
is(waits('waiter_application, kind, object, holder_application'), "second|account|hot|first\nthird|account|hot|first",
	'the head of the queue is named');
$first->query_safe('COMMIT');
$second->query_safe('SELECT 1');
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM failsafe.waits WHERE holder_application = 'second'});
like(waits('waiter_application, kind, object, holder_application'), qr/^third\|account\|(hot)?\|second$/,
	'the next one holds it');
$second->query_safe('COMMIT');
$third->query_safe('SELECT 1');

# --- a session at work, a prepared transaction
my $busy = open_session('busy');
$busy->query_until(qr/started/, "\\echo started\nBEGIN; " . debit('hot', 'w1') . "; SELECT pg_sleep(300);\n");
$node->poll_query_until('postgres', "SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = $pid{busy}");
start_waiting($second, 'second', debit('hot', 'w2'));
like(waits('hint'), qr/^Session $pid{busy} is at work: .*pg_cancel_backend\($pid{busy}\)/, 'a session at work');
answer($node, "SELECT pg_cancel_backend($pid{busy})");
$busy->quit;
$second->query_safe('SELECT 1');

$first->query_safe(q{SET failsafe.allow_prepare = on; BEGIN; } . debit('hot', 'p1') . q{; PREPARE TRANSACTION 'p'});
start_waiting($second, 'second', debit('hot', 'p2'));
like(waits('object, holder_pid, hint'), qr/^hot\|0\|A prepared transaction holds it: .*pg_prepared_xacts/,
	'a prepared transaction');
$first->query_safe(q{ROLLBACK PREPARED 'p'});
$second->query_safe('SELECT 1');

# --- what is not ours is not shown; what may be, is called other
$first->query_safe('BEGIN; UPDATE orders SET a = 2');
start_waiting($second, 'second', 'UPDATE orders SET a = 3');
is(waits('*'), '', "an application's own row is none of our business");
$first->query_safe('ROLLBACK');
$second->query_safe('SELECT 1');

# --- who sees what
answer($node, q{
	SELECT failsafe.tenant_add('north');
	CREATE ROLE reader_north IN ROLE failsafe_reader;
	CREATE ROLE reader_default IN ROLE failsafe_reader;
	CREATE ROLE operator IN ROLE failsafe_operator;
	CREATE ROLE app IN ROLE failsafe_app});
$_->query_safe(q{SET failsafe.tenant = 'default'}) for $first, $second;
$first->query_safe('BEGIN; ' . debit('hot', 's1'));
start_waiting($second, 'second', debit('hot', 's2'));
is(waits('object, waiter_query IS NULL', 'SET ROLE operator; '), 'hot|f', 'an operator sees all');
is(waits('object, waiter_query IS NULL, holder_query IS NULL, hint IS NULL',
	q{SET failsafe.tenant = 'default'; SET ROLE reader_default; }), 'hot|t|t|f',
	'a reader sees waits of the own tenant, and no texts of queries');
is(waits('*', q{SET failsafe.tenant = 'north'; SET ROLE reader_north; }), '', 'and no others');
fails_with($node, '42501', 'SET ROLE app; SELECT * FROM failsafe.waits');
fails_with($node, '42501', q{SET ROLE reader_north; SELECT failsafe._column_at('failsafe.account', 0, 1, 'code')});
$first->query_safe('ROLLBACK');
$second->query_safe('SELECT 1');

# --- the look at a place
is(answer($node, q{SELECT failsafe._column_at('failsafe.account', 0, 1, 'code')}), 'hot', 'the row at a place');
is(answer($node, q{SELECT failsafe._column_at(r, p, t, c) IS NULL FROM (VALUES
	('failsafe.account', 99999, 1, 'code'), ('failsafe.account', -1, 1, 'code'), ('failsafe.account', 0, 250, 'code'),
	('failsafe.account', 0, 0, 'code'), ('failsafe.account', 0, 70000, 'code'),
	('failsafe.journal', 0, 1, 'code')) AS v (r, p, t, c)}), join("\n", ('t') x 6), 'places without one');
fails_with($node, '42703', $_)
  for q{SELECT failsafe._column_at('pg_authid', 0, 1, 'rolname')},
  q{SELECT failsafe._column_at('failsafe.accounts', 0, 1, 'code')},
  q{SELECT failsafe._column_at('failsafe.account', 0, 1, 'xmin')},
  q{SELECT failsafe._column_at('failsafe.account', 0, 1, 'nothing')};

$_->quit for $first, $second, $third;
$node->stop;
done_testing();
