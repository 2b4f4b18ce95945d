// SPDX-License-Identifier: Apache-2.0

// Package model proves for small numbers what the tests can only try: spin
// (spinroot.com) goes through every order in which children, reaper, exits, outbox, calls
// and daemon can act.
//
// shim.pml is this shim: nothing blocks for ever, every exit is published once to a living
// daemon and not before its start, the container's own is last, State is answered at
// once. Numbers are small: up to two execs beside the container's process, one State, one
// runc that hangs, one daemon that stops, dies and comes back; one exchange in place, with
// a Wait that is open; deletions. Not in it: what comes before the reply to the container's
// own start, and that start in the runs that are replayed; a State that may be another
// client's (stage asked, Limits.Doubt); the order of death among execs, an exec's id that is
// used again, a container that is paused, streams, and attempts that a daemon leaves
// unanswered so long that they are given up.
//
// pids.pml is a pid that the kernel gives to one process after another while starts are
// underway: each start comes to its own process. Not in it: a claim that knows no time of
// the pid file, a clock that is set back, and more unclaimed exits than the ledger keeps.
//
// upstream.pml is upstream's shims with their three reapers, and spin finds what each is
// known for: the ring, the delay, the loss. A channel of 2048 is one of 32 that is longer.
// Since v1.2.8 the reaper itself drops nothing: after a second it goes on, and a goroutine
// for each exit tries further. What comes late or in another order, and what a daemon
// does not take at the first attempt, is what is lost.
//
// A model that cannot fail proves nothing. So the tests take each repair out by a
// switch, and want an error. Each part of a model names the functions that it stands for,
// and a test looks them up. And runs of the shim's own code, under the race detector, are
// replayed: spin finds each of them among those of its model (Replay; TestRunsAreTheModels
// in shim and reaper, and in integration/inplace with a real exchange; build tag "model").
package model
