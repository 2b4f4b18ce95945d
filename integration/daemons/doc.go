// SPDX-License-Identifier: Apache-2.0

// Package daemons runs a shim under Debian's real containerd, dockerd and runc.
// Everything that it starts is below one temporary directory, on private sockets, and
// a census at the end shows what was left behind.
//
//	Rig            one private containerd and dockerd, their clients ctr and docker
//	Image          the busybox image that they run, built from the host's busybox-static
//	Events         what `ctr events` has printed, and fences, to be sure that nothing more came
//	Shim           one shim process: fds, threads, zombies, memory, ttrpc client
//	Flood, Storm   hundreds of execs at once, through ctr or straight to the shim
//	Leftovers      processes, mounts, cgroups, FIFOs, runc state and sockets of a Rig
//
// The tests of this package need root, cgroup v1 and the Debian packages
// containerd, docker.io, runc and busybox-static. The environment variable SHIM names
// the shim under test; the default is bin/containerd-shim of this repository.
//
// The Rig records every run of `containerd publish`: it starts its containerd from a
// private path and, once that daemon is up, puts a recording script there. The daemon
// has read its own path before, and passes it to every shim as -containerd-binary.
package daemons
