/*
 * delivery/statement.c
 *	  SQL statements of this room that are prepared once a backend.
 *
 * Invariants Q1-Q3 are in statement.h.  Takes the locks of its statements only.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/commit.h"
#include "base/guard.h"
#include "delivery/statement.h"

StatementScope
statement_begin(bool writes)
{
	StatementScope scope;

	scope.writes = writes && !commit_is_writing();
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	if (scope.writes)
		commit_write_begin();
	Assert(!writes || commit_is_writing());
	return scope;
}

void
statement_end(StatementScope scope)
{
	if (scope.writes)
		commit_write_end();
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "could not leave SPI");
}

static void
statement_prepare(Statement *statement)
{
	SPIPlanPtr	plan;

	Assert(statement->argument_count <= STATEMENT_ARGUMENTS_MAX);
	Assert(statement->plan == NULL);
	plan = SPI_prepare(statement->text, statement->argument_count, statement->types);
	if (plan == NULL)
		elog(ERROR, "could not prepare a statement: %s", SPI_result_code_string(SPI_result));
	if (SPI_keepplan(plan) != 0)
		elog(ERROR, "could not keep a statement");
	statement->plan = plan;
}

static uint64
statement_run(Statement *statement, const Arguments *arguments, bool writes)
{
	char		nulls[STATEMENT_ARGUMENTS_MAX];
	int			result;

	Assert(arguments->count == statement->argument_count);
	if (statement->plan == NULL)
		statement_prepare(statement);
	for (int i = 0; i < arguments->count; i++)
		nulls[i] = arguments->nulls[i] ? 'n' : ' ';
	if (writes)
		guard_open();
	result = SPI_execute_plan(statement->plan, (Datum *) arguments->values, nulls,
							  false, 0);
	if (writes)
		guard_close();
	if (result < 0)
		elog(ERROR, "a statement failed: %s", SPI_result_code_string(result));
	return SPI_processed;
}

uint64
statement_write(Statement *statement, const Arguments *arguments)
{
	Assert(commit_is_writing());
	return statement_run(statement, arguments, true);
}

uint64
statement_read(Statement *statement, const Arguments *arguments)
{
	uint64		count = statement_run(statement, arguments, false);

	Assert(count == 0 || SPI_tuptable != NULL);
	return count;
}

/* ---------- arguments ---------- */

void
argument_datum(Arguments *arguments, Datum value, bool is_null)
{
	Assert(arguments->count >= 0 && arguments->count < STATEMENT_ARGUMENTS_MAX);
	arguments->values[arguments->count] = value;
	arguments->nulls[arguments->count] = is_null;
	arguments->count++;
}

void
argument_int64(Arguments *arguments, int64 value)
{
	argument_datum(arguments, Int64GetDatum(value), false);
}

void
argument_int64_or_null(Arguments *arguments, int64 value)
{
	argument_datum(arguments, Int64GetDatum(value), value == 0);
}

void
argument_int32(Arguments *arguments, int32 value)
{
	argument_datum(arguments, Int32GetDatum(value), false);
}

void
argument_time(Arguments *arguments, TimestampTz value)
{
	argument_datum(arguments, TimestampTzGetDatum(value), value == 0);
}

void
argument_cstring(Arguments *arguments, const char *value)
{
	argument_datum(arguments, value == NULL ? (Datum) 0 : CStringGetTextDatum(value),
				   value == NULL);
}

/* ---------- columns ---------- */

Datum
column_datum(uint64 row, int column, bool *is_null)
{
	Assert(SPI_tuptable != NULL && row < SPI_tuptable->numvals);
	Assert(column >= 0 && column < SPI_tuptable->tupdesc->natts);
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column + 1, is_null);
}

int64
column_int64(uint64 row, int column)
{
	bool		is_null;
	Datum		value = column_datum(row, column, &is_null);

	return is_null ? 0 : DatumGetInt64(value);
}

int32
column_int32(uint64 row, int column)
{
	bool		is_null;
	Datum		value = column_datum(row, column, &is_null);

	return is_null ? 0 : DatumGetInt32(value);
}

TimestampTz
column_time(uint64 row, int column)
{
	bool		is_null;
	Datum		value = column_datum(row, column, &is_null);

	return is_null ? 0 : DatumGetTimestampTz(value);
}

double
column_float8(uint64 row, int column)
{
	bool		is_null;
	Datum		value = column_datum(row, column, &is_null);

	return is_null ? 0 : DatumGetFloat8(value);
}

bool
column_bool(uint64 row, int column)
{
	bool		is_null;
	Datum		value = column_datum(row, column, &is_null);

	return !is_null && DatumGetBool(value);
}

char *
column_text(uint64 row, int column)
{
	Assert(SPI_tuptable != NULL && row < SPI_tuptable->numvals);
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column + 1);
}
