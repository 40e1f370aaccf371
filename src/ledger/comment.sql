-- ledger: what the tables, sequences and types hold, for \d+ and for those who read the
-- catalogue.

COMMENT ON TABLE failsafe.account IS
'What never changes about an account. Read it through failsafe.accounts.';
COMMENT ON COLUMN failsafe.account.code IS 'unique in its tenant';
COMMENT ON COLUMN failsafe.account.kind IS
'wallet: locked by each movement, versioned; system: never locked, its balance is a checkpoint and the entries after it';
COMMENT ON COLUMN failsafe.account.actor_id IS 'who opened it';
COMMENT ON SEQUENCE failsafe.account_id_seq IS 'ids of accounts';

COMMENT ON TABLE failsafe.balance IS
'What changes about an account: one row each, locked and replaced by every movement of a wallet. The row of a system account keeps its status alone.';
COMMENT ON COLUMN failsafe.balance.version IS 'number of the account''s entries';
COMMENT ON COLUMN failsafe.balance.recorded_at IS 'of the latest entry; never goes back';
COMMENT ON COLUMN failsafe.balance.next_hold_expiry IS
'when the first open hold expires, or earlier; NULL: no open hold';
COMMENT ON COLUMN failsafe.balance.status IS 'open, frozen_out, frozen_all, closed';
COMMENT ON COLUMN failsafe.balance.posted IS 'sum of the account''s entries, minor units';
COMMENT ON COLUMN failsafe.balance.held IS
'sum of the rest of the holds whose row says open, expired ones too until somebody meets them';
COMMENT ON COLUMN failsafe.balance.floor IS 'NULL: none';
COMMENT ON COLUMN failsafe.balance.ceiling IS 'NULL: none';

COMMENT ON TABLE failsafe.account_change IS
'Openings, freezes, closings and changes of limits; append-only. status, floor and ceiling are those after the change. Read it through failsafe.account_changes.';
COMMENT ON COLUMN failsafe.account_change.change IS
'opened, frozen, unfrozen, closed, limits_changed';
COMMENT ON SEQUENCE failsafe.account_change_id_seq IS 'ids of account changes';

COMMENT ON TABLE failsafe.journal IS
'One row for each command that had an outcome, declines and expiries too; append-only. It holds everything that a repeat of the command answers. Read it through failsafe.transactions.';
COMMENT ON COLUMN failsafe.journal.id IS 't_...';
COMMENT ON COLUMN failsafe.journal.account_id IS 'the account named first; NULL: a posting';
COMMENT ON COLUMN failsafe.journal.hold_id IS 'the hold that it placed or touched';
COMMENT ON COLUMN failsafe.journal.reverses IS 'the transaction that it returns';
COMMENT ON COLUMN failsafe.journal.version IS 'of the account, after';
COMMENT ON COLUMN failsafe.journal.counterparty_version IS
'of the counterparty, after; NULL: a system account, or nothing moved';
COMMENT ON COLUMN failsafe.journal.effective_at IS 'NULL: when it was recorded';
COMMENT ON COLUMN failsafe.journal.expires_at IS 'of the hold, after';
COMMENT ON COLUMN failsafe.journal.command IS
'debit, credit, transfer, hold, extend, commit, rollback, reverse, post, expire';
COMMENT ON COLUMN failsafe.journal.status IS
'committed, held, rolled_back, declined, expired';
COMMENT ON COLUMN failsafe.journal.code IS 'of a decline';
COMMENT ON COLUMN failsafe.journal.key IS 'NULL: an expiry';
COMMENT ON COLUMN failsafe.journal.posted IS 'of the account, after; NULL: a system account';
COMMENT ON COLUMN failsafe.journal.released IS 'held money that it set free without moving it';
COMMENT ON COLUMN failsafe.journal.detail IS 'of a decline, as its error would show it';
COMMENT ON COLUMN failsafe.journal.leg_account_ids IS
'of a posting: its accounts, in the order of the legs';
COMMENT ON COLUMN failsafe.journal.leg_versions IS
'of a posting: the versions of its accounts, after each leg; 0: a system account';
COMMENT ON SEQUENCE failsafe.journal_id_seq IS 'ids of transactions; 1024 entry ids belong to each';

COMMENT ON TABLE failsafe.entry IS
'The legs of all transactions; append-only. + raises posted, - lowers it. Read it through failsafe.entries.';
COMMENT ON COLUMN failsafe.entry.id IS 'e_...; 1024 * journal_id + number of the leg, from 0';
COMMENT ON COLUMN failsafe.entry.version IS
'1, 2, 3 ... of the account; NULL: a system account';
COMMENT ON COLUMN failsafe.entry.effective_at IS 'only where back-dated';
COMMENT ON COLUMN failsafe.entry.posted IS 'of the account, after; NULL: a system account';

COMMENT ON TABLE failsafe.hold IS
'Reserved money. A row lives under the lock of its account''s balance and does not change any more once it is not open. Read it through failsafe.hold_list.';
COMMENT ON COLUMN failsafe.hold.id IS 'h_...; the id of the transaction that placed it';
COMMENT ON COLUMN failsafe.hold.counterparty_id IS
'where a capture goes unless it says otherwise';
COMMENT ON COLUMN failsafe.hold.status IS 'open, committed, rolled_back, expired';
COMMENT ON COLUMN failsafe.hold.amount IS 'reserved at first';
COMMENT ON COLUMN failsafe.hold.released IS 'became free without moving';

COMMENT ON TABLE failsafe.reversible IS
'How much of a transaction has been returned; of a posting with more than two legs 1 when it was.';

COMMENT ON TABLE failsafe.checkpoint IS
'Balances of system accounts at a point: the sum of all entries up to entry_id. Made by ledger_checkpoint(); append-only.';
COMMENT ON COLUMN failsafe.checkpoint.entry_count IS 'number of entries up to entry_id';
COMMENT ON COLUMN failsafe.checkpoint.recorded_from IS
'no entry since the checkpoint before is recorded earlier';
COMMENT ON COLUMN failsafe.checkpoint.recorded_until IS
'no entry up to entry_id is recorded later';

COMMENT ON TYPE failsafe.leg IS
'One leg of ledger_post(): account code, signed amount in minor units, currency.';
