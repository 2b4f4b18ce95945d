# SPDX-License-Identifier: Apache-2.0
# Tests and figures with the real containerd, dockerd and runc of Debian's
# packages. Root, cgroup v1, and: apt-get install containerd docker.io runc busybox-static

SHIM ?= $(CURDIR)/bin/containerd-shim

.PHONY: test-daemons bench-daemons bench-waves bench-tempo bench-crowd demo-containerd

test-daemons: packages build ## tests under Debian's real containerd, dockerd and runc (SHIM=path tests another shim)
	SHIM=$(SHIM) go test -race -count=1 -timeout 20m ./integration/daemons

bench-daemons: build ## memory and floods of this shim beside Debian's, in one run
	go run ./integration/daemons/bench -check -shims $(SHIM),/usr/bin/containerd-shim

bench-waves: build ## the same memory after fifty floods of eight execs
	go run ./integration/daemons/bench -n 8 -waves 50 -shims $(SHIM),/usr/bin/containerd-shim

bench-tempo: build ## times of exec, docker exec, exit events and output, beside Debian's, runc-v2 and runc alone
	go run ./integration/daemons/bench -tempo -shims $(SHIM),/usr/bin/containerd-shim

bench-crowd: build ## 400 and 1000 execs at once over ttrpc, beside as many runc exec
	go run ./integration/daemons/bench -crowd -n 400 -shims $(SHIM)
	go run ./integration/daemons/bench -crowd -n 1000 -shims $(SHIM)

demo-containerd: packages build ## a real container of a real containerd under this shim, and 400 execs at once
	go run ./integration/daemons/demo -shim $(SHIM)
