// SPDX-License-Identifier: Apache-2.0

// Package integration tests any containerd v1 shim binary from outside.
//
// It starts the binary as a daemon of a chosen Generation does (Launch), talks
// ttrpc to it with a client as old or as new as that daemon's (Client), takes
// its events the three ways they can come (Daemon), gives it containers made
// of one static file (Bundle) and a runtime that can be told to misbehave
// (Fake), and counts what it leaves behind (Census). A Case is one test's
// world: it owns a directory under Root, and all that was started in it is
// ended and removed with it.
//
// The facts it relies on:
//   - A process's environment is readable in /proc/PID/environ by root, is
//     inherited by fork and exec, and is not changed by later setenv(3) calls.
//     The variable Mark names the case; processes that carry it are ours.
//   - runc gives the container its own environment and its `runc init` none:
//     these are found by the cgroup that the bundle puts them in.
//   - The shim is a child subreaper (PR_SET_CHILD_SUBREAPER), so what the fake
//     runtime leaves behind becomes the shim's child.
package integration
