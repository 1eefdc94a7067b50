#!/bin/sh
# Makes a small Debian 12 without Swift, for the test of the Debian package: with the shells whose completions are tried, with
# man-db, and with what the package's programs and trigger belong to. git and the libraries that the package depends on are
# not installed in it, but fetched, so that apt installs them without the network.
#
#     debian-root.sh CACHE
#
# Prints the path of the archive of its root; nothing, and the reason to standard error, where none can be made.
set -eu

cache=$1
tools=man-db,bash-completion,zsh,fish,initramfs-tools
needed="git libgit2-1.5 libelf1 libdw1 libbinutils libssl3 libstdc++6 zlib1g"
suite=bookworm

record=$cache/debian-root-$(sha256sum "$0" | cut -c1-8).tar
give_up() {
	echo "the test of the Debian package is skipped: $*" >&2
	exit 0
}
if [ ! -e "$record" ]; then
	[ "$(id -u)" = 0 ] || give_up "only root can make a Debian to try it in"
	command -v mmdebstrap >/dev/null || give_up "mmdebstrap is not installed"
	mkdir -p "$cache"
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	# From where this machine gets its packages, and as it does.
	apt-get indextargets --format 'deb $(SITE) $(RELEASE) $(COMPONENT)' \
		'Created-By: Packages' 'Origin: Debian' 'Architecture: amd64' |
		grep -E " $suite(-updates|-security)? main$" | sort -u > "$work/sources.list"
	[ -s "$work/sources.list" ] || give_up "apt has no sources of Debian 12"
	apt-config dump | grep -iE '^Acquire::[a-z]+::Proxy' > "$work/apt.conf" || true
	echo "making a small Debian to try the package in" >&2
	# shellcheck disable=SC2016
	mmdebstrap --quiet --mode=root --variant=minbase --skip=cleanup/apt --aptopt="$work/apt.conf" \
		--aptopt='Acquire::GzipIndexes "true"' --aptopt='APT::Keep-Downloaded-Packages "true"' \
		--include="$tools" --customize-hook='find "$1/var/cache/apt/archives" -name "*.deb" -delete' \
		--customize-hook="chroot \"\$1\" apt-get install -qq --download-only --no-install-recommends $needed >/dev/null" \
		"$suite" "$work/root.tar" "$work/sources.list" >&2 || give_up "mmdebstrap failed"
	rm -f "$cache"/debian-root-*.tar
	cp "$work/root.tar" "$record.tmp"
	mv "$record.tmp" "$record"
fi
echo "$record"
