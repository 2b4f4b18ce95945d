# SPDX-License-Identifier: Apache-2.0
# The checks on another kernel of Debian's, with cgroup v2 alone, in software emulation.

.PHONY: kernel/run kernel/arm64

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
