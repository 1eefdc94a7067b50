#!/bin/sh
# Links the program from the objects of a build for the tests, with Swift's library inside, as a release has it. A release is
# compiled anew for minutes, from the same sources; this takes seconds.
#
#     link-static.sh BUILD PROGRAM
#
# BUILD is the folder .build/debug.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
libraries=$(grep -o 'linkedLibrary("[^"]*")' "$here/../../Package.swift" | sed 's/.*("\(.*\)")/-l\1/')
# What was compiled against Swift's shared libraries does not name those that a static one needs in turn: the last two.
# The linker warns of mktemp in them.
# shellcheck disable=SC2086
swiftc -static-stdlib -emit-executable -o "$2" -Xlinker --defsym -Xlinker main=git_ksplice_main \
	-Xlinker --gc-sections "@$1/git-ksplice.product/Objects.LinkFileList" -ldl $libraries \
	-l_FoundationCollections -l_FoundationCShims > "$2.log" 2>&1 || { cat "$2.log" >&2; exit 1; }
rm "$2.log"
