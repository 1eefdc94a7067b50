#!/bin/sh
# All tests: unit tests, and those on real kernels in virtual machines.
#
#     test.sh CACHE [arguments of `swift test`]
set -eu

cache=$1
shift
here=$(cd "$(dirname "$0")" && pwd)
# The tests are compiled while their material is fetched.
builds=true
for argument; do [ "$argument" != --skip-build ] || builds=false; done
if $builds; then
	log=$(mktemp)
	trap 'rm -f "$log"' EXIT
	swift build --build-tests > "$log" 2>&1 &
	build=$!
fi
set -a
eval "$("$here/material.sh" "$cache" all)"
# A clone of their own: the demonstration leaves its branch, its kernel and its updates in the other one.
KSPLICE_KERNEL_REPOSITORY=$cache/linux-test
if [ ! -e "$KSPLICE_KERNEL_REPOSITORY/.git/ksplice-ready" ]; then
	origin=$("$here/repository.sh" "$cache" "$KSPLICE_SOURCE_OLD" "$KSPLICE_OLD_VERSION")
	rm -rf "$KSPLICE_KERNEL_REPOSITORY"
	git clone -q --shared -n "$origin" "$KSPLICE_KERNEL_REPOSITORY"
	git -C "$KSPLICE_KERNEL_REPOSITORY" config gc.auto 0
	git -C "$KSPLICE_KERNEL_REPOSITORY" update-ref HEAD "v$KSPLICE_OLD_VERSION^{commit}"
	touch "$KSPLICE_KERNEL_REPOSITORY/.git/ksplice-ready"
fi
image=$cache/vmlinuz-$KSPLICE_RELEASE_OLD
[ -e "$image" ] || dpkg-deb --fsys-tarfile "$KSPLICE_IMAGE_OLD" | tar -xOf - "./boot/vmlinuz-$KSPLICE_RELEASE_OLD" > "$image"
KSPLICE_TEST_IMAGE=$image
set +a
if $builds; then
	wait "$build" || { cat "$log" >&2; exit 1; }
	cat "$log"
	set -- --skip-build "$@"
fi
swift test "$@"
# What a repository keeps is reached in two ways, of which the usual tests take the first.
second='CoreTests.*(Repository|Store|Replacement|Format|Change|Export)'
[ -z "${KSPLICE_TEST_WHOLE-}" ] || second='CoreTests.*(Git|Repository|Store|Replacement|Format|Change|Export|Channel|Gatekeeper|Trust|Hook|Queue|Report)'
case " $* " in
*" --filter "*) ;;
*) GIT_KSPLICE_STORE=git swift test --skip-build --filter "$second" ;;
esac
