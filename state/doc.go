// SPDX-License-Identifier: Apache-2.0

// Package state is all that a shim is, as one value that can be written down:
// the container and its processes, their streams by descriptor, the clients'
// connections with what is unanswered, and the exits that the daemon has yet to
// hear of.
//
// # What it is for
//
//	shim ──freeze──► state ──file──► execve(2) ──► "containerd-shim … -adopt FILE" ──► shim
//
// The process stays, with its pid, children, zombies, descriptors and place in
// the process tree (execve(2)); its program is exchanged, and the next one builds
// itself from the file. Who writes the file is this project's own shim, or
// shimctl for an old shim whose memory it has read, or a test.
//
// What the command line says (namespace, directories, daemon, runtime's root,
// cgroup driver) stays there: the next program gets the same arguments, and
// -adopt FILE behind them.
//
// # What is not known
//
// The zero value of a field says that there is no such thing, or that it is not
// known; each field says what is made of that. Nothing is assumed that a client
// could take for a fact: an exit status that is not known is 255, a process that
// cannot be started is answered with an error.
//
// # Versions
//
// Version is written into each file. A program reads files of its own version and
// of every older one, of which testdata has an example each, and refuses a newer
// one. A field may be added within a version only if its zero value means what
// was true before it; a program refuses a field that it does not know, for it
// would lose what it says.
package state
