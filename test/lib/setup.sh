# shellcheck shell=bash
# What demo, check and bench/run share: packages, a private PostgreSQL, a build
# and throw-away clusters.  Source it; nothing runs before a function is called.
#
#   setup_begin                     a work directory FS_WORK that is removed, clusters, and
#                                   processes noted in FS_WORK/*.pid, that are stopped,
#                                   whenever the script ends
#   setup_packages PACKAGE...       install with apt what is missing; '@' in a name
#                                   stands for PostgreSQL's major version
#   setup_postgres                  set PG_CONFIG, PG_BIN, PG_PGXS (its test programs) and PATH
#   setup_build VARIANT [ARG...]    copy the sources to FS_WORK/src-VARIANT and run
#                                   make with the arguments there
#   setup_install VARIANT [ARG...]  make install of that copy
#   cluster_start NAME [LINE...]    initdb and start; the lines go to postgresql.conf;
#                                   exports PGHOST, PGPORT, PGUSER, PGDATABASE
#   cluster_stop NAME               stop it; its directory stays until the end
#   cluster_log NAME                the name of its log file
#   as_server COMMAND [ARG...]      run as the user that owns the clusters
#   say TEXT / die TEXT             a line for the reader / the same, then exit 2
#
# Environment that a user may set:
#   PG_MAJOR    which PostgreSQL to use; without it the newest that is installed
#               or, where none is, the one that the distribution offers
#   PG_CONFIG   use and install into exactly this PostgreSQL, install no packages
#   FS_KEEP=1   keep the work directory
#
# Without PG_CONFIG the extension is installed into a copy of the system's
# PostgreSQL inside the work directory, so no server that runs on this machine
# ever meets a library that is being tested, and two runs don't meet each other.
# PostgreSQL finds its share directory relative to its programs, so a copy works.

FS_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
FS_JOBS=$(nproc)
FS_CLUSTERS=()
PG_MAJOR_MIN=15
PG_MAJOR_MAX=18

say() { printf '%s\n' "$*"; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 2; }

# ---- the work directory and the user -----------------------------------------

setup_begin()
{
	FS_WORK=$(mktemp -d "${TMPDIR:-/tmp}/pg_failsafe.XXXXXX") || die "no temporary directory"
	trap setup_end EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	cd "$FS_WORK" || die "no temporary directory"		# the server's user may not read the caller's
}

setup_end()
{
	local status=$? name file

	trap '' INT TERM HUP
	for file in "$FS_WORK"/*.pid
	do
		[ ! -f "$file" ] || kill "$(cat "$file")" 2> /dev/null
	done
	for name in "${FS_CLUSTERS[@]}"
	do
		cluster_stop "$name"
	done
	if [ -n "${FS_KEEP:-}" ]
	then
		say "kept: $FS_WORK"
	else
		rm -rf "$FS_WORK"
	fi
	exit "$status"
}

# PostgreSQL refuses to run as root, so root's clusters belong to postgres.  setpriv
# becomes the command; runuser would stay beside it, and was seen to miss its end.
as_server()
{
	if [ "$(id -u)" = 0 ]
	then
		setpriv --reuid postgres --regid postgres --init-groups env HOME="$FS_WORK" "$@"
	else
		"$@"
	fi
}

# ---- packages -----------------------------------------------------------------

installed_major()
{
	local major newest=

	for major in $(seq $PG_MAJOR_MIN $PG_MAJOR_MAX)
	do
		[ -x "/usr/lib/postgresql/$major/bin/initdb" ] && newest=$major
	done
	echo "$newest"
}

offered_major()
{
	apt-cache depends postgresql 2>/dev/null | sed -n 's/.*Depends: postgresql-\([0-9]*\)$/\1/p' | head -1
}

find_major()
{
	if [ -n "${PG_MAJOR:-}" ]
	then
		seq $PG_MAJOR_MIN $PG_MAJOR_MAX | grep -qx "$PG_MAJOR" ||
			die "PG_MAJOR is $PG_MAJOR, but $PG_MAJOR_MIN to $PG_MAJOR_MAX are supported"
		return
	fi
	PG_MAJOR=$(installed_major)
	[ -n "$PG_MAJOR" ] && return
	PG_MAJOR=$(offered_major)
	if [ -z "$PG_MAJOR" ] && [ "$(id -u)" = 0 ]
	then
		apt_refresh
		PG_MAJOR=$(offered_major)
	fi
	[ -n "$PG_MAJOR" ] || die "no PostgreSQL is installed and apt offers none; see PG_MAJOR and PG_CONFIG"
}

apt_refresh()
{
	[ -z "${FS_APT_FRESH:-}" ] || return 0
	say "apt-get update"
	apt-get -qq update || die "apt-get update failed"
	FS_APT_FRESH=1
}

package_missing()
{
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" != installed ]
}

# The server package would make and start a cluster of its own: not wanted here.
apt_install()
{
	local drop_in=/etc/postgresql-common/createcluster.d/pg_failsafe.conf status

	mkdir -p "$(dirname "$drop_in")"
	echo "create_main_cluster = false" > "$drop_in"
	DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "$@" \
		> "$FS_WORK/apt.log" 2>&1
	status=$?
	rm -f "$drop_in"
	[ $status = 0 ] || { tail -30 "$FS_WORK/apt.log"; die "apt-get install failed: $*"; }
}

setup_packages()
{
	local package missing=()

	[ -z "${PG_CONFIG:-}" ] || return 0
	command -v apt-get > /dev/null || die "this is not Debian; install PostgreSQL and set PG_CONFIG"
	find_major
	for package in "${@//@/$PG_MAJOR}"
	do
		package_missing "$package" && missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0

	[ "$(id -u)" = 0 ] || die "packages are missing; as root: apt-get install ${missing[*]}"
	apt_refresh
	say "apt-get install ${missing[*]}"
	apt_install "${missing[@]}"
}

# ---- PostgreSQL, build, install -------------------------------------------------

copy_postgres()
{
	local tree=$FS_WORK/pg

	mkdir -p "$tree/lib/postgresql" "$tree/share/postgresql" "$tree/include"
	cp -a "/usr/lib/postgresql/$PG_MAJOR" "$tree/lib/postgresql/" ||
		die "cannot copy PostgreSQL $PG_MAJOR"
	cp -a "/usr/share/postgresql/$PG_MAJOR" "$tree/share/postgresql/" ||
		die "cannot copy PostgreSQL $PG_MAJOR"
	ln -s /usr/include/postgresql "$tree/include/postgresql"
	rm -f "$tree/share/postgresql/$PG_MAJOR/extension"/pg_failsafe* \
		"$tree/lib/postgresql/$PG_MAJOR/lib"/pg_failsafe*
	PG_CONFIG=$tree/lib/postgresql/$PG_MAJOR/bin/pg_config
	[ -x "$PG_CONFIG" ] || die "PostgreSQL $PG_MAJOR has no server headers"
}

setup_postgres()
{
	[ -n "${PG_CONFIG:-}" ] || copy_postgres
	if [ "$(id -u)" = 0 ]
	then
		id postgres > /dev/null 2>&1 || die "root needs a user postgres, which owns the clusters"
		chown -R postgres: "$FS_WORK"
	fi
	PG_MAJOR=$("$PG_CONFIG" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
	[ "$PG_MAJOR" -ge $PG_MAJOR_MIN ] 2>/dev/null ||
		die "PostgreSQL $PG_MAJOR_MIN or newer is needed, $PG_CONFIG is $("$PG_CONFIG" --version)"
	[ -w "$("$PG_CONFIG" --pkglibdir)" ] ||
		die "$(id -un) may not install into $("$PG_CONFIG" --pkglibdir): unset PG_CONFIG, or run as its owner"
	PG_BIN=$("$PG_CONFIG" --bindir)
	PG_PGXS=$(dirname "$(dirname "$("$PG_CONFIG" --pgxs)")")
	export PG_CONFIG PG_BIN PG_PGXS PG_MAJOR PATH="$PG_BIN:$PATH"
}

# The copy lets the server's user read sources that live below somebody's home,
# keeps variants apart and leaves the tree as it was.
setup_build()
{
	local dir=$FS_WORK/src-$1

	shift
	if [ ! -d "$dir" ]
	then
		mkdir "$dir"
		tar -C "$FS_ROOT" -cf - --exclude=./.git --exclude='*.o' --exclude='*.so' --exclude='*.d' \
			--exclude='*.gc??' --exclude=./build --exclude=./tmp_check --exclude=./results . |
			tar -C "$dir" --no-same-owner -xf - || die "cannot copy the sources"
		[ "$(id -u)" != 0 ] || chown -R postgres: "$dir"
	fi
	as_server make -s -C "$dir" -j "$FS_JOBS" PG_CONFIG="$PG_CONFIG" "$@" all
}

setup_install()
{
	local dir=$FS_WORK/src-$1 target

	shift
	target=$("$PG_CONFIG" --pkglibdir)
	if as_server test -w "$target"
	then
		as_server make -s -C "$dir" PG_CONFIG="$PG_CONFIG" "$@" install > "$FS_WORK/install.log" 2>&1
	else
		make -s -C "$dir" PG_CONFIG="$PG_CONFIG" "$@" install > "$FS_WORK/install.log" 2>&1
	fi || { cat "$FS_WORK/install.log"; return 1; }
}

# ---- clusters -------------------------------------------------------------------

cluster_log() { echo "$FS_WORK/$1.log"; }

# A template saves an initdb for each further cluster.
cluster_template()
{
	[ -d "$FS_WORK/template" ] && return
	as_server "$PG_BIN/initdb" -D "$FS_WORK/template" -U postgres -A trust -E UTF8 \
		--locale=C.UTF-8 --no-sync > "$FS_WORK/initdb.log" 2>&1 ||
		{ cat "$FS_WORK/initdb.log"; die "initdb failed"; }
}

cluster_start()
{
	local name=$1 data=$FS_WORK/$1

	shift
	cluster_template
	as_server cp -a "$FS_WORK/template" "$data"
	as_server mkdir -p "$FS_WORK/socket"
	export PGHOST=$FS_WORK/socket PGPORT=$((6500 + ${#FS_CLUSTERS[@]}))
	export PGUSER=postgres PGDATABASE=postgres
	printf '%s\n' "listen_addresses = ''" "unix_socket_directories = '$PGHOST'" "port = $PGPORT" \
		"max_connections = 200" "max_prepared_transactions = 20" "wal_level = logical" \
		"log_line_prefix = '%m [%p] %q%a '" "$@" |
		as_server tee -a "$data/postgresql.conf" > /dev/null
	FS_CLUSTERS+=("$name")
	as_server "$PG_BIN/pg_ctl" -D "$data" -s -w -t 60 -l "$(cluster_log "$name")" start ||
		{ tail -30 "$(cluster_log "$name")"; die "the cluster did not start"; }
}

cluster_stop()
{
	local data=$FS_WORK/$1

	[ -f "$data/postmaster.pid" ] || return 0
	as_server "$PG_BIN/pg_ctl" -D "$data" -s -w -t 60 -m fast stop 2> /dev/null ||
		as_server "$PG_BIN/pg_ctl" -D "$data" -s -w -t 30 -m immediate stop
}
