# shellcheck shell=bash
# Counts what test programs print.  Source after setup.sh.
#
#   count_begin NAME          a suite starts; write its output to COUNT_LOG
#   count_tap STATUS          count TAP lines, or a last line "N passed, N failed";
#                             what was skipped has neither passed nor failed
#   count_regress STATUS DIFFS   count the lines of pg_regress
#   count_one_failure WHY     the suite could not run
#   count_total               print "N passed, N failed"; exit 1 unless all is well

COUNT_PASSED=0
COUNT_FAILED=0
COUNT_NAME=
COUNT_LOG=
COUNT_STARTED=0
COUNT_SHOWN_LINES=200		# of a failed suite's output

count_begin()
{
	COUNT_NAME=$1
	COUNT_LOG=$FS_WORK/log.${1//[ \/]/_}
	COUNT_STARTED=$SECONDS
	: > "$COUNT_LOG"
}

# count_add PASSED FAILED [DIFFS]
count_add()
{
	local verdict=ok

	COUNT_PASSED=$((COUNT_PASSED + $1))
	COUNT_FAILED=$((COUNT_FAILED + $2))
	[ "$2" = 0 ] || verdict=FAILED
	printf '%-40s %-6s %4d passed, %d failed (%d s)\n' "$COUNT_NAME" "$verdict" "$1" "$2" \
		$((SECONDS - COUNT_STARTED))
	[ "$2" != 0 ] || return 0
	printf -- '---- output of %s\n' "$COUNT_NAME"
	grep -v '^ok ' "$COUNT_LOG" | tail -n "$COUNT_SHOWN_LINES"
	if [ -n "${3:-}" ] && [ -s "$3" ]
	then
		printf -- '---- differences\n'
		head -n "$COUNT_SHOWN_LINES" "$3"
	fi
	printf -- '----\n'
}

count_one_failure()
{
	printf '%s\n' "$1" >> "$COUNT_LOG"
	count_add 0 1
}

# Before 16 pg_regress prints "test x ... ok", since then TAP.
count_regress()
{
	local passed failed

	read -r passed failed < <(awk '
		/^not ok / || /\.\.\. FAILED/ { failed++; next }
		/^ok / || /\.\.\. ok/ { passed++ }
		END { print passed + 0, failed + 0 }' "$COUNT_LOG")
	if [ "$1" != 0 ] && [ "$failed" = 0 ]
	then
		failed=1
	fi
	count_add "$passed" "$failed" "$2"
}

# A test that stops early, has no plan or not the number of its plan has failed.
count_tap()
{
	local passed failed

	read -r passed failed < <(awk -v status="$1" '
		/^[0-9]+ passed, [0-9]+ failed$/ { passed = $1; failed = $3; summed = 1; next }
		summed { next }
		/^1\.\.[0-9]+/ { plan = substr($1, 4) + 0; planned = 1; next }
		/^ok .*# *[Ss][Kk][Ii][Pp]/ { seen++; next }
		/^not ok/ { failed++; seen++; next }
		/^ok/ { passed++; seen++; next }
		/^Bail out!/ { bailed = 1 }
		END {
			wrong = bailed || (!summed && (!planned || plan != seen)) || status != 0
			if (wrong && failed == 0)
				failed = 1
			print passed + 0, failed + 0
		}' "$COUNT_LOG")
	count_add "$passed" "$failed"
}

count_total()
{
	local status=0

	if [ $((COUNT_PASSED + COUNT_FAILED)) = 0 ]
	then
		say "no test ran"
		status=1
	elif [ "$COUNT_FAILED" != 0 ]
	then
		status=1
	fi
	echo "$COUNT_PASSED passed, $COUNT_FAILED failed"
	exit $status
}
