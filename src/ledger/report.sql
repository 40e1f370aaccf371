-- ledger: what the reports share.  Reports are VOLATILE, so that a statement sees the
-- effect of the command before it; the internal functions below them are STABLE, so
-- that everything one of them reads comes from the snapshot of the statement that
-- called it.

CREATE FUNCTION failsafe._raise(name text, subject text, member text, value text)
RETURNS void
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'failsafe_report_raise';
COMMENT ON FUNCTION failsafe._raise(text, text, text, text) IS
'Raises the error of the catalogue that has this name. The subject ends the message, member and value go into DETAIL.';

CREATE FUNCTION failsafe._event_type_enabled(event_type text) RETURNS bool
LANGUAGE C STABLE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'failsafe_event_type_enabled';
COMMENT ON FUNCTION failsafe._event_type_enabled(text) IS
'Does failsafe.event_types let this type through now?';

-- Settings exist in a session once the library is loaded, so they are asked from C.
CREATE FUNCTION failsafe._event_retention() RETURNS interval
LANGUAGE C STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'failsafe_event_retention';
COMMENT ON FUNCTION failsafe._event_retention() IS
'How long events are kept: failsafe.event_retention.';

CREATE FUNCTION failsafe._next_xid() RETURNS xid8
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'failsafe_next_xid';
COMMENT ON FUNCTION failsafe._next_xid() IS
'The transaction id that will be assigned next; every running writer has a smaller one.';

-- The role that the caller acts as.  Inside a SECURITY DEFINER function CURRENT_USER is
-- the owner; the setting "role" still tells what SET ROLE chose.
CREATE FUNCTION failsafe._is_operator() RETURNS bool
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT coalesce(bool_or(pg_has_role(caller.name, privileged.oid, 'USAGE')), false)
FROM (SELECT CASE current_setting('role') WHEN 'none' THEN SESSION_USER::text
				  ELSE current_setting('role') END::name AS name) AS caller,
	 pg_roles AS privileged
WHERE privileged.rolname = 'failsafe_operator'
$body$;
COMMENT ON FUNCTION failsafe._is_operator() IS
'Does the caller act as a member of failsafe_operator, or as a superuser?';

CREATE FUNCTION failsafe._report_tenants() RETURNS int4[]
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
	IF failsafe._is_operator() THEN
		RETURN ARRAY(SELECT t.id FROM failsafe.tenant AS t);
	END IF;
	RETURN ARRAY[failsafe._tenant_id()];
END
$body$;
COMMENT ON FUNCTION failsafe._report_tenants() IS
'The tenants that the caller may see: the session''s own, for operators all.';

CREATE FUNCTION failsafe._options_check(options jsonb, VARIADIC known text[] DEFAULT '{}')
RETURNS void
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
	member text;
BEGIN
	IF options IS NULL THEN
		RETURN;
	END IF;
	IF jsonb_typeof(options) <> 'object' THEN
		PERFORM failsafe._raise('OPTION_INVALID', 'options', 'field', 'options');
	END IF;
	FOR member IN SELECT jsonb_object_keys(options) LOOP
		IF member <> ALL (known) THEN
			PERFORM failsafe._raise('OPTION_INVALID', member, 'field', member);
		END IF;
	END LOOP;
END
$body$;
COMMENT ON FUNCTION failsafe._options_check(jsonb, text[]) IS
'Refuses options that are no object or have a member that is not known.';

-- One option as text; the cast to what it must be is guarded, so that a wrong value
-- is refused by the option's name.
CREATE FUNCTION failsafe._option_int8(options jsonb, member text, lowest int8, highest int8,
									  preset int8)
RETURNS int8
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
	given jsonb := options -> member;
BEGIN
	IF given IS NULL THEN
		RETURN preset;
	END IF;
	IF jsonb_typeof(given) <> 'number' OR given::numeric <> trunc(given::numeric)
	   OR given::numeric NOT BETWEEN lowest AND highest THEN
		PERFORM failsafe._raise('OPTION_INVALID', member, 'field', member);
	END IF;
	RETURN given::numeric::int8;
END
$body$;
COMMENT ON FUNCTION failsafe._option_int8(jsonb, text, int8, int8, int8) IS
'A whole number from the options, between lowest and highest, or the preset.';

CREATE FUNCTION failsafe._option_bool(options jsonb, member text)
RETURNS bool
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
	IF options -> member IS NULL THEN
		RETURN false;
	END IF;
	IF jsonb_typeof(options -> member) <> 'boolean' THEN
		PERFORM failsafe._raise('OPTION_INVALID', member, 'field', member);
	END IF;
	RETURN (options -> member)::bool;
END
$body$;
COMMENT ON FUNCTION failsafe._option_bool(jsonb, text) IS
'A boolean from the options; false where it is absent.';

CREATE FUNCTION failsafe._option_time(options jsonb, member text)
RETURNS timestamptz
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
	RETURN (options ->> member)::timestamptz;
EXCEPTION WHEN data_exception THEN
	PERFORM failsafe._raise('OPTION_INVALID', member, 'field', member);
END
$body$;
COMMENT ON FUNCTION failsafe._option_time(jsonb, text) IS
'A time from the options; NULL where it is absent.';

CREATE FUNCTION failsafe._require(field text, value text) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
	IF value IS NULL THEN
		PERFORM failsafe._raise('VALUE_REQUIRED', field, 'field', field);
	END IF;
END
$body$;
COMMENT ON FUNCTION failsafe._require(text, text) IS
'Refuses a NULL where a value is needed.';

-- t_12 with prefix t -> 12.  NULL for everything that is no such id.
CREATE FUNCTION failsafe._id_number(prefix text, id text) RETURNS int8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT CASE WHEN id ~ '^[a-z]_[1-9][0-9]{0,18}$' AND left(id, 2) = prefix || '_'
			THEN CASE WHEN substr(id, 3)::numeric <= 9223372036854775807
					  THEN substr(id, 3)::int8 END END
$body$;
COMMENT ON FUNCTION failsafe._id_number(text, text) IS
'The number of an id with this prefix, NULL when the text is none.';

CREATE FUNCTION failsafe._account_find(code text) RETURNS failsafe.account
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
	tenant int4 := failsafe._tenant_id();
	found_account failsafe.account;
BEGIN
	PERFORM failsafe._require('code', code);
	SELECT * INTO found_account
	FROM failsafe.account AS a
	WHERE a.tenant_id = tenant AND a.code = _account_find.code;
	IF found_account.id IS NULL THEN
		PERFORM failsafe._raise('ACCOUNT_UNKNOWN', code, 'account', code);
	END IF;
	RETURN found_account;
END
$body$;
COMMENT ON FUNCTION failsafe._account_find(text) IS
'The account of the session''s tenant that has this code. Raises ACCOUNT_UNKNOWN.';

-- An entry id is 1024 times its journal id plus the number of its leg.
CREATE FUNCTION failsafe._transaction_find(designator text, tenants int4[]) RETURNS int8
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT j.id
FROM failsafe.journal AS j
WHERE j.tenant_id = ANY (tenants)
  AND j.id = CASE
	WHEN starts_with(designator, 'key:') THEN
		(SELECT k.journal_id FROM failsafe.idempotency_key AS k
		 WHERE k.tenant_id = ANY (tenants) AND k.key = substr(designator, 5)
		 ORDER BY k.journal_id LIMIT 1)
	WHEN starts_with(designator, 'e_') THEN failsafe._id_number('e', designator) / 1024
	ELSE failsafe._id_number('t', designator)
	END
  AND (NOT starts_with(designator, 'e_')
	   OR j.status = 'committed'
		  AND failsafe._id_number('e', designator) % 1024
			  < coalesce(cardinality(j.leg_account_ids), 2))
$body$;
COMMENT ON FUNCTION failsafe._transaction_find(text, int4[]) IS
'The journal id behind t_..., e_... or key:..., NULL when there is none in these tenants.';

-- The legs that a transaction names: a posting lists their accounts and versions, any
-- other movement has leg 0 on its account and leg 1 on its counterparty.
CREATE FUNCTION failsafe._transaction_legs(
	id int8, status text, account_id int8, version int8, counterparty_id int8,
	counterparty_version int8, leg_account_ids int8[], leg_versions int8[])
RETURNS TABLE (leg_number int8, leg_entry_id int8, leg_account_id int8, leg_place int8)
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $body$
SELECT leg.number - 1, 1024 * id + leg.number - 1, leg.account_id,
	   coalesce(nullif(leg.version, 0), 1024 * id + leg.number - 1)
FROM unnest(leg_account_ids, leg_versions) WITH ORDINALITY AS leg (account_id, version, number)
UNION ALL
SELECT 0, 1024 * id, account_id, coalesce(version, 1024 * id)
WHERE leg_account_ids IS NULL AND status = 'committed'
UNION ALL
SELECT 1, 1024 * id + 1, counterparty_id, coalesce(counterparty_version, 1024 * id + 1)
WHERE leg_account_ids IS NULL AND status = 'committed'
$body$;
COMMENT ON FUNCTION failsafe._transaction_legs(int8, text, int8, int8, int8, int8, int8[], int8[]) IS
'The legs of a journal row: the id, the account and the place in the account of each entry.';

CREATE FUNCTION failsafe._actor_label(actor_id int8) RETURNS text
LANGUAGE sql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $body$
SELECT a.session_user_name
	   || CASE WHEN a.role_name <> a.session_user_name THEN ' as ' || a.role_name ELSE '' END
	   || coalesce(' from ' || a.client_address, '')
	   || CASE WHEN a.application_name <> '' THEN ' (' || a.application_name || ')' ELSE '' END
FROM failsafe.actor AS a
WHERE a.id = actor_id
$body$;
COMMENT ON FUNCTION failsafe._actor_label(int8) IS
'Who did it, in words: session user, role, client address, application.';
