# SPDX-License-Identifier: Apache-2.0

.PHONY: docs/bugs.md docs/matrix.md docs/demo.svg

docs/bugs.md: ## write the list of known bugs as the catalogue has it
	go run ./cmd/shimverify list --markdown >$@.new && mv $@.new $@

docs/matrix.md: ## write what each known release does, v1 and v2 side by side
	go run ./cmd/shimverify list --matrix >$@.new && mv $@.new $@

docs/demo.svg: host/prepare build ## draw the picture of the first demo from a run of it
	bin/shimverify demo --shim $(SHIM) >bin/demo.txt
	sed -e 's#bin/baselines/v1.1.2/containerd-shim#upstream v1.1.2#; s#$(SHIM)#this shim#' \
	  -e 's# -binary .* always # #; s#/tmp/shimverify-demo[0-9]*#/var/lib/shimctl#' bin/demo.txt | mk/picture -v title="make demo" >$@
