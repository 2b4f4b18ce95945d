// SPDX-License-Identifier: Apache-2.0

// Package inplace exchanges the program of a running process by execve(2) from
// outside, by ptrace(2), so that the death of the tracer at any point leaves
// either the old program unharmed or the new one running.
//
//	Seize ─► Gate ─► Stop ─► Exec ─► the new program
//	                   └──► Detach: the old one goes on, as if nothing had been
//
// [Tracee.Gate] lets the threads run from one system call to the next and holds
// those that the caller says. [Tracee.Stop] stops the rest. Until then nothing of
// the process has been changed, and all that [Tracee.Exec] writes before its commit
// is put back when it does not come to that.
//
// There is one commit: a PTRACE_SETREGS that lets one thread, which waits in a
// system call, go on in code that stands where the program's start-up code was
// (runtime.rt0_go, which runs once), with its data at the bottom of the first
// thread's stack, far below what is in use. The code is a loop over a table of
// system calls: clear FD_CLOEXEC of the descriptors that are kept, set the
// signal mask, execve. When execve fails, the rest of the table takes both back,
// and rt_sigreturn(2) restores the thread from a frame that lies ready: its
// interrupted system call is restarted as a signal would have done it.
// All of that happens without the tracer. If it dies between the commit and the end of
// execve, though, the other threads go on for that long: a request that one of them reads, or
// an exit that one reaps, is not in what the new program was told.
//
// Everything here is called from one thread, locked by runtime.LockOSThread:
// the kernel takes ptrace requests from the attaching thread only. The caller has
// a watchdog that kills it when it takes too long; only amd64 is implemented.
package inplace
