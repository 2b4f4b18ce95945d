# SPDX-License-Identifier: Apache-2.0

.PHONY: monitoring/test monitoring/alerts

NPD := bin/engines/node-problem-detector

$(NPD): packaging/monitoring/npd/go.mod packaging/monitoring/npd/go.sum
	nice packaging/monitoring/npd/build $(@D)

monitoring/test: host/prepare upstream/build $(NPD) ## what packaging/monitoring ships, under node-problem-detector, node_exporter, runc, systemd (root)
	cd packaging/monitoring/npd && go test -count=1 ./...
	SHIM_BASELINES=$(BASELINES) NPD=$(CURDIR)/$(NPD) go test -race -count=1 -tags engines -timeout 10m ./cmd/shimctl/internal/enginetest

monitoring/alerts: ## test the alert rules and the exported metrics (promtool)
	promtool check rules packaging/monitoring/rules.yml
	promtool test rules packaging/monitoring/rules_test.yml
	go run ./cmd/shimctl check -o prom -state-file '' | promtool check metrics
