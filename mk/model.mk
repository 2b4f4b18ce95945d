# SPDX-License-Identifier: Apache-2.0

.PHONY: model/test

model/test: host/prepare build ## spin on the models of this shim and of upstream's; runs of this one are runs of its model (root)
	go vet -tags model ./reaper ./shim ./integration/inplace
	go test -count=1 -timeout 15m -v ./integration/model
	SHIM=$(SHIM) go test -race -tags model -count=1 -timeout 15m -run TestRunsAreTheModels -v ./reaper ./shim ./integration/inplace
