# SPDX-License-Identifier: Apache-2.0

PATCHED := $(notdir $(patsubst %/series,%,$(wildcard patches/v*/series)))

.PHONY: patches/build patches/build-all patches/debian patches/rpm patches/table patches/table-v2 patches/test patches/verify patches/verify-v2

patches/build: ## build upstream's shim with its series: make patches/build UPSTREAM=v1.2.6
	@test -n "$(UPSTREAM)" || { echo "make patches/build UPSTREAM=RELEASE, one of: $(PATCHED)" >&2; exit 64; }
	patches/build $(UPSTREAM) bin/patched

patches/build-all: ## the same for every release that has a series
	set -e; for r in $(PATCHED); do patches/build $$r bin/patched; done

patches/debian: ## Debian 12's own containerd package with the series in it, into dist/bookworm/ (root)
	mk/need mmdebstrap
	patches/debian bookworm v1.6.38 dist/bookworm

RPMROOT := bin/rpm-root

patches/rpm: build ## an RPM package of 2.4.2's runc-v2 shim with its series, into dist/rpm/; installed in a scratch root and flooded there (root)
	mk/need rpm
	patches/rpm v2.4.2 dist/rpm
	rm -rf $(RPMROOT)
	rpm --root $(CURDIR)/$(RPMROOT) --initdb
	rpm --root $(CURDIR)/$(RPMROOT) -i dist/rpm/containerd-shim-runc-v2-2.4.2-*.$$(uname -m).rpm
	rpm --root $(CURDIR)/$(RPMROOT) -V containerd-shim-runc-v2
	bin/shimverify bench -header
	bin/shimverify bench flood -n 200 -limit 60s -settle 5s -name packaged -shim $(RPMROOT)/usr/bin/containerd-shim-runc-v2

patches/table: build upstream/build patches/build-all ## flood each release, unpatched and patched (root, 15 minutes)
	patches/table bin

patches/table-v2: build upstream/build-v2 patches/build-all ## flood the shims of 2.x, unpatched and patched, with 1000 and 400 (root, two minutes to half an hour)
	FLOODS="1000 400" LIMIT=6m patches/table bin $(filter v2.%,$(PATCHED))

patches/test: build upstream/build patches/build-all ## the same with floods of 200 only and unpatched shims side by side, as make test does; then what the series repair in runc-v2 shims (root)
	FLOODS=200 SIDE=1 patches/table bin
	set -e; for shim in bin/patched/*/containerd-shim-runc-v2; do bin/shimverify run --only V05c,B03 --shim $$shim; done

PATCHED_V1 := $(filter v1.%,$(PATCHED))

patches/verify: build patches/build-all ## the catalogue on the patched v1 shims: what the release passes has to pass (root, half an hour)
	bin/shimverify compare --better -j 3 --markdown bin/verdicts-patched-v1.md \
	  --shim $(firstword $(PATCHED_V1:%=bin/patched/%/containerd-shim)) \
	  $(addprefix --vs ,$(wordlist 2,9,$(PATCHED_V1:%=bin/patched/%/containerd-shim)))

# The releases whose series is for a v2 shim, too, and whose verdicts are known.
PATCHED_V2 := $(filter v1.7.% v2.%,$(PATCHED))

patches/verify-v2: build patches/build-all ## the catalogue on the patched v2 shims: what the release passes has to pass (root, 20 minutes)
	bin/shimverify compare --better -j 6 --markdown bin/verdicts-patched.md \
	  --shim $(firstword $(PATCHED_V2:%=bin/patched/%/containerd-shim-runc-v2)) \
	  $(addprefix --vs ,$(wordlist 2,9,$(PATCHED_V2:%=bin/patched/%/containerd-shim-runc-v2)))
