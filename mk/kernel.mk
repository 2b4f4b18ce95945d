# SPDX-License-Identifier: Apache-2.0
# The checks on another kernel of Debian's, with cgroup v2 alone, in software emulation.

.PHONY: kernel/run

# The suite that the kernel is from, and which checks.
KERNEL_SUITE  ?= bookworm
KERNEL_CHECKS ?= B20b

kernel/run: host/prepare build ## checks on Debian's cloud kernel with cgroup v2, in qemu: KERNEL_SUITE=trixie KERNEL_CHECKS=B20,B51
	mk/need qemu-system-x86
	integration/upstream/debian bin/kernel/$(KERNEL_SUITE) $(KERNEL_SUITE) linux-image-cloud-amd64
	integration/kernel/boot bin/kernel/$(KERNEL_SUITE)/boot/vmlinuz-*-cloud-amd64 "$$(command -v runc)" bin/shimverify bin/containerd-shim -- \
	  shimverify run -j 1 --only $(KERNEL_CHECKS) --shim /bin/containerd-shim
