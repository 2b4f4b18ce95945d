# SPDX-License-Identifier: Apache-2.0

.PHONY: shimctl/build shimctl/test shimctl/test-shims shimctl/test-builds shimctl/test-long shimctl/ring

shimctl/build: ## build bin/shimctl
	$(GOBUILD) -o bin/shimctl ./cmd/shimctl

shimctl/test: shimctl/test-shims monitoring/test ## the next, and monitoring/test, as make test does

shimctl/test-shims: host/prepare upstream/build ## shimctl on upstream's shims, wedged and healthy, and on this one (root)
	SHIM_BASELINES=$(BASELINES) CAPTURES=100 go test -race -count=1 -tags baseline,ownshim -timeout 40m ./cmd/shimctl/...

shimctl/test-long: host/prepare upstream/build ## the same with all that the manual claims: 500 captures, 50 shims for ten minutes
	SHIM_BASELINES=$(BASELINES) HEALTHY_SHIMS=50 HEALTHY_FOR=10m \
	  go test -race -count=1 -tags baseline,ownshim -timeout 40m -v ./cmd/shimctl/...

# Programs of Debian's other releases, and older releases of Go, unpacked and not installed.
ROOTS  := $(CURDIR)/bin/debian
BUILDS := $(CURDIR)/bin/builds
EARLY  := v1.1.2 v1.2.0 v1.2.6 v1.2.13

shimctl/test-builds: host/prepare ## exchanges of Debian's shims of bullseye and trixie, and of upstream's early ones built with Go 1.15 and 1.19 (root, 20 minutes)
	mk/unpack $(ROOTS)/bullseye bullseye containerd golang-1.15-go golang-1.15-src
	mk/unpack $(ROOTS)/bookworm bookworm golang-1.19-go golang-1.19-src
	mk/unpack $(ROOTS)/trixie trixie containerd
	GO=$(ROOTS)/bullseye/usr/lib/go-1.15/bin/go integration/upstream/build $(BUILDS)/go1.15 containerd-shim $(EARLY)
	GO=$(ROOTS)/bookworm/usr/lib/go-1.19/bin/go integration/upstream/build $(BUILDS)/go1.19 containerd-shim $(EARLY)
	for s in bullseye trixie; do install -D $(ROOTS)/$$s/usr/bin/containerd-shim $(BUILDS)/$$s/containerd-shim; done
	SHIM_BASELINES=$(BUILDS) SHIM_BUILDS="bullseye trixie $(EARLY:%=go1.15/%) $(EARLY:%=go1.19/%)" \
	  go test -count=1 -tags baseline -timeout 40m -v -run '^Test(Look(Idle|Waits)|Swap|RepairInPlace)' ./cmd/shimctl

RUNS    ?= 20
CLIENTS ?= 100

shimctl/ring: host/prepare build upstream/build ## wedged v1.1.2 and v1.2.0 under real containerd, CLIENTS=100 hanging ctr each, healed: RUNS=20, AGE=10m in the ring
	RUNS=$(RUNS) CLIENTS=$(CLIENTS) AGE=$(AGE) SHIM=$(SHIM) SHIM_BASELINES=$(BASELINES) \
	  go test -tags baseline,ring -count=1 -timeout 12h -v -run '^TestRing$$' ./integration/daemons
