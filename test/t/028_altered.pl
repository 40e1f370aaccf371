# A table that was changed by hand, past the guard: commands are refused and say which
# table; an index of the user's own is kept up to date.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Failsafe;

my $node = failsafe_node('altered', conf => "fsync = off\n");

answer($node, q{
	SELECT failsafe.account_open('acc', 'EUR');
	SELECT failsafe.account_open('system', 'EUR', 'system');
	SELECT failsafe.wallet_credit('acc', 1000, 'EUR', 'seed')});

my $serial = 0;
# one after the other reads and writes every table of the ledger
sub commands
{
	$serial++;
	return "SELECT failsafe.wallet_debit('acc', 1, 'EUR', 'k$serial'); "
	  . "SELECT failsafe.wallet_reverse('key:k$serial', 'r$serial')";
}
my $past = 'SET failsafe.allow_drop = on; ';

# --- refused while the change is there, and good again after it
my @changes = (
	[ 'a column', 'balance', 'ALTER TABLE failsafe.balance ADD COLUMN x int', 'ALTER TABLE failsafe.balance DROP COLUMN x' ],
	[ 'a check', 'journal', 'ALTER TABLE failsafe.journal ADD CONSTRAINT x CHECK (amount < 1000000)', 'ALTER TABLE failsafe.journal DROP CONSTRAINT x' ],
	[ 'a row trigger', 'entry', q{CREATE TRIGGER x BEFORE INSERT ON failsafe.entry FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()},
		'DROP TRIGGER x ON failsafe.entry' ],
	[ 'row security', 'idempotency_key', 'ALTER TABLE failsafe.idempotency_key ENABLE ROW LEVEL SECURITY', 'ALTER TABLE failsafe.idempotency_key DISABLE ROW LEVEL SECURITY' ],
	[ 'another type', 'reversible', 'ALTER TABLE failsafe.reversible ALTER COLUMN reversed TYPE float8', 'ALTER TABLE failsafe.reversible ALTER COLUMN reversed TYPE numeric' ],
	[ 'another name', 'account', 'ALTER TABLE failsafe.account RENAME COLUMN created_at TO x', 'ALTER TABLE failsafe.account RENAME COLUMN x TO created_at' ],
	[ 'a generated column', 'entry', 'ALTER TABLE failsafe.entry ADD COLUMN x numeric GENERATED ALWAYS AS (amount + 1) STORED', 'ALTER TABLE failsafe.entry DROP COLUMN x' ]);

for my $change (@changes)
{
	my ($name, $table, $do, $undo) = @$change;

	fails_with($node, 'SF06A', $do, "$name by hand is refused");
	succeeds($node, "$past $do", "$name past the guard");
	my $error = fails_with($node, 'SF064', commands(), "$name: the next command is refused");
	like($error, qr/\b$table\b/, "the error names $table");
	succeeds($node, "$past $undo", "$name undone");
	succeeds($node, commands(), "$name undone: commands go on");
}

# --- a session that has used the table before notices too
my $session = $node->background_psql('postgres', on_error_stop => 0);
is($session->query_safe(q{SELECT status FROM failsafe.wallet_debit('acc', 1, 'EUR', 'open1')}), 'committed', 'a session that has worked before');
succeeds($node, "$past ALTER TABLE failsafe.balance ADD COLUMN x int", 'a column meanwhile');
is($session->query(q{SELECT status FROM failsafe.wallet_debit('acc', 1, 'EUR', 'open2')}), '', 'is refused as well');
like($session->{stderr}, qr/not as the extension made it/, 'with the same error');
$session->quit;
succeeds($node, "$past ALTER TABLE failsafe.balance DROP COLUMN x", 'undone');

# --- indexes and storage of the user's own are welcome
succeeds($node, q{CREATE INDEX own_reason ON failsafe.journal (reason)}, 'an index on the journal');
succeeds($node, q{CREATE INDEX own_posted ON failsafe.balance (posted)}, 'an index on a column that changes');
succeeds($node, q{CREATE INDEX own_partial ON failsafe.entry (amount) WHERE amount < 0}, 'a partial index');
succeeds($node, q{CREATE INDEX own_expression ON failsafe.journal (lower(reference))}, 'an index on an expression');
succeeds($node, q{ALTER TABLE failsafe.balance SET (fillfactor = 60)}, 'a storage parameter');
succeeds($node, q{
	SELECT failsafe.wallet_debit('acc', 7, 'EUR', 'own1', 'REF-Own', 'for the index');
	SELECT * FROM failsafe.wallet_batch('[{"command":"debit","account":"acc","amount":7,"currency":"EUR","idempotency_key":"own2","reason":"for the index"},
		{"command":"transfer","from_account":"acc","to_account":"system","amount":7,"currency":"EUR","idempotency_key":"own3","reason":"for the index"}]')},
	'commands with them');
my $by_index = q{SET enable_seqscan = off; SET enable_bitmapscan = off; };
is(answer($node, $by_index . q{SELECT count(*) FROM failsafe.journal WHERE reason = 'for the index'}), 3, 'the index finds what was written');
is(answer($node, $by_index . q{SELECT count(*) FROM failsafe.journal WHERE lower(reference) = 'ref-own'}), 1, 'the expression too');
is(answer($node, $by_index . q{SELECT count(*) FROM failsafe.entry WHERE amount = -7}), 3, 'and the partial one');
is(answer($node, $by_index . q{SELECT count(*) FROM failsafe.balance WHERE posted = (SELECT posted FROM failsafe.account_balance('acc'))}), 1,
	'and the one on a balance that moved on');
like(answer($node, $by_index . q{EXPLAIN (COSTS off) SELECT count(*) FROM failsafe.journal WHERE reason = 'for the index'}),
	qr/own_reason/, 'by that index');

is(answer($node, 'SELECT count(*) FROM failsafe.ledger_verify()'), 0, 'the books balance');
$node->stop;
done_testing();
