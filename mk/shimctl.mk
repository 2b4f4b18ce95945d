# SPDX-License-Identifier: Apache-2.0
# Targets of shimctl. SHIM_BASELINES names a directory with VERSION/containerd-shim
# of upstream's v1.1.2, v1.2.0, v1.2.6, v1.2.13, v1.6.38 and v1.7.35.

.PHONY: shimctl test-shimctl test-shimctl-baselines fuzz-dump

shimctl: ## build bin/shimctl
	$(GOBUILD) -o bin/shimctl ./cmd/shimctl

test-shimctl: ## test shimctl and the dump parser, without any shim
	go test -race ./dump ./cmd/shimctl/...

test-shimctl-baselines: ## test shimctl on upstream's shims, wedged and healthy (root, strace)
	CAPTURES=50 go test -race -tags baseline -timeout 20m ./cmd/shimctl/...

fuzz-dump: ## fuzz the dump parser for a minute
	go test -run '^$$' -fuzz FuzzParse -fuzztime 1m -fuzzminimizetime 10x ./dump

.PHONY: test-alerts

test-alerts: ## test the alert rules and the exported metrics (promtool)
	promtool check rules packaging/monitoring/rules.yml
	promtool test rules packaging/monitoring/rules_test.yml
	go run ./cmd/shimctl check -o prom -state-file '' | promtool check metrics

.PHONY: test-shimctl-own

test-shimctl-own: ## test shimctl on this tree's shim (root)
	go test -tags ownshim -run OwnShim -v ./cmd/shimctl
