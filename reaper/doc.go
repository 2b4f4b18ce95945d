// SPDX-License-Identifier: Apache-2.0

// Package reaper owns wait in a process that is a child subreaper.
//
// # Who may wait
//
// One goroutine, the Reaper's, calls waitid(2) and wait4(2). Nothing else in the
// process should: a second caller swallows exits. Commands are started through a
// Monitor, which never waits for a process. The one exception is containerd's
// mount package, which runs mount.fuse and waits for it where a root file system
// is FUSE. Either it or the Reaper gets the exit of that helper; the package tries
// again after ECHILD, and nobody else has claimed the exit.
//
// # What is promised
//
//	Begin ──► start a process ──► learn its pid ──► Claim(pid) ──► Child
//	  │                                                              │
//	  └── from here on an exit that nobody claimed is kept           └── Done, Wait, Signal
//
// A process may die at any point after its fork, long before its pid is known
// (runc exec of "true" is the normal case). An exit seen while a Ticket is open
// is kept until every ticket older than it is closed, so Claim finds it. With
// no ticket open, unclaimed exits (orphans that came to the subreaper) are
// reaped and forgotten: memory is bounded by the exits seen while the oldest
// ticket is open, and of those the latest 65536 are kept. Exits of claimed children,
// and what subscribers are told, are never dropped.
//
// For each dead child the order is fixed: look at it with WNOWAIT, hand its
// exit over, then reap it. The kernel cannot give the pid to another process
// before its owner knows that it is dead, so Child.Signal never hits another
// process (waitid(2): "Leave the child in a waitable state").
//
// # What never blocks
//
// The reaping goroutine does no I/O, logs nothing, calls no callback and sends
// on no channel that could be full. An exit is delivered by writing it into
// the Child and closing its Done channel, or by appending to a Subscription's
// queue, which grows. Its mutexes are held by others only for map operations
// and for system calls that do not wait (waitid with WNOHANG, kill).
//
// # Locks
//
// Reaper.mu before Child.mu, Reaper.mu before Subscription.mu.
//
// The package needs nothing newer than Linux 3.4 (PR_SET_CHILD_SUBREAPER).
package reaper
