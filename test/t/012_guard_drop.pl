# Guards: no SQL changes or drops what the extension wrote, for its owner too; roles
# that somebody else prepared are not adopted; two databases share the roles.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Failsafe;

my $node = failsafe_node('guard', preload => 0);

# --- every table, every kind of statement
my @tables = split /\n/, answer($node, q{
	SELECT relname FROM pg_class
	WHERE relnamespace = 'failsafe'::regnamespace AND relkind IN ('r', 'p') ORDER BY 1});
cmp_ok(scalar @tables, '>', 70, 'the schema has its tables and leaves');

my $log = answer($node, q{
	SELECT string_agg(format($$
		DO $do$ BEGIN %1$s; RAISE EXCEPTION 'not refused: %%', %2$L;
		EXCEPTION WHEN SQLSTATE 'SF060' THEN NULL; END $do$;$$, s, s), '')
	FROM pg_class AS c, LATERAL (VALUES
		(format('DELETE FROM failsafe.%I', relname)),
		(format('TRUNCATE failsafe.%I', relname)),
		(format('UPDATE failsafe.%I SET %I = DEFAULT', relname,
			(SELECT attname FROM pg_attribute WHERE attrelid = c.oid AND attnum = 1)))) AS v(s)
	WHERE relnamespace = 'failsafe'::regnamespace AND relkind IN ('r', 'p')});
succeeds($node, $log, 'DELETE, TRUNCATE and UPDATE are refused on each of them');
fails_with($node, 'SF060', q{
	SET session_replication_role = replica; DELETE FROM failsafe.entry},
	'the guards hold for a replica role too');
is(answer($node, q{
	SELECT count(*) FROM pg_class AS c
	WHERE relnamespace = 'failsafe'::regnamespace AND relkind IN ('r', 'p') AND NOT EXISTS (
		SELECT FROM pg_trigger WHERE tgrelid = c.oid AND tgname = 'failsafe_guard' AND tgenabled = 'A')}),
	0, 'each has its guard, enabled always');

# --- altering by hand
for my $statement (
	'ALTER TABLE failsafe.account ADD COLUMN extra int',
	'ALTER TABLE failsafe.account DROP COLUMN metadata',
	'ALTER TABLE failsafe.account DISABLE TRIGGER ALL',
	'ALTER TABLE failsafe.account ENABLE ROW LEVEL SECURITY',
	'ALTER TABLE failsafe.account SET UNLOGGED',
	'ALTER TABLE failsafe.account RENAME TO konto',
	'ALTER TABLE failsafe.account RENAME COLUMN code TO kode',
	'ALTER TABLE failsafe.account SET SCHEMA public',
	'ALTER INDEX failsafe.account_id RENAME TO other',
	'ALTER SEQUENCE failsafe.journal_id_seq RESTART',
	'ALTER EXTENSION pg_failsafe DROP TABLE failsafe.account',
	'ALTER SCHEMA failsafe RENAME TO elsewhere',
	'ALTER TRIGGER failsafe_guard ON failsafe.account RENAME TO other',
	'DROP INDEX failsafe.account_code',
	'SET search_path = failsafe; DROP INDEX account_code',
	'DROP TRIGGER failsafe_guard ON failsafe.account',
	'CREATE RULE r AS ON INSERT TO failsafe.account DO INSTEAD NOTHING',
	'CREATE TRIGGER t AFTER INSERT ON failsafe.account EXECUTE FUNCTION suppress_redundant_updates_trigger()',
	'CREATE POLICY p ON failsafe.account')
{
	fails_with($node, 'SF06A', $statement);
}
fails_with($node, '2BP01', 'DROP TABLE failsafe.account');
succeeds($node, $_)
  for 'ALTER TABLE failsafe.account SET (autovacuum_vacuum_cost_limit = 1000)',
  'CREATE INDEX mine ON failsafe.account (created_at)',
  'CREATE TABLE other (a int); ALTER TABLE other ADD b int; CREATE INDEX i ON other (a); DROP INDEX i; DROP TABLE other',
  'CREATE SCHEMA s; DROP SCHEMA s';
succeeds($node, 'SET failsafe.allow_drop = on; DROP INDEX failsafe.mine',
	'a superuser who knows better can');

# --- dropping: allowed while the journal is empty
succeeds($node, 'DROP EXTENSION pg_failsafe; CREATE EXTENSION pg_failsafe',
	'an empty ledger can be dropped, and made again');
answer($node, q{
	INSERT INTO failsafe.journal (id, actor_id, xid, recorded_at, tenant_id, command, status)
	VALUES (1, 1, '5', now(), 1, 'debit', 'declined')});
fails_with($node, 'SF061', $_)
  for 'DROP EXTENSION pg_failsafe', 'DROP EXTENSION IF EXISTS plpgsql, pg_failsafe CASCADE',
  'DROP SCHEMA failsafe CASCADE', 'DROP OWNED BY CURRENT_USER',
  'DO $$ BEGIN EXECUTE \'DROP EXTENSION pg_failsafe\'; END $$';
succeeds($node, q{
	CREATE EXTENSION pageinspect; DROP EXTENSION pageinspect;
	CREATE ROLE passing; DROP OWNED BY passing; DROP ROLE passing},
	'other extensions, schemas and roles are none of our business')
  if answer($node, q{SELECT count(*) FROM pg_available_extensions WHERE name = 'pageinspect'});
fails_with($node, 'SF061', 'DROP EXTENSION pg_failsafe', 'still there');
answer($node, 'CREATE ROLE nobody');
fails_with($node, '42501', q{LOAD 'pg_failsafe'; SET ROLE nobody; SET failsafe.allow_drop = on},
	'only a superuser can allow it');
fails_with($node, 'SF061', q{
	SET ROLE nobody; SET failsafe.allow_drop = on; RESET ROLE; DROP EXTENSION pg_failsafe},
	'a value that somebody else set before the library was loaded counts nothing');
succeeds($node, 'SET failsafe.allow_drop = on; DROP EXTENSION pg_failsafe',
	'allow_drop lets it go');

# --- roles
succeeds($node, 'CREATE EXTENSION pg_failsafe', 'the roles may exist already');
answer($node, 'CREATE DATABASE second');
succeeds($node, 'CREATE EXTENSION pg_failsafe', 'a second database', database => 'second');
answer($node, 'CREATE DATABASE third; CREATE ROLE mallory LOGIN; GRANT failsafe_admin TO mallory');
my $err = fails_with($node, '55000', 'CREATE EXTENSION pg_failsafe',
	'a role with members is not adopted', database => 'third');
like($err, qr/mallory/, 'the message names the member');
is($node->safe_psql('third', q{SELECT count(*) FROM pg_extension WHERE extname = 'pg_failsafe'}),
	0, 'nothing is left behind');
succeeds($node, 'SET failsafe.adopt_roles = on; CREATE EXTENSION pg_failsafe',
	'unless the administrator says so', database => 'third');
answer($node, 'CREATE DATABASE fourth; REVOKE failsafe_admin FROM mallory; ALTER ROLE failsafe_app LOGIN');
fails_with($node, '55000', 'CREATE EXTENSION pg_failsafe',
	'a role that can log in is not adopted', database => 'fourth');
answer($node, 'ALTER ROLE failsafe_app NOLOGIN');
succeeds($node, 'CREATE EXTENSION pg_failsafe', 'made right, it is used', database => 'fourth');

# --- two-phase commit
$node->append_conf('postgresql.conf',
	"max_prepared_transactions = 2\nshared_preload_libraries = 'pg_failsafe'\n");
$node->restart;
fails_with($node, 'SF062', q{
	BEGIN; SELECT failsafe.outbox_emit('app.test', 'k', '{}'); PREPARE TRANSACTION 'p'},
	'PREPARE TRANSACTION after a command');
succeeds($node, q{BEGIN; CREATE TABLE x (a int); PREPARE TRANSACTION 'q'; COMMIT PREPARED 'q'},
	'PREPARE TRANSACTION without one');
succeeds($node, q{
	SET failsafe.allow_prepare = on;
	BEGIN; SELECT failsafe.outbox_emit('app.test', 'k', '{}'); PREPARE TRANSACTION 'p'; COMMIT PREPARED 'p'},
	'PREPARE TRANSACTION where it is allowed');

# --- settings
fails_with($node, '42501', "SET ROLE nobody; SET failsafe.$_ = DEFAULT")
  for qw(tenant event_types early_lock_release allow_prepare allow_drop log_refusals event_retention);
succeeds($node, "SET ROLE nobody; SET failsafe.$_ = 1")
  for qw(key_wait lock_wait hold_expiry region trace_id);
fails_with($node, '22023', "SET failsafe.tenant = 'no blanks'");
fails_with($node, '22023', "SET failsafe.event_types = 'wallet. *'");
fails_with($node, '22023', "SET failsafe.traceparent = '00-00000000000000000000000000000000-b7ad6b7169203331-01'");
fails_with($node, '42602', 'SET failsafe.no_such_setting = 1');

# --- tenants
answer($node, q{SELECT failsafe.tenant_add('north', '{"region": "eu-1"}')});
fails_with($node, 'SF051', 'SELECT failsafe._tenant_id()', 'a tenant is required once there are two');
fails_with($node, 'SF050', q{SET failsafe.tenant = 'south'; SELECT failsafe._tenant_id()});
is(answer($node, q{SET failsafe.tenant = 'north'; SELECT failsafe._tenant_id()}), 2, 'the second tenant');
is(answer($node, q{SELECT created FROM failsafe.tenant_add('north', '{"region": "eu-1"}')}), 'f',
	'adding it again changes nothing');
fails_with($node, 'SF052', q{SELECT failsafe.tenant_add('north', '{"region": "us-1"}')});
fails_with($node, 'SF041', q{SELECT failsafe.tenant_add('north', '{"zone": "us-1"}')});
succeeds($node, q{
	BEGIN; SELECT failsafe.tenant_add('west'); SET LOCAL failsafe.tenant = 'west';
	SELECT failsafe._tenant_id(); ROLLBACK}, 'a tenant of this transaction can be used');
fails_with($node, 'SF050', q{
	BEGIN; SAVEPOINT s; SELECT failsafe.tenant_add('west'); SET LOCAL failsafe.tenant = 'west';
	SELECT failsafe._tenant_id(); ROLLBACK TO s;
	SET LOCAL failsafe.tenant = 'west'; SELECT failsafe._tenant_id()},
	'but not after it was rolled back');

# --- who did it
answer($node, q{
	CREATE ROLE app_role; CREATE ROLE app_login LOGIN; GRANT app_role TO app_login; GRANT failsafe_app TO app_role;
	ALTER ROLE app_login SET failsafe.tenant = 'north'; SELECT failsafe.tenant_add('actors')});
my $as_app = $node->connstr('postgres') . ' user=app_login application_name=shop';
succeeds($node, q{SET ROLE app_role; SELECT failsafe.account_open('acc', 'EUR')},
	'an application opens an account', connstr => $as_app);
succeeds($node, q{
	SET ROLE app_role; SELECT failsafe.wallet_credit('acc', 1, 'EUR', 'k1');
	RESET ROLE; SELECT failsafe.wallet_credit('acc', 1, 'EUR', 'k2');
	BEGIN; SAVEPOINT s; SET application_name = 'rolled back';
	SELECT failsafe.wallet_credit('acc', 1, 'EUR', 'k3'); ROLLBACK TO s;
	SET application_name = 'rolled back'; SELECT failsafe.wallet_credit('acc', 1, 'EUR', 'k3'); COMMIT},
	'and moves money', connstr => $as_app);
is(answer($node, q{
	SELECT j.key, a.session_user_name, a.role_name, a.client_address IS NULL, a.application_name
	FROM failsafe.journal AS j LEFT JOIN failsafe.actor AS a ON a.id = j.actor_id
	WHERE j.tenant_id = 2 ORDER BY j.id}),
	join("\n", 'k1|app_login|app_role|t|shop', 'k2|app_login|app_login|t|shop', 'k3|app_login|app_login|t|rolled back'),
	'each row tells who did it, also after a rollback');
fails_with($node, '42501', $_, undef, connstr => $as_app)
  for 'SELECT * FROM failsafe.account', q{SELECT failsafe.tenant_add('x')},
  q{INSERT INTO failsafe.entry DEFAULT VALUES}, q{SELECT nextval('failsafe.journal_id_seq')},
  q{SELECT failsafe._guard()}, q{SET failsafe.tenant = 'default'};

# --- a statement that is canceled, and a table that was changed by hand
answer($node, q{SET failsafe.tenant = 'north'; SELECT failsafe.wallet_credit('acc', 10, 'EUR', 'k4')});
my $holder = $node->background_psql('postgres');
$holder->query_safe(q{SET failsafe.tenant = 'north'; BEGIN; SELECT failsafe.wallet_debit('acc', 1, 'EUR', 'k5')});
my $debit = q{SELECT failsafe.wallet_debit('acc', 1, 'EUR', 'k6')};
fails_with($node, '57014', "SET failsafe.tenant = 'north'; SET failsafe.lock_wait = '1min'; SET statement_timeout = '200ms'; $debit",
	'a canceled statement');
fails_with($node, '55P03', "SET failsafe.tenant = 'north'; SET failsafe.lock_wait = '200ms'; $debit",
	'an account in use');
$holder->query_safe('COMMIT');
$holder->quit;
succeeds($node, "SET failsafe.tenant = 'north'; $debit", 'the key is still free');
for my $change ('ALTER TABLE failsafe.entry ADD COLUMN extra int', 'ALTER TABLE failsafe.entry ENABLE ROW LEVEL SECURITY',
	'ALTER TABLE failsafe.entry ADD CHECK (amount <> 7)', 'DROP INDEX failsafe.idempotency_key_key')
{
	fails_with($node, 'SF064', "SET failsafe.allow_drop = on; SET failsafe.tenant = 'north'; BEGIN; $change; "
		  . q{SELECT failsafe.wallet_credit('acc', 7, 'EUR', 'k7')}, "a command after: $change");
}
succeeds($node, q{SET failsafe.tenant = 'north'; SELECT failsafe.wallet_credit('acc', 7, 'EUR', 'k7')},
	'and when the change is undone');

# --- library and SQL of different versions
answer($node, q{UPDATE pg_extension SET extversion = '0.0.9' WHERE extname = 'pg_failsafe'});
fails_with($node, 'SF063', q{SELECT failsafe.tenant_add('east')}, 'version skew');

$node->stop;
done_testing();
