# Fault points: the commands that pass them, and a server whose library has them.

package Faults;

use strict;
use warnings;

use Exporter 'import';
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Failsafe;

our @EXPORT = qw(%commands @points %stage faults_node learn_points next_case numbered lines
  session prepare prepare_one running);

our (@points, %stage);
my $node;
my $case = 0;

# ---- the commands

my $result = q{concat_ws(' ', status, amount, posted, held, available, code, replayed)};
my $open = q{SELECT failsafe.account_open('a%1$d', 'EUR')};
my $fund = qq{$open; SELECT failsafe.wallet_credit('a%1\$d', 1000, 'EUR', 'fund%1\$d')};
my $hold = qq{$fund; SELECT failsafe.wallet_hold('a%1\$d', 300, 'EUR', 'hold%1\$d')};
my @money = qw(entries_made entries_written journal_written);
my @events = qw(events_drawn events_written);
my @commit = qw(before_commit commit_written commit_flushed);
my @command = ('actor_inserted', @money, @events, @commit);

# name: before (statements, %1$d is the number of the case), run (one statement), first
# and again (its answers), points (that it passes; each must be passed by some command).
# each: "before" runs just before each case, because one case uses it up.
our %commands = (
	debit => {
		before => $fund,
		run => qq{SELECT $result FROM failsafe.wallet_debit('a%1\$d', 100, 'EUR', 'k%1\$d')},
		first => 'committed 100 900 0 900 f', again => 'committed 100 900 0 900 t',
		points => [ qw(key_inserted keys_claimed balance_peeked decided balance_written), @command ] },
	first_credit => {
		before => q{SELECT failsafe.currency_add('CUR%1$d', 2);
			SELECT failsafe.account_open('a%1$d', 'CUR%1$d')},
		run => qq{SELECT $result FROM failsafe.wallet_credit('a%1\$d', 100, 'CUR%1\$d', 'k%1\$d')},
		first => 'committed 100 100 0 100 f', again => 'committed 100 100 0 100 t',
		points => [ qw(key_inserted keys_claimed account_inserted balance_inserted account_change_inserted
			world_opened balance_peeked decided balance_written), @command ] },
	transfer => {
		before => qq{$fund; SELECT failsafe.account_open('b%1\$d', 'EUR')},
		run => qq{SELECT $result FROM failsafe.wallet_transfer('a%1\$d', 'b%1\$d', 100, 'EUR', 'k%1\$d')},
		first => 'committed 100 900 0 900 f', again => 'committed 100 900 0 900 t',
		points => [ qw(key_inserted keys_claimed balances_locked decided balance_written), @command ] },
	recorded_decline => {
		before => $fund,
		run => qq{SELECT $result FROM failsafe.wallet_debit('a%1\$d', 1001, 'EUR', 'k%1\$d', on_decline => 'record')},
		first => 'declined 1001 INSUFFICIENT_FUNDS f', again => 'declined 1001 INSUFFICIENT_FUNDS t',
		points => [ qw(key_inserted keys_claimed balance_peeked decided), @command ] },
	replay => {
		before => qq{$fund; SELECT failsafe.wallet_debit('a%1\$d', 100, 'EUR', 'k%1\$d')},
		run => qq{SELECT $result FROM failsafe.wallet_debit('a%1\$d', 100, 'EUR', 'k%1\$d')},
		first => 'committed 100 900 0 900 t', again => 'committed 100 900 0 900 t',
		points => [ qw(keys_claimed replay_read) ] },
	hold => {
		before => $fund,
		run => qq{SELECT $result FROM failsafe.wallet_hold('a%1\$d', 300, 'EUR', 'k%1\$d')},
		first => 'held 300 1000 300 700 f', again => 'held 300 1000 300 700 t',
		points => [ qw(key_inserted keys_claimed balances_locked decided balance_written hold_written), @command ] },
	extend => {
		before => $hold,
		run => qq{SELECT $result FROM failsafe.wallet_extend('key:hold%1\$d', 'k%1\$d', '20 days')},
		first => 'held 300 1000 300 700 f', again => 'held 300 1000 300 700 t',
		points => [ qw(key_inserted keys_claimed balances_locked decided balance_written hold_written), @command ] },
	commit => {
		before => $hold,
		run => qq{SELECT $result FROM failsafe.wallet_commit('key:hold%1\$d', 'k%1\$d', 200)},
		first => 'committed 200 800 0 800 f', again => 'committed 200 800 0 800 t',
		points => [ qw(key_inserted keys_claimed balances_locked decided balance_written hold_written), @command ] },
	rollback => {
		before => $hold,
		run => qq{SELECT $result FROM failsafe.wallet_rollback('key:hold%1\$d', 'k%1\$d')},
		first => 'rolled_back 300 1000 0 1000 f', again => 'rolled_back 300 1000 0 1000 t',
		points => [ qw(key_inserted keys_claimed balances_locked decided balance_written hold_written), @command ] },
	reverse => {
		before => $fund,
		run => qq{SELECT $result FROM failsafe.wallet_reverse('key:fund%1\$d', 'k%1\$d', 400)},
		first => 'committed 400 600 0 600 f', again => 'committed 400 600 0 600 t',
		points => [ qw(key_inserted keys_claimed reversals_locked balances_locked decided balance_written
			reversal_written), @command ] },
	post => {
		before => qq{$fund; SELECT failsafe.account_open('b%1\$d', 'EUR')},
		run => qq{SELECT $result FROM failsafe.ledger_post(ARRAY[('a%1\$d', -60, 'EUR'), ('b%1\$d', 50, 'EUR'),
			('world:EUR', 10, 'EUR')]::failsafe.leg[], 'k%1\$d')},
		first => 'committed f', again => 'committed t',
		points => [ qw(key_inserted keys_claimed balances_locked decided balance_written), @command ] },
	batch => {
		before => $fund,
		run => q{SELECT string_agg(concat_ws(' ', status, posted, code, replayed), ', ' ORDER BY n)
			FROM failsafe.wallet_batch('[
				{"command": "debit", "account": "a%1$d", "amount": 100, "currency": "EUR", "idempotency_key": "k%1$da"},
				{"command": "debit", "account": "a%1$d", "amount": 9999, "currency": "EUR", "idempotency_key": "k%1$db"},
				{"command": "debit", "account": "a%1$d", "amount": 1, "currency": "EUR", "idempotency_key": "k%1$dc",
				 "options": {"expected_version": 77}},
				{"command": "hold", "account": "a%1$d", "amount": 50, "currency": "EUR", "idempotency_key": "k%1$dd"}]')},
		first => 'committed 900 f, declined INSUFFICIENT_FUNDS f, refused VERSION_MISMATCH f, held 900 f',
		again => 'committed 900 t, declined INSUFFICIENT_FUNDS t, refused VERSION_MISMATCH f, held 900 t',
		points => [ qw(key_inserted keys_claimed balances_locked decided key_unclaimed balance_written
			hold_written), @command ] },
	debit_after_expiry => {
		before => qq{$fund; SELECT failsafe.wallet_hold('a%1\$d', 900, 'EUR', 'hold%1\$d', '1 second')}, pause_s => 1.1,
		run => qq{SELECT $result FROM failsafe.wallet_debit('a%1\$d', 800, 'EUR', 'k%1\$d')},
		first => 'committed 800 200 0 200 f', again => 'committed 800 200 0 200 t',
		points => [ qw(key_inserted keys_claimed balance_peeked balances_locked holds_expired decided
			balance_written hold_written), @command ] },
	debit_after_hold => {	# the hold wrote the balance under a lock, which is over
		before => $hold,
		run => qq{SELECT $result FROM failsafe.wallet_debit('a%1\$d', 100, 'EUR', 'k%1\$d')},
		first => 'committed 100 900 300 600 f', again => 'committed 100 900 300 600 t',
		points => [ qw(key_inserted keys_claimed balance_peeked decided balance_written), @command ] },
	sweep => {
		before => join(';', map { qq{SELECT failsafe.account_open('$_%1\$d', 'EUR');
			SELECT failsafe.wallet_credit('$_%1\$d', 9, 'EUR', 'fund$_%1\$d');
			SELECT failsafe.wallet_hold('$_%1\$d', 1, 'EUR', 'hold$_%1\$d', '1 second')} } qw(a b c)), pause_s => 1.1,
		run => 'SELECT failsafe.holds_sweep(1)',
		first => '1', again => '1',
		points => [ qw(balances_locked holds_expired balance_written hold_written), @command ] },
	account_open => {
		run => q{SELECT concat_ws(' ', status, created) FROM failsafe.account_open('a%1$d', 'EUR')},
		first => 'open t', again => 'open f',
		points => [ qw(account_inserted balance_inserted account_change_inserted actor_inserted), @events, @commit ] },
	account_freeze => {
		before => $fund,
		run => q{SELECT status FROM failsafe.account_freeze('a%1$d', 'checked')},
		first => 'frozen_out', again => 'frozen_out',
		points => [ qw(balances_locked balance_written account_change_inserted actor_inserted), @events, @commit ] },
	freeze_system => {
		before => q{SELECT failsafe.account_open('a%1$d', 'EUR', 'system')},
		run => q{SELECT status FROM failsafe.account_freeze('a%1$d', 'checked')},
		first => 'frozen_out', again => 'frozen_out',
		points => [ qw(balance_written account_change_inserted actor_inserted), @events, @commit ] },
	currency_add => {
		run => q{SELECT failsafe.currency_add('NEW%1$d', 3)},
		first => 't', again => 'f',
		points => [ qw(currency_inserted), @commit ] },
	claim => {
		run => q{SELECT state FROM failsafe.idempotency_claim('j%1$d', '{"a": 1}')},
		first => 'new', again => 'unfinished',
		points => [ qw(application_key_inserted actor_inserted), @commit ] },
	complete => {
		before => q{SELECT failsafe.idempotency_claim('j%1$d', '{"a": 1}')},
		run => q{SELECT failsafe.idempotency_complete('j%1$d', '{"done": true}')},
		first => 't', again => 'f',
		points => [ qw(application_key_written), @commit ] },
	outbox_emit => {
		run => q{SELECT failsafe.outbox_emit('app.note', 'key', '{"n": %1$d}', '{}', '{"ordered": true}') IS NOT NULL},
		first => 't', again => 't',
		points => [ qw(order_locked), @events, @commit ] },
	outbox_claim => {
		before => q{SELECT failsafe.subscription_create('s%1$d', 'pull', '{}', '{app.case_%1$d}', 'none');
			SELECT failsafe.outbox_emit('app.case_%1$d', 'key', '{}')},
		run => q{SELECT count(*) FROM failsafe.outbox_claim('s%1$d')},
		first => '1', again => '0',
		points => [ qw(open_numbers_judged), @commit ] },
	outbox_retain => {
		before => q{SELECT count(s) FROM failsafe.subscriptions, failsafe.subscription_drop(name, true, 'its events may go') AS s;
			SELECT put_old_events()}, each => 1,
		run => q{SELECT events FROM failsafe.outbox_retain(64) WHERE action = 'emptied'},
		first => '2', again => '',
		points => [ qw(leaf_proved leaf_truncated) ] });

# ---- the server

# A server whose library has fault points; the whole test is skipped without.
sub faults_node
{
	my ($name) = @_;

	$node = failsafe_node($name, conf => q{
restart_after_crash = on
autovacuum = off
max_connections = 30
log_min_error_statement = panic
failsafe.maintenance = off
failsafe.delivery = off
failsafe.early_lock_release_when = always
});
	my ($missing) = try_sql($node, q{
		CREATE FUNCTION failsafe._fault_points(OUT name text, OUT stage text, OUT passes int8)
		RETURNS SETOF record LANGUAGE C VOLATILE AS '$libdir/pg_failsafe', 'failsafe_fault_points'});
	if ($missing eq '42883')
	{
		$node->stop;
		plan(skip_all => 'the library has no fault points (make FAULTS=1)');
	}
	is($missing, '', 'the library has fault points');
	answer($node, q{
		-- everything that any table of the ledger holds
		CREATE FUNCTION state() RETURNS text LANGUAGE plpgsql AS $$
		DECLARE
			one text;
			sums text := '';
			kept regclass;
		BEGIN
			FOR kept IN SELECT oid FROM pg_class WHERE relnamespace = 'failsafe'::regnamespace AND relkind = 'r'
						AND pg_relation_size(oid) > 0 ORDER BY relname LOOP
				EXECUTE format('SELECT md5(string_agg(h, '''' ORDER BY h)) FROM (SELECT md5(t::text) AS h FROM %s AS t) AS r', kept)
				INTO one;
				sums := sums || kept || coalesce(one, '-');
			END LOOP;
			RETURN md5(sums);
		END $$;
		-- what this session still holds beyond reading this
		CREATE FUNCTION leaks() RETURNS text LANGUAGE sql AS $$
			SELECT coalesce(string_agg(concat_ws(' ', locktype, relation::regclass, mode), ', '), 'none')
			FROM pg_locks WHERE pid = pg_backend_pid() AND locktype <> 'virtualxid' AND mode <> 'AccessShareLock'
		$$;
		CREATE FUNCTION passed() RETURNS text LANGUAGE sql AS $$
			SELECT string_agg(name || ' ' || passes, ',') FROM failsafe._fault_points() WHERE passes > 0
		$$;
		-- two events in a leaf that is neither the current one nor one of the next
		CREATE FUNCTION put_old_events() RETURNS void LANGUAGE sql AS $$
			INSERT INTO failsafe.outbox (seq, occurred_at, event_id, tenant_id, slot, priority, event_type, order_key, payload)
			SELECT nextval('failsafe.outbox_seq_2'), clock_timestamp() - interval '30 days', gen_random_uuid(), 1, 32 + leaf,
				   5, 't.old', 'retention', '{}'
			FROM (SELECT (extract(epoch FROM clock_timestamp())::int8 / 75600 + 8) % 16 AS leaf) AS l, generate_series(1, 2)
		$$});

	%stage = map { split /\|/ } split /\n/, answer($node, 'SELECT name, stage FROM failsafe._fault_points()');
	@points = split /\n/, answer($node, 'SELECT name FROM failsafe._fault_points()');
	return $node;
}

sub next_case { return ++$case; }

sub numbered { my ($sql, $number) = @_; return $sql =~ s/%1\$d/$number/gr; }

# An answer of no rows prints no line.
sub lines { return $_[0] eq '' ? () : $_[0]; }

# Run psql with statements that may fail; (output, errors).  Each case has an actor of
# its own, so that every command has to write it.
sub session
{
	my ($number, @statements) = @_;
	my ($out, $err) = ('', '');
	local $ENV{PGAPPNAME} = "case_$number";

	IPC::Run::run([ 'psql', '-XqAt', '-v', 'VERBOSITY=verbose', '-d', $node->connstr('postgres') ],
		'<', \join(";\n", @statements, ''), '>', \$out, '2>', \$err, IPC::Run::timeout(120));
	return ($out, $err);
}

# The numbers of so many new cases of a command, prepared.
sub prepare
{
	my ($command, $count) = @_;
	my @numbers = map { ++$case } 1 .. $count;

	return @numbers if $command->{each} || !$command->{before};
	answer($node, join ";\n", map { numbered($command->{before}, $_) } @numbers);
	select undef, undef, undef, $command->{pause_s} if $command->{pause_s};
	return @numbers;
}

sub prepare_one
{
	my ($command, $number) = @_;

	return unless $command->{each};
	answer($node, numbered($command->{before}, $number));
	select undef, undef, undef, $command->{pause_s} if $command->{pause_s};
	return;
}

# Run each command once without a fault: what it answers and which points it passes.
sub learn_points
{
	my %reached;

	for my $name (sort keys %commands)
	{
		my $command = $commands{$name};
		my ($number) = prepare($command, 1);
		my $run = numbered($command->{run}, $number);
		prepare_one($command, $number);

		my ($out, $err) = session($number, q{SET failsafe.fault = ''}, $run,
			q{SELECT 'released ' || failsafe._released_early()}, 'SELECT passed()', $run);
		$out =~ s/^released (\w+)\n(.*)\n//m;
		$command->{passes} = { map { split / / } split /,/, $2 // '' };
		$command->{released} = $1;
		is($err . $out, join("\n", lines($command->{first}), lines($command->{again}), ''), "$name: the answers");
		is(join(' ', grep { $command->{passes}{$_} } @points),
			join(' ', grep { my $point = $_; grep { $_ eq $point } @{ $command->{points} } } @points),
			"$name: the points that it passes");
		$reached{$_} = 1 for keys %{ $command->{passes} };
	}
	is(join(' ', grep { !$reached{$_} } @points), '', 'every point is reached by some command');
	return;
}

# Points of a command up to which nothing is committed.
sub running
{
	my ($command) = @_;
	return grep { $command->{passes}{$_} && $stage{$_} eq 'running' } @points;
}

1;
