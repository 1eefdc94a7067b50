#!/bin/sh
# Installs the Debian packages that building, demonstration and tests need; says nothing where all are there.
set -eu

packages="git make gcc gcc-12 gcc-12-multilib libc6-dev binutils bc bison flex perl xz-utils pkg-config
libgit2-dev libelf-dev libdw-dev binutils-dev zlib1g-dev libssl-dev
dwarves qemu-system-x86 busybox-static kmod faketime
systemd udev initramfs-tools-core e2fsprogs
dpkg-dev lintian mmdebstrap
gpg gpg-agent gpgconf gpgv openssh-client dropbear-bin"

missing=
for package in $packages; do
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
done
if [ -n "$missing" ]; then
	if [ "$(id -u)" != 0 ]; then
		echo "These packages are needed; as root:" >&2
		echo "    apt-get install$missing" >&2
		exit 1
	fi
	echo "installing$missing" >&2
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq >/dev/null
	# shellcheck disable=SC2086
	apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi
if ! command -v swift >/dev/null; then
	echo "Swift 6.2 or later is needed and not in PATH; see https://www.swift.org/install" >&2
	exit 1
fi
