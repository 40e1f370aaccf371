/*
 * base/stats.h
 *	  Counters of commands in shared memory: failsafe.stat_commands.
 *
 * A crash may lose them [I8].  They are counted when the command has its
 * outcome, outside the transaction, so a raised decline shows too.
 */
#ifndef FAILSAFE_BASE_STATS_H
#define FAILSAFE_BASE_STATS_H

#include "base/errors.h"
#include "portability/instr_time.h"

typedef enum StatsCommand
{
	STATS_DEBIT,
	STATS_CREDIT,
	STATS_TRANSFER,
	STATS_HOLD,
	STATS_EXTEND,
	STATS_COMMIT,
	STATS_ROLLBACK,
	STATS_REVERSE,
	STATS_POST,
	STATS_COMMAND_COUNT
} StatsCommand;

typedef enum StatsOutcome
{
	STATS_ACCEPTED,				/* committed, held, rolled_back */
	STATS_REPLAYED,
	STATS_MISMATCHED,
	STATS_DECLINED,
	STATS_REFUSED,
	STATS_OUTCOME_COUNT
} StatsOutcome;

/* Request and attach shared memory; works without preload too (small slop). */
extern void stats_init(void);

/*
 * Count one command.  elapsed_us goes into the histogram of its command and
 * outcome (power-of-two buckets of microseconds).  Never throws, never waits.
 */
extern void stats_count(StatsCommand command, StatsOutcome outcome,
						FailsafeCode code, uint64 elapsed_us);

#endif							/* FAILSAFE_BASE_STATS_H */
