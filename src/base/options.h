/*
 * base/options.h
 *	  The last argument of the SQL functions: options jsonb DEFAULT NULL.
 *
 * All growth of a released function goes through it, so a member that a function
 * does not know is refused by name: a misspelled option must not be ignored.
 */
#ifndef FAILSAFE_BASE_OPTIONS_H
#define FAILSAFE_BASE_OPTIONS_H

#include "base/compat.h"
#include "datatype/timestamp.h"
#include "utils/jsonb.h"

typedef enum OptionType
{
	OPTION_BOOL,				/* true, false */
	OPTION_INT,					/* a whole number of 32 bits */
	OPTION_TEXT,				/* a string */
	OPTION_TIME					/* a string: ISO 8601 date, time and zone */
} OptionType;

typedef struct OptionSpec
{
	const char *name;
	OptionType	type;
} OptionSpec;

/* One for each OptionSpec; a JSON null counts as not given. */
typedef struct OptionValue
{
	bool		given;
	bool		boolean;
	int32		number;
	const char *text;
	TimestampTz time;
} OptionValue;

/*
 * Read the object into values[count].  Raises OPTION_INVALID, naming the member,
 * for no object, an unknown member and a value of the wrong type.  options may be
 * NULL; with count 0 every member is refused.
 */
extern void options_read(Jsonb *options, const OptionSpec *specs, int count,
						 OptionValue *values);

/* Raise OPTION_INVALID for a member whose value is of the right type but not allowed. */
pg_noreturn extern void option_refuse(const char *name, const char *problem);

#endif							/* FAILSAFE_BASE_OPTIONS_H */
