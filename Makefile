# Build, install, format. Every target works from a fresh clone.
#
#   make                        the program, optimised, with Swift's library inside
#   make install PREFIX=/usr    DESTDIR=... for packages
#   make uninstall              with the same PREFIX and DESTDIR
#   make format                 rewrites the sources in the project's format
#   make check-format           fails where they are not

PREFIX  ?= /usr/local
DESTDIR ?=
# `make SWIFTFLAGS="-j 1"` on a small machine.
SWIFTFLAGS ?=

SWIFT_BUILD = swift build -c release --static-swift-stdlib --product git-ksplice $(SWIFTFLAGS)
FORMATTED   = Package.swift Sources Tests

bindir    = $(DESTDIR)$(PREFIX)/bin
sharedir  = $(DESTDIR)$(PREFIX)/share
kerneldir = $(sharedir)/git-ksplice/kernel
mandir    = $(sharedir)/man/man1
bashdir   = $(sharedir)/bash-completion/completions
zshdir    = $(sharedir)/zsh/site-functions
fishdir   = $(sharedir)/fish/vendor_completions.d

.PHONY: all install uninstall format check-format

all:
	$(SWIFT_BUILD)

# The sources of ksplice.ko are installed too: it is built for each kernel, by `git ksplice create`.
install: all
	install -d "$(bindir)" "$(kerneldir)" "$(mandir)" "$(bashdir)" "$(zshdir)" "$(fishdir)"
	install -m 755 "$$($(SWIFT_BUILD) --show-bin-path)/git-ksplice" "$(bindir)/git-ksplice"
	install -m 644 kernel/*.c kernel/*.h kernel/Kbuild "$(kerneldir)"
	install -m 644 Documentation/man/*.1 "$(mandir)"
	install -m 644 completions/git-ksplice.bash "$(bashdir)/git-ksplice"
	install -m 644 completions/_git-ksplice "$(zshdir)/_git-ksplice"
	install -m 644 completions/git-ksplice.fish "$(fishdir)/git-ksplice.fish"

uninstall:
	rm -f "$(bindir)/git-ksplice" "$(bashdir)/git-ksplice" "$(zshdir)/_git-ksplice" "$(fishdir)/git-ksplice.fish"
	for page in Documentation/man/*.1; do rm -f "$(mandir)/$${page##*/}"; done
	rm -rf "$(sharedir)/git-ksplice"

format:
	swift format --in-place --parallel --recursive $(FORMATTED)

check-format:
	swift format lint --strict --parallel --recursive $(FORMATTED)
