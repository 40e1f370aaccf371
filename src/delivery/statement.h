/*
 * delivery/statement.h
 *	  SQL statements of this room that are prepared once a backend.
 *
 * Invariants:
 *	Q1	A statement that changes rows runs with the guard open, and the guard is
 *		closed right after it [I2].
 *	Q2	The statements have the rights and the search_path of their caller: SQL
 *		functions of the room are SECURITY DEFINER and SET search_path = pg_catalog,
 *		pg_temp; the worker is a superuser with that search_path.
 *	Q3	Between statement_begin() and statement_end() the row writer's bracket is open
 *		(commit.h), unless the caller has opened it.
 */
#ifndef FAILSAFE_DELIVERY_STATEMENT_H
#define FAILSAFE_DELIVERY_STATEMENT_H

#include "executor/spi.h"

#define STATEMENT_ARGUMENTS_MAX		24

/* One static for each statement; plan is filled at the first run. */
typedef struct Statement
{
	const char *text;
	int			argument_count;
	Oid			types[STATEMENT_ARGUMENTS_MAX];
	SPIPlanPtr	plan;
} Statement;

/* Values of the arguments, in order: a statement's parameters are built by adding. */
typedef struct Arguments
{
	int			count;
	Datum		values[STATEMENT_ARGUMENTS_MAX];
	bool		nulls[STATEMENT_ARGUMENTS_MAX];
} Arguments;

typedef struct StatementScope
{
	bool		writes;			/* we opened the row writer's bracket */
} StatementScope;

extern StatementScope statement_begin(bool writes);
extern void statement_end(StatementScope scope);

/* Rows that were read, inserted, updated or deleted; those read are in SPI_tuptable. */
extern uint64 statement_write(Statement *statement, const Arguments *arguments);
extern uint64 statement_read(Statement *statement, const Arguments *arguments);

extern void argument_int64(Arguments *arguments, int64 value);
extern void argument_int64_or_null(Arguments *arguments, int64 value);	/* 0: NULL */
extern void argument_int32(Arguments *arguments, int32 value);
extern void argument_time(Arguments *arguments, TimestampTz value); /* 0: NULL */
extern void argument_cstring(Arguments *arguments, const char *value); /* NULL: NULL */
extern void argument_datum(Arguments *arguments, Datum value, bool is_null);

/* Columns (0 ..) of a row that a statement read; NULL is 0. */
extern int64 column_int64(uint64 row, int column);
extern int32 column_int32(uint64 row, int column);
extern TimestampTz column_time(uint64 row, int column);
extern double column_float8(uint64 row, int column);
extern bool column_bool(uint64 row, int column);
extern char *column_text(uint64 row, int column);	/* in the SPI's memory */
extern Datum column_datum(uint64 row, int column, bool *is_null);

#endif							/* FAILSAFE_DELIVERY_STATEMENT_H */
