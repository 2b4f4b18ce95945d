// SPDX-License-Identifier: Apache-2.0

// Package shim serves containerd's v1 shim API, the ttrpc service
// containerd.runtime.linux.shim.v1.Shim, for one container.
//
// # Layers
//
// Service decodes a request, calls the Supervisor and encodes the answer.
// Supervisor knows the container and its execs, and watches each of them for
// its exit. Outbox hands exits to the daemon. Errors become status codes in
// toStatus and nowhere else.
//
// # What is held while something runs
//
// Nothing. Supervisor.mu guards maps and flags, for a few instructions at a
// time. A runtime that hangs holds up only further verbs of the same process,
// behind that process's gate; State, Wait, ListPids, ShimInfo and Kill never
// wait for it.
//
// # Order of events
//
// The shim publishes TaskExit and nothing else; containerd publishes the rest
// itself, after our replies. One exit is published once, by the watcher of that
// process, when State and Wait tell it already:
//
//   - not before the reply to the Start or Create that made the process, for
//     containerd publishes TaskStart after that reply;
//   - the container's own after every exec's. When init has died, no exec is
//     started any more, what is left in the container is killed, and execs
//     that are on their way are waited for, within a bound.
//
// Queued exits are sent in the order of death, the container's own last.
package shim
