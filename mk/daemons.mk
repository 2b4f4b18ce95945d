# SPDX-License-Identifier: Apache-2.0
# Tests and figures with the real containerd, dockerd and runc of Debian's
# packages. Root, cgroup v1, and: apt-get install containerd docker.io runc busybox-static

SHIM ?= $(CURDIR)/bin/containerd-shim

.PHONY: test-daemons bench-daemons demo

test-daemons: packages build ## tests under Debian's real containerd, dockerd and runc (SHIM=path tests another shim)
	SHIM=$(SHIM) go test -race -count=1 -timeout 20m ./integration/daemons

bench-daemons: build ## memory and floods of this shim beside Debian's, in one run
	go run ./integration/daemons/bench -check -shims $(SHIM),/usr/bin/containerd-shim

demo: packages build ## run a real container under this shim and flood it with 400 execs
	go run ./integration/daemons/demo -shim $(SHIM)
