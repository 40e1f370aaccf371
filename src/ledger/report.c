/*
 * ledger/report.c
 *	  What the reports that are written in SQL need from C: the error catalogue,
 *	  the event types that are switched on, and the next transaction id.
 *
 * Invariants:
 *	P1	A report raises the same codes, messages and details as a command.
 *	P2	_next_xid() is read after everything that the caller compares it with;
 *		a snapshot's xmax would not do, it can lie below a running writer [F6].
 *
 * Takes no locks.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xlog.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "base/errors.h"
#include "base/settings.h"

PG_FUNCTION_INFO_V1(failsafe_report_raise);
PG_FUNCTION_INFO_V1(failsafe_event_type_enabled);
PG_FUNCTION_INFO_V1(failsafe_event_retention);
PG_FUNCTION_INFO_V1(failsafe_next_xid);

/* A text argument as a C string; NULL stays NULL. */
static char *
text_argument(FunctionCallInfo fcinfo, int i)
{
	Assert(i < PG_NARGS());
	return PG_ARGISNULL(i) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(i));
}

/* _raise(name, subject, member, value): raise a code of the catalogue. */
Datum
failsafe_report_raise(PG_FUNCTION_ARGS)
{
	char	   *name = text_argument(fcinfo, 0);
	char	   *subject = text_argument(fcinfo, 1);
	char	   *member = text_argument(fcinfo, 2);
	char	   *value = text_argument(fcinfo, 3);
	FailsafeCode code = name == NULL ? FAILSAFE_OK : error_from_name(name);
	StringInfoData detail;

	if (code == FAILSAFE_OK)
		elog(ERROR, "unknown error code \"%s\"", name == NULL ? "" : name);

	error_detail_begin(&detail, code);
	if (member != NULL)
		error_detail_text(&detail, member, value);
	error_detail_end(&detail);
	error_raise(code, subject, detail.data);
	PG_RETURN_VOID();			/* keep the compiler quiet */
}

/* _event_type_enabled(type): does failsafe.event_types let the type through now? */
Datum
failsafe_event_type_enabled(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(settings_event_type_enabled(text_to_cstring(PG_GETARG_TEXT_PP(0))));
}

/* _event_retention(): the setting as an interval. */
Datum
failsafe_event_retention(PG_FUNCTION_ARGS)
{
	Interval   *retention = palloc0(sizeof(Interval));

	retention->time = (int64) setting_event_retention_s * USECS_PER_SEC;
	PG_RETURN_INTERVAL_P(retention);
}

/*
 * _next_xid(): the transaction id that will be assigned next.  Whoever has an id
 * now has a smaller one.
 */
Datum
failsafe_next_xid(PG_FUNCTION_ARGS)
{
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("a standby assigns no transaction ids"),
				 errhint("Call the function on the primary.")));
	PG_RETURN_FULLTRANSACTIONID(ReadNextFullTransactionId());
}
