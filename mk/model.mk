# SPDX-License-Identifier: Apache-2.0

.PHONY: model/test

model/test: host/prepare ## spin on the models of this shim and of upstream's: integration/model
	go test -race -count=1 -timeout 15m -v ./integration/model
