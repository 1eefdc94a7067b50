#!/bin/sh
# Fetches Debian's kernel packages into a cache folder and unpacks them there; installs nothing. Prints shell
# assignments that say where everything is.
#
#     material.sh CACHE [old | all]
#
# "old" is what the demonstration needs: one kernel's image, headers and source. "all" adds the next version, the older
# one's other flavours, a kernel of another series, one for 32-bit x86, and a small Debian to try the package in. Old
# versions leave Debian's archive: the pinned ones are preferred, others are taken with a message. For 32-bit x86, apt gets
# package lists of its own: the machine itself need not know it.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=$1
what=${2:-all}
old_version=6.1.187-1
new_version=6.1.190-1
other_series=6.12
other_version=6.12.117-1~deb12u1
i386_version=6.1.176-1
mkdir -p "$cache/packages"
cache=$(cd "$cache" && pwd)

say() { echo "$@" >&2; }
# Prints an assignment. Values are computed before: a command that fails inside of an argument would go unnoticed.
tell() { echo "$1='$2'"; }

# The versions of a package that the archive has, newest first.
versions() { apt-cache madison "$1" | awk '{ print $3 }' | uniq; }

# The release (6.1.0-53) of the amd64 image of a version.
release_of() {
	apt-cache search --names-only '^linux-image-6\.1\.0-[0-9]+-amd64$' | awk '{ print $1 }' | while read -r package; do
		if versions "$package" | grep -qxF "$1"; then
			package=${package#linux-image-}
			echo "${package%-amd64}"
			break
		fi
	done
}

# The wanted version where it still can be had, else another one that has source and image.
choose() {
	wanted=$1
	other=$2
	for candidate in "$wanted" $(versions linux-source-6.1); do
		[ "$candidate" != "$other" ] || continue
		versions linux-source-6.1 | grep -qxF "$candidate" || continue
		[ -n "$(release_of "$candidate")" ] || continue
		[ "$candidate" = "$wanted" ] || say "linux-source-6.1 $wanted is no longer in the archive; taking $candidate"
		echo "$candidate"
		return
	done
}

fetch() { # package version
	file=$(find "$cache/packages/" -name "$1_$(echo "$2" | sed 's/:/%3a/')_*.deb" 2>/dev/null | head -n 1)
	if [ -z "$file" ]; then
		say "fetching $1 $2"
		(cd "$cache/packages" && apt-get -o APT::Sandbox::User=root download -qq "$1=$2" >&2)
		file=$(find "$cache/packages/" -name "$1_*$2*.deb" | head -n 1)
	fi
	echo "$file"
}

unpack_source() { # series version
	folder="$cache/source-$2"
	if [ ! -e "$folder/.unpacked" ]; then
		package=$(fetch "linux-source-$1" "$2")
		say "unpacking the source of $2"
		rm -rf "$folder" "$folder.tmp"
		mkdir -p "$folder.tmp"
		dpkg-deb --fsys-tarfile "$package" | tar -xOf - "./usr/src/linux-source-$1.tar.xz" |
			tar -xJf - -C "$folder.tmp" --strip-components=1
		touch "$folder.tmp/.unpacked"
		mv "$folder.tmp" "$folder"
	fi
	echo "$folder"
}

# The unpacked image package of the other series, with its modules as the kernel loads them.
unpack_other_image() { # release version
	folder="$cache/image-$2"
	if [ ! -e "$folder/.unpacked" ]; then
		package=$(fetch "linux-image-$1" "$2")
		say "unpacking the image of $2"
		rm -rf "$folder"
		mkdir -p "$folder"
		dpkg-deb --fsys-tarfile "$package" | tar -xf - -C "$folder" ./boot ./lib/modules
		find "$folder/lib" -name '*.ko.xz' -print0 | xargs -0r -n 64 -P "$(nproc)" xz -d
		touch "$folder/.unpacked"
	fi
	echo "$folder"
}

# Source and image of a kernel of another series; nothing where the archive has none, and its tests are skipped.
other_material() {
	for version in "$other_version" $(versions "linux-source-$other_series"); do
		versions "linux-source-$other_series" | grep -qxF "$version" || continue
		release="${version%-*}+deb12-amd64"
		versions "linux-image-$release" | grep -qxF "$version" || continue
		[ "$version" = "$other_version" ] ||
			say "linux-source-$other_series $other_version is no longer in the archive; taking $version"
		tell KSPLICE_RELEASE_OTHER "$release"
		folder=$(unpack_other_image "$release" "$version")
		tell KSPLICE_IMAGE_OTHER "$folder"
		folder=$(unpack_source "$other_series" "$version")
		tell KSPLICE_SOURCE_OTHER "$folder"
		file=$(fetch "linux-image-$release" "$version")
		tell KSPLICE_PACKAGE_OTHER "$file"
		file=$(fetch "linux-headers-$release" "$version")
		tell KSPLICE_HEADERS_OTHER "$file"
		return
	done
	say "the archive has no kernel $other_series with its source: the tests that need one are skipped"
}

# Image and headers of another flavour of the older kernel; nothing where the archive has none.
flavour_material() { # release version flavour variable
	package="$1-$3-amd64"
	if versions "linux-image-$package" | grep -qxF "$2" && versions "linux-headers-$package" | grep -qxF "$2"; then
		file=$(fetch "linux-image-$package" "$2")
		tell "KSPLICE_IMAGE_$4" "$file"
		file=$(fetch "linux-headers-$package" "$2")
		tell "KSPLICE_HEADERS_$4" "$file"
	else
		say "the archive has no $3 kernel of $2: its tests are skipped"
	fi
}

# The patches that make the older source that of the rt flavour. They are in the source package alone, whose package lists
# few machines have: they are fetched into the cache.
rt_patches() { # version
	folder="$cache/rt-patches-$1"
	if [ ! -e "$folder/debian/patches-rt/series" ]; then
		rm -rf "$folder"
		mkdir -p "$folder/lists/partial"
		# The archives that binary packages come from have the source, too.
		apt-get indextargets --format 'deb-src $(SITE) $(RELEASE) $(COMPONENT)' |
			sort -u > "$folder/kernel.list"
		(
			cd "$folder"
			version=$1
			set -- -qq -o "Dir::Etc::sourcelist=$folder/kernel.list" -o Dir::Etc::sourceparts=/dev/null \
				-o "Dir::State::lists=$folder/lists" -o APT::Sandbox::User=root
			apt-get "$@" update && apt-get "$@" source --diff-only --download-only "linux=$version"
		) >&2 || true
		if [ -e "$folder/linux_$1.debian.tar.xz" ]; then
			tar -xJf "$folder/linux_$1.debian.tar.xz" -C "$folder" debian/patches-rt
		fi
		rm -rf "$folder/lists"
	fi
	if [ -e "$folder/debian/patches-rt/series" ]; then
		tell KSPLICE_PATCHES_RT "$folder/debian/patches-rt"
	else
		say "the archive has no source package of $1: the tests of the rt kernel are skipped"
	fi
}

# apt-cache and apt-get with lists in which 32-bit x86 is there, too.
with_i386() { # tool arguments...
	tool=$1
	shift
	"$tool" -o APT::Architectures::=amd64 -o APT::Architectures::=i386 -o "Dir::State::lists=$cache/i386/lists" \
		-o "Dir::Cache=$cache/i386" -o APT::Sandbox::User=root "$@"
}

fetch_i386() { # package version
	file=$(find "$cache/packages/" -name "$1_$(echo "$2" | sed 's/:/%3a/')_i386.deb" 2>/dev/null | head -n 1)
	if [ -z "$file" ]; then
		say "fetching $1 $2 for i386"
		(cd "$cache/packages" && with_i386 apt-get download -qq "$1:i386=$2" >&2)
		file=$(find "$cache/packages/" -name "$1_*_i386.deb" | head -n 1)
	fi
	echo "$file"
}

# The versions of a package for 32-bit x86, newest first.
versions_i386() { with_i386 apt-cache madison "$1:i386" | awk '{ print $3 }' | uniq; }

# A kernel for 32-bit x86 with its source, and a busybox to boot it with; nothing where the archive has none, and its tests
# are skipped.
i386_material() {
	mkdir -p "$cache/i386/lists/partial" "$cache/i386/archives/partial"
	# A list that cannot be had leaves others that can.
	with_i386 apt-get update -qq >&2 || true
	packages=$(with_i386 apt-cache search --names-only '^linux-image-6\.1\.0-[0-9]+-686-pae$' | awk '{ print $1 }')
	for version in "$i386_version" $(versions linux-source-6.1); do
		versions linux-source-6.1 | grep -qxF "$version" || continue
		for package in $packages; do
			versions_i386 "$package" | grep -qxF "$version" || continue
			[ "$version" = "$i386_version" ] ||
				say "linux-image for i386 $i386_version is no longer in the archive; taking $version"
			release=${package#linux-image-}
			busybox=$(versions_i386 busybox-static | head -n 1)
			[ -n "$busybox" ] || break 2
			folder=$(unpack_source 6.1 "$version")
			tell KSPLICE_SOURCE_I386 "$folder"
			file=$(fetch_i386 "$package" "$version")
			tell KSPLICE_IMAGE_I386 "$file"
			file=$(fetch_i386 "linux-headers-$release" "$version")
			tell KSPLICE_HEADERS_I386 "$file"
			file=$(fetch_i386 busybox-static "$busybox")
			tell KSPLICE_BUSYBOX_I386 "$file"
			return
		done
	done
	say "the archive has no 6.1 kernel for i386 with its source: its tests are skipped"
}

# What the record says depends on what it was made from.
record="$cache/material-$what-$(cat "$0" "$here/debian-root.sh" | sha256sum | cut -c1-8)"
if [ -e "$record" ]; then
	cat "$record"
	exit 0
fi
if [ -z "$(versions linux-source-6.1)" ]; then
	if [ "$(id -u)" = 0 ]; then apt-get update -qq >&2; fi
	if [ -z "$(versions linux-source-6.1)" ]; then
		say "the package lists have no linux-source-6.1; run apt-get update"
		exit 1
	fi
fi

old=$(choose "$old_version" "$new_version")
[ -n "$old" ] || { say "no version of linux-source-6.1 has its image in the archive"; exit 1; }
release=$(release_of "$old")
{
	tell KSPLICE_OLD_VERSION "$old"
	tell KSPLICE_RELEASE_OLD "$release-amd64"
	file=$(fetch "linux-image-$release-amd64" "$old")
	tell KSPLICE_IMAGE_OLD "$file"
	file=$(fetch "linux-headers-$release-amd64" "$old")
	tell KSPLICE_HEADERS "$file"
	folder=$(unpack_source 6.1 "$old")
	tell KSPLICE_SOURCE_OLD "$folder"
	if [ "$what" = all ]; then
		flavour_material "$release" "$old" cloud CLOUD
		flavour_material "$release" "$old" rt RT
		rt_patches "$old"
		new=$(choose "$new_version" "$old")
		[ -n "$new" ] || { say "there is only one version of linux-source-6.1 with its image"; exit 1; }
		tell KSPLICE_NEW_VERSION "$new"
		release=$(release_of "$new")-amd64
		tell KSPLICE_RELEASE_NEW "$release"
		file=$(fetch "linux-image-$release" "$new")
		tell KSPLICE_IMAGE_NEW "$file"
		folder=$(unpack_source 6.1 "$new")
		tell KSPLICE_SOURCE_NEW "$folder"
		other_material
		i386_material
		file=$("$here/debian-root.sh" "$cache")
		[ -z "$file" ] || tell KSPLICE_DEBIAN_ROOT "$file"
	fi
} > "$record.tmp"
mv "$record.tmp" "$record"
cat "$record"
