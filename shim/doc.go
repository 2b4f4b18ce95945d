// SPDX-License-Identifier: Apache-2.0

// Package shim serves containerd's v1 shim API, the ttrpc service
// containerd.runtime.linux.shim.v1.Shim, for one container.
//
// # Layers
//
// Service decodes a request, calls the Supervisor and encodes the answer.
// Supervisor knows the container and its execs; verbs.go detaches a verb from
// its caller. exits takes the exits of all processes, in the order of death,
// and decides when each is sent; Outbox hands them to the daemon. conn sees
// what passes on a client's connection. Errors become status codes in toStatus
// and nowhere else.
//
// # What is held while something runs
//
// No mutex: they guard maps and flags, for a few instructions at a time. A
// runtime that hangs holds up only further verbs of the same process, behind
// its verb lock; State, Wait, ListPids and ShimInfo never wait for it, nor does the
// container's Kill, unless it is a restore: SIGKILL ends that.
//
// # Order of events
//
// The shim publishes TaskExit and nothing else; containerd publishes the rest
// itself, after our replies. Each exit is published once, after State and Wait
// have begun to report it, and:
//
//   - not before the daemon has published the start of the process, see start;
//   - the container's own after every exec's. When init has died, no exec is
//     started any more, what is left in the container is killed, and execs
//     whose start is under way are waited for, within Limits.Reply.
//
// Exits that need not wait are sent in the order of death.
package shim
