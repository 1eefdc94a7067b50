#!/bin/sh
# Runs create on the open corpus; see evaluate.pl.
#
#     evaluate.sh CACHE PROGRAM [options of evaluate.pl]
set -eu

cache=$1
program=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
set -a
eval "$("$here/material.sh" "$cache" all)"
set +a
"$here/repository.sh" "$cache" "$KSPLICE_SOURCE_OLD" "$KSPLICE_OLD_VERSION" >/dev/null
unset MAKEFLAGS MFLAGS MAKELEVEL
exec "$here/evaluate.pl" "$cache" "$program" "$@"
