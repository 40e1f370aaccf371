# Reports while others write: the verification raises no false alarm, a balance that was
# called final never changes, checkpoints lose nothing; and all of it on a standby.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Failsafe;

my $SECONDS = 8;
my $ROUNDS_MIN = 3;

my $node = failsafe_node(
	'primary',
	init => { allows_streaming => 1 },
	conf => "max_prepared_transactions = 5\nfailsafe.allow_prepare = on\nfailsafe.lock_wait = 60s\n");

answer($node, q{
	SELECT count(failsafe.account_open('w' || i, 'EUR')) FROM generate_series(1, 20) AS i;
	SELECT failsafe.account_open('fees', 'EUR', 'system');
	SELECT count(*) FROM generate_series(1, 20) AS i,
		LATERAL failsafe.wallet_credit('w' || i, 1000000, 'EUR', 'start' || i);
});
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;

# One of everything, some of it rolled back, some in transactions of several commands.
my $load = $node->basedir . '/load.sql';
append_to_file($load, <<'SQL');
\set a random(1, 20)
\set b (:a % 20) + 1
\set amount random(1, 500)
\set id random(1, 1000000000000)
SELECT status FROM failsafe.wallet_transfer('w' || :a, 'w' || :b, :amount, 'EUR', 'x' || :id);
SELECT status FROM failsafe.wallet_debit('w' || :a, :amount, 'EUR', 'd' || :id, counterparty => 'fees', on_decline => 'record');
BEGIN;
SELECT status FROM failsafe.wallet_hold('w' || :a, 400, 'EUR', 'h' || :id);
SELECT status FROM failsafe.wallet_commit('key:h' || :id, 'c' || :id, 300, false, counterparty => 'fees');
SELECT status FROM failsafe.wallet_rollback('key:h' || :id, 'r' || :id);
COMMIT;
SELECT status FROM failsafe.wallet_reverse('key:x' || :id, 'back' || :id, 1, on_decline => 'record');
SELECT status FROM failsafe.ledger_post(ARRAY[('w' || :a, -3, 'EUR'), ('w' || :b, 2, 'EUR'), ('fees', 1, 'EUR')]::failsafe.leg[], 'p' || :id);
BEGIN;
SELECT status FROM failsafe.wallet_credit('w' || :b, 7, 'EUR', 'gone' || :id);
ROLLBACK;
SELECT status FROM failsafe.wallet_credit('w' || :b, :amount, 'EUR', 'late' || :id, options => jsonb_build_object('effective_at', now() - interval '1 hour'));
SQL

my $bench_log = $node->basedir . '/pgbench.log';
my $pgbench = IPC::Run::start(
	[ 'pgbench', '-n', '-c', '6', '-j', '2', '-T', $SECONDS, '-f', $load,
	  $node->connstr('postgres') ],
	'>', $bench_log, '2>', "$bench_log.err");

# Ask the same questions until the load ends.
my ($rounds, $faults, $final_count) = (0, '', 0);
answer($node, q{
	CREATE TABLE called_final (code text, at timestamptz, posted numeric, version int8);
});
while ($rounds < $ROUNDS_MIN
	|| answer($node, q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgbench'}) > 0)
{
	$faults .= answer($node, 'SET client_min_messages = warning; SELECT * FROM failsafe.ledger_verify()');
	$faults .= answer($node, q{SET client_min_messages = warning; SELECT * FROM failsafe.ledger_verify('{"quick": true}')});
	answer($node, q{
		INSERT INTO called_final
		SELECT a.code, b.at, b.posted, b.version
		FROM (VALUES ('w1'), ('w2'), ('fees'), ('world:EUR')) AS a (code)
		CROSS JOIN LATERAL (
			SELECT t.at, r.posted, r.version
			FROM unnest('{20ms,200ms,2s}'::interval[]) AS age
			CROSS JOIN LATERAL (SELECT clock_timestamp() - age AS at) AS t
			CROSS JOIN LATERAL failsafe.account_balance_at(a.code, t.at) AS r
			WHERE r.final) AS b;
	});
	answer($node, q{SELECT * FROM failsafe.ledger_checkpoint(options => '{"min_entries": 50}')});
	$rounds++;
}
eval { $pgbench->finish };
like(slurp_file($bench_log), qr/number of transactions actually processed: [1-9]/, 'commands were running');
unlike(slurp_file("$bench_log.err"), qr/aborted/, 'to the end');
cmp_ok($rounds, '>=', $ROUNDS_MIN, "$rounds rounds of questions");
is($faults, '', 'no false alarm');

cmp_ok(answer($node, 'SELECT count(*) FROM called_final'), '>', 0, 'some balances were final');
is(answer($node, q{
	SELECT count(*) FROM called_final AS f
	CROSS JOIN LATERAL failsafe.account_balance_at(f.code, f.at) AS r
	WHERE (r.posted, r.version) IS DISTINCT FROM (f.posted, f.version)}),
	'0', 'and none of them changed');

cmp_ok(answer($node, 'SELECT count(*) FROM failsafe.checkpoint'), '>', 0, 'checkpoints were made beside the commands');
my $wrong_sums = q{
	SELECT count(*) FROM failsafe.account AS a
	WHERE a.kind = 'system' AND failsafe._system_posted(a.id) <>
		(SELECT sum(e.amount) FROM failsafe.entry AS e WHERE e.account_id = a.id)};
is(answer($node, $wrong_sums), '0', 'and lost no entry');

# A prepared transaction may still commit: nothing after its begin is final.
answer($node, q{
	BEGIN;
	SELECT * FROM failsafe.wallet_credit('w1', 1, 'EUR', 'prepared');
	PREPARE TRANSACTION 'pending';
});
my $final = q{SELECT final FROM failsafe.account_balance_at('w1', clock_timestamp() - interval '1 day')};
is(answer($node, $final), 'f', 'nothing is final beside a prepared transaction');
# the first call may still use what was noted before
my $checkpoint = q{SELECT accounts FROM failsafe.ledger_checkpoint(options => '{"min_entries": 1}')};
answer($node, $checkpoint);
is(answer($node, $checkpoint), '0', 'and no checkpoint passes it');
is(answer($node, q{SELECT state FROM failsafe.idempotency_status('prepared')}), 'in_progress', 'its key is in progress');
answer($node, q{COMMIT PREPARED 'pending'});
is(answer($node, $final), 't', 'final again when it is committed');
answer($node, $checkpoint);
is(answer($node, $wrong_sums), '0', 'and its entry is in the balance');

# A standby answers the same.
$node->wait_for_catchup($standby);
is(answer($standby, 'SET client_min_messages = warning; SELECT * FROM failsafe.ledger_verify()'), '', 'ledger_verify() on a standby');
my $statement = q{SELECT * FROM failsafe.account_statement('fees', max_rows => 10000)};
is(answer($standby, $statement), answer($node, $statement), 'account_statement() on a standby');
is(answer($standby, $final), 'f', 'a standby calls nothing final');
is(answer($standby, q{SELECT state FROM failsafe.idempotency_status('prepared')}), 'committed', 'idempotency_status() on a standby');
isnt(answer($standby, q{SELECT * FROM failsafe.trace('prepared')}), '', 'trace() on a standby');
is(answer($standby, q{SELECT string_agg(detail, '; ') FROM failsafe.doctor() WHERE status = 'error' AND check_name <> 'setting fsync'}),
	'', 'doctor() on a standby');
fails_with($standby, '25006', 'SELECT * FROM failsafe.ledger_checkpoint()', 'no checkpoint on a standby');

$standby->stop;
$node->stop;
done_testing();
