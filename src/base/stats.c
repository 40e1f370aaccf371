/*
 * base/stats.c
 *	  Owns the counters of commands in shared memory: failsafe.stat_commands.
 *
 * Invariants:
 *	ST1	A cell belongs to one (command, outcome, code) for ever once its key is
 *		set; keys are set by compare-and-swap, so nothing is ever locked.
 *	ST2	Memory that is all zero is a valid, empty segment: the segment needs no
 *		initialization, and the first backend that comes may use it.
 *	ST3	stats_count() never throws and never waits.  When there is no room for
 *		the segment, counting is off and stat_commands is empty.
 *	ST4	The numbers are the server's, over all databases, since its start or the
 *		last reset; a reader may see a command half counted.
 *
 * With preload the cells are there several times ("shards") and a backend counts
 * in the one of its number, so that backends do not fight for a cache line.
 * Without preload there is one shard, small enough for the reserve that the
 * server keeps in its segment.  Takes no locks but the shared memory index's, once.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "port/pg_bitutils.h"
#include "storage/proc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/segment.h"
#include "base/stats.h"

#define STATS_CELLS			160
#define STATS_BUCKETS		26	/* [0, 1) us, [1, 2), [2, 4) ... from 2^24 us */

typedef struct StatsCell
{
	pg_atomic_uint32 key;		/* stats_key(), 0 = free */
	pg_atomic_uint64 total_us;
	pg_atomic_uint64 buckets[STATS_BUCKETS];
} StatsCell;

typedef struct StatsShard
{
	StatsCell	cells[STATS_CELLS];
} StatsShard;

/* What a reader sums up over the shards. */
typedef struct StatsSum
{
	uint32		key;
	uint64		count;
	uint64		total_us;
	uint64		buckets[STATS_BUCKETS];
} StatsSum;

static const char *const command_names[STATS_COMMAND_COUNT] = {
	"debit", "credit", "transfer", "hold", "extend", "commit", "rollback", "reverse", "post"
};

static const char *const outcome_names[STATS_OUTCOME_COUNT] = {
	"accepted", "replayed", "mismatched", "declined", "refused"
};

static Segment segment = {
	.name = "pg_failsafe commands",
	.entry_size = sizeof(StatsShard),
	.entries_preloaded = 8,
	.entries_not_preloaded = 1
};
static StatsShard *shards = NULL;

void
stats_init(void)
{
	segment_request(&segment);
}

static bool
stats_attach(void)
{
	if (shards == NULL)
		shards = segment_attach(&segment, NULL);
	return shards != NULL;
}

static inline uint32
stats_key(StatsCommand command, StatsOutcome outcome, FailsafeCode code)
{
	Assert(command < STATS_COMMAND_COUNT && outcome < STATS_OUTCOME_COUNT);
	Assert(code >= FAILSAFE_OK && code < FAILSAFE_CODE_COUNT);
	return 1 + ((uint32) code * STATS_OUTCOME_COUNT + outcome) * STATS_COMMAND_COUNT + command;
}

/* The cell of the key, or NULL when all are taken by others. */
static StatsCell *
stats_cell(StatsShard *shard, uint32 key)
{
	for (int i = 0; i < STATS_CELLS; i++)
	{
		StatsCell  *cell = &shard->cells[(key + i) % STATS_CELLS];
		uint32		owner = pg_atomic_read_u32(&cell->key);

		if (owner == 0 && pg_atomic_compare_exchange_u32(&cell->key, &owner, key))
			return cell;
		if (owner == key)
			return cell;
	}
	return NULL;
}

static inline int
stats_bucket(uint64 elapsed_us)
{
	if (elapsed_us == 0)
		return 0;
	return Min(pg_leftmost_one_pos64(elapsed_us) + 1, STATS_BUCKETS - 1);
}

void
stats_count(StatsCommand command, StatsOutcome outcome, FailsafeCode code,
			uint64 elapsed_us)
{
	StatsCell  *cell;

	if (unlikely(shards == NULL) && !stats_attach())
		return;
	if (outcome == STATS_ACCEPTED || outcome == STATS_REPLAYED)
		code = FAILSAFE_OK;
	cell = stats_cell(&shards[backend_number_compat() % segment.entry_count],
					  stats_key(command, outcome, code));
	if (cell == NULL)
		return;
	pg_atomic_fetch_add_u64(&cell->total_us, elapsed_us);
	pg_atomic_fetch_add_u64(&cell->buckets[stats_bucket(elapsed_us)], 1);
}

/* ---------- reading ---------- */

static StatsSum *
stats_sum_of(StatsSum *sums, int *count, uint32 key)
{
	for (int i = 0; i < *count; i++)
		if (sums[i].key == key)
			return &sums[i];
	memset(&sums[*count], 0, sizeof(StatsSum));
	sums[*count].key = key;
	return &sums[(*count)++];
}

/* Sum the shards up; returns the number of sums. */
static int
stats_collect(StatsSum *sums)
{
	int			count = 0;

	for (int i = 0; i < segment.entry_count; i++)
		for (int j = 0; j < STATS_CELLS; j++)
		{
			StatsCell  *cell = &shards[i].cells[j];
			uint32		key = pg_atomic_read_u32(&cell->key);
			StatsSum   *sum;

			if (key == 0)
				continue;
			sum = stats_sum_of(sums, &count, key);
			sum->total_us += pg_atomic_read_u64(&cell->total_us);
			for (int k = 0; k < STATS_BUCKETS; k++)
			{
				uint64		in_bucket = pg_atomic_read_u64(&cell->buckets[k]);

				sum->buckets[k] += in_bucket;
				sum->count += in_bucket;
			}
		}
	Assert(count <= segment.entry_count * STATS_CELLS);
	return count;
}

/* The quantile in microseconds, interpolated inside its bucket. */
static double
stats_quantile_us(const StatsSum *sum, double quantile)
{
	double		rank = quantile * (double) sum->count;
	double		below = 0;

	Assert(quantile > 0 && quantile < 1);
	for (int k = 0; k < STATS_BUCKETS; k++)
	{
		double		in_bucket = (double) sum->buckets[k];
		double		low = k == 0 ? 0 : (double) (UINT64CONST(1) << (k - 1));
		double		high = (double) (UINT64CONST(1) << k);

		if (in_bucket > 0 && below + in_bucket >= rank)
			return low + (high - low) * (rank - below) / in_bucket;
		below += in_bucket;
	}
	return 0;
}

static ArrayType *
stats_histogram(const StatsSum *sum)
{
	Datum		elements[STATS_BUCKETS];

	for (int k = 0; k < STATS_BUCKETS; k++)
		elements[k] = Int64GetDatum((int64) sum->buckets[k]);
	return construct_array(elements, STATS_BUCKETS, INT8OID, sizeof(int64),
						   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
}

#define STATS_COLUMNS	10

static void
stats_put(ReturnSetInfo *result, const StatsSum *sum)
{
	uint32		number = sum->key - 1;
	FailsafeCode code = (FailsafeCode) (number / (STATS_COMMAND_COUNT * STATS_OUTCOME_COUNT));
	Datum		values[STATS_COLUMNS];
	bool		nulls[STATS_COLUMNS] = {false};

	Assert(sum->key > 0 && sum->count > 0);
	Assert(code < FAILSAFE_CODE_COUNT);
	values[0] = CStringGetTextDatum(command_names[number % STATS_COMMAND_COUNT]);
	values[1] = CStringGetTextDatum(outcome_names[number / STATS_COMMAND_COUNT
												  % STATS_OUTCOME_COUNT]);
	nulls[2] = code == FAILSAFE_OK;
	values[2] = nulls[2] ? (Datum) 0 : CStringGetTextDatum(error_info(code)->name);
	values[3] = Int64GetDatum((int64) sum->count);
	values[4] = Float8GetDatum((double) sum->total_us / 1000.0);
	values[5] = Float8GetDatum((double) sum->total_us / (double) sum->count);
	values[6] = Float8GetDatum(stats_quantile_us(sum, 0.50));
	values[7] = Float8GetDatum(stats_quantile_us(sum, 0.95));
	values[8] = Float8GetDatum(stats_quantile_us(sum, 0.99));
	values[9] = PointerGetDatum(stats_histogram(sum));
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

PG_FUNCTION_INFO_V1(failsafe_stat_commands);

Datum
failsafe_stat_commands(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	StatsSum   *sums;
	int			count;

	InitMaterializedSRF(fcinfo, 0);
	Assert(result->setDesc->natts == STATS_COLUMNS);
	if (!stats_attach())
		return (Datum) 0;
	sums = palloc_array(StatsSum, segment.entry_count * STATS_CELLS);
	count = stats_collect(sums);
	for (int i = 0; i < count; i++)
		if (sums[i].count > 0)
			stats_put(result, &sums[i]);
	return (Datum) 0;
}

PG_FUNCTION_INFO_V1(failsafe_stat_commands_reset);

/* Zeroes the numbers; cells keep their keys [ST1]. */
Datum
failsafe_stat_commands_reset(PG_FUNCTION_ARGS)
{
	if (!stats_attach())
		PG_RETURN_VOID();
	for (int i = 0; i < segment.entry_count; i++)
		for (int j = 0; j < STATS_CELLS; j++)
		{
			StatsCell  *cell = &shards[i].cells[j];

			pg_atomic_write_u64(&cell->total_us, 0);
			for (int k = 0; k < STATS_BUCKETS; k++)
				pg_atomic_write_u64(&cell->buckets[k], 0);
		}
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(failsafe_stat_commands_available);

Datum
failsafe_stat_commands_available(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(stats_attach());
}
