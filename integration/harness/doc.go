// SPDX-License-Identifier: Apache-2.0

// Package harness tests any containerd shim binary from outside, of the v1 and the v2 kind.
//
// A Case is one test. It owns a directory below sweep.Root, and everything that was
// started in it ends and is removed with it. A Fixture is one shim in a Case: it is
// started as a daemon of a chosen launch.Generation does it, and has a client.Client
// as old or as new as that daemon's, a fakedaemon.Daemon for its events, a container
// made of one static file (package guest), and optionally a fakeruntime.Runtime that
// can be told to misbehave.
//
// It relies on the shim being a child subreaper (PR_SET_CHILD_SUBREAPER): what
// the fake runtime leaves behind becomes the shim's child.
package harness
