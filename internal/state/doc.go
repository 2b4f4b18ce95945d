// SPDX-License-Identifier: Apache-2.0

// Package state is the whole state of a shim, as one value that can be written to a
// file: the container and its processes, their streams by descriptor, the clients'
// connections with their unanswered requests, and the exits that the daemon has yet
// to be told.
//
// # What it is for
//
//	shim ──freeze──► state ──file──► execve(2) ──► "containerd-shim … -adopt FILE" ──► shim
//
// The process stays, with its pid, children, zombies, descriptors and place in
// the process tree (execve(2)); its program is exchanged, and the next one takes its
// state from the file. The file is written by this project's own shim, or by
// shimctl for a shim of upstream's whose memory it has read, or by a test.
//
// What the command line says (namespace, directories, daemon, runtime's root,
// cgroup driver) stays there: the next program gets the same arguments, and
// -adopt FILE behind them.
//
// # What is not known
//
// The zero value of a field says that there is no such thing, or that it is not
// known; the comment of each field says what the reader makes of it. Nothing is
// assumed that a client could take for a fact: an unknown exit status is 255, and
// the start of a process that cannot be started is answered with an error.
//
// # Versions
//
// Version is written into each file. A program reads files of its own version and
// of every older one (testdata has an example of each), and refuses newer ones. A
// field may be added within a version only if its zero value means what was true
// before the field existed. A program refuses a field that it does not know,
// because it would lose what the field says.
package state
