# Change data capture reads the outbox through pgoutput: events of committed
# transactions come out, in commit order and under the name of the root table; those
# of aborted transactions do not; emptying a leaf is not published.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('cdc');
$node->init(allows_streaming => 'logical');
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_failsafe'");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION pg_failsafe');

# As docs/cdc.md has it; and two others to compare with.
$node->safe_psql('postgres', q{
	CREATE PUBLICATION failsafe_events FOR TABLE failsafe.outbox
		WITH (publish = 'insert', publish_via_partition_root = true)});
$node->safe_psql('postgres', q{
	CREATE PUBLICATION leaves_insert FOR TABLE failsafe.outbox WITH (publish = 'insert')});
$node->safe_psql('postgres', q{
	CREATE PUBLICATION leaves_all FOR TABLE failsafe.outbox
		WITH (publish = 'insert, update, delete, truncate')});

# One slot for pg_recvlogical, one for each look with SQL; all see the same WAL.
$node->safe_psql('postgres',
	"SELECT pg_create_logical_replication_slot('$_', 'pgoutput')")
  for qw(received root_messages insert_messages all_messages);

my $key = 'cdc-' . time;

sub emit
{
	my ($type, $n) = @_;
	return "SELECT failsafe.outbox_emit('$type', '$key', '{\"n\": $n}');";
}

$node->safe_psql('postgres', emit('cdc.committed', 1));
$node->safe_psql('postgres', 'BEGIN;' . emit('cdc.aborted', 2) . 'ROLLBACK;');
$node->safe_psql('postgres',
		'BEGIN;' . emit('cdc.committed', 3)
	  . 'SAVEPOINT s;' . emit('cdc.aborted', 4)
	  . 'ROLLBACK TO s;' . emit('cdc.committed', 5) . 'COMMIT;');

# A transaction that began first and commits last comes out last.
my $early = $node->background_psql('postgres');
$early->query_safe('BEGIN;' . emit('cdc.late', 6));
$node->safe_psql('postgres', emit('cdc.committed', 7));
$early->query_safe('COMMIT');
$early->quit;

# Another leaf: events that are old, put in by hand, and then emptied.
$node->safe_psql('postgres', q{
	INSERT INTO failsafe.outbox (seq, occurred_at, event_id, tenant_id, slot, priority,
								 event_type, order_key, payload)
	SELECT nextval('failsafe.outbox_seq_3'), now() - interval '8 days', gen_random_uuid(), 1,
		   48 + (extract(epoch FROM now())::int8 / 75600 + 5) % 16, 9,
		   'cdc.old', 'old', '{}'});
is( $node->safe_psql('postgres',
		q{SELECT events, action FROM failsafe.outbox_retain() WHERE leaf LIKE 'outbox_3%'}),
	'1|emptied',
	'the old leaf is emptied');

my $end = $node->safe_psql('postgres', 'SELECT pg_current_wal_lsn()');

# What pg_recvlogical writes down.
my $file = $node->basedir . '/received';
$node->command_ok(
	[
		'pg_recvlogical', '-d', $node->connstr('postgres'),
		'--slot', 'received', '--start', '--no-loop', '--endpos', $end, '-f', $file,
		'-o', 'proto_version=1', '-o', 'publication_names=failsafe_events'
	],
	'pg_recvlogical receives the outbox');
my $received = slurp_file($file);
my @numbers = $received =~ /\{"n": (\d+)\}/g;
is("@numbers", '1 3 5 7 6', 'committed events come out in commit order');
unlike($received, qr/cdc\.aborted/, 'nothing of an aborted transaction comes out');

# How many messages of a kind there are, and the tables that the inserts name.
sub messages
{
	my ($slot, $publication) = @_;
	my $lines = $node->safe_psql('postgres', qq{
		WITH message AS MATERIALIZED (
			SELECT chr(get_byte(data, 0)) AS kind, substr(data, 2, 4) AS relation
			FROM pg_logical_slot_get_binary_changes('$slot', NULL, NULL,
					'proto_version', '1', 'publication_names', '$publication'))
		SELECT kind, count(*) FROM message GROUP BY kind
		UNION ALL
		SELECT 'tables', count(DISTINCT relation) FROM message WHERE kind = 'I'
		UNION ALL
		SELECT 'root', count(*) FROM message
		WHERE kind = 'I' AND relation = int4send('failsafe.outbox'::regclass::oid::int4)});
	my %count = map { split /\|/ } split /\n/, $lines;
	return \%count;
}

my $root = messages('root_messages', 'failsafe_events');
is($root->{I}, 6, 'the publication has every committed event');
is($root->{root}, 6, 'all under the name of the root table');
ok(!exists $root->{T}, 'it publishes no TRUNCATE');

my $leaves = messages('insert_messages', 'leaves_insert');
is($leaves->{I}, 6, 'a publication of the leaves has every committed event');
is($leaves->{tables}, 2, 'under the names of two leaves');
ok(!exists $leaves->{T}, 'it publishes no TRUNCATE');

my $all = messages('all_messages', 'leaves_all');
is($all->{T}, 1, 'only a publication that asks for it has the TRUNCATE');

$node->stop;
done_testing();
