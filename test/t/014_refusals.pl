# What a refusal leaves behind: the client gets everything, the server's log one entry
# with masked keys and no statement, and stat_commands counts it although the
# transaction rolled back.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Failsafe;

my $node = failsafe_node('refusals', conf => q{
fsync = off
log_statement = none
log_min_duration_statement = -1
log_error_verbosity = default
});
answer($node, q{
	SELECT failsafe.account_open('acc', 'EUR');
	SELECT failsafe.wallet_credit('acc', 100, 'EUR', 'secret-key-0001');
	SELECT failsafe.stat_commands_reset()});

# What the log got since the position.
sub logged_by
{
	my ($code) = @_;
	my $position = -s $node->logfile;

	$code->();
	return substr slurp_file($node->logfile), $position;
}

# --- a raised refusal
my $error;
my $mismatch = q{SELECT failsafe.wallet_credit('acc', 101, 'EUR', 'secret-key-0001')};
my $log = logged_by(sub { $error = fails_with($node, 'SF001', $mismatch) });
like($error, qr/secret-key-0001/, 'the client gets the key');
like($error, qr/DETAIL:\s+\{"code":"IDEMPOTENCY_MISMATCH"/, 'in a JSON object');
unlike($log, qr/secret-key-0001/, 'the log does not');
like($log, qr/secr\.\.\.\(15 bytes\)/, 'but shows that there was one');
unlike($log, qr/STATEMENT|wallet_credit/, 'nor the statement');
is(() = $log =~ /ERROR:/g, 1, 'one entry');

$log = logged_by(sub {
	fails_with($node, 'SF001', qq{DO \$\$ BEGIN PERFORM failsafe.wallet_credit('acc', 101, 'EUR', 'secret-key-0001'); END \$\$}) });
unlike($log, qr/secret-key-0001/, 'nor the context of a function around it');

# --- an answered one
my $json = q{SELECT failsafe.wallet_command('{"command":"debit","account":"acc","amount":5000,"currency":"EUR","idempotency_key":"secret-key-0002"}')};
$log = logged_by(sub { like(answer($node, $json), qr/declined/, 'a decline answered as a value') });
unlike($log, qr/secret-key-0002/, 'its key is not in the log either');

# --- switched off
$log = logged_by(sub { fails_with($node, 'SF001', "SET failsafe.log_refusals = off; $mismatch") });
unlike($log, qr/IDEMPOTENCY_MISMATCH/, 'log_refusals = off keeps it out of the log');
$log = logged_by(sub { fails_with($node, '22012', 'SET failsafe.log_refusals = off; SELECT 1/0') });
like($log, qr/division by zero/, 'and nothing else');

# --- the catalogue
is(answer($node, q{
	SELECT count(*), count(DISTINCT code), count(DISTINCT name), bool_and(meaning <> '' AND what_to_do <> ''),
		min(check_order), max(check_order) = count(check_order)
	FROM failsafe.error_codes}) =~ /^(\d+)\|\1\|\1\|t\|1\|t$/ ? 'ok' : 'not ok', 'ok',
	'codes and names are unique, each says what it means and what to do');
is(answer($node, q{SELECT class || ' ' || retryable || ' ' || http_status FROM failsafe.error_codes WHERE name = 'INSUFFICIENT_FUNDS'}),
	'declined false 402', 'a row of the catalogue');

# --- counters
answer($node, 'SELECT failsafe.stat_commands_reset()');
is(answer($node, 'SELECT count(*) FROM failsafe.stat_commands'), 0, 'reset');
answer($node, q{SELECT failsafe.wallet_credit('acc', 1, 'EUR', 'n' || i) FROM generate_series(1, 10) AS i});
answer($node, q{SELECT failsafe.wallet_credit('acc', 1, 'EUR', 'n' || i) FROM generate_series(1, 5) AS i});
try_sql($node, $mismatch);
try_sql($node, q{SELECT failsafe.wallet_debit('acc', 5000, 'EUR', 'd1')});
try_sql($node, q{BEGIN; SELECT failsafe.wallet_debit('acc', 1, 'EUR', 'd2'); ROLLBACK});
try_sql($node, q{SELECT failsafe.wallet_debit('acc', -1, 'EUR', 'd3')});
is(answer($node, q{SELECT command, outcome, code, count FROM failsafe.stat_commands ORDER BY 1, 2, 3}),
	join("\n",
		'credit|accepted||10', 'credit|mismatched|IDEMPOTENCY_MISMATCH|1', 'credit|replayed||5',
		'debit|accepted||1', 'debit|declined|INSUFFICIENT_FUNDS|1', 'debit|refused|AMOUNT_INVALID|1'),
	'each outcome is counted, those of rolled back transactions too');
is(answer($node, q{
	SELECT bool_and(p50_us <= p95_us AND p95_us <= p99_us AND mean_us * count / 1000 BETWEEN total_ms - 1 AND total_ms + 1
		AND count = (SELECT sum(h) FROM unnest(histogram) AS h))
	FROM failsafe.stat_commands}), 't', 'the latencies fit together');

# --- without preload the reserve of the server is enough
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$node->restart;
answer($node, q{SELECT failsafe.wallet_credit('acc', 1, 'EUR', 'n1')});
is(answer($node, q{SELECT failsafe._stat_commands_available(), command, outcome, count FROM failsafe.stat_commands}),
	't|credit|replayed|1', 'counted without preload too');

$node->stop;
done_testing();
