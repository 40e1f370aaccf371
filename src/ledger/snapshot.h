/*
 * ledger/snapshot.h
 *	  The snapshot for business reads inside one call.
 */
#ifndef FAILSAFE_LEDGER_SNAPSHOT_H
#define FAILSAFE_LEDGER_SNAPSHOT_H

#include "access/xact.h"
#include "utils/snapmgr.h"

/*
 * A registered snapshot that sees what is committed now (READ COMMITTED) or what
 * the transaction may see (REPEATABLE READ, SERIALIZABLE), and in both cases all
 * earlier commands of our own transaction.  The caller unregisters it.
 */
static inline Snapshot
snapshot_fresh(void)
{
	Snapshot	snapshot;

	if (!IsolationUsesXactSnapshot())
		return RegisterSnapshot(GetLatestSnapshot());
	PushCopiedSnapshot(GetTransactionSnapshot());
	UpdateActiveSnapshotCommandId();
	snapshot = RegisterSnapshot(GetActiveSnapshot());
	PopActiveSnapshot();
	return snapshot;
}

#endif							/* FAILSAFE_LEDGER_SNAPSHOT_H */
