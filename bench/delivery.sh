# shellcheck shell=bash
# The rows of bench/run about delivery; sourced by it.  They have a database of their
# own, and each measurement a subscription of its own.
#
#   latency         500 events a second, one a transaction, to the first byte at a receiver
#   drain           a backlog into that receiver, beside what it and the relay can do
#   engine          a backlog into a relay that answers at once (bench/null_relay.c)
#   held_delivery   engine beside a snapshot that stays open, against engine without
#   dead_tuples     what delivered events leave behind in our tables
#   idle            processor time of our processes while there is nothing to do
#
# A line of delivery.tsv is: row, what, value, unit, must, reach, where "<= 50" and ">= 9"
# are limits and "" is none.

BACKLOG_KEYS=10000
LATENCY_RATE=500
DELIVERY_CLIENTS=8
PROGRAMS=$FS_WORK/src-normal/build
RECEIVER_PID=

# note_delivery ROW WHAT VALUE UNIT [MUST REACH]
note_delivery()
{
	printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" "${5:-}" "${6:-}" >> "$FS_WORK/delivery.tsv"
	progress "$1: $2: $3 $4"
}

# "from–to" of a column of numbers
span() { sort -n | sed -n '1h; $ { H; x; s/\n/–/; p; }'; }

median() { sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

divide() { awk -v a="$1" -v b="$2" -v format="${3:-%.2f}" 'BEGIN { printf format, a / b }'; }

# What runs beside the cluster ends with the script, too.
delivery_end()
{
	local status=$?

	[ -z "$RECEIVER_PID" ] || receiver_end
	ticker_end
	(exit "$status")
	setup_end
}

delivery_setup()
{
	trap delivery_end EXIT
	as_server make -s -C "$FS_WORK/src-normal" PG_CONFIG="$PG_CONFIG" bench-programs >&2 ||
		die "the programs for the rows about delivery cannot be built"
	: > "$FS_WORK/delivery.tsv"
	psql -Xqc "CREATE DATABASE delivery" || die "no database"
	psql -Xq -d delivery -v ON_ERROR_STOP=1 -f "$FS_ROOT/bench/delivery.sql" > "$FS_WORK/psql.log" ||
		die "bench/delivery.sql failed"
}

# ---- the worker, the relay, a receiver --------------------------------------------

worker_process() { psql -XAtc "SELECT $1 FROM failsafe.stat_workers WHERE database = current_database()"; }

# relay_use [PROGRAM]: from the next subscription on; without it the real one
relay_use()
{
	local pid

	if [ $# = 0 ]
	then
		psql -Xqc "ALTER SYSTEM RESET failsafe.relay_path"
	else
		psql -Xqc "ALTER SYSTEM SET failsafe.relay_path = '$1'"
	fi
	psql -Xqc "SELECT pg_reload_conf()" > "$FS_WORK/psql.log"
	sleep 1
	pid=$(worker_process relay_pid)
	[ -n "$pid" ] || return 0
	as_server kill "$pid" || die "the relay does not end"
	until [ "$(worker_process "relay_pid IS DISTINCT FROM $pid")" = t ]
	do
		sleep 0.1
	done
}

relay_wait()
{
	local try

	for ((try = 0; try < 600; try++))
	do
		[ "$(worker_process "relay_pid IS NOT NULL")" != t ] || return 0
		sleep 0.1
	done
	die "there is no relay: see $(cluster_log bench)"
}

# receiver_begin [ARGUMENT...]: sets RECEIVER_URL and RECEIVER_PID
receiver_begin()
{
	local port=

	"$PROGRAMS/relay/receiver" "$@" > "$FS_WORK/receiver.out" &
	RECEIVER_PID=$!
	until [ -n "$port" ]
	do
		kill -0 "$RECEIVER_PID" 2> /dev/null || die "the receiver did not start"
		sleep 0.05
		port=$(sed -n 1p "$FS_WORK/receiver.out")
	done
	RECEIVER_PORT=$port RECEIVER_URL=http://127.0.0.1:$port/hook
}

receiver_end()
{
	kill "$RECEIVER_PID"
	wait "$RECEIVER_PID"
	RECEIVER_PID=
}

# subscribe IN_FLIGHT [URL]: the subscription "bench" of what is emitted from now on
subscribe()
{
	psql -Xqc "SELECT name FROM failsafe.subscription_create('bench', 'http',
		'{\"url\": \"${2:-http://127.0.0.1:9/}\", \"allow_addresses\": [\"127.0.0.0/8\"]}',
		options => '{\"start\": \"now\", \"in_flight\": $1}')" > "$FS_WORK/psql.log" ||
		die "no subscription"
	relay_wait
}

unsubscribe()
{
	psql -Xqc "SELECT name FROM failsafe.subscription_drop('bench', force => true, reason => 'measured')" \
		> "$FS_WORK/psql.log" || die "the subscription cannot be dropped"
}

# Nanoseconds that a process was on a processor.  Ticks would miss what is shorter.
process_ns() { cut -d' ' -f1 "/proc/$1/schedstat"; }

# drain_backlog IN_FLIGHT [URL]: sets RATE, and WORKER_US and RELAY_US, processor time an event
drain_backlog()
{
	local seconds worker relay worker_ns relay_ns

	subscribe "$@"
	psql -Xqc "SELECT state FROM failsafe.subscription_pause('bench', 'bench')" > "$FS_WORK/psql.log"
	psql -Xqc "SELECT bench.emit($BACKLOG_EVENTS, $BACKLOG_KEYS)" -c CHECKPOINT > "$FS_WORK/psql.log" || die "no backlog"
	worker=$(worker_process pid) relay=$(worker_process relay_pid)
	worker_ns=$(process_ns "$worker") relay_ns=$(process_ns "$relay")
	seconds=$(psql -XqAt -v ON_ERROR_STOP=1 <<-END
		SELECT clock_timestamp() AS began \gset
		SELECT state FROM failsafe.subscription_resume('bench', 'bench') \gset
		SELECT bench.wait_delivered('bench', $BACKLOG_EVENTS, :'began');
		END
	)
	[ -n "$seconds" ] || die "the backlog was not delivered"
	RATE=$(divide "$BACKLOG_EVENTS" "$seconds" %.0f)
	WORKER_US=$(awk -v ns=$(($(process_ns "$worker") - worker_ns)) -v n="$BACKLOG_EVENTS" 'BEGIN { printf "%.1f", ns / n / 1000 }')
	RELAY_US=$(awk -v ns=$(($(process_ns "$relay") - relay_ns)) -v n="$BACKLOG_EVENTS" 'BEGIN { printf "%.1f", ns / n / 1000 }')
	unsubscribe
}

# ---- latency ------------------------------------------------------------------------

# producers SCRIPT SECONDS ARGUMENT...: at LATENCY_RATE; when each COMMIT returned is in
# FS_WORK/producer.*
producers()
{
	local script=$1 seconds=$2

	shift 2
	RUN=$((RUN + 1))
	rm -f "$FS_WORK"/producer.*
	clients "$script" $DELIVERY_CLIENTS -R $LATENCY_RATE -T "$seconds" -l \
		--log-prefix="$FS_WORK/producer" "$@"
}

# Of a column of numbers: "p50 p95 p99 count"
quantiles()
{
	sort -n | awk '
		function at(q,    i) { i = int(NR * q + 0.999999); return v[i < 1 ? 1 : i] }
		{ v[NR] = $1 }
		END { if (NR) printf "%.2f %.2f %.2f %d\n", at(0.50), at(0.95), at(0.99), NR }'
}

note_quantiles()
{
	local row=$1 what=$2 p50 p95 p99 count

	read -r p50 p95 p99 count
	note_delivery "$row" "$what: p50" "$p50" ms
	note_delivery "$row" "$what: p95" "$p95" ms "${3:-}" "${4:-}"
	note_delivery "$row" "$what: p99" "$p99" ms
	note_delivery "$row" "$what: events" "$count" ""
}

# All clocks are the machine's: the receiver's log, occurred_at of the event, and what
# pgbench noted when its COMMIT returned.  The name inside the payload joins them.
latency_join()
{
	psql -XAtF ' ' -c "SELECT event_id, envelope ->> 'name', (extract(epoch FROM occurred_at) * 1e6)::int8
		FROM failsafe.events WHERE envelope ->> 'name' LIKE 'e\\_${RUN}\\_%'" > "$FS_WORK/events.txt"
	cat "$FS_WORK"/producer.* > "$FS_WORK/commits.txt"
	awk -v run="$RUN" -v lead="$LEAD_SECONDS" '
		FILENAME ~ /commits/ { committed["e_" run "_" $1 "_" $2] = $5 * 1e6 + $6; next }
		FILENAME ~ /events/ { name[$1] = $2; occurred[$1] = $3; if (!first || $3 < first) first = $3; next }
		!($2 in name) || arrived[$2]++ { next }
		occurred[$2] >= first + lead * 1e6 {
			print ($1 - occurred[$2]) / 1e3 > "/dev/stdout"
			if (name[$2] in committed)
				print ($1 - committed[name[$2]]) / 1e3 > "/dev/stderr"
		}
		END { for (id in name) if (!arrived[id]) missing++; if (missing) exit 1 }' \
		"$FS_WORK/commits.txt" "$FS_WORK/events.txt" "$FS_WORK/arrivals.txt" \
		> "$FS_WORK/since_written" 2> "$FS_WORK/since_committed" || die "events are missing at the receiver"
}

row_latency()
{
	local -x PGDATABASE=delivery
	local seconds=$((LEAD_SECONDS + CELL_SECONDS * 3)) worker relay worker_ns relay_ns

	relay_use
	receiver_begin -l "$FS_WORK/arrivals.txt"
	subscribe 32 "$RECEIVER_URL"
	worker=$(worker_process pid) relay=$(worker_process relay_pid)
	worker_ns=$(process_ns "$worker") relay_ns=$(process_ns "$relay")
	producers emit "$seconds"
	note_delivery latency "worker, of one core" \
		"$(divide $(($(process_ns "$worker") - worker_ns)) "$((seconds * 10000000))")" %
	note_delivery latency "relay, of one core" \
		"$(divide $(($(process_ns "$relay") - relay_ns)) "$((seconds * 10000000))")" %
	psql -Xqc "SELECT bench.wait_delivered('bench', $(psql -XAtc "SELECT count(*) FROM failsafe.events
		WHERE envelope ->> 'name' LIKE 'e\\_${RUN}\\_%'"))" > "$FS_WORK/psql.log"
	receiver_end
	unsubscribe
	latency_join
	quantiles < "$FS_WORK/since_written" | note_quantiles latency "from occurred_at, before the commit" "<= 50" "<= 10"
	quantiles < "$FS_WORK/since_committed" | note_quantiles latency "from the producer's COMMIT that returned"
}

# ---- backlogs -----------------------------------------------------------------------

# What the second word of a line "N requests, M a second" or "…, M a second, …" says.
per_second() { sed -n 's/.*[ ,]\([0-9]*\) a second.*/\1/p'; }

row_drain()
{
	local -x PGDATABASE=delivery
	local round ceiling alone

	relay_use
	receiver_begin
	for ((round = 1; round <= ROUNDS; round++))
	do
		ceiling=$("$PROGRAMS/bench/http_load" "$RECEIVER_PORT" 32 "$BACKLOG_EVENTS" | per_second)
		alone=$("$PROGRAMS/relay/load" "$FS_WORK/src-normal/pg_failsafe_relay" "$RECEIVER_URL" \
			"$((BACKLOG_EVENTS / 2))" 32 | per_second)
		drain_backlog 32 "$RECEIVER_URL"
		printf '%s %s %s %s %s\n' "$ceiling" "$alone" "$RATE" "$WORKER_US" "$RELAY_US" >> "$FS_WORK/drain"
		progress "drain: $RATE a second, the relay alone $alone, the receiver $ceiling"
	done
	receiver_end
	# each round: the ceiling, the relay alone, the drain
	[ "$(sed -n 's/ requests, .*//p' "$FS_WORK/receiver.out")" -ge "$((ROUNDS * BACKLOG_EVENTS * 5 / 2))" ] ||
		die "the receiver has not got all of it"
	note_delivery drain "$BACKLOG_EVENTS events into a receiver ($(cut -d' ' -f3 "$FS_WORK/drain" | span))" "$(cut -d' ' -f3 "$FS_WORK/drain" | median)" "events/s"
	note_delivery drain "the relay alone, without a database" "$(cut -d' ' -f2 "$FS_WORK/drain" | median)" "events/s"
	note_delivery drain "what the receiver can take" "$(cut -d' ' -f1 "$FS_WORK/drain" | median)" "requests/s"
	note_delivery drain "of what the relay can do" "$(awk '{ print $3 / $2 }' "$FS_WORK/drain" | median)" ""
	note_delivery drain "worker, processor time an event" "$(cut -d' ' -f4 "$FS_WORK/drain" | median)" "µs"
	note_delivery drain "relay, processor time an event" "$(cut -d' ' -f5 "$FS_WORK/drain" | median)" "µs"
}

# engine_rounds FILE IN_FLIGHT
engine_rounds()
{
	local round

	for ((round = 1; round <= ROUNDS; round++))
	do
		drain_backlog "$2"
		printf '%s %s %s\n' "$RATE" "$WORKER_US" "$RELAY_US" >> "$1"
		progress "engine, $2 in flight: $RATE events a second, $WORKER_US µs of the worker each"
	done
}

row_engine()
{
	local -x PGDATABASE=delivery

	relay_use "$PROGRAMS/bench/null_relay"
	engine_rounds "$FS_WORK/engine" 1000
	engine_rounds "$FS_WORK/engine32" 32
	note_delivery engine "backlog of $BACKLOG_EVENTS, 1000 in flight ($(cut -d' ' -f1 "$FS_WORK/engine" | span))" \
		"$(cut -d' ' -f1 "$FS_WORK/engine" | median)" "events/s" ">= 50000" ">= 100000"
	note_delivery engine "worker, processor time an event" "$(cut -d' ' -f2 "$FS_WORK/engine" | median)" "µs"
	note_delivery engine "backlog of $BACKLOG_EVENTS, 32 in flight, the default ($(cut -d' ' -f1 "$FS_WORK/engine32" | span))" \
		"$(cut -d' ' -f1 "$FS_WORK/engine32" | median)" "events/s"
	relay_use
}

# While the snapshot ages, events are emitted and delivered, so that versions pile up.
row_held_delivery()
{
	local -x PGDATABASE=delivery
	local without during

	relay_use "$PROGRAMS/bench/null_relay"
	engine_rounds "$FS_WORK/held_before" 1000
	held_begin
	subscribe 1000
	producers emit "$HELD_SECONDS"
	unsubscribe
	engine_rounds "$FS_WORK/held_during" 1000
	held_end
	engine_rounds "$FS_WORK/held_after" 1000
	without=$(cut -d' ' -f1 "$FS_WORK/held_before" "$FS_WORK/held_after" | median)
	during=$(cut -d' ' -f1 "$FS_WORK/held_during" | median)
	note_delivery held_delivery "engine without a snapshot held ($(cat "$FS_WORK/held_before" "$FS_WORK/held_after" | cut -d' ' -f1 | span))" \
		"$without" "events/s"
	note_delivery held_delivery "engine, snapshot held for $HELD_SECONDS s ($(cut -d' ' -f1 "$FS_WORK/held_during" | span))" \
		"$during" "events/s"
	note_delivery held_delivery "with against without" "$(divide "$during" "$without")" "" ">= 0.9" ">= 1.0"
	relay_use
}

# ---- what it leaves, what it costs ---------------------------------------------------

# dead_tuples: "counted found table_bytes index_bytes" when all backends have reported
dead_tuples()
{
	sleep 3
	psql -XAtF ' ' -c "SELECT * FROM bench.dead_tuples"
}

row_dead_tuples()
{
	local -x PGDATABASE=delivery
	local before after part=1000 i

	server_set "autovacuum = off"
	relay_use
	receiver_begin
	subscribe 32 "$RECEIVER_URL"
	psql -Xqc VACUUM
	read -ra before < <(dead_tuples)
	for ((i = 0; i < DEAD_TUPLES_EVENTS; i += part))
	do
		psql -Xqc "SELECT bench.emit($part, $BACKLOG_KEYS)" > "$FS_WORK/psql.log"
	done
	[ -n "$(psql -XAtc "SELECT bench.wait_delivered('bench', $DEAD_TUPLES_EVENTS)")" ] || die "not delivered"
	read -ra after < <(dead_tuples)
	[ ${#after[@]} = 4 ] || die "the dead tuples cannot be counted"
	receiver_end
	unsubscribe
	server_set "autovacuum = on"
	note_delivery dead_tuples "of $DEAD_TUPLES_EVENTS delivered events, as the server counts" \
		"$((after[0] - before[0]))" "" "<= 1000" "<= 0"
	note_delivery dead_tuples "as pgstattuple finds them" "$((after[1] - before[1]))" ""
	note_delivery dead_tuples "tables, before" "$((before[2] / 1024))" kB
	note_delivery dead_tuples "tables, after" "$((after[2] / 1024))" kB
	note_delivery dead_tuples "indexes, before" "$((before[3] / 1024))" kB
	note_delivery dead_tuples "indexes, after" "$((after[3] / 1024))" kB
}

row_idle()
{
	local -x PGDATABASE=delivery
	local launcher worker relay name ns total=0 used
	local -A before

	relay_use
	receiver_begin
	subscribe 32 "$RECEIVER_URL"
	# upkeep comes once a minute: after one there is none for a while
	ns=$(worker_process "coalesce(maintained_at, '-infinity')")
	until [ "$(worker_process "maintained_at > '$ns'")" = t ]
	do
		sleep 1
	done
	# shellcheck disable=SC2034
	launcher=$(psql -XAtc "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_failsafe launcher'")
	worker=$(worker_process pid) relay=$(worker_process relay_pid)
	sleep 3
	for name in launcher worker relay
	do
		before[$name]=$(process_ns "${!name}")
	done
	sleep "$IDLE_SECONDS"
	for name in launcher worker relay
	do
		used=$(($(process_ns "${!name}") - before[$name]))
		total=$((total + used))
		note_delivery idle "$name, of one core" "$(divide $used "$((IDLE_SECONDS * 10000000))" %.3f)" %
	done
	note_delivery idle "together, of one core" "$(divide $total "$((IDLE_SECONDS * 10000000))" %.3f)" % "<= 0.5"
	receiver_end
	unsubscribe
}

# ---- PgQ beside it ------------------------------------------------------------------

pgq_setup()
{
	psql -Xqc "CREATE DATABASE pgq" || die "no database"
	psql -Xq -d pgq -v ON_ERROR_STOP=1 -f "$FS_ROOT/bench/pgq.sql" > "$FS_WORK/psql.log" ||
		die "bench/pgq.sql failed"
}

# ticker_begin [LINE...]: pgqd with these lines in its configuration
ticker_begin()
{
	printf '%s\n' "[pgqd]" "base_connstr = host=$PGHOST port=$PGPORT user=$PGUSER" "database_list = pgq" \
		"syslog = 0" "pidfile = $FS_WORK/pgqd.pid" "logfile = $FS_WORK/pgqd.log" "$@" |
		as_server tee "$FS_WORK/pgqd.ini" > "$FS_WORK/tee.log"
	as_server pgqd "$FS_WORK/pgqd.ini" > "$FS_WORK/pgqd.out" 2>&1 &
	sleep 3
	ticker_lives || { cat "$FS_WORK/pgqd.out" "$FS_WORK/pgqd.log" >&2; die "pgqd did not start"; }
}

# Its own pid: as_server is a process of its own in the background.
ticker_lives() { [ -s "$FS_WORK/pgqd.pid" ] && as_server kill -0 "$(cat "$FS_WORK/pgqd.pid")" 2> /dev/null; }

ticker_end()
{
	! ticker_lives || as_server kill "$(cat "$FS_WORK/pgqd.pid")"
	while ticker_lives
	do
		sleep 0.1
	done
}

# wal_per_event SCRIPT: without full page images
wal_per_event()
{
	local start

	RUN=$((RUN + 1))
	start=$(psql -XAtc "SELECT pg_current_wal_insert_lsn()")
	clients "$1" 1 -t "$WAL_COMMANDS"
	psql -XAtc "SELECT round((pg_current_wal_insert_lsn() - '$start') / $WAL_COMMANDS)"
}

# One event a transaction, alternated; then the log of each.
pgq_insert()
{
	local round ours

	for ((round = 1; round <= ROUNDS; round++))
	do
		PGDATABASE=delivery measure emit $DELIVERY_CLIENTS
		ours=$TPS
		PGDATABASE=pgq measure pgq_emit $DELIVERY_CLIENTS
		printf '%s %s\n' "$ours" "$TPS" >> "$FS_WORK/pgq"
		progress "insert: outbox_emit $ours a second, pgq.insert_event $TPS"
	done
	note_delivery pgq "insert: \`outbox_emit\`, $DELIVERY_CLIENTS clients" "$(cut -d' ' -f1 "$FS_WORK/pgq" | median)" "events/s"
	note_delivery pgq "insert: \`pgq.insert_event\`, $DELIVERY_CLIENTS clients" "$(cut -d' ' -f2 "$FS_WORK/pgq" | median)" "events/s"
	note_delivery pgq "insert: ours against theirs" "$(awk '{ print $1 / $2 }' "$FS_WORK/pgq" | median)" ""
	server_set "full_page_writes = off" "autovacuum = off"
	psql -Xqc CHECKPOINT
	note_delivery pgq "log of \`outbox_emit\`" "$(PGDATABASE=delivery wal_per_event emit)" "bytes/event"
	note_delivery pgq "log of \`pgq.insert_event\`" "$(PGDATABASE=pgq wal_per_event pgq_emit)" "bytes/event"
	server_set "full_page_writes = on" "autovacuum = on"
}

# consumer SECONDS ARGUMENT: what a crash takes of its commits, it gets again
consumer()
{
	PGOPTIONS="-c synchronous_commit=off" psql -Xqc "CALL bench.consume($2$1)" > "$FS_WORK/consumer.log" 2>&1
}

# consumed NAME DATABASE SCRIPT [ARGUMENT]: a consumer, producers beside it; how old the
# events were that it got goes to FS_WORK/consumed.NAME.  It takes what is there already
# before it begins.
consumed()
{
	local -x PGDATABASE=$2
	local seconds=$((LEAD_SECONDS + CELL_SECONDS)) pid

	consumer 10 "${4:-}"
	psql -Xqc "TRUNCATE bench.seen"
	consumer "$((seconds + 8))" "${4:-}" &
	pid=$!
	sleep 1
	producers "$3" "$seconds"
	wait $pid || { cat "$FS_WORK/consumer.log" >&2; die "the consumer failed"; }
	psql -XAtc "SELECT ms FROM bench.seen" | quantiles >> "$FS_WORK/consumed.$1"
	progress "$1: p50 p95 p99 in ms, events: $(tail -1 "$FS_WORK/consumed.$1")"
}

# note_consumed NAME WHAT: medians of the rounds
note_consumed()
{
	local column

	for column in 1 2 3
	do
		cut -d' ' -f$column "$FS_WORK/consumed.$1" | median
	done | tr '\n' ' ' | sed "s/\$/$(awk '{ n += $4 } END { print n }' "$FS_WORK/consumed.$1")/" |
		note_quantiles pgq "$2"
}

# Ours and PgQ's with many ticks in alternation; with its own ticks PgQ needs seconds.
row_pgq()
{
	local round

	pgq_setup
	psql -Xq -d delivery -c "SELECT name FROM failsafe.subscription_create('pulled', 'pull',
		options => '{\"start\": \"now\"}')" > "$FS_WORK/psql.log" || die "no subscription"
	ticker_begin
	pgq_insert
	consumed installed pgq pgq_emit
	ticker_end
	psql -Xq -d pgq -c "SELECT pgq.set_queue_config('q', 'ticker_max_lag', '0'),
		pgq.set_queue_config('q', 'ticker_idle_period', '0')" > "$FS_WORK/psql.log"
	ticker_begin "ticker_period = 0.01"
	for ((round = 1; round <= ROUNDS; round++))
	do
		consumed ours delivery emit "'pulled', "
		consumed fast pgq pgq_emit
	done
	ticker_end
	psql -Xq -d delivery -c "SELECT name FROM failsafe.subscription_drop('pulled', force => true,
		reason => 'measured')" > "$FS_WORK/psql.log"
	note_consumed ours "\`outbox_claim\` in a loop"
	note_consumed installed "PgQ, ticker as installed"
	note_consumed fast "PgQ, a tick every 10 ms"
}

# ---- the report -----------------------------------------------------------------------

# shellcheck disable=SC2016
report_delivery()
{
	[ -s "$FS_WORK/delivery.tsv" ] || return
	printf '## Delivery\n\n| row | what | | unit | must | reach | holds |\n|---|---|---:|---|---:|---:|---|\n'
	awk -F '\t' '
		function holds(limit, value,    part) {
			split(limit, part, " ")
			return part[1] == "<=" ? value + 0 <= part[2] + 0 : value + 0 >= part[2] + 0
		}
		{
			limit = $5
			reach = $6
			sub(/<= /, "≤ ", limit); sub(/>= /, "≥ ", limit)
			sub(/<= /, "≤ ", reach); sub(/>= /, "≥ ", reach)
			printf "| %s | %s | %s | %s | %s | %s | %s |\n", $1, $2, $5 == "" ? $3 : "**" $3 "**", $4,
				limit, reach, $5 == "" ? "" : holds($5, $3) ? "yes" : "NO"
		}' "$FS_WORK/delivery.tsv"
	printf '\n'
}
