# `make demo` and `make test` do all set-up on a fresh Debian 12 with Swift.

CACHE ?= $(CURDIR)/.cache
PROGRAM = $(CURDIR)/.build/debug/git-ksplice
SUPPORT = Tests/Support

.PHONY: all deps build demo test bench clean

all: build

deps:
	@$(SUPPORT)/deps.sh

build: deps
	@swift build

demo: build
	@$(SUPPORT)/demo.sh $(CACHE) $(PROGRAM)

test: deps
	@$(SUPPORT)/test.sh $(CACHE)

bench: build
	@$(SUPPORT)/bench.sh $(CACHE) $(PROGRAM)

clean:
	rm -rf .build .cache
