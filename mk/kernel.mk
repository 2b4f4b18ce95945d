# SPDX-License-Identifier: Apache-2.0
# The checks on another kernel of Debian's, with cgroup v2 alone, in software emulation.

.PHONY: kernel/run

# The suite that the kernel is from, and what is run there.
KERNEL_SUITE   ?= bookworm
KERNEL_CHECKS  ?= B20b
KERNEL_COMMAND ?= run -j 1 --only $(KERNEL_CHECKS)

kernel/run: host/prepare build ## checks on Debian's cloud kernel with cgroup v2, in qemu: KERNEL_SUITE=trixie KERNEL_CHECKS=B20,B51, or KERNEL_COMMAND='bench flood'; then make docs/support.md
	mk/need qemu-system-x86
	integration/upstream/debian bin/kernel/$(KERNEL_SUITE) $(KERNEL_SUITE) linux-image-cloud-amd64
	integration/kernel/boot "$$(find bin/kernel/$(KERNEL_SUITE) -name 'vmlinuz*')" "$$(command -v runc)" bin/shimverify bin/containerd-shim -- \
	  shimverify $(KERNEL_COMMAND) --shim /bin/containerd-shim | go run ./integration/matrix -kernel
