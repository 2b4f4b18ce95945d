# SPDX-License-Identifier: Apache-2.0
# Needs mk/baselines.mk.

PATCHED := $(notdir $(patsubst %/series,%,$(wildcard patches/v*/series)))

.PHONY: patched patched-all patches-table patches-check

patched: ## build upstream's shim with its series: make patched UPSTREAM=v1.2.6
	@test -n "$(UPSTREAM)" || { echo "make patched UPSTREAM=RELEASE, one of: $(PATCHED)" >&2; exit 64; }
	patches/build $(UPSTREAM) bin/patched

patched-all: ## the same for every release that has a series
	set -e; for r in $(PATCHED); do patches/build $$r bin/patched; done

patches-table: build baselines patched-all ## flood each release, unpatched and patched (root, 15 minutes)
	patches/table bin

test-patches: patches-check ## the same under the name that make test knows

patches-check: build baselines patched-all ## the same with floods of 200 only and unpatched shims side by side, as CI does (root)
	FLOODS=200 SIDE=1 patches/table bin
