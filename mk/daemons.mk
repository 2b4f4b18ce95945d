# SPDX-License-Identifier: Apache-2.0
# Tests and figures with the real containerd, dockerd and runc of Debian's
# packages. Root, cgroup v1.

.PHONY: daemons/test daemons/memory daemons/starts daemons/waves daemons/tempo daemons/crowd daemons/demo daemons/chaos daemons/soak

BENCH := go run ./integration/daemons/bench

daemons/test: host/prepare build upstream/build ## tests under Debian's real containerd, dockerd and runc (SHIM=path tests another shim)
	SHIM=$(SHIM) SHIM_BASELINES=$(BASELINES) go test -race -tags baseline -count=1 -timeout 20m ./integration/daemons

daemons/memory: host/prepare build ## memory and floods of this shim beside Debian's, in one run
	$(BENCH) -check -shims $(SHIM),/usr/bin/containerd-shim

daemons/starts: host/prepare build ## memory of 20 shims, idle and after an exec, beside 20 of Debian's
	$(BENCH) -starts 20 -shims $(SHIM),/usr/bin/containerd-shim

daemons/waves: host/prepare build ## the same memory after fifty floods of eight execs
	$(BENCH) -n 8 -waves 50 -shims $(SHIM),/usr/bin/containerd-shim

daemons/tempo: host/prepare build ## times of exec, docker exec, exit events and output, beside Debian's, runc-v2 and runc alone
	$(BENCH) -tempo -shims $(SHIM),/usr/bin/containerd-shim

daemons/crowd: host/prepare build ## 400 and 1000 execs at once over ttrpc, beside as many runc exec
	$(BENCH) -crowd -n 400 -shims $(SHIM)
	$(BENCH) -crowd -n 1000 -shims $(SHIM)

daemons/demo: host/prepare build ## a real container of a real containerd under this shim, and 400 execs at once
	go run ./integration/daemons/demo -shim $(SHIM)

MINUTES ?= 2
SEED    ?= 1

# Other shims cannot be exchanged in place.
CHAOS = go run ./integration/daemons/chaos -shim $(SHIM) -minutes $(MINUTES) -seed $(SEED) $(if $(filter $(CURDIR)/bin/containerd-shim,$(SHIM)),-exchange)

daemons/chaos: host/prepare build ## a stream of execs while daemon, runc and shims are killed, stopped, starved and exchanged at random: MINUTES=10 SEED=7 SHIM=any
	$(CHAOS)

daemons/soak: MINUTES = 60
daemons/soak: host/prepare build ## an hour of it, and memory, descriptors and threads may not grow: dist/soak.html
	@mkdir -p dist
	$(CHAOS) -html dist/soak.html
