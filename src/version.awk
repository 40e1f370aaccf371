# Which lines of a list belong to a version: shared by install.awk and grants.awk.
# A line may end in "since VERSION"; without it, it belongs to every version.
#
#   -v version=V    what the extension had at V: later lines are left out
#   -v only=V       what V added, nothing else

# Is version a later than version b?  Both are three numbers with dots between.
function version_later(a, b,	left, right, i)
{
	if (split(a, left, ".") != 3 || split(b, right, ".") != 3)
		fail("a version is three numbers with dots between")
	for (i = 1; i <= 3; i++)
		if (left[i] + 0 != right[i] + 0)
			return left[i] + 0 > right[i] + 0
	return 0
}

# Take "since VERSION" off the line; is the line wanted?
function version_wanted(	since)
{
	since = ""
	if (NF > 2 && $(NF - 1) == "since")
	{
		since = $NF
		sub(/[ \t]+since[ \t]+[^ \t]+[ \t]*$/, "")
	}
	if (only != "")
		return since == only
	return version == "" || since == "" || !version_later(since, version)
}

function fail(why)
{
	printf "%s:%d: %s: %s\n", FILENAME, FNR, why, $0 > "/dev/stderr"
	failed = 1
	exit 1
}
