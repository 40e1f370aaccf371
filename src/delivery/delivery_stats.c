/*
 * delivery/delivery_stats.c
 *	  Numbers of each subscription in shared memory.
 *
 * Invariants:
 *	DS1	An entry belongs to one (database, subscription) from the moment its key is
 *		set; keys are set by compare-and-swap.
 *	DS2	Memory that is all zero is a valid, empty segment.
 *	DS3	Nothing here throws or waits.  Without room the numbers are missing, and the
 *		view shows NULL.
 *
 * Latencies are counted in buckets, four to each power of two of microseconds, so a
 * quantile is right to about a tenth.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "port/pg_bitutils.h"
#include "utils/builtins.h"

#include "base/compat.h"
#include "base/segment.h"
#include "delivery/delivery_stats.h"

#define BUCKETS_OF_OCTAVE	4
#define OCTAVES				40	/* 2^40 us are 12 days */
#define BUCKETS				(OCTAVES * BUCKETS_OF_OCTAVE)

struct DeliveryStats
{
	pg_atomic_uint64 key;		/* database << 32 | subscription; 0: free */
	pg_atomic_uint64 delivered;
	pg_atomic_uint64 retried;	/* of them, not at the first try */
	pg_atomic_uint64 failed[CLASS_COUNT];	/* attempts, by class */
	pg_atomic_uint64 dead;
	pg_atomic_uint32 sent;		/* now */
	pg_atomic_uint32 queued;	/* now */
	pg_atomic_uint32 breaker;
	pg_atomic_uint64 refused_until; /* TimestampTz: throttled, or the breaker's pause */
	pg_atomic_uint64 latencies[BUCKETS];
};

static Segment segment = {
	.name = "pg_failsafe subscriptions",
	.entry_size = sizeof(DeliveryStats),
	.entries_preloaded = 128,
	.entries_not_preloaded = 8
};
static DeliveryStats *entries = NULL;

/* ---------- the segment ---------- */

void
delivery_stats_init(void)
{
	segment_request(&segment);
}

static bool
entries_attach(void)
{
	if (entries == NULL)
		entries = segment_attach(&segment, NULL);
	return entries != NULL;
}

static uint64
entry_key(int64 subscription_id)
{
	Assert(subscription_id > 0);
	return ((uint64) MyDatabaseId << 32) | (uint32) subscription_id;
}

DeliveryStats *
delivery_stats_of(int64 subscription_id)
{
	uint64		key = entry_key(subscription_id);

	if (!entries_attach())
		return NULL;
	for (int i = 0; i < segment.entry_count; i++)
	{
		DeliveryStats *stats = &entries[i];
		uint64		owner = pg_atomic_read_u64(&stats->key);

		if (owner == 0 && pg_atomic_compare_exchange_u64(&stats->key, &owner, key))
			return stats;
		if (owner == key)
			return stats;
	}
	return NULL;
}

/* ---------- counting ---------- */

static int
bucket_of(int64 latency_us)
{
	uint64		value = (uint64) Max(latency_us, 1);
	int			octave = pg_leftmost_one_pos64(value);
	int			quarter = octave >= 2 ? (int) ((value >> (octave - 2)) & 3) : 0;

	return Min(octave * BUCKETS_OF_OCTAVE + quarter, BUCKETS - 1);
}

static double
bucket_low_us(int bucket)
{
	double		octave = (double) (UINT64CONST(1) << (bucket / BUCKETS_OF_OCTAVE));

	Assert(bucket >= 0 && bucket <= BUCKETS);
	return octave + octave * (bucket % BUCKETS_OF_OCTAVE) / BUCKETS_OF_OCTAVE;
}

void
delivery_stats_delivered(DeliveryStats *stats, bool was_retry, int64 latency_us)
{
	if (stats == NULL)
		return;
	pg_atomic_fetch_add_u64(&stats->delivered, 1);
	if (was_retry)
		pg_atomic_fetch_add_u64(&stats->retried, 1);
	pg_atomic_fetch_add_u64(&stats->latencies[bucket_of(latency_us)], 1);
}

void
delivery_stats_failed(DeliveryStats *stats, FailureClass class)
{
	Assert(class > CLASS_DELIVERED && class < CLASS_COUNT);
	if (stats != NULL)
		pg_atomic_fetch_add_u64(&stats->failed[class], 1);
}

void
delivery_stats_died(DeliveryStats *stats)
{
	if (stats != NULL)
		pg_atomic_fetch_add_u64(&stats->dead, 1);
}

void
delivery_stats_now(DeliveryStats *stats, int sent, int queued, const Destination *destination)
{
	int64		until = 0;

	if (stats == NULL)
		return;
	if (destination->breaker.state != BREAKER_CLOSED)
		until = destination->breaker.open_until;
	until = Max(until, destination->throttled_until);
	pg_atomic_write_u32(&stats->sent, (uint32) sent);
	pg_atomic_write_u32(&stats->queued, (uint32) queued);
	pg_atomic_write_u32(&stats->breaker, (uint32) destination->breaker.state);
	pg_atomic_write_u64(&stats->refused_until, (uint64) until);
}

/* ---------- reading ---------- */

static double
quantile_ms(const uint64 *buckets, uint64 total, double quantile)
{
	double		rank = quantile * (double) total;
	double		below = 0;

	for (int i = 0; i < BUCKETS; i++)
	{
		double		low = bucket_low_us(i);
		double		high = bucket_low_us(i + 1);

		if (buckets[i] > 0 && below + (double) buckets[i] >= rank)
			return (low + (high - low) * (rank - below) / (double) buckets[i]) / 1000;
		below += (double) buckets[i];
	}
	return 0;
}

#define STATS_COLUMNS	12

static void
put_entry(ReturnSetInfo *result, DeliveryStats *stats)
{
	Datum		values[STATS_COLUMNS];
	bool		nulls[STATS_COLUMNS] = {false};
	uint64		buckets[BUCKETS];
	uint64		total = 0;
	uint64		failed = 0;
	uint64		until = pg_atomic_read_u64(&stats->refused_until);

	for (int i = 0; i < BUCKETS; i++)
		total += buckets[i] = pg_atomic_read_u64(&stats->latencies[i]);
	for (int i = 0; i < CLASS_COUNT; i++)
		failed += pg_atomic_read_u64(&stats->failed[i]);
	values[0] = Int64GetDatum((int64) (pg_atomic_read_u64(&stats->key) & PG_UINT32_MAX));
	values[1] = Int64GetDatum((int64) pg_atomic_read_u64(&stats->delivered));
	values[2] = Int64GetDatum((int64) pg_atomic_read_u64(&stats->retried));
	values[3] = Int64GetDatum((int64) failed);
	values[4] = Int64GetDatum((int64) pg_atomic_read_u64(&stats->dead));
	values[5] = Int32GetDatum((int32) pg_atomic_read_u32(&stats->sent));
	values[6] = Int32GetDatum((int32) pg_atomic_read_u32(&stats->queued));
	values[7] = CStringGetTextDatum(breaker_state_names[pg_atomic_read_u32(&stats->breaker)]);
	nulls[8] = until == 0;
	values[8] = TimestampTzGetDatum((TimestampTz) until);
	nulls[9] = nulls[10] = nulls[11] = total == 0;
	values[9] = Float8GetDatum(quantile_ms(buckets, total, 0.50));
	values[10] = Float8GetDatum(quantile_ms(buckets, total, 0.95));
	values[11] = Float8GetDatum(quantile_ms(buckets, total, 0.99));
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

PG_FUNCTION_INFO_V1(failsafe_stat_deliveries);

/* Those of this database. */
Datum
failsafe_stat_deliveries(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	Assert(result->setDesc->natts == STATS_COLUMNS);
	if (!entries_attach())
		return (Datum) 0;
	for (int i = 0; i < segment.entry_count; i++)
	{
		if (pg_atomic_read_u64(&entries[i].key) >> 32 == MyDatabaseId)
			put_entry(result, &entries[i]);
	}
	return (Datum) 0;
}
