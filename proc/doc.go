// SPDX-License-Identifier: Apache-2.0

// Package proc manages a container's processes: its init and the execs in it, their life
// cycle, their streams, and the calls of the OCI runtime.
//
// # Life of a process
//
// A process is in one phase at a time. Requests (want-) are looked up in the table
// in state.go before anything is done, and may be refused; facts (did-) are always
// accepted. These are all the events that change the phase:
//
//	created ──did-start──► running ──want-pause──► pausing ──did-pause──► paused
//	                       running ◄──did-not-pause── pausing
//	                       running ◄──did-resume── pausing
//	                       running ──did-pause──► paused
//	                       running ◄──did-resume── paused
//
//	created, running, pausing, paused ──did-exit──► stopped
//	created, running, pausing, paused, stopped ──did-delete──► deleted
//
// Nothing leaves deleted, and nothing but did-delete leaves stopped: a fact
// that comes late, such as the success of a start whose process has died
// meanwhile, changes nothing. A verb in progress is not a phase, except pausing: a
// container whose "runc start" has not returned is still created.
//
// # Who waits for whom
//
// The facts of a process (phase, pid, exit, streams) are behind a mutex that
// is held for a few assignments only. The verbs of a process go one at a time:
// whoever calls one holds the process's verb lock (Lock), which is not a mutex:
// waiting for it ends with a context. State, Wait, Kill, Resize and CloseIO need
// no lock, so a runtime that hangs delays only the next verb of the same
// process.
//
// A verb blocks until it is done. Its context bounds the runtime's work: when it
// ends, the runtime is killed. So it must not be a client's context: the client may
// go away, and half a container would be left behind.
//
// # Lock order
//
//	verb lock ──► process.mu ──► stdio.Streams.mu
//
// Only what saves or adopts a process for an exchange, when nothing runs, holds both
// mutexes at a time. Under a mutex nothing can wait: no channel operation, no read
// or write, no start of a command, no log line, no callback. What is done to the
// streams for a fact (ProcessExited, CloseInput, Resize) is done after process.mu
// was released.
//
// # Order of events
//
//   - The streams are open, and read, before the runtime is started. What is
//     read reaches the client once the start has succeeded.
//   - A reaper's ticket is open from before the runtime is started until its
//     process was claimed, so no exit is lost for want of an owner.
//   - The process is claimed, with its owner, once its start can no longer fail;
//     from then on the reaper reports its exit with the owner. The exit may be
//     recorded before the phase becomes Running, or after; it ends as Stopped.
//   - RecordExit makes the exit visible to State and Wait before it returns;
//     whoever publishes exits does so afterwards.
//   - An exit is written once per attempt. Only an exec whose start has failed
//     gets another attempt, with its next start.
//   - Output outlives the process, and Delete: it is copied as long as there is
//     any and its reader is there. A pipe that is only held open, by a process
//     left behind, is given up (stdio/state.go).
//   - Deleted comes last, after the output was drained or given up.
//
// # Errors
//
// Every error has a class: one of errdefs', or a context's. The texts that
// clients know from runc and from upstream's shim are kept as they are.
package proc
