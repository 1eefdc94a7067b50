#!/bin/bash
# Measures what Documentation/benchmarks.md shows. Ratios are of two measurements of the same run.
#
#     bench.sh CACHE PROGRAM
set -eu

cache=$1
program=$2
here=$(cd "$(dirname "$0")" && pwd)
PATH="$(dirname "$program"):$PATH"
export PATH
eval "$("$here/material.sh" "$cache" old)"
origin=$("$here/repository.sh" "$cache" "$KSPLICE_SOURCE_OLD" "$KSPLICE_OLD_VERSION")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
git clone -q --shared -n "$origin" "$work/linux"
cd "$work/linux"
git config user.name Bench
git config user.email bench@example.org
git symbolic-ref HEAD refs/heads/bench
git update-ref HEAD "v$KSPLICE_OLD_VERSION^{commit}"
git read-tree HEAD

unset MAKEFLAGS MFLAGS MAKELEVEL || true
now() { date +%s%N; }
# Seconds that a command takes, to milliseconds; its output is dropped.
seconds() {
	local begin
	begin=$(now)
	"$@" >/dev/null 2>&1
	echo $(( ($(now) - begin) / 1000000 )) | awk '{ printf "%.3f", $1 / 1000 }'
}
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }
row() { printf '| %s | %s |\n' "$1" "$2"; }

# A commit that changes one line of a file, without a checkout.
change() { # path old new
	git show "HEAD:$1" > "$work/file"
	perl -0pi -e "s/\Q$2\E/$3/" "$work/file"
	git update-index --cacheinfo "100644,$(git hash-object -w "$work/file"),$1"
	git commit -q -m "bench: $1: $3"
}

git ksplice kernel add debian --source HEAD --from "$KSPLICE_IMAGE_OLD" --from "$KSPLICE_HEADERS" >/dev/null 2>&1
test_line='memcpy(mm->saved_auxv, user_auxv, len);'
change kernel/sys.c "$test_line" 'memcpy(mm->saved_auxv, user_auxv, sizeof(user_auxv));'
cold=$(seconds git ksplice create HEAD)
again=$(seconds git ksplice create HEAD)
# Another change of the same file: nothing of post is in the cache; pre is, as it is in daily work.
change kernel/sys.c 'if (arg2 != SUID_DUMP_DISABLE' 'if (arg2 != 7 && arg2 != SUID_DUMP_DISABLE'
git reset -q --soft HEAD~2 && git commit -q -m "bench: second change"
warm=$(seconds git ksplice create HEAD)

workspace=$(ls -d "$PWD"/.git/ksplice/workspaces/*)
make_unit() {
	rm -f "$workspace/object/kernel/sys.o"
	make -s -C "$workspace/source" O="$workspace/object" CC=gcc-12 KERNELRELEASE="$KSPLICE_RELEASE_OLD" kernel/sys.o
}
make_unit >/dev/null
unit=$(seconds make_unit)

starts() { for _ in $(seq 50); do "$@" >/dev/null 2>&1 || true; done; }
help_time=$(seconds starts git ksplice -h)
version_time=$(seconds starts git --version)

# A typical update's ten units, whole: against the kernel's files, and below against the guest's memory.
units="kernel/sys.c kernel/signal.c kernel/fork.c fs/open.c fs/read_write.c fs/namei.c mm/mmap.c net/core/dev.c net/ipv4/tcp.c lib/vsprintf.c"
git ksplice match -q --kernel debian --save "$work/pre" $units >/dev/null 2>&1
objects=$(find "$work/pre" -name '*.o' | sort)
offline() { git ksplice match --kernel debian --object --json $objects 2>/dev/null; }
offline_time=$(seconds offline)
offline=$(for _ in 1 2 3 4 5; do offline | sed 's/.*"match_ns":\([0-9]*\).*/\1 &/'; done | sort -n | sed -n 3p)
# Of the largest of a command's processes, in KiB: getrusage(RUSAGE_CHILDREN).ru_maxrss.
peak=$(perl -e 'open STDOUT, ">/dev/null"; system @ARGV; my $b = "\0" x 144; syscall(98, -1, $b) == 0 or exit 1; print STDERR unpack("x32 q", $b)' \
	git ksplice match --kernel debian --object -q $objects 2>&1)

git ksplice test --run "true" HEAD >/dev/null 2>&1
cat > "$work/guest.sh" <<EOF
[ -e /tmp/measured ] && exit 0
touch /tmp/measured
git-ksplice check --json \$(ls /root/*.tar.gz) 2>/dev/null
git-ksplice match --object --json /root/*.o 2>/dev/null | sed 's/^/ten /'
EOF
copies=$(for object in $objects; do printf -- '--copy %s ' "$object"; done)
guest=$(git ksplice test -q $copies --timeout 900 --copy "$work/guest.sh" --run 'sh ./guest.sh' HEAD 2>/dev/null | sed 's/^ *//')
match=$(echo "$guest" | grep matched_functions)
field() { echo "$match" | sed -n "s/.*\"$1\":\([0-9]*\).*/\1/p"; }
# What match says, as a row.
rates() {
	sed -n 's/.*"functions":\([0-9]*\),"bytes":\([0-9]*\),"match_ns":\([0-9]*\),"complete":true.*/\1 \2 \3/p' |
		awk '{ printf "%d functions, %d bytes, %.0f ms: %.1f MB/s, %d functions/s", $1, $2, $3 / 1e6, $2 * 1000 / $3, $1 * 1e9 / $3 }'
}
echo "| measurement | result |"
echo "| --- | --- |"
row "compile kernel/sys.c once with kbuild" "$unit s"
row "create, empty workspace" "$cold s, $(ratio "$cold" "$unit") times that"
row "create, warm workspace" "$warm s, $(ratio "$warm" "$unit") times that"
row "create again, same input" "$again s"
row "50 starts of git ksplice -h" "$help_time s, $(ratio "$help_time" "$version_time") times git --version"
row "matching in the guest" "$(field matched_functions) functions, $(field matched_bytes) bytes, $(( $(field match_ns) / 1000000 )) ms"
row "matching 10 whole objects offline (median of 5)" "$(echo "$offline" | rates)"
row "the whole command" "$offline_time s, at most $((peak / 1024)) MiB"
row "matching the same objects in the guest" "$(echo "$guest" | grep '^ten ' | rates)"

# Pauses and calls, in a guest of their own: a suite of the tests, which has what makes updates of many functions.
figures=$(KSPLICE_FIGURES=1 "$here/test.sh" "$cache" --filter Figures 2>&1) || { echo "$figures" >&2; exit 1; }
figure() { echo "$figures" | sed -n "s/^figure of $1: //p"; }
echo
figure functions
echo "| tasks | functions | pause, median | 99 % | worst | whole stop_machine(), median | the same with nothing to do |"
echo "| --- | --- | --- | --- | --- | --- | --- |"
figure "the pause"
echo
echo "| called | ns | cycles |"
echo "| --- | --- | --- |"
figure calls
