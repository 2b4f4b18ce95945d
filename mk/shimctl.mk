# SPDX-License-Identifier: Apache-2.0
# Targets of shimctl. Needs mk/baselines.mk and mk/integration.mk: BASELINES is
# the directory with upstream's shims.

.PHONY: shimctl test-shimctl test-shimctl-baselines test-shimctl-long test-shimctl-real test-engines fuzz-dump

shimctl: ## build bin/shimctl
	$(GOBUILD) -o bin/shimctl ./cmd/shimctl

test-shimctl: ## test shimctl and the dump parser, without any shim
	go test -race ./stackdump ./cmd/shimctl/...

test-shimctl-baselines: packages baselines ## shimctl on upstream's shims, wedged and healthy, and on this one (root)
	SHIM_BASELINES=$(BASELINES) CAPTURES=100 go test -race -count=1 -tags baseline,ownshim -timeout 40m ./cmd/shimctl/...

test-shimctl-long: packages baselines ## the same with all that issue and manual claim: 500 captures, 50 shims for ten minutes
	SHIM_BASELINES=$(BASELINES) HEALTHY_SHIMS=50 HEALTHY_FOR=10m \
	  go test -race -count=1 -tags baseline,ownshim -timeout 40m -v ./cmd/shimctl/...

# node-problem-detector takes two minutes of CPU to build, while the other tests wait.
test-shimctl-real: packages baselines ## both of the following, as make test does
	$(MAKE) -j2 -Otarget test-shimctl-baselines $(NPD)
	$(MAKE) test-engines

NPD := bin/engines/node-problem-detector

$(NPD): packaging/monitoring/npd/go.mod packaging/monitoring/npd/go.sum
	nice packaging/monitoring/npd/build $(@D)

test-engines: packages baselines $(NPD) ## what packaging/monitoring ships, under node-problem-detector, node_exporter, runc, systemd (root)
	cd packaging/monitoring/npd && go test -count=1 ./...
	SHIM_BASELINES=$(BASELINES) NPD=$(CURDIR)/$(NPD) go test -race -count=1 -tags engines -timeout 10m ./cmd/shimctl/internal/enginetest

fuzz-dump: ## fuzz the dump parser for a minute
	go test -run '^$$' -fuzz FuzzParse -fuzztime 1m -fuzzminimizetime 10x ./stackdump

.PHONY: test-alerts

test-alerts: ## test the alert rules and the exported metrics (promtool)
	promtool check rules packaging/monitoring/rules.yml
	promtool test rules packaging/monitoring/rules_test.yml
	go run ./cmd/shimctl check -o prom -state-file '' | promtool check metrics
