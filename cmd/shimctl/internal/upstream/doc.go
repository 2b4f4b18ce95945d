// SPDX-License-Identifier: Apache-2.0

// Package upstream reads the whole state of one of upstream's shims out of the running
// process, and returns it as this project's [state.Shim].
//
// What is visible from outside comes from /proc: descriptors, children, mounts. The rest
// comes from the shim's memory while it stands still: the service and its process table,
// from there each process with its phase, pid, exit, streams and specification, and
// the exits that were reaped but not yet dealt with. Which requests are unanswered, and
// on which connection, comes from a goroutine dump that was taken before, while the
// threads that could have changed it were held.
//
// There is a table of the fields' offsets for each release that was tested ([Release]),
// and one of the Go runtime's layouts for each release of Go ([goheap.Era]). Every value
// is checked: a state must point back to its process, a type must have its name in the
// program's function table, a descriptor must be a pipe or a socket. An unknown program,
// or a value that fails its check, is refused.
package upstream
