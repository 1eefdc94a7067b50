#!/bin/sh
# All tests: unit tests, and those on real kernels in virtual machines.
#
#     test.sh CACHE [arguments of `swift test`]
set -eu

cache=$1
shift
here=$(cd "$(dirname "$0")" && pwd)
set -a
eval "$("$here/material.sh" "$cache" all)"
KSPLICE_KERNEL_REPOSITORY=$("$here/repository.sh" "$cache" "$KSPLICE_SOURCE_OLD" "$KSPLICE_OLD_VERSION")
image=$cache/vmlinuz-$KSPLICE_RELEASE_OLD
[ -e "$image" ] || dpkg-deb --fsys-tarfile "$KSPLICE_IMAGE_OLD" | tar -xOf - "./boot/vmlinuz-$KSPLICE_RELEASE_OLD" > "$image"
KSPLICE_TEST_IMAGE=$image
set +a
exec swift test "$@"
