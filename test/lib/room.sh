# shellcheck shell=bash
# A minimal distribution in a directory, to show that a fresh clone needs
# nothing but what it installs itself.  Root only.
#
#   room_base SUITE             make the cached base system with debootstrap
#   room_run SUITE SCRIPT       copy the base, put a fresh clone of HEAD (only what
#                               is committed) into it, run the shell script there
#   room_remove                 at the end: remove the copy
#
# Where packages come from is read from this system's apt: the same mirror, the
# same proxies and access.  A suite of another distribution comes from the
# mirror that debootstrap knows for it, checked with the keyring that Debian has.  Mounts and processes live in name spaces
# of their own and vanish with them.

ROOM_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
ROOM_CACHE=${XDG_CACHE_HOME:-/var/tmp}/pg_failsafe
ROOM_COPY=
UBUNTU_KEYRING=ubuntu-archive-keyring.gpg

# shellcheck disable=SC2016,SC2034
ROOM_DEMO_AND_CHECK='./demo; demo=$?; ./check; check=$?
	echo "demo ended with $demo, check with $check"
	[ $((demo + check)) = 0 ]'

room_die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 2; }

room_is_ubuntu() { [ "$1" = noble ]; }

# The first archive of this system that calls itself Debian and is no update archive.
room_mirror()
{
	# shellcheck disable=SC2016
	apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(RELEASE)' 'Created-By: Packages' |
		awk '$2 == "Debian" && $3 !~ /-/ { print $1; exit }'
}

# Shell text that sets what wget needs, if apt uses a proxy.
room_proxy()
{
	apt-config shell http_proxy Acquire::http::Proxy https_proxy Acquire::https::Proxy
	echo "export http_proxy https_proxy"
}

# room_sources SUITE DIR: apt inside gets its packages as the host does, from the
# mirror that debootstrap noted.
room_sources()
{
	local etc=$2/etc/apt

	if room_is_ubuntu "$1"
	then
		sed -i 's/ main$/ main universe/' "$etc/sources.list"
	fi
	apt-config dump | grep '^Acquire::' > "$etc/apt.conf.d/99host"
	cp -a /etc/apt/auth.conf.d "$etc/" 2> /dev/null
	[ ! -f /etc/apt/auth.conf ] || cp -a /etc/apt/auth.conf "$etc/"
}

# Debian has Ubuntu's keyring since trixie: a trixie fetches it.
room_ubuntu_keyring()
{
	[ ! -f "$ROOM_CACHE/$UBUNTU_KEYRING" ] || return 0
	room_base trixie
	room_run trixie 'apt-get -qq update &&
		DEBIAN_FRONTEND=noninteractive apt-get -qq -y install ubuntu-keyring > /dev/null 2>&1' ||
		room_die "no keyring for Ubuntu"
	cp -L "$ROOM_COPY/usr/share/keyrings/$UBUNTU_KEYRING" "$ROOM_CACHE/" || room_die "no keyring for Ubuntu"
	room_remove
}

room_base()
{
	local suite=$1 base=$ROOM_CACHE/base-$1 mirror script=sid
	local options=(--variant=minbase)

	[ "$(id -u)" = 0 ] || room_die "only root can make a room"
	command -v debootstrap > /dev/null || room_die "debootstrap is missing: apt-get install debootstrap"
	[ ! -d "$base" ] || return 0

	if room_is_ubuntu "$suite"
	then
		script=gutsy			# all later ones are the same to debootstrap
		mirror=					# debootstrap knows one
		room_ubuntu_keyring
		options+=(--keyring="$ROOM_CACHE/$UBUNTU_KEYRING")
	else
		mirror=$(room_mirror)
		[ -n "$mirror" ] || room_die "apt here has no Debian mirror"
	fi
	[[ $mirror != https:* ]] || options+=(--include=ca-certificates)

	echo "making a minimal $suite in $base"
	rm -rf --one-file-system "$base.partial"
	mkdir -p "$ROOM_CACHE"
	(
		eval "$(room_proxy)"
		debootstrap "${options[@]}" "$suite" "$base.partial" "$mirror" "$script"
	) > "$ROOM_CACHE/debootstrap-$suite.log" 2>&1 ||
		{ tail -20 "$ROOM_CACHE/debootstrap-$suite.log"; room_die "debootstrap failed"; }
	room_sources "$suite" "$base.partial"
	mv "$base.partial" "$base"
}

# Runs as process 1 of its own name spaces.
room_enter()
{
	local copy=$1 script=$2

	mount -t proc proc "$copy/proc" &&
	mount -t sysfs -o ro sysfs "$copy/sys" &&
	mount --bind /dev "$copy/dev" &&
	mount -t devpts -o newinstance,ptmxmode=0666 devpts "$copy/dev/pts" &&
	mount -t tmpfs tmpfs "$copy/dev/shm" || return 2
	env -i HOME=/root TERM="${TERM:-dumb}" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		chroot "$copy" /bin/bash -c "cd /root/pg_failsafe && $script"
}

room_run()
{
	ROOM_COPY=$(mktemp -d "$ROOM_CACHE/run.XXXXXX")
	trap room_remove EXIT
	trap 'exit 130' INT TERM
	cp -a --reflink=auto "$ROOM_CACHE/base-$1/." "$ROOM_COPY/"
	chmod 755 "$ROOM_COPY"
	cp -L /etc/resolv.conf /etc/hosts "$ROOM_COPY/etc/"
	git -c safe.directory='*' clone -q "$ROOM_ROOT" "$ROOM_COPY/root/pg_failsafe" || room_die "git clone failed"

	export -f room_enter
	unshare --mount --pid --fork --kill-child --propagation private \
		bash -c 'room_enter "$@"' room_enter "$ROOM_COPY" "$2"
}

room_remove()
{
	[ -z "$ROOM_COPY" ] || rm -rf --one-file-system "$ROOM_COPY"
	ROOM_COPY=
}
