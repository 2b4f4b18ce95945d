// SPDX-License-Identifier: Apache-2.0

// Package daemons runs a shim binary under Debian's real containerd, dockerd
// and runc. Everything it starts lives below one temporary directory, on
// private sockets, and one census at the end tells what was left behind.
//
//	Rig            one private containerd and dockerd, their clients ctr and docker
//	Image          the busybox image that they run, built from the host's busybox-static
//	Events         what `ctr events` printed, and fences to say "nothing more came"
//	Shim           one shim process: fds, threads, zombies, memory, ttrpc client
//	Flood, Storm   hundreds of execs at once, through ctr or straight to the shim
//	Leftovers      processes, mounts, cgroups, FIFOs, runc state and sockets of a Rig
//
// The tests of this package need root, cgroup v1 and the Debian packages
// containerd, docker.io, runc and busybox-static. The shim under test is named
// by the environment variable SHIM, else it is bin/containerd-shim of this
// repository.
//
// Whether `containerd publish` was forked is recorded and not guessed: the Rig
// starts its containerd from a private path, and once that daemon is up puts a
// recording script there. The daemon has read its own path before that, and
// passes it to every shim as -containerd-binary.
package daemons
