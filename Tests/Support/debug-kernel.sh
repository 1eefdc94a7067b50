#!/bin/sh
# Builds the kernel of `make stress-debug` (debug.config) in the cache, once. Prints shell assignments that say where it is.
#
#     debug-kernel.sh CACHE SOURCE
set -eu

mkdir -p "$1"
cache=$(cd "$1" && pwd)
source=$(cd "$2" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
config=$here/debug.config
tree=$cache/debug-kernel-$(cat "$0" "$config" "$source/Makefile" | sha256sum | cut -c1-8)

build() {
	# Debug information is in the config, for `git ksplice create`; the kernel itself needs none of it, and links in a tenth
	# of the time.
	nice -n 10 make -s -C "$tree.source" "O=$tree.tmp" CC=gcc-12 HOSTCC=gcc "KCFLAGS=-g0" "$@" >&2
}

if [ ! -e "$tree" ]; then
	echo "building a kernel that finds mistakes (once; a quarter of an hour on two processors)" >&2
	rm -rf "$tree.source"
	cp -al "$source" "$tree.source"
	# KASAN is not to watch globals and the stack: the compiler describes both by strings with the numbers of lines and by
	# constructors, so that functions would differ that do not. DebugKernelTests has the same in its source.
	kasan=scripts/Makefile.kasan
	rm "$tree.source/$kasan"
	sed 's/asan-globals=1/asan-globals=0/; s/stack_enable := 1/stack_enable := 0/' "$source/$kasan" > "$tree.source/$kasan"
	mkdir -p "$tree.tmp"
	build KCONFIG_ALLCONFIG="$config" allnoconfig
	# kconfig leaves out, without a word, what depends on something that is off.
	grep '^CONFIG_' "$config" | while read -r line; do
		grep -qxF "$line" "$tree.tmp/.config" || { echo "this kernel has no $line" >&2; exit 1; }
	done
	build "-j$(nproc)" all
	mv "$tree.tmp" "$tree"
fi
echo "KSPLICE_DEBUG_KERNEL='$tree'"
