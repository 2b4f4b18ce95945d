# SPDX-License-Identifier: Apache-2.0

SHIM ?= $(CURDIR)/bin/containerd-shim

.PHONY: integration verify

integration: build ## the catalogue of known bugs on $(SHIM), by go test (root, runc)
	SHIM=$(SHIM) go test -count=1 -timeout 30m ./integration/...

verify: build ## the same by bin/shimverify, one line a check
	bin/shimverify run --shim $(SHIM)
