// SPDX-License-Identifier: Apache-2.0

package main

// kernels is what `make kernel/run` has shown. It runs no daemon, so its results are not
// in the record of the cells.
const kernels = `## Another kernel, cgroup v2

` + "`make kernel/run`" + ` boots Debian's cloud kernel in qemu, without KVM, with cgroup v2 alone, and runs checks of the catalogue on this shim there, with
real runc and without a daemon. The guest's clock counts instructions, so that no time-out depends on how slow the emulation is.

| kernel | checks | | took |
|---|---|---|---|
| Debian 12's 6.1.0-50-cloud-amd64, cgroup v2 with cpuset, cpu, io, memory, hugetlb, pids, rdma, misc | B20b | passes | 4 min 9 s, at a load of 55 on two CPUs |
`
