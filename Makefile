# Build, try, test, install. Every target works from a fresh clone; `make demo` and `make test` do all set-up on a
# fresh Debian 12 with Swift.
#
#   make                        the program, for trying and testing
#   make demo                   from a commit to a running kernel and back, in a virtual machine
#   make test                   all tests
#   make test-whole             the same with larger samples of kernel code, and all that git keeps through git itself, too
#   make bench                  measurements
#   make scale                  measurements with 5,000 updates, 500 hosts, 50,000 commits; a quarter of an hour
#   make stress                 applies and undoes an update 10,000 times under load, in a virtual machine; hours
#                               (CYCLES=1000 for fewer; `make test` does it 60 times); and a hundred updates at once
#   make stress-debug           the same fire, and every call that can fail, on a kernel with KASAN, lockdep and kmemleak,
#                               which is built first; an hour
#   make evaluate               create on every file that differs between two kernels, and a report; hours on a small
#                               machine, resumed where it was interrupted (EVALUATE="--only '^mm/' --jobs 4")
#   make install PREFIX=/usr    an optimised program with Swift's library inside; DESTDIR=... for packages
#   make uninstall              with the same PREFIX and DESTDIR
#   make deb                    a package for Debian 12, in .build/deb (DEBS=... for elsewhere)
#   make format                 rewrites the sources in the project's format
#   make check-format           fails where they are not

CACHE ?= $(CURDIR)/.cache
PROGRAM = $(CURDIR)/.build/debug/git-ksplice
SUPPORT = Tests/Support

PREFIX  ?= /usr/local
DESTDIR ?=
# `make install SWIFTFLAGS="-j 1"` on a small machine.
SWIFTFLAGS ?=
# `make install PROGRAM_FILE=...`, `make deb PROGRAM_FILE=...`: a program that is built already, and none is built.
PROGRAM_FILE ?=
DEBS ?= $(CURDIR)/.build/deb

RELEASE   = swift build -c release --static-swift-stdlib --product git-ksplice $(SWIFTFLAGS)
FORMATTED = Package.swift Sources Tests

bindir    = $(DESTDIR)$(PREFIX)/bin
sharedir  = $(DESTDIR)$(PREFIX)/share
kerneldir = $(sharedir)/git-ksplice/kernel
pagesdir  = $(sharedir)/git-ksplice
mandir    = $(sharedir)/man/man1
bashdir   = $(sharedir)/bash-completion/completions
# Debian's zsh looks elsewhere for what is not the administrator's own.
zshdir    = $(sharedir)/zsh/$(if $(and $(filter /usr,$(PREFIX)),$(wildcard /etc/debian_version)),vendor-completions,site-functions)
fishdir   = $(sharedir)/fish/vendor_completions.d
fishconf  = $(sharedir)/fish/vendor_conf.d
unitdir   = $(DESTDIR)$(PREFIX)/lib/systemd/system
# initramfs-tools looks at two places only.
initramfsdir = $(DESTDIR)$(if $(filter /usr,$(PREFIX)),/usr/share,/etc)/initramfs-tools
built     = $(if $(PROGRAM_FILE),$(PROGRAM_FILE),$$($(RELEASE) --show-bin-path)/git-ksplice)
UNITS     = ksplice-boot.service ksplice-boot-confirm.service ksplice-update.service ksplice-update.timer
# What a system does not have by itself; removed where it is empty.
OWN_FOLDERS = "$(bashdir)" "$(dir $(bashdir))" "$(zshdir)" "$(dir $(zshdir))" "$(fishdir)" "$(fishconf)" "$(dir $(fishdir))" \
	"$(unitdir)"/*.target.wants

.PHONY: all deps build release demo test test-whole bench scale stress stress-debug evaluate clean install install-boot uninstall deb format check-format

all: build

deps:
	@$(SUPPORT)/deps.sh

build: deps
	@swift build

release:
	$(RELEASE)

demo: build
	@$(SUPPORT)/demo.sh $(CACHE) $(PROGRAM)

test: deps
	@$(SUPPORT)/test.sh $(CACHE)

test-whole: deps
	@KSPLICE_TEST_WHOLE=1 $(SUPPORT)/test.sh $(CACHE)

bench: build
	@$(SUPPORT)/bench.sh $(CACHE) $(PROGRAM)

# SCALE_HOSTS=100 SCALE_AT_ONCE=20 on a small machine.
scale: build
	@$(SUPPORT)/scale.sh $(CACHE) $(PROGRAM)

CYCLES ?= 10000
stress: deps
	@KSPLICE_STRESS_CYCLES=$(CYCLES) $(SUPPORT)/test.sh $(CACHE) --filter 'UnderFire|ManyUpdates'

stress-debug: deps
	@eval "$$($(SUPPORT)/material.sh $(CACHE) all)" && \
		tree=$$($(SUPPORT)/debug-kernel.sh $(CACHE) "$$KSPLICE_SOURCE_OLD") && eval "$$tree" && export KSPLICE_DEBUG_KERNEL && \
		$(SUPPORT)/test.sh $(CACHE) --filter DebugKernel

EVALUATE ?= --apply 60
evaluate: build
	@$(SUPPORT)/evaluate.sh $(CACHE) $(PROGRAM) $(EVALUATE)

# The sources of ksplice.ko are installed too: it is built for each kernel, by `git ksplice create`. The pages of
# findings and mismatches are what `git ksplice explain` prints.
install: $(if $(PROGRAM_FILE),,release)
	install -d "$(bindir)" "$(kerneldir)" "$(pagesdir)/findings" "$(pagesdir)/mismatches" "$(pagesdir)/schemas" "$(mandir)" "$(bashdir)" "$(zshdir)" "$(fishdir)" "$(fishconf)"
	install -m 755 "$(built)" "$(bindir)/git-ksplice"
	install -m 644 kernel/*.c kernel/*.h kernel/Kbuild "$(kerneldir)"
	install -m 644 Documentation/findings/*.md "$(pagesdir)/findings"
	install -m 644 Documentation/mismatches/*.md "$(pagesdir)/mismatches"
	install -m 644 Documentation/schemas/*.json "$(pagesdir)/schemas"
	install -m 644 Documentation/hooks.md "$(sharedir)/git-ksplice"
	install -d "$(pagesdir)/hooks"
	install -m 755 hooks/update "$(pagesdir)/hooks/update"
	install -m 644 Documentation/man/*.1 "$(mandir)"
	install -m 644 completions/git-ksplice.bash "$(bashdir)/git-ksplice"
	install -m 644 completions/_git-ksplice "$(zshdir)/_git-ksplice"
	install -m 644 completions/git-ksplice.fish "$(fishdir)/git-ksplice.fish"
	install -m 644 completions/git-ksplice.conf.fish "$(fishconf)/git-ksplice.fish"
	$(MAKE) --no-print-directory install-boot

# What applies updates at boot; without an update that is kept for that, it does nothing but note that the boot came up. And what
# fetches regularly; it does nothing on a host that follows nobody. The links are what `systemctl enable` would make: `systemctl mask` takes a unit out.
install-boot:
	install -d "$(unitdir)/sysinit.target.wants" "$(unitdir)/multi-user.target.wants" \
		"$(unitdir)/timers.target.wants" "$(initramfsdir)/hooks" "$(initramfsdir)/scripts/init-bottom"
	for unit in $(UNITS); do \
		sed 's,/usr/bin/,$(PREFIX)/bin/,' hooks/*/"$$unit" > "$(unitdir)/$$unit" && \
		chmod 644 "$(unitdir)/$$unit" || exit 1; \
	done
	ln -sf ../ksplice-boot.service "$(unitdir)/sysinit.target.wants/ksplice-boot.service"
	ln -sf ../ksplice-boot-confirm.service "$(unitdir)/multi-user.target.wants/ksplice-boot-confirm.service"
	ln -sf ../ksplice-update.timer "$(unitdir)/timers.target.wants/ksplice-update.timer"
	sed 's,/usr/bin/,$(PREFIX)/bin/,' hooks/boot/initramfs-tools/hook > "$(initramfsdir)/hooks/git-ksplice"
	sed 's,/usr/bin/,$(PREFIX)/bin/,' hooks/boot/initramfs-tools/init-bottom \
		> "$(initramfsdir)/scripts/init-bottom/git-ksplice"
	chmod 755 "$(initramfsdir)/hooks/git-ksplice" "$(initramfsdir)/scripts/init-bottom/git-ksplice"

uninstall:
	rm -f "$(bindir)/git-ksplice" "$(bashdir)/git-ksplice" "$(zshdir)/_git-ksplice" "$(fishdir)/git-ksplice.fish" \
		"$(fishconf)/git-ksplice.fish"
	for page in Documentation/man/*.1; do rm -f "$(mandir)/$${page##*/}"; done
	rm -rf "$(sharedir)/git-ksplice"
	for unit in $(UNITS); do rm -f "$(unitdir)/$$unit" "$(unitdir)"/*.target.wants/"$$unit"; done
	rm -f "$(initramfsdir)/hooks/git-ksplice" "$(initramfsdir)/scripts/init-bottom/git-ksplice"
	for folder in $(OWN_FOLDERS); do \
		[ ! -d "$$folder" ] || rmdir --ignore-fail-on-non-empty "$$folder" || exit 1; \
	done
	@echo "update-initramfs -u takes git ksplice out of the initial file systems"

deb: $(if $(PROGRAM_FILE),,release)
	@packaging/debian/build.sh "$(built)" "$(DEBS)"

format:
	swift format --in-place --parallel --recursive $(FORMATTED)

check-format:
	swift format lint --strict --parallel --recursive $(FORMATTED)

clean:
	rm -rf .build .cache
