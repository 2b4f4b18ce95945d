# SPDX-License-Identifier: Apache-2.0

.PHONY: upstream/build upstream/build-v2 upstream/test upstream/verify upstream/verify-v2 upstream/demo

upstream/build: ## build upstream's own shims into bin/baselines/RELEASE/
	integration/upstream/build bin/baselines containerd-shim

upstream/build-v2: ## build upstream's runc-v2 shims of 1.7 and 2.x into bin/baselines/RELEASE/
	integration/upstream/build bin/baselines containerd-shim-runc-v2

upstream/test: host/prepare build upstream/build ## what CI runs of the next: the deadlock of v1.1.2 and v1.2.0, and all checks on four of the seven
	bin/shimverify compare --expect --only B01b --shim $(BASELINES)/v1.1.2/containerd-shim --vs $(BASELINES)/v1.2.0/containerd-shim
	bin/shimverify compare --expect -j 12 --shim $(BASELINES)/v1.1.2/containerd-shim --vs $(BASELINES)/v1.2.6/containerd-shim \
	  --vs /usr/bin/containerd-shim --vs $(BASELINES)/v1.7.35/containerd-shim

# The releases whose verdicts are known (integration/catalogue/expected.txt).
KNOWN := $(foreach r,v1.2.0 v1.2.6 v1.2.13 v1.6.38 v1.7.35,$(BASELINES)/$(r)/containerd-shim) /usr/bin/containerd-shim

upstream/verify: host/prepare build upstream/build ## the catalogue on the seven known shims and this one: each has to show the bugs that it is known for
	bin/shimverify compare --expect -j 12 --markdown bin/verdicts.md --html bin/verdicts.html \
	  --shim $(BASELINES)/v1.1.2/containerd-shim $(addprefix --vs ,$(KNOWN)) --vs $(SHIM)

# The shim of sid's package, unpacked and not installed.
SID := bin/debian/sid/usr/bin/containerd-shim-runc-v2

upstream/verify-v2: host/prepare build upstream/build-v2 ## the catalogue on five v2 shims: each has to show the bugs that it is known for (half an hour)
	mk/unpack bin/debian/sid sid containerd
	bin/shimverify compare --expect -j 6 --markdown bin/verdicts-v2.md --html bin/verdicts-v2.html --shim /usr/bin/containerd-shim-runc-v2 \
	  --vs $(BASELINES)/v1.7.35/containerd-shim-runc-v2 --vs $(BASELINES)/v2.0.14/containerd-shim-runc-v2 --vs $(SID) --vs $(BASELINES)/v2.4.2/containerd-shim-runc-v2

upstream/demo: host/prepare build ## the exec flood: the deadlock of an old shim and its stacks, the same on this one, then the old one healed in place
	bin/shimverify demo --shim $(SHIM)
