/*
 * delivery/reason.c
 *	  Why an event became a dead letter, as one sentence for a person.
 *
 * Invariants:
 *	S1	Pure but for palloc.
 *	S2	A reason has at most DEAD_LETTER_REASON_BYTES_MAX bytes, is valid in the
 *		database's encoding if its parts are, and has no control characters: it is
 *		shown in tables and written to logs.
 *	S3	What the other side said is quoted at the end, so that its words cannot be
 *		taken for ours.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"

#include "delivery/reason.h"

#define SECONDS_A_DAY	86400

/* The largest unit that the time has at least two of, rounded down: "90 minutes". */
static void
append_elapsed(StringInfo out, int64 elapsed_us)
{
	static const struct
	{
		int64		seconds;
		const char *name;
	}			units[] = {
		{SECONDS_A_DAY, "days"}, {3600, "hours"}, {60, "minutes"}
	};
	int64		seconds = Max(elapsed_us, 0) / USECS_PER_SEC;

	for (int i = 0; i < lengthof(units); i++)
		if (seconds >= 2 * units[i].seconds)
		{
			appendStringInfo(out, "%lld %s", (long long) (seconds / units[i].seconds),
							 units[i].name);
			return;
		}
	if (seconds == 0)
		appendStringInfoString(out, "less than a second");
	else
		appendStringInfo(out, "%lld second%s", (long long) seconds, seconds == 1 ? "" : "s");
}

static void
append_attempts(StringInfo out, int attempts)
{
	appendStringInfo(out, "%d attempt%s", attempts, attempts == 1 ? "" : "s");
}

/* Is it an answer of the other side, and not a failure on the way? */
static bool
is_answer(const AttemptResult *last)
{
	return last->status != 0;
}

/* A sentence says more than a code, but not more than a status. */
static bool
has_sentence(const AttemptResult *last)
{
	return !is_answer(last) && last->reason != NULL && last->reason[0] != '\0';
}

/* What happened at the last attempt: "HTTP 503 from the receiver", "timeout". */
static void
append_last(StringInfo out, const char *sink, const AttemptResult *last)
{
	if (is_answer(last) && strcmp(sink, "http") == 0)
		appendStringInfo(out, "HTTP %d from the receiver", last->status);
	else if (is_answer(last))
		appendStringInfo(out, "status %d from the receiver", last->status);
	else if (strcmp(sink, "pull") == 0)
		appendStringInfoString(out, "refused by the consumer");
	else if (last->code != NULL && last->code[0] != '\0')
		appendStringInfoString(out, last->code);
	else
		appendStringInfoString(out, "failed");
}

static void
append_response(StringInfo out, const AttemptResult *last)
{
	if (last != NULL && last->response != NULL && last->response[0] != '\0')
		appendStringInfo(out, ". Answer: %s", last->response);
}

static const char *
refusal_meaning(const AttemptResult *last)
{
	if (has_sentence(last))
		return last->reason;
	if (last->class == CLASS_GONE)
		return "the receiver wants no event of this subscription any more";
	return "the receiver refuses this event";
}

/* One line, cut to its length between two characters [S2]. */
static char *
reason_finish(StringInfo out)
{
	int			length;

	for (int i = 0; i < out->len; i++)
		if ((unsigned char) out->data[i] < 0x20 || out->data[i] == 0x7f)
			out->data[i] = ' ';
	length = pg_mbcliplen(out->data, out->len, DEAD_LETTER_REASON_BYTES_MAX);
	Assert(length <= DEAD_LETTER_REASON_BYTES_MAX && length > 0);
	out->data[length] = '\0';
	return out->data;
}

/* The other side said no to this event. */
static void
append_never(StringInfo out, const char *sink, int attempts, const AttemptResult *last)
{
	Assert(last->class == CLASS_PERMANENT || last->class == CLASS_GONE);
	append_last(out, sink, last);
	appendStringInfoString(out, " after ");
	append_attempts(out, attempts);
	appendStringInfo(out, ": %s; %s", failure_class_names[last->class],
					 refusal_meaning(last));
}

/* It might have worked later, but its time or its attempts are used up. */
static void
append_gave_up(StringInfo out, RetryVerdict verdict, const char *sink, int attempts,
			   int64 elapsed_us, const AttemptResult *last)
{
	Assert(attempts > 0);
	appendStringInfoString(out, verdict == RETRY_EXPIRED ? "the event expired after " :
						   "gave up after ");
	append_attempts(out, attempts);
	appendStringInfoString(out, " in ");
	append_elapsed(out, elapsed_us);
	if (verdict == RETRY_TOO_OLD)
		appendStringInfoString(out, ", the longest that the policy allows");
	appendStringInfoString(out, "; last: ");
	append_last(out, sink, last);
	if (has_sentence(last))
		appendStringInfo(out, ": %s", last->reason);
}

char *
dead_letter_reason(RetryVerdict verdict, const char *sink, int attempts,
				   int64 elapsed_us, const AttemptResult *last)
{
	StringInfoData out;

	Assert(verdict != RETRY_LATER && sink != NULL);
	Assert(last != NULL || (verdict == RETRY_EXPIRED && attempts == 0));
	initStringInfo(&out);
	if (last == NULL)
		appendStringInfoString(&out, "the event expired before it could be sent");
	else if (verdict == RETRY_NEVER)
		append_never(&out, sink, attempts, last);
	else
		append_gave_up(&out, verdict, sink, attempts, elapsed_us, last);
	append_response(&out, last);
	return reason_finish(&out);
}

const char *
dead_letter_class(RetryVerdict verdict, const AttemptResult *last)
{
	Assert(verdict != RETRY_LATER);
	Assert(last != NULL || verdict == RETRY_EXPIRED);
	if (verdict == RETRY_EXPIRED)
		return CLASS_EXPIRED;
	return failure_class_names[last->class];
}
