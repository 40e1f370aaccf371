# Fills in an update script of sql/updates.  Two lines are special there:
#
#   -- include PATH       the file below src/
#   -- grants VERSION     what src/grants.matrix gives on the objects of that version

BEGIN {
	print "\\echo Use \"ALTER EXTENSION pg_failsafe UPDATE\" to load this file. \\quit"
	print ""
}

function fail(why)
{
	printf "%s:%d: %s: %s\n", FILENAME, FNR, why, $0 > "/dev/stderr"
	failed = 1
	exit 1
}

/^-- include / {
	printf "-- ==== src/%s\n\n", $3
	lines = 0
	while ((status = (getline line < ("src/" $3))) > 0)
	{
		print line
		lines++
	}
	if (status < 0 || lines == 0)
		fail("no such file")
	next
}

/^-- grants / {
	command = "awk -v only=" $3 " -f src/version.awk -f src/grants.awk src/grants.matrix"
	while ((command | getline line) > 0)
		print line
	if (close(command) != 0)
		fail("the grants cannot be made")
	next
}

{ print }

END { exit failed }
