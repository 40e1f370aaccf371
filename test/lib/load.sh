# shellcheck shell=bash
# Sends a file of gateway commands (see bench/commands.py) to the database in
# PGDATABASE.  Source after setup.sh and cluster_start.
#
#   load_accounts                  open the accounts that the commands use
#   load_send FILE CONNECTIONS     send the lines; sets LOAD_SECONDS
#   load_totals                    what came back: outcome <tab> number
#
# Line n goes to connection n modulo CONNECTIONS, which must divide 8: lines
# that depend on each other then keep their order.  Each line is a statement and
# a transaction of its own, as from a gateway.

load_accounts()
{
	"$FS_ROOT/bench/commands.py" --accounts > "$FS_WORK/accounts.tsv" || return 1
	psql -XqAt -v ON_ERROR_STOP=1 -c "SELECT FROM failsafe.currency_add('TOK', 18)" \
		-c "CREATE TEMP TABLE new_account (code text, currency text, kind text)" \
		-c "\\copy new_account FROM '$FS_WORK/accounts.tsv'" \
		-c "SELECT count(opened.code) || ' accounts opened'
		      FROM new_account AS n,
		           LATERAL failsafe.account_open(n.code, n.currency, n.kind,
		               floor => CASE n.kind WHEN 'wallet' THEN 0 END) AS opened"
}

# Quote and delimiter are control characters, which JSON never has.
load_connection()
{
	psql -XqAt -F ' ' -v VERBOSITY=sqlstate \
		-c "CREATE TEMP TABLE line (number int GENERATED ALWAYS AS IDENTITY, command text)" \
		-c "\\copy line (command) FROM '$1' (FORMAT csv, DELIMITER E'\\x01', QUOTE E'\\x02')" \
		-f - <<- 'EOSQL'
			SELECT format('SELECT http_status, replayed, body->>''status'', body->>''code'' '
			              'FROM failsafe.wallet_http(%L)', command)
			  FROM line ORDER BY number \gexec
		EOSQL
}

load_send()
{
	local part began jobs=()

	rm -f "$FS_WORK"/load.*
	split -n "r/$2" -d "$1" "$FS_WORK/load.in."
	began=$(date +%s%N)
	for part in "$FS_WORK"/load.in.*
	do
		load_connection "$part" > "${part/load.in/load.out}" 2> "${part/load.in/load.err}" &
		jobs+=($!)
	done
	wait "${jobs[@]}"
	# shellcheck disable=SC2034
	LOAD_SECONDS=$(awk -v ns=$(($(date +%s%N) - began)) 'BEGIN { printf "%.2f", ns / 1e9 }')
}

# A line that is not JSON at all fails before the function is called (22P02).
load_totals()
{
	cat "$FS_WORK"/load.out.* "$FS_WORK"/load.err.* | awk -v OFS='\t' '
		{ sub(/^psql:[^ ]* /, "") }
		$1 == "ERROR:" && $2 == "22P02" { n["refused"]++; next }
		$1 == "ERROR:" || NF < 3 { n["failed " $2]++; next }
		$2 == "t" { n["replayed"]++; next }
		$4 == "IDEMPOTENCY_MISMATCH" { n["mismatched"]++; next }
		$3 == "declined" || $3 == "refused" { n[$3]++; next }
		{ n["committed"]++ }
		END {
			count = split("committed replayed declined mismatched refused", order, " ")
			for (i = 1; i <= count; i++)
			{
				print order[i], n[order[i]] + 0
				delete n[order[i]]
			}
			for (other in n)
				print other, n[other]
		}'
}
