# SPDX-License-Identifier: Apache-2.0

SHIM ?= $(CURDIR)/bin/containerd-shim
BASELINES ?= $(CURDIR)/bin/baselines

.PHONY: integration verify verify-baselines demo demo-deadlock

integration: build ## the harness's own tests and its catalogue on $(SHIM), by go test (root, runc)
	SHIM=$(SHIM) go test -race -count=1 -timeout 30m ./integration ./integration/catalogue ./cmd/shimverify

test-catalogue: packages build ## the harness's own tests and the catalogue, by go test with the race detector
	SHIM=$(SHIM) go test -race -count=1 -p 1 -timeout 30m ./integration ./integration/catalogue

verify: build ## the catalogue on $(SHIM) by bin/shimverify, one line a check
	bin/shimverify run --shim $(SHIM)

verify-baselines: build ## the catalogue on each of $(BASELINES): it has to find the bugs that each is known for
	set -e; for shim in $(BASELINES)/*/containerd-shim; do bin/shimverify run --expect --shim $$shim; done

demo: demo-deadlock demo-containerd ## the deadlock of an old shim, the same on this one, then a real containerd with this one

demo-deadlock: packages build ## the exec flood: the deadlock of an old shim and its stacks, then the same on this one
	bin/shimverify demo --shim $(SHIM)
