// SPDX-License-Identifier: Apache-2.0

// Package upstream reads all that one of upstream's shims is out of the running
// process, and writes it down as this project's [state.Shim].
//
// What is visible from outside comes from /proc: descriptors, children, mounts. The rest
// comes from its memory while it stands still: the service and its process table,
// from there each process with its phase, pid, exit, streams and specification, and
// the exits that were reaped and not dealt with. Which requests are not answered, and
// on which connection, comes from a goroutine dump that was taken before, while the
// threads that could have changed it were held.
//
// Where the fields are is a table for each release that was tried ([Release]), for the
// layouts of the Go runtime for each release of Go ([goheap.Era]). Every value is
// checked by what it must be: a state must point back to its process, a type must have
// its name in the program's function table, a descriptor must be a pipe or a socket.
// A program that is not known, or a value that does not check out, is refused.
package upstream
