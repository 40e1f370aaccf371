# Compiles src/grants.matrix (its head describes the format) to SQL: first
# everything is taken from PUBLIC, then each line's grants are given; the lines of
# one version alone, if version.awk is told so.  A line that it does not understand
# stops the build.

BEGIN {
	roles = split("failsafe_reader failsafe_app failsafe_operator failsafe_admin", role, " ")
	print "-- Made from src/grants.matrix."
	print "REVOKE ALL ON SCHEMA failsafe FROM PUBLIC;"
	print "REVOKE ALL ON ALL ROUTINES IN SCHEMA failsafe FROM PUBLIC;"
	print "REVOKE ALL ON ALL TABLES IN SCHEMA failsafe FROM PUBLIC;"
	print "REVOKE ALL ON ALL SEQUENCES IN SCHEMA failsafe FROM PUBLIC;"
	print "GRANT USAGE ON SCHEMA failsafe"
	print "	TO failsafe_reader, failsafe_app, failsafe_operator, failsafe_admin;"
}

{ sub(/#.*/, "") }

NF == 0 { next }

version_wanted() {
	if (NF < roles + 1)
		fail("an object and four marks are needed")

	object = $1
	for (i = 2; i <= NF - roles; i++)
		object = object " " $i
	if (object in seen)
		fail("object is listed twice")
	seen[object] = 1

	grantees = ""
	for (i = 1; i <= roles; i++)
	{
		mark = $(NF - roles + i)
		if (mark == "y")
			grantees = grantees (grantees == "" ? "" : ", ") role[i]
		else if (mark != "-")
			fail("a mark is y or -")
	}

	if (object ~ /^type [a-z_][a-z_0-9]*$/)
	{
		target = "TYPE failsafe." substr(object, 6)
		privilege = "USAGE"
		print "REVOKE ALL ON " target " FROM PUBLIC;"
	}
	else if (object ~ /^[a-z_][a-z_0-9]*\(.*\)$/)
	{
		target = "FUNCTION failsafe." object
		privilege = "EXECUTE"
	}
	else if (object ~ /^[a-z_][a-z_0-9]*$/)
	{
		target = "TABLE failsafe." object
		privilege = "SELECT"
	}
	else
		fail("neither a function, a view nor a type")

	if (grantees != "")
		print "GRANT " privilege " ON " target " TO " grantees ";"
}

END { exit failed }
