# SPDX-License-Identifier: Apache-2.0

.PHONY: shimctl/build shimctl/test shimctl/test-shims shimctl/test-long

shimctl/build: ## build bin/shimctl
	$(GOBUILD) -o bin/shimctl ./cmd/shimctl

# node-problem-detector takes two minutes of CPU to build, while the other tests wait.
shimctl/test: host/prepare upstream/build ## the next, and monitoring/test, as make test does
	$(MAKE) -j2 -Otarget shimctl/test-shims $(NPD)
	$(MAKE) monitoring/test

shimctl/test-shims: host/prepare upstream/build ## shimctl on upstream's shims, wedged and healthy, and on this one (root)
	SHIM_BASELINES=$(BASELINES) CAPTURES=100 go test -race -count=1 -tags baseline,ownshim -timeout 40m ./cmd/shimctl/...

shimctl/test-long: host/prepare upstream/build ## the same with all that the manual claims: 500 captures, 50 shims for ten minutes
	SHIM_BASELINES=$(BASELINES) HEALTHY_SHIMS=50 HEALTHY_FOR=10m \
	  go test -race -count=1 -tags baseline,ownshim -timeout 40m -v ./cmd/shimctl/...
