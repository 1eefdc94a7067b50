#!/bin/sh
# Makes the Debian package from a program that is already built, with the tools of dpkg-dev alone.
#
#     build.sh PROGRAM FOLDER
#
# Writes FOLDER/git-ksplice_VERSION_amd64.deb and prints its path. Not with debhelper: it would bring fifty more packages
# along for what are a few calls here, and Swift is no package of Debian's that a build could depend on.
#
# The same commit and program give the same bytes: times are the commit's. The version is that of the program; between
# releases with the commit's time, so that later ones are newer, and its name: 0.1.0~git20261127144021.b2948321 on the way to
# tag v0.1.0, 0.1.0 at the tag, 0.1.0+git... after it. DEBFULLNAME and DEBEMAIL say who maintains the package, by default
# the commit's author.
set -eu

program=$(readlink -f "$1")
mkdir -p "$2"
folder=$(cd "$2" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
work=$(mktemp -d "$folder/deb.XXXXXX")
trap 'rm -rf "$work"' EXIT
umask 022

die() { echo "fatal: $*" >&2; exit 128; }
for tool in dpkg-deb dpkg-shlibdeps dpkg-gencontrol strip; do
	command -v $tool >/dev/null || die "'$tool' is missing; apt-get install dpkg-dev binutils"
done
[ -x "$program" ] || die "'$1' is not a program"
if readelf -d "$program" | grep -q 'NEEDED.*\[libswift'; then
	die "'$1' needs Swift's libraries, which Debian does not have; link it with -static-stdlib"
fi

version=$(sed -n 's/^public let programVersion = "\(.*\)"$/\1/p' "$top/Sources/Core/Workflow/Create.swift")
[ -n "$version" ] || die "cannot find the program's version"
commit() { TZ=UTC git -C "$top" log -1 --no-show-signature --date=format-local:%Y%m%d%H%M%S --format="$1"; }
if [ -e "$top/.git" ]; then
	who=$(commit '%an <%ae>')
	what="Built from commit $(commit %H): $(commit %s)"
	SOURCE_DATE_EPOCH=$(commit %ct)
	if [ "$(git -C "$top" describe --tags --exact-match --match "v$version" 2>/dev/null)" != "v$version" ]; then
		sign='~'
		if git -C "$top" merge-base --is-ancestor "v$version" HEAD 2>/dev/null; then sign=+; fi
		version="$version${sign}git$(commit %cd).$(commit %H | cut -c1-8)"
	fi
	[ -z "$(git -C "$top" --no-optional-locks status --porcelain --untracked-files=no)" ] || version="$version+changed"
else
	who=
	what="Built from a copy of the source."
	: "${SOURCE_DATE_EPOCH:=$(date -r "$top/Package.swift" +%s)}"
fi
export SOURCE_DATE_EPOCH
if [ -n "${DEBEMAIL-}" ]; then who="${DEBFULLNAME:-$DEBEMAIL} <$DEBEMAIL>"; fi
[ -n "$who" ] || die "DEBFULLNAME and DEBEMAIL do not say who maintains the package"

root=$work/root
documents=$root/usr/share/doc/git-ksplice
make --no-print-directory -s -C "$top" install PROGRAM_FILE="$program" PREFIX=/usr DESTDIR="$root" >&2
strip --remove-section=.comment --remove-section=.note --strip-unneeded "$root/usr/bin/git-ksplice"
gzip -9n "$root"/usr/share/man/man1/*.1
install -d "$documents" "$root/DEBIAN" "$work/debian"
install -m 644 "$here/copyright" "$documents"
install -m 644 "$top/README.md" "$documents"
install -m 755 "$here/postinst" "$here/prerm" "$here/postrm" "$root/DEBIAN"
install -m 644 "$here/triggers" "$root/DEBIAN"

{
	echo "git-ksplice ($version) bookworm; urgency=medium"
	echo
	echo "$what" | fold -s -w 74 | sed '1s/^/  * /; 2,$s/^/    /; s/ *$//'
	echo
	echo " -- $who  $(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")"
} > "$work/debian/changelog"
gzip -9nc "$work/debian/changelog" > "$documents/changelog.gz"

# What these programs of dpkg-dev read is a source package's folder debian/.
WHO=$who awk '{ at = index($0, "@MAINTAINER@"); print at ? substr($0, 1, at - 1) ENVIRON["WHO"] : $0 }' "$here/control" \
	> "$work/debian/control"
(
	cd "$work"
	dpkg-shlibdeps --warnings=1 -Tdebian/substvars "$root/usr/bin/git-ksplice"
	dpkg-gencontrol -pgit-ksplice -Pdebian/none -Tdebian/substvars -fdebian/files -P"$root" >&2
)
(
	cd "$root"
	find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0 md5sum > DEBIAN/md5sums
)
find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" '{}' +
package=$folder/git-ksplice_${version}_amd64.deb
dpkg-deb --root-owner-group -b "$root" "$package" >/dev/null
echo "$package"
