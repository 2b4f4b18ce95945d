// SPDX-License-Identifier: Apache-2.0

// Package model proves for small numbers what the tests can only try: spin
// (spinroot.com) goes through every order in which children, reaper, exits, outbox, calls
// and daemon can act.
//
// shim.pml is this shim: nothing blocks for ever, every exit is published once to a living
// daemon and not before its start, the container's own is last, State is answered at
// once. Numbers are small: up to two execs beside the container's process, one State, one
// runc that hangs, one daemon that stops, dies and comes back. Not in it: the order of
// death among execs, recycled pids, exchanges in place, and attempts that a daemon
// leaves unanswered so long that they are given up.
//
// A model that cannot fail proves nothing. So the tests take each repair out by a
// switch, and want an error.
package model
