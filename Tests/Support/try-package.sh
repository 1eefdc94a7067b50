#!/bin/sh
# Installs a Debian package of git ksplice in a small Debian, uses it there as its user would, and removes it.
#
#     try-package.sh ROOT PACKAGE FOLDER
#
# ROOT is the archive that debian-root.sh makes; it is unpacked in FOLDER. All that is mounted ends with this script. What is
# done inside is in try-package-inside.sh. /sys is not there: the package must not see the kernel of this machine.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$3/root
mkdir -p "$root"
tar -xf "$1" -C "$root" --numeric-owner
cp "$2" "$root/git-ksplice.deb"
cp "$here/try-package-inside.sh" "$root/inside.sh"
[ ! -e /etc/resolv.conf ] || cp -L /etc/resolv.conf "$root/etc/resolv.conf"
export root
# shellcheck disable=SC2016
unshare -m -p -f --kill-child --propagation private sh -euc '
	mount -t proc proc "$root/proc"
	mount --bind /dev "$root/dev"
	mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts "$root/dev/pts"
	exec chroot "$root" env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin HOME=/root LC_ALL=C.UTF-8 \
		TERM=xterm DEBIAN_FRONTEND=noninteractive /bin/sh /inside.sh
'
rm -rf "$root"
