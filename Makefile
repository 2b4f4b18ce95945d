# SPDX-License-Identifier: Apache-2.0
# The targets without a slash are here; PART/VERB is in mk/PART.mk. `make help`
# lists those with "##" behind them.

VERSION  := $(shell cat VERSION)
REVISION := $(firstword $(shell packaging/revision))
LDFLAGS  := -s -w -buildid= -X main.version=$(VERSION) -X main.revision=$(REVISION)
GOBUILD  := CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'

SHIM      ?= $(CURDIR)/bin/containerd-shim
BASELINES ?= $(CURDIR)/bin/baselines

UNIT := ./reaper/... ./proc/... ./shim/... ./internal/... ./cmd/... ./integration/harness/wait ./integration/matrix

# Packages whose mutexes say what they guard: "+checklocks" on a field or function.
LOCKED := ./internal/... ./reaper/... ./proc/... ./shim/... ./cmd/containerd-shim

.DEFAULT_GOAL := help
.PHONY: help build check unit test test/shim test/hosts verify bench demo packages clean

help: ## list the targets
	@awk -F ':[^#]*## ' '/^[a-z0-9\/.-]+:.*## / { part = index($$1, "/") ? substr($$1, 1, index($$1, "/")) : ""; \
	  if (part != last) print ""; last = part; printf "%-22s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build every command into bin/
	packaging/build bin

check: ## gofmt, go vet, golangci-lint, guarded fields under their mutex (checklocks), targets that documents name
	@mk/check-docs
	@out=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$out" || { echo "gofmt differs: $$out" >&2; exit 1; }
	mk/modules ./...
	go vet ./...
	cd mk/tools && ../modules gvisor.dev/gvisor/tools/checklocks/cmd/checklocks
	cd mk/tools && go build -o $(CURDIR)/bin/tools/ gvisor.dev/gvisor/tools/checklocks/cmd/checklocks
	go vet -vettool=bin/tools/checklocks -inferred=false $(LOCKED)
	cd mk/tools/lint && ../../modules github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	cd mk/tools/lint && go build -o $(CURDIR)/bin/tools/ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	GOLANGCI_LINT_CACHE=$(CURDIR)/bin/tools/cache bin/tools/golangci-lint run --allow-parallel-runners ./...

unit: ## the unit tests, with the race detector (root)
	go test -race -count=1 -timeout 15m $(UNIT)

# Most of the time passes with waiting, so there are two chains of tests side by side. What
# both need is made before them, once.
ONCE := host/prepare build upstream/build

test: $(ONCE) ## pass every test (root, about 25 minutes on two CPUs)
	$(MAKE) -j2 --no-print-directory test/shim test/hosts

test/shim:
	+@ONCE='$(ONCE)' MAKE='$(MAKE)' mk/chain check unit model/test catalogue/test matrix/cell packaging/test patches/test

test/hosts:
	+@ONCE='$(ONCE)' MAKE='$(MAKE)' mk/chain monitoring/alerts upstream/test daemons/test shimctl/test

verify: build ## the catalogue on $(SHIM) by bin/shimverify, one line a check
	bin/shimverify run --shim $(SHIM)

bench: daemons/memory daemons/tempo daemons/crowd ## the figures of docs/performance.md: memory, times, 400 and 1000 execs at once

demo: upstream/demo daemons/demo ## the deadlock of an old shim, the same on this one, then a real containerd with this one

packages: packaging/needs packaging/deb packaging/rpm ## both kinds of packages into dist/ (Debian 12, root)

clean: ## remove what make has built
	rm -rf bin dist

include mk/host.mk mk/model.mk mk/catalogue.mk mk/upstream.mk mk/daemons.mk mk/matrix.mk mk/kernel.mk mk/shimctl.mk mk/monitoring.mk mk/patches.mk mk/packaging.mk mk/docs.mk mk/fuzz.mk
