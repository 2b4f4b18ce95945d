# SPDX-License-Identifier: Apache-2.0

SHIM ?= $(CURDIR)/bin/containerd-shim
BASELINES ?= $(CURDIR)/bin/baselines

.PHONY: demo-picture integration verify verify-baselines test-baselines demo demo-deadlock

integration: build ## the harness's own tests and its catalogue on $(SHIM), by go test (root, runc)
	SHIM=$(SHIM) go test -race -count=1 -timeout 30m ./integration/harness/... ./integration/catalogue ./integration/inplace ./cmd/shimverify

test-catalogue: packages build ## the harness's own tests and the catalogue, by go test with the race detector
	SHIM=$(SHIM) go test -race -count=1 -p 1 -parallel 4 -timeout 30m ./integration/harness/... ./integration/catalogue ./integration/inplace

verify: build ## the catalogue on $(SHIM) by bin/shimverify, one line a check
	bin/shimverify run --shim $(SHIM)

# The releases whose verdicts are known (integration/catalogue/expected.txt).
KNOWN := $(foreach r,v1.2.0 v1.2.6 v1.2.13 v1.6.38 v1.7.35,$(BASELINES)/$(r)/containerd-shim) /usr/bin/containerd-shim

verify-baselines: packages build baselines ## the catalogue on the seven known shims and this one: each has to show the bugs that it is known for
	bin/shimverify compare --expect -j 12 --markdown bin/verdicts.md --html bin/verdicts.html \
	  --shim $(BASELINES)/v1.1.2/containerd-shim $(addprefix --vs ,$(KNOWN)) --vs $(SHIM)

test-baselines: packages build baselines ## what CI runs of that: the deadlock of v1.1.2 and v1.2.0, and all checks on four of the seven
	bin/shimverify compare --expect --only B01b --shim $(BASELINES)/v1.1.2/containerd-shim --vs $(BASELINES)/v1.2.0/containerd-shim
	bin/shimverify compare --expect -j 12 --shim $(BASELINES)/v1.1.2/containerd-shim --vs $(BASELINES)/v1.2.6/containerd-shim \
	  --vs /usr/bin/containerd-shim --vs $(BASELINES)/v1.7.35/containerd-shim

.PHONY: docs/bugs.md
docs/bugs.md: ## write the list of known bugs as the catalogue has it
	go run ./cmd/shimverify list --markdown >$@.new && mv $@.new $@

demo: demo-deadlock demo-containerd ## the deadlock of an old shim, the same on this one, then a real containerd with this one

demo-deadlock: packages build ## the exec flood: the deadlock of an old shim and its stacks, then the same on this one
	bin/shimverify demo --shim $(SHIM)

demo-picture: packages build ## draw docs/demo.svg from a run of the first demo
	bin/shimverify demo --shim $(SHIM) >bin/demo.txt
	sed -e 's#bin/baselines/v1.1.2/containerd-shim#upstream v1.1.2#; s#$(SHIM)#this shim#' bin/demo.txt | mk/picture -v title="make demo" >docs/demo.svg
