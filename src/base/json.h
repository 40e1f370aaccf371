/*
 * base/json.h
 *	  JSON out: members of an object, written one by one.  JSON in: the members
 *	  of one object or the elements of one array, without raising.
 */
#ifndef FAILSAFE_BASE_JSON_H
#define FAILSAFE_BASE_JSON_H

#include "base/money.h"
#include "lib/stringinfo.h"
#include "utils/timestamp.h"

#define JSON_NUMBER_MAX				INT64CONST(9007199254740991)	/* 2^53 - 1 */
#define JSON_NUMBER_EXPONENT_MAX	8	/* money of a finer currency is a string */
#define JSON_NUMBER_LENGTH_MAX		1000	/* characters of any number token */
#define JSON_DEPTH_MAX				64	/* objects and arrays inside each other */

/*
 * Writers.  Each puts a comma before its member unless the last character of out
 * is '{'.  Names need no escapes.  A NULL text, and NULL raw JSON, write nothing.
 */
extern void json_member_text(StringInfo out, const char *name, const char *value);
extern void json_member_raw(StringInfo out, const char *name, const char *json);
extern void json_member_bool(StringInfo out, const char *name, bool value);
extern void json_member_int64(StringInfo out, const char *name, int64 value);

/* An id as text: e_3, h_7, t_12; nothing where it is 0. */
extern void json_member_id(StringInfo out, const char *name, char letter, int64 id);

/* A number where the currency's exponent is at most 8, else a string. */
extern void json_member_money(StringInfo out, const char *name, int128 minor, int exponent);

/* UTC with microseconds: "2026-01-31T23:59:59.000000Z".  The time is finite. */
extern void json_member_time(StringInfo out, const char *name, TimestampTz at);

/* The same time, without quotes. */
extern void json_append_time(StringInfo out, TimestampTz at);

/*
 * Read what json_member_time() writes, and the rest of ISO 8601 that names one
 * instant: date, 'T' or a blank, hours and minutes, perhaps seconds and a
 * fraction (cut after microseconds), and a zone: Z or +hh, +hhmm, +hh:mm.
 */
extern bool json_time_from_text(const char *text, TimestampTz *at);

typedef enum JsonMemberKind
{
	JSON_MEMBER_NULL,
	JSON_MEMBER_TRUE,
	JSON_MEMBER_FALSE,
	JSON_MEMBER_NUMBER,
	JSON_MEMBER_TEXT,
	JSON_MEMBER_OBJECT,
	JSON_MEMBER_ARRAY
} JsonMemberKind;

/* A member of an object, or an element of an array (name NULL). */
typedef struct JsonMember
{
	const char *name;			/* escapes resolved */
	JsonMemberKind kind;
	const char *text;			/* of a text (escapes resolved) or number, else NULL */
	const char *raw;			/* the value as it stands in the source */
	int			raw_length;
} JsonMember;

typedef struct JsonList
{
	JsonMemberKind kind;		/* of the whole text */
	int			count;			/* members or elements there are */
	JsonMember *members;		/* the first of them, as many as were asked for */
} JsonList;

/*
 * Read the members or elements of the outermost value, members_max of them at
 * most; what lies deeper is checked and stays raw.  Returns NULL, or what is
 * wrong with the text.  Never raises for bad input, so it is bounded: nesting by
 * JSON_DEPTH_MAX, numbers by JSON_NUMBER_LENGTH_MAX.
 */
extern const char *json_read(const char *json, int length, int members_max,
							 JsonList *list);

/* The text of an object's member; NULL where it has none of that name. */
extern const char *json_find_text(const char *json, const char *name);

/*
 * The elements of an array, raw only, all of them up to elements_max.  For text
 * that is valid JSON already: what it does not expect, it may raise.
 */
extern const char *json_read_array(const char *json, int length, int elements_max,
								   JsonList *list);

#endif							/* FAILSAFE_BASE_JSON_H */
