-- ledger: accounts, balances, journal, entries, holds.

-- What never changes about an account.
CREATE TABLE failsafe.account (
	id int8 NOT NULL,
	created_at timestamptz NOT NULL,
	actor_id int8 NOT NULL,
	tenant_id int4 NOT NULL,
	code text COLLATE "C" NOT NULL,
	currency text COLLATE "C" NOT NULL,
	kind text NOT NULL,				-- wallet, system
	metadata jsonb NOT NULL
);
CREATE UNIQUE INDEX account_id ON failsafe.account (id);
CREATE UNIQUE INDEX account_code ON failsafe.account (tenant_id, code);
CREATE INDEX account_system ON failsafe.account (id) WHERE kind = 'system';
CREATE SEQUENCE failsafe.account_id_seq OWNED BY failsafe.account.id;

-- What changes under load.  The index is not unique on purpose: under a held snapshot a
-- unique check walks every dead version; account_open() is the only inserter and
-- account_code guards it.
CREATE TABLE failsafe.balance (
	account_id int8 NOT NULL,
	version int8 NOT NULL,			-- number of the account's entries
	recorded_at timestamptz NOT NULL,	-- of the latest entry; never goes back
	next_hold_expiry timestamptz,	-- of the open hold that expires first, or earlier
	status text NOT NULL,			-- open, frozen_out, frozen_all, closed
	posted numeric NOT NULL,
	held numeric NOT NULL,
	floor numeric,					-- NULL: none
	ceiling numeric					-- NULL: none
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX balance_account_id ON failsafe.balance (account_id);
ALTER TABLE failsafe.balance REPLICA IDENTITY FULL;

-- Status and limit changes, append-only.
CREATE TABLE failsafe.account_change (
	id int8 NOT NULL,
	account_id int8 NOT NULL,
	changed_at timestamptz NOT NULL,
	actor_id int8 NOT NULL,
	xid xid8 NOT NULL,
	change text NOT NULL,			-- opened, frozen, unfrozen, closed, limits_changed
	status text NOT NULL,			-- after the change
	floor numeric,					-- after the change
	ceiling numeric,				-- after the change
	reason text
);
CREATE UNIQUE INDEX account_change_id ON failsafe.account_change (id);
CREATE INDEX account_change_account ON failsafe.account_change (account_id, id);
CREATE SEQUENCE failsafe.account_change_id_seq OWNED BY failsafe.account_change.id;

-- One immutable row for every command that had an outcome.
CREATE TABLE failsafe.journal (
	id int8 NOT NULL,				-- t_...
	account_id int8,				-- the account named first; NULL for a posting
	counterparty_id int8,
	hold_id int8,					-- the hold it placed or touched
	reverses int8,					-- journal id
	version int8,					-- of the account, after
	counterparty_version int8,		-- of the counterparty, after; NULL for system accounts
	actor_id int8 NOT NULL,
	xid xid8 NOT NULL,
	recorded_at timestamptz NOT NULL,
	effective_at timestamptz,		-- NULL: recorded_at
	expires_at timestamptz,			-- of the hold, after
	tenant_id int4 NOT NULL,
	command text NOT NULL,			-- debit, credit, transfer, hold, extend, commit, rollback, reverse, post, expire
	status text NOT NULL,			-- committed, held, rolled_back, declined, expired
	code text,						-- of a decline: INSUFFICIENT_FUNDS ...
	key text COLLATE "C",			-- NULL for an expiry
	amount numeric,
	posted numeric,					-- of the account, after
	held numeric,
	available numeric,
	hold_remaining numeric,
	released numeric,				-- held money that this command set free without moving it
	reference text COLLATE "C",
	reason text,
	trace_id text COLLATE "C",
	traceparent text,
	region text,
	metadata jsonb,
	detail json,					-- of a decline
	leg_account_ids int8[],			-- of a posting: its accounts, in the order of the legs
	leg_versions int8[]				-- of a posting: their versions after each leg; 0 for system accounts
);
CREATE UNIQUE INDEX journal_id ON failsafe.journal (id);
CREATE INDEX journal_reference ON failsafe.journal (reference, tenant_id) WHERE reference IS NOT NULL;
CREATE INDEX journal_trace_id ON failsafe.journal (trace_id, tenant_id) WHERE trace_id IS NOT NULL;
CREATE INDEX journal_hold_id ON failsafe.journal (hold_id) WHERE hold_id IS NOT NULL;
CREATE INDEX journal_reverses ON failsafe.journal (reverses) WHERE reverses IS NOT NULL;
CREATE SEQUENCE failsafe.journal_id_seq;

-- The legs.  id = 1024 * journal_id + number of the leg, from 0: it leads to the journal
-- row, whose accounts and versions lead back, so no index has it.  The place of an entry
-- in its account is coalesce(version, id): versions are the order in which a wallet's
-- entries were posted; ids are drawn before its lock is waited for.
CREATE TABLE failsafe.entry (
	id int8 NOT NULL,				-- e_...
	account_id int8 NOT NULL,
	journal_id int8 NOT NULL,
	version int8,					-- 1, 2, 3 ... of the account; NULL for system accounts
	effective_at timestamptz,		-- only where back-dated
	amount numeric NOT NULL,		-- '+' raises posted, '-' lowers it
	posted numeric					-- of the account, after; NULL for system accounts
);
CREATE INDEX entry_account ON failsafe.entry (account_id, (coalesce(version, id)));
CREATE INDEX entry_effective ON failsafe.entry (account_id, effective_at) WHERE effective_at IS NOT NULL;

-- Reserved money.  Rows have no lock of their own: they live under the lock of their
-- account's balance.  id = the journal id of the command that placed the hold.
CREATE TABLE failsafe.hold (
	id int8 NOT NULL,				-- h_...
	account_id int8 NOT NULL,
	counterparty_id int8,			-- where a capture goes unless it says otherwise
	placed_at timestamptz NOT NULL,
	expires_at timestamptz NOT NULL,
	tenant_id int4 NOT NULL,
	status text NOT NULL,			-- open, committed, rolled_back, expired
	amount numeric NOT NULL,		-- reserved at first
	captured numeric NOT NULL,
	released numeric NOT NULL
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX hold_id ON failsafe.hold (id);
CREATE INDEX hold_open ON failsafe.hold (account_id, expires_at) WHERE status = 'open';
CREATE INDEX hold_due ON failsafe.hold (expires_at) WHERE status = 'open';

-- How much of a transaction has been returned; under the lock of its journal row.
CREATE TABLE failsafe.reversible (
	journal_id int8 NOT NULL,
	reversed numeric NOT NULL
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX reversible_journal_id ON failsafe.reversible (journal_id);

-- Balances of system accounts at a point: all entries with id <= entry_id.
CREATE TABLE failsafe.checkpoint (
	account_id int8 NOT NULL,
	entry_id int8 NOT NULL,
	entry_count int8 NOT NULL,
	recorded_from timestamptz NOT NULL,		-- no entry since the checkpoint before is recorded earlier
	recorded_until timestamptz NOT NULL,	-- no entry up to entry_id is recorded later
	taken_at timestamptz NOT NULL,
	posted numeric NOT NULL
);
CREATE UNIQUE INDEX checkpoint_account ON failsafe.checkpoint (account_id, entry_id);

-- What ledger_post() takes an array of.
CREATE TYPE failsafe.leg AS (account text, amount numeric, currency text);

COMMENT ON TABLE failsafe.account IS
'Accounts: what never changes about them. Read failsafe.accounts.';
COMMENT ON COLUMN failsafe.account.kind IS
'wallet: locked, versioned, with limits; system: derived from its entries, never locked';
COMMENT ON TABLE failsafe.balance IS
'What changes about an account under load, one row each. Of a system account only the status is used.';
COMMENT ON COLUMN failsafe.balance.version IS 'number of the account''s entries';
COMMENT ON COLUMN failsafe.balance.posted IS 'sum of the account''s entries, in minor units';
COMMENT ON COLUMN failsafe.balance.held IS
'rest of the holds that are open, in minor units; an expired one counts until its expiry is written';
COMMENT ON COLUMN failsafe.balance.next_hold_expiry IS
'when the open hold that expires first does so, or earlier';
COMMENT ON TABLE failsafe.account_change IS
'Status and limits of accounts as they were changed, with who and why; append-only.';
COMMENT ON SEQUENCE failsafe.account_change_id_seq IS 'ids of account changes';
COMMENT ON SEQUENCE failsafe.account_id_seq IS 'ids of accounts';
COMMENT ON TABLE failsafe.journal IS
'One row for each command that had an outcome, recorded declines and expiries of holds too; append-only. A replay answers from it. Read failsafe.transactions.';
COMMENT ON COLUMN failsafe.journal.key IS 'the idempotency key; NULL for the expiry of a hold';
COMMENT ON COLUMN failsafe.journal.posted IS
'of the account named first, after the command; so are held, available and version';
COMMENT ON COLUMN failsafe.journal.released IS
'held money that the command set free without moving it';
COMMENT ON SEQUENCE failsafe.journal_id_seq IS 'numbers of t_... and h_..., and in 1024 parts of e_...; gaps are normal';
COMMENT ON TABLE failsafe.entry IS
'The legs of transactions, in minor units; append-only. They add up to zero in each currency. Read failsafe.entries.';
COMMENT ON COLUMN failsafe.entry.amount IS '+ raises the account''s posted balance, - lowers it';
COMMENT ON COLUMN failsafe.entry.version IS
'1, 2, 3 ... of a wallet, without gaps; NULL for system accounts';
COMMENT ON COLUMN failsafe.entry.effective_at IS 'where back-dated; else when it was recorded';
COMMENT ON TABLE failsafe.hold IS
'Reserved money. amount = captured + released + what remains; an open hold has a rest.';
COMMENT ON COLUMN failsafe.hold.id IS 'the number of the transaction that placed it';
COMMENT ON COLUMN failsafe.hold.status IS
'open, committed, rolled_back, expired; one that is open and past expires_at reserves nothing';
COMMENT ON TABLE failsafe.reversible IS
'How much of a transaction has been returned by reversals, in minor units; of one with more than two legs 0 or 1.';
COMMENT ON TABLE failsafe.checkpoint IS
'Balances of system accounts at a point: the sum of all entries up to entry_id. Kept so that a balance is read from few entries.';
COMMENT ON TYPE failsafe.leg IS
'A leg of ledger_post(): account, amount in minor units (+ raises posted, - lowers it), currency.';
