#!/bin/sh
# The main job on a real kernel: a real fix from Debian's kernel becomes an update, and a stock Debian kernel in a virtual
# machine gets it while it runs, and loses it again.
#
#     demo.sh CACHE PROGRAM
set -eu

cache=$1
program=$2
here=$(cd "$(dirname "$0")" && pwd)
PATH="$(dirname "$program"):$PATH"
export PATH

step() { printf '\n== %s\n' "$*" >&2; }
run() { printf '$ %s\n' "$*" >&2; "$@"; }

step "1. A stock Debian kernel: its source and its packages (downloaded and unpacked, never installed)"
eval "$("$here/material.sh" "$cache" old)"
repository=$("$here/repository.sh" "$cache" "$KSPLICE_SOURCE_OLD" "$KSPLICE_OLD_VERSION")
cd "$repository"
echo "kernel $KSPLICE_RELEASE_OLD, source in $repository" >&2

step "2. The repository learns about updates and about that kernel"
run git ksplice init
if ! git ksplice kernel show debian >/dev/null 2>&1; then
	run git ksplice kernel add debian --source "v$KSPLICE_OLD_VERSION" --from "$KSPLICE_IMAGE_OLD" --from "$KSPLICE_HEADERS"
fi

step "3. A real fix, as a commit: prctl(PR_SET_MM_AUXV) kept old entries behind the new ones"
if ! git diff-index --quiet HEAD --; then
	echo "$repository has changes that are not committed; commit or drop them, then run this again" >&2
	exit 1
fi
# A branch of that name with other commits is kept.
tip=$(git rev-parse -q --verify demo || true)
if [ -n "$tip" ] && [ "$tip" != "$(cat .git/ksplice-demo 2>/dev/null)" ]; then
	run git branch -m demo "demo-$(git rev-parse --short demo)"
fi
run git checkout -q -B demo "v$KSPLICE_OLD_VERSION"
sed -i 's/memcpy(mm->saved_auxv, user_auxv, len);/memcpy(mm->saved_auxv, user_auxv, sizeof(user_auxv));/' kernel/sys.c
GIT_AUTHOR_DATE='@0 +0000' GIT_COMMITTER_DATE='@0 +0000' \
	git commit -q -a -m "prctl: replace the whole saved auxiliary vector"
git rev-parse HEAD >.git/ksplice-demo
git show --format='commit %h: %s' HEAD

step "4. The commit becomes an update"
run git ksplice create HEAD
run git log -1 --format='commit %h: %s%n%N' HEAD

step "5. The stock kernel runs in a virtual machine: before, with the update, and after undo"
gcc -O2 -static -o "$cache/auxv" "$here/auxv.c"
run git ksplice test --run ./auxv --copy "$cache/auxv" HEAD

step "Done. Try next (in $repository)"
cat >&2 <<EOF
    export PATH=$(dirname "$program"):\$PATH
    git ksplice list
    git ksplice show HEAD
    git ksplice show --disassemble HEAD
    git ksplice export HEAD        # an archive for a machine that runs $KSPLICE_RELEASE_OLD
    git ksplice show --why HEAD
    git ksplice explain
    git ksplice create <your own commit>   # new files want git add -f: the package's .gitignore is for packaging
EOF
