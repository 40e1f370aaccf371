# shellcheck shell=bash
# A receiver for webhooks, and what has arrived there.  Source after setup.sh.
#
#   receiver_start NAME [ARG...]   start test/lib/receiver.py; sets RECEIVER_PORT, and its
#                                  log is $FS_WORK/NAME.jsonl
#   receiver_stop NAME
#   delivery_wait NAME SECONDS     until the subscription has nothing left to deliver
#   delivery_check NAME [WANTED]   lost, repeated, out of order: see test/lib/arrivals.py;
#                                  WANTED is a condition on failsafe.events

receiver_start()
{
	local name=$1 out=$FS_WORK/$1.out

	shift
	: > "$FS_WORK/$name.jsonl"
	chmod 666 "$FS_WORK/$name.jsonl"
	"$FS_ROOT/test/lib/receiver.py" --log "$FS_WORK/$name.jsonl" "$@" > "$out" 2> "$FS_WORK/$name.err" &
	echo $! > "$FS_WORK/$name.pid"
	for _ in $(seq 100)
	do
		RECEIVER_PORT=$(awk '/^port/ { print $2 }' "$out")
		[ -z "$RECEIVER_PORT" ] || return 0
		sleep 0.1
	done
	cat "$FS_WORK/$name.err"
	die "the receiver did not start"
}

receiver_stop()
{
	[ -f "$FS_WORK/$1.pid" ] || return 0
	kill "$(cat "$FS_WORK/$1.pid")" 2> /dev/null
	rm -f "$FS_WORK/$1.pid"
}

delivery_wait()
{
	local left

	for _ in $(seq $(($2 * 5)))
	do
		left=$(psql -XqAt -c "SELECT lag_events + coalesce(in_flight + queued, 0)
		                        FROM failsafe.stat_subscriptions WHERE subscription = '$1'")
		[ "$left" != 0 ] || return 0
		sleep 0.2
	done
	say "still to be delivered: $left"
	return 1
}

delivery_check()
{
	psql -XqAt -F '	' -c "SELECT event_id, lane, seq, order_key FROM failsafe.events
	                       WHERE ${2:-true}" > "$FS_WORK/$1.committed"
	psql -XqAt -F '	' -c "SELECT event_id, state FROM failsafe.dlq WHERE subscription = '$1'" > "$FS_WORK/$1.dead"
	"$FS_ROOT/test/lib/arrivals.py" "$FS_WORK/$1.jsonl" "$FS_WORK/$1.committed" "$FS_WORK/$1.dead"
}
