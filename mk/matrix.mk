# SPDX-License-Identifier: Apache-2.0
# The shim under the daemons and with the runtimes that Debian has shipped, and
# an older containerd, in scratch roots. Root, cgroup v1, Debian's archives.

.PHONY: matrix matrix/cell docs/support.md

# Another shim's results need a record of their own: the one in the repository is of this one.
MATRIX  = go run ./integration/matrix -shim $(SHIM) $(if $(RECORD),-record $(RECORD))
ONLY    ?=
MISSING ?=

matrix: host/prepare build ## run all daemons with all runtimes (ONLY=1.7.24+crun: those with these words; MISSING=1: those without a result; SHIM=any RECORD=file), then make docs/support.md
	integration/matrix/fetch bin/matrix bullseye bookworm trixie sid
	integration/matrix/build bin/matrix
	$(MATRIX) -only '$(ONLY)' $(if $(MISSING),-missing)

matrix/cell: host/prepare build ## one cheap cell of it, as make test does
	integration/matrix/fetch bin/matrix trixie
	$(MATRIX) -record bin/matrix/cell.json -only 1.7.24+1.1.15+run,1.7.24+1.1.15+exec,1.7.24+1.1.15+restart

docs/support.md: ## write what was run with which result, from the newest result of each cell, integration/matrix/record.json
	go run ./integration/matrix -document >$@.new && mv $@.new $@
