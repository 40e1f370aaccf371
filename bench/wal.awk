# Adds up the output of pg_waldump by table and kind of record, full page images left
# out.  First file: file node, space, relation.  Second: pg_waldump.  -v commands=N.
# Prints: relation, record, number per command, bytes per command; tab-separated.

FNR == NR { relation[$1] = $2; next }

/^rmgr: / {
	match($0, /len \(rec\/tot\): *[0-9]+\//)
	bytes = substr($0, RSTART, RLENGTH)
	gsub(/[^0-9]/, "", bytes)
	what = $0
	sub(/.*desc: /, "", what)
	sub(/[ ;].*/, "", what)
	name = "transaction"
	if (match($0, /rel [0-9]+\/[0-9]+\/[0-9]+/))
	{
		name = substr($0, RSTART, RLENGTH)
		sub(/.*\//, "", name)
		name = name in relation ? relation[name] : "catalog or other"
	}
	sub(/^failsafe\./, "", name)
	sub(/^outbox_[0-9]_[0-9]+/, "outbox leaf", name)	# all leaves are alike
	sub(/\+INIT$/, "", what)
	key = name "\t" $2 " " what
	number[key]++
	total[key] += bytes
}

END {
	for (key in number)
		printf "%s\t%.4f\t%.4f\n", key, number[key] / commands, total[key] / commands
}
