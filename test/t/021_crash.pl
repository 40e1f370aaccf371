# kill -9 of the whole server under load, again and again, fsync on: each acknowledged
# command is there with its answer, no key has two effects, events and entries agree.

use strict;
use warnings;

use FindBin;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Failsafe;

use constant ROUNDS => 20;

my $node = failsafe_node('crash', conf => q{
fsync = on
checkpoint_timeout = 30s
max_wal_size = 64MB
deadlock_timeout = 10ms
failsafe.early_lock_release = all
});
my $dir = $node->basedir;

answer($node, q{
	SELECT failsafe.account_open('acc_' || i, 'EUR', floor => -1000) FROM generate_series(0, 11) AS i;
	SELECT failsafe.account_open('fees', 'EUR', 'system');
	CREATE TABLE acknowledged (key text, command json, body text)});

sub lines_of
{
	my ($file) = @_;
	return -e $file ? scalar(() = slurp_file($file) =~ /\n/g) : 0;
}

srand 4711;
my $total = 0;
for my $round (1 .. ROUNDS)
{
	my $file = "$dir/acknowledged_$round";
	my $enough = 20 + int rand 1000;
	my $load = IPC::Run::start(
		[ 'python3', "$FindBin::Bin/drivers/crash.py", $node->connstr('postgres'), "r$round", $file, 6 ],
		'<', \undef, '>&', "$dir/driver_$round");

	# no sleep decides when it dies, but how far the load has come
	for (1 .. 3000)
	{
		last if lines_of($file) >= $enough;
		select undef, undef, undef, 0.01;
	}
	kill_server($node);
	eval { $load->finish };
	$node->start;
	$total += lines_of($file);
	cmp_ok(lines_of($file), '>=', $enough, "round $round: " . lines_of($file) . ' commands acknowledged')
	  or diag(slurp_file("$dir/driver_$round"));

	answer($node, "COPY acknowledged FROM '$file'");
	is(answer($node, q{
		SELECT count(*) FROM acknowledged AS a
		WHERE a.key LIKE 'r} . $round . q{\_%' AND NOT EXISTS (SELECT FROM failsafe.idempotency_key AS k WHERE k.key = a.key)}),
		0, "round $round: each of them is there");
	is(answer($node, 'SELECT count(*) FROM failsafe.ledger_verify()'), 0, "round $round: the books balance")
	  if $round % 5 == 0;
}

is(answer($node, q{
	SELECT count(*) FROM (SELECT key FROM failsafe.journal WHERE key IS NOT NULL GROUP BY key HAVING count(*) > 1) AS twice}),
	0, 'no key has two effects');
is(answer($node, q{
	SELECT count(*) FROM failsafe.journal AS j
	LEFT JOIN (SELECT journal_id, count(*) AS events FROM failsafe.outbox GROUP BY journal_id) AS o ON o.journal_id = j.id
	WHERE o.events IS DISTINCT FROM 1}),
	0, 'each transaction has one event');
is(answer($node, q{
	SELECT count(*) FROM failsafe.outbox AS o
	WHERE o.journal_id IS NOT NULL AND NOT EXISTS (SELECT FROM failsafe.journal AS j WHERE j.id = o.journal_id)}),
	0, 'and each event its transaction');
is(answer($node, q{
	SELECT count(*), count(*) FILTER (WHERE NOT h.replayed), count(*) FILTER (WHERE h.body::text <> a.body)
	FROM acknowledged AS a, LATERAL failsafe.wallet_http(a.command) AS h}),
	"$total|0|0", "all $total acknowledged commands replay with the same body");
is(answer($node, 'SELECT count(*) FROM failsafe.ledger_verify()'), 0, 'the books balance');

$node->stop;
done_testing();
