# SPDX-License-Identifier: Apache-2.0

.PHONY: catalogue/test catalogue/inject

catalogue/test: host/prepare build ## the catalogue and the harness's own tests, by go test with the race detector (SHIM=path tests another shim)
	SHIM=$(SHIM) go test -race -count=1 -p 1 -parallel 4 -timeout 30m ./integration/harness/... ./integration/catalogue ./integration/inplace ./integration/inject

catalogue/inject: build ## each system call of $(SHIM) fails once, then two in a row, then all for a moment, then the shim is killed at each
	bin/shimverify inject --shim $(SHIM)
	bin/shimverify inject --shim $(SHIM) --twice
	bin/shimverify inject --shim $(SHIM) --moment
	bin/shimverify inject --shim $(SHIM) --kill
