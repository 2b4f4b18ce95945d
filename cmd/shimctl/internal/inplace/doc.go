// SPDX-License-Identifier: Apache-2.0

// Package inplace exchanges the program of a running process by execve(2) from
// outside, by ptrace(2), so that the death of the tracer at any point leaves
// either the old program unharmed or the new one running.
//
//	Seize ─► Gate ─► Stop ─► Exec ─► the new program
//	                   └──► Detach: the old one goes on, as if nothing had been
//
// [Tracee.Gate] lets the threads run from one system call to the next and holds
// those that the caller chooses. [Tracee.Stop] stops the rest. Up to this point
// nothing in the process has been changed. What [Tracee.Exec] writes before its
// commit is put back if the commit is not reached.
//
// There is one commit: a PTRACE_SETREGS that makes one thread, which waits in a
// system call, go on in code that was written over the program's start-up code
// (runtime.rt0_go, which runs once), with its data at the bottom of the first
// thread's stack, far below what is in use. The code is a loop over a table of
// system calls: clear FD_CLOEXEC of the descriptors that are kept, set the
// signal mask, execve. If execve fails, the rest of the table undoes both, and
// rt_sigreturn(2) restores the thread from a frame that was prepared: its
// interrupted system call is restarted as after a signal.
//
// All of that happens without the tracer. But if the tracer dies between the commit
// and the end of execve, the other threads run for that long: the new program is not
// told of a request that one of them reads, or of an exit that one of them reaps.
//
// Everything here must be called from one thread, locked by runtime.LockOSThread,
// because the kernel takes ptrace requests only from the thread that has attached. The
// caller needs a watchdog that kills it if it takes too long. Only amd64 is
// implemented.
package inplace
