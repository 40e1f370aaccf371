# What a crash, a prepared transaction and a standby make of events and application
# keys: committed ones are there, others are not, no number is used twice.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'pg_failsafe'
max_prepared_transactions = 5
});
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION pg_failsafe');

sub emit { return "SELECT failsafe.outbox_emit('t.crash', 'key', '{\"n\": $_[0]}');"; }
sub claim { return "SELECT state FROM failsafe.idempotency_claim('$_[0]', NULL);"; }
sub complete { return "SELECT failsafe.idempotency_complete('$_[0]', '1');"; }

my $numbers = q{SELECT string_agg(envelope->>'n', ' ' ORDER BY seq) FROM failsafe.events};

# One transaction is open, the others have committed, when the server is killed.
$node->safe_psql('postgres', emit(1) . claim('claimed'));
$node->safe_psql('postgres', emit(2) . claim('completed') . complete('completed'));
my $open = $node->background_psql('postgres');
$open->query_safe('BEGIN;' . emit(3) . claim('open') . complete('claimed'));
$node->safe_psql('postgres', emit(4));
my $last = $node->safe_psql('postgres', 'SELECT max(seq) FROM failsafe.events');
$node->stop('immediate');
$open->{run}->finish;
$node->start;

is($node->safe_psql('postgres', $numbers), '1 2 4', 'committed events survive, others do not');
is($node->safe_psql('postgres', claim('open')), 'new', 'an open claim leaves nothing');
is($node->safe_psql('postgres', claim('claimed')), 'unfinished',
	'a committed claim is unfinished; an open completion leaves nothing');
is($node->safe_psql('postgres', claim('completed')), 'replay', 'a completed key replays');
$node->safe_psql('postgres', emit(5));
cmp_ok($node->safe_psql('postgres', 'SELECT max(seq) FROM failsafe.events'),
	'>', $last + 0, 'no number is used again');

# A prepared transaction holds its key until somebody resolves it.
my $prepare = "SET failsafe.allow_prepare = on; BEGIN;";
$node->safe_psql('postgres',
	"$prepare " . emit(6) . claim('prepared') . complete('prepared') . "PREPARE TRANSACTION 'p1'");
$node->restart;
my ($status, $out, $error) = $node->psql('postgres',
	"\\set VERBOSITY sqlstate\nSET failsafe.key_wait = '50ms';" . claim('prepared'));
like($error, qr/55P03/, 'a claim does not wait for ever for a prepared transaction');
is($node->safe_psql('postgres', "SELECT failsafe._application_key_in_progress('app', 'prepared')"),
	't', 'which is known to be running');
$node->safe_psql('postgres', "COMMIT PREPARED 'p1'");
is($node->safe_psql('postgres', claim('prepared')), 'replay', 'after its commit the key replays');
is($node->safe_psql('postgres', $numbers), '1 2 4 5 6', 'and its event is there');

# A standby reads; it refuses to write.
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
is($standby->safe_psql('postgres', $numbers), '1 2 4 5 6', 'a standby shows the events');
is($standby->safe_psql('postgres', q{
		SELECT count(*) FROM failsafe.events AS e, failsafe.outbox_get(e.event_id)}),
	'5', 'each is found by its id');
is($standby->safe_psql('postgres', "SELECT failsafe._application_key_in_progress('app', 'open')"),
	'f', 'a standby can look at a key');
for my $call (emit(9), claim('standby'), complete('claimed'),
	"SELECT failsafe.idempotency_release('claimed', 'r')",
	'SELECT failsafe.idempotency_prune()', 'SELECT failsafe.outbox_retain()')
{
	($status, $out, $error) = $standby->psql('postgres', "\\set VERBOSITY sqlstate\n$call");
	like($error, qr/25006/, 'a standby refuses ' . ($call =~ /failsafe\.(\w+)/)[0]);
}

# After a promotion writing goes on, with numbers of its own.
$last = $standby->safe_psql('postgres', 'SELECT max(seq) FROM failsafe.events');
$node->stop('immediate');
$standby->promote;
$standby->safe_psql('postgres', emit(7));
is($standby->safe_psql('postgres', $numbers), '1 2 4 5 6 7', 'the promoted server writes events');
cmp_ok($standby->safe_psql('postgres', 'SELECT max(seq) FROM failsafe.events'),
	'>', $last + 0, 'with new numbers');
is($standby->safe_psql('postgres', claim('completed')), 'replay', 'and replays keys');

$standby->stop;
done_testing();
