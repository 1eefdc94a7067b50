#!/bin/bash
# Measures what Documentation/benchmarks.md says of scale: many updates, many hosts, a deep history. About fifteen minutes.
#
#     scale.sh CACHE PROGRAM
#
# SCALE_ARCHIVE: an update to fill the repositories with, in place of one that is made for that. SCALE_HOSTS, SCALE_AT_ONCE: how
# many hosts fetch, and how many of them at a time.
set -eu

cache=$1
program=$2
here=$(cd "$(dirname "$0")" && pwd)
PATH="$(dirname "$program"):$PATH"
export PATH
eval "$("$here/material.sh" "$cache" old)"
origin=$("$here/repository.sh" "$cache" "$KSPLICE_SOURCE_OLD" "$KSPLICE_OLD_VERSION")
unset MAKEFLAGS MFLAGS MAKELEVEL || true

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
step() { printf '== %s\n' "$*" >&2; }
row() { printf '| %s | %s |\n' "$1" "$2"; }
median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
# Milliseconds of a command, to a tenth; what it says is dropped.
ms() {
	local begin end
	begin=$(date +%s%N)
	"$@" >/dev/null 2>&1 </dev/null || { echo "failed: $*" >&2; exit 1; }
	end=$(date +%s%N)
	awk -v t=$((end - begin)) 'BEGIN { printf "%.1f\n", t / 1e6 }'
}
# The median of several times.
often() { # count command...
	local count=$1
	shift
	for _ in $(seq "$count"); do ms "$@"; done | median
}
# Until the hooks' worker has ended; there is no kernel yet that it could build for.
settled() {
	sleep 0.3
	while git ksplice hook status --json | grep -q '"worker":true'; do sleep 0.3; done
}

step "a deep history"
git clone -q --shared -n "$origin" "$work/linux"
cd "$work/linux"
git config user.name Bench
git config user.email bench@example.org
git config gc.auto 0
"$here/scale/history.pl" "v$KSPLICE_OLD_VERSION^{commit}" 50000 | git fast-import --quiet --done
# A worktree of a few thousand files; the index and the trees have all of them.
git sparse-checkout set --cone kernel
git checkout -q deep
echo "| a history of $(git rev-list --count deep) commits, $(git ls-files | wc -l) files | |"
echo "| --- | --- |"

once() { git ksplice init --undo >/dev/null; ms git ksplice init; }
row "init" "$(for _ in 1 2 3 4 5; do once; done | median) ms"

commit() { git commit -q --allow-empty -m "nothing"; }
# By turns, so that whatever else the machine does is in both.
for _ in $(seq 21); do
	git config core.hooksPath /nowhere
	ms commit >> "$work/without"
	git config --unset core.hooksPath
	git ksplice hook install >/dev/null 2>&1
	ms commit >> "$work/with"
	settled
done
without=$(median < "$work/without")
with=$(median < "$work/with")
row "git commit without hooks, and with them (medians of 21, by turns)" "$without ms, $with ms"
row "the post-commit hook alone (median of 21)" "$(often 21 "$(git rev-parse --git-path hooks)/post-commit") ms"
git rev-list topic~100..topic | awk '{ print $1, $1 }' > "$work/rewritten"
rewrite() { "$(git rev-parse --git-path hooks)/post-rewrite" rebase < "$work/rewritten"; }
row "the post-rewrite hook alone, 100 commits (median of 21)" "$(often 21 rewrite) ms"
settled

git config core.hooksPath /nowhere
without=$(ms git rebase -q --onto deep topic~100 topic)
git config --unset core.hooksPath
git update-ref refs/heads/topic ORIG_HEAD
git reset -q --hard
with=$(ms git rebase -q --onto deep topic~100 topic)
row "git rebase of 100 commits without hooks, and with them" "$without ms, $with ms"
settled
git ksplice hook uninstall >/dev/null
rm -rf .git/ksplice/queue
git checkout -q deep

step "an update on it"
git ksplice kernel add debian --source "v$KSPLICE_OLD_VERSION" --from "$KSPLICE_IMAGE_OLD" \
	--from "$KSPLICE_HEADERS" >/dev/null 2>&1
sed -i 's/memcpy(mm->saved_auxv, user_auxv, len);/memcpy(mm->saved_auxv, user_auxv, sizeof(user_auxv));/' kernel/sys.c
git commit -q -a -m "sys: the whole auxiliary vector"
archive=${SCALE_ARCHIVE:-}
if [ -z "$archive" ]; then
	row "create, empty workspace" "$(ms git ksplice create HEAD) ms"
	row "create again, same input" "$(often 5 git ksplice create HEAD) ms"
	archive="$work/update.tar.gz"
	git ksplice export -o "$archive" HEAD >/dev/null
fi
row "list (median of 5)" "$(often 5 git ksplice list) ms"
row "log HEAD~100..HEAD (median of 5)" "$(often 5 git ksplice log HEAD~100..HEAD) ms"

cd "$work"
rm -rf "$work/linux"
folders=
for kernels in 1 20 200; do
	step "$((kernels * 25)) updates for $kernels kernel(s)"
	mkdir "$work/$kernels"
	"$here/scale/updates.pl" "$work/$kernels" "$kernels" 25 "$archive"
	folders="$folders $work/$kernels"
done
echo
echo "| | 25 updates, 1 kernel | 500 updates, 20 kernels | 5,000 updates, 200 kernels |"
echo "| --- | --- | --- | --- |"
# shellcheck disable=SC2086
"$here/scale/measure.pl" $folders

step "many hosts"
echo
echo "| many hosts | |"
echo "| --- | --- |"
"$here/scale/clients.pl" "$work/200" "${SCALE_HOSTS:-500}" "${SCALE_AT_ONCE:-25}"

echo
echo "| the size of an update | |"
echo "| --- | --- |"
# shellcheck disable=SC2046
"$here/scale/sizes.pl" "$archive" $(ls "$cache"/linux-test/.git/ksplice-test/*.tar.gz 2>/dev/null || :)
