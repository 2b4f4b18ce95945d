# SPDX-License-Identifier: Apache-2.0
# Every target with "##" behind it is listed by `make help`; those of a part
# are in mk/PART.mk.

VERSION  := $(shell cat VERSION)
REVISION := $(firstword $(shell packaging/revision))
LDFLAGS  := -s -w -buildid= -X main.version=$(VERSION) -X main.revision=$(REVISION)
GOBUILD  := CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'

# Debian's packages that the tests and the demo use. gcc is for the race
# detector.
PACKAGES := runc containerd docker.io busybox-static iproute2 procps patch strace prometheus \
            prometheus-node-exporter systemd zsh groff-base gcc libc6-dev

UNIT := ./guard/... ./integration/harness/wait ./state/... ./reaper/... ./proc/... ./shim/... ./stackdump/... ./cmd/...

# Packages whose mutexes say what they guard: "+checklocks" on a field or function.
LOCKED := ./reaper/... ./proc/... ./shim/... ./cmd/containerd-shim

.DEFAULT_GOAL := help
.PHONY: help build packages test check unit clean

help: ## list the targets
	@grep -hE '^[a-z/.-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 24

build: ## build every command into bin/
	packaging/build bin

packages: ## install what tests and demo need, by apt, where it is missing (Debian 12, root)
	@mk/need $(PACKAGES) $(PACKAGE_TOOLS)

test: packages check unit test-alerts test-catalogue test-baselines test-daemons test-shimctl-real test-packages test-patches ## pass every test (root, about 20 minutes)

check: ## gofmt, go vet, golangci-lint, and that guarded fields are used under their mutex (checklocks)
	@out=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$out" || { echo "gofmt differs: $$out" >&2; exit 1; }
	go vet ./...
	cd mk/tools && go build -o $(CURDIR)/bin/tools/ gvisor.dev/gvisor/tools/checklocks/cmd/checklocks
	go vet -vettool=bin/tools/checklocks -inferred=false $(LOCKED)
	cd mk/tools/lint && go build -o $(CURDIR)/bin/tools/ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	GOLANGCI_LINT_CACHE=$(CURDIR)/bin/tools/cache bin/tools/golangci-lint run --allow-parallel-runners ./...

unit: ## the unit tests, with the race detector (root)
	go test -race -count=1 -timeout 15m $(UNIT)

clean: ## remove what make has built
	rm -rf bin dist

include mk/*.mk
