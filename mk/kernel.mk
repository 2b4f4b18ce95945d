# SPDX-License-Identifier: Apache-2.0
# The checks on another kernel of Debian's, with cgroup v2 alone, in software emulation.

.PHONY: kernel/run kernel/unit kernel/arm64 kernel/arm64-root kernel/arm64-unit kernel/arm64-packages kernel/systemd

# The suite that the kernel is from, and what is run there.
KERNEL_SUITE   ?= bookworm
KERNEL_CHECKS  ?= B20b
KERNEL_COMMAND ?= run -j 1 --only $(KERNEL_CHECKS)

kernel/run: host/prepare build ## checks on Debian's cloud kernel with cgroup v2, in qemu: KERNEL_SUITE=trixie KERNEL_CHECKS=B20,B51, or KERNEL_COMMAND='bench flood'; then make docs/support.md
	mk/need qemu-system-x86
	mk/unpack bin/kernel/$(KERNEL_SUITE) $(KERNEL_SUITE) linux-image-cloud-amd64
	integration/kernel/boot "$$(find bin/kernel/$(KERNEL_SUITE) -name 'vmlinuz*')" "$$(command -v runc)" bin/shimverify bin/containerd-shim -- \
	  shimverify $(KERNEL_COMMAND) --shim /bin/containerd-shim | go run ./integration/matrix -kernel

ARM64 := bin/kernel/arm64

kernel/arm64: host/prepare ## the same on Debian 13's arm64 kernel, with its runc, on an emulated processor
	mk/need qemu-system-arm
	ARCH=arm64 mk/unpack $(ARM64) trixie linux-image-cloud-arm64 runc busybox-static libc6 libseccomp2
	set -e; for c in shimverify containerd-shim; do GOARCH=arm64 $(GOBUILD) -o $(ARM64)/$$c ./cmd/$$c; done
	ARCH=arm64 integration/kernel/boot "$$(find $(ARM64) -name 'vmlinuz*')" $(ARM64)/usr/bin/busybox $(ARM64)/usr/sbin/runc \
	  $(addprefix $(ARM64)/usr/lib/aarch64-linux-gnu/,libc.so.6 libseccomp.so.2 ld-linux-aarch64.so.1) $(ARM64)/shimverify $(ARM64)/containerd-shim -- \
	  shimverify $(KERNEL_COMMAND) --shim /bin/containerd-shim | go run ./integration/matrix -kernel

UNITROOT := bin/kernel/arm64-unit

# What the unit tests build when they run.
UNITBUILDS := $(addprefix ./,reaper/internal/child proc/internal/child integration/harness/guest/helper/shimhelper \
  cmd/shimctl/internal/shimtest/testdata/fakeshim cmd/shimctl/internal/inplace/testdata/victim cmd/shimctl cmd/containerd-shim cmd/shimverify)

# unit-root ARCH,ROOT makes a root file system of Debian 12's programs, none of them installed.
define unit-root
	rm -rf $(2)
	ARCH=$(1) WHOLE=1 mk/unpack $(2) bookworm busybox-static dash bash coreutils diffutils findutils grep sed tar dpkg libc-bin \
	  procps util-linux mount base-passwd containerd runc zsh groff-base
	rm -rf $(addprefix $(2)/usr/share/,doc locale man)
endef

# unit-tests ARCH,ROOT builds the unit tests into it.
define unit-tests
	mkdir $(2)/src && git ls-files -z | xargs -0 cp --parents -t $(2)/src
	set -e; export GOARCH=$(1) CGO_ENABLED=0; built=$(2)/src/built; \
	  for p in $(UNITBUILDS); do go build -ldflags '-X main.version=1.2.3 -X main.revision=abc' -o $$built/$$p/program $$p; done; \
	  for p in $$(go list -f '{{if or .TestGoFiles .XTestGoFiles}}.{{slice .ImportPath 18}}{{end}}' $(UNIT)); do go test -c -o $$built/$$p/test $$p; done
endef

kernel/unit: host/prepare ## the unit tests (without the race detector) on the kernel of kernel/run; UNIT_PACKAGES='reaper shim' for some
	mk/need qemu-system-x86
	mk/unpack bin/kernel/$(KERNEL_SUITE) $(KERNEL_SUITE) linux-image-cloud-amd64
	$(call unit-root,amd64,bin/kernel/unit)
	$(call unit-tests,amd64,bin/kernel/unit)
	find bin/kernel/$(KERNEL_SUITE) -name fuse.ko -exec cp {} bin/kernel/unit/ \; # where it is not in the kernel
	LIMIT=2h MEMORY=4096 ROOT=bin/kernel/unit integration/kernel/boot "$$(find bin/kernel/$(KERNEL_SUITE) -name 'vmlinuz*')" integration/kernel/go integration/kernel/unit -- unit $(UNIT_PACKAGES) | go run ./integration/matrix -kernel

kernel/arm64-root: host/prepare
	mk/need qemu-system-arm
	ARCH=arm64 mk/unpack $(ARM64) trixie linux-image-cloud-arm64
	$(call unit-root,arm64,$(UNITROOT))

kernel/arm64-unit: kernel/arm64-root ## the same on Debian 13's arm64 kernel
	$(call unit-tests,arm64,$(UNITROOT))
	LIMIT=2h ARCH=arm64 MEMORY=4096 ROOT=$(UNITROOT) integration/kernel/boot "$$(find $(ARM64) -name 'vmlinuz*')" integration/kernel/go integration/kernel/unit -- unit $(UNIT_PACKAGES) | go run ./integration/matrix -kernel

kernel/arm64-packages: kernel/arm64-root ## the Debian packages for arm64, installed and purged there
	LINT=no ARCH=arm64 packaging/build-deb $(UNITROOT)/debs
	ARCH=arm64 MEMORY=4096 ROOT=$(UNITROOT) integration/kernel/boot "$$(find $(ARM64) -name 'vmlinuz*')" integration/kernel/packages -- packages | go run ./integration/matrix -kernel

SYSTEMD := bin/kernel/systemd

kernel/systemd: host/prepare ## under systemd as process 1 of Debian 12, cgroup v1, in qemu: cgroup driver, KillMode, read-only root, packages (root)
	mk/need qemu-system-x86 mmdebstrap
	rm -rf $(SYSTEMD) $(SYSTEMD)-packages
	mk/unpack bin/kernel/bookworm bookworm linux-image-cloud-amd64
	mmdebstrap --variant=minbase --include=systemd-sysv,dbus,containerd,runc,docker.io,apparmor,busybox-static \
	  $(addprefix --dpkgopt=path-exclude=/usr/share/,doc/* man/* locale/*) bookworm $(SYSTEMD)
	LINT=no packaging/build-deb $(SYSTEMD)-packages
	rm -rf $(SYSTEMD)/var/log/journal # which would be open on a root that is to be read-only
	mkdir $(SYSTEMD)/debs && cp $(SYSTEMD)-packages/*.deb $(SYSTEMD)/debs
	MEMORY=4096 ROOT=$(SYSTEMD) APPEND='systemd.run="/init command" systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=1' \
	  integration/kernel/boot "$$(find bin/kernel/bookworm -name 'vmlinuz*')" integration/kernel/systemd-checks -- systemd-checks | go run ./integration/matrix -kernel
