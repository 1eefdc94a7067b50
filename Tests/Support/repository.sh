#!/bin/sh
# Makes a git repository of an unpacked kernel source, with one commit, beside it in the cache; prints its path.
#
#     repository.sh CACHE SOURCE VERSION
set -eu

repository="$1/linux"
if [ ! -e "$repository/.git/ksplice-ready" ]; then
	echo "making a git repository of the source (once)" >&2
	rm -rf "$repository"
	# A hard link for each file: the source folder stays as it is, and nothing is copied.
	cp -al "$2" "$repository"
	rm -f "$repository/.unpacked"
	cd "$repository"
	git init -q -b master
	git config gc.auto 0
	git config user.name "Kernel Developer"
	git config user.email developer@example.org
	# All blobs go straight into one pack.
	git -c core.bigFileThreshold=1 -c core.compression=1 add -A -f
	GIT_AUTHOR_DATE='@0 +0000' GIT_COMMITTER_DATE='@0 +0000' git commit -q -m "Linux $3"
	git tag "v$3"
	touch .git/ksplice-ready
fi
echo "$repository"
