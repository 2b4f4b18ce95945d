// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"containerd-shim.v1/cmd/shimctl/internal/goheap"
	"containerd-shim.v1/cmd/shimctl/internal/gotext"
	"containerd-shim.v1/internal/stackdump"
)

// dumped returns a reader with a dump of the release at rest.
func dumped(t *testing.T, release string) *reader {
	t.Helper()
	return dumpedWith(t, "none", release)
}

// dumpedWith returns a reader with a dump of the release with the fault.
func dumpedWith(t *testing.T, fault, release string) *reader {
	t.Helper()
	b, err := os.ReadFile("../../../../internal/stackdump/testdata/" + fault + "-" + release + ".strace")
	if err != nil {
		t.Fatal(err)
	}
	d, err := stackdump.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(releases, func(r *Release) bool { return r.Name == release })
	return &reader{Program: &Program{Release: releases[i], Text: &gotext.Table{}}, dump: d, returns: map[uint64][]uint64{}}
}

// TestSettledWantsEverybodyParked: a goroutine that is not parked may have something on
// its stack that is nowhere else: an exit or an event that was sent to it directly, or
// bytes that it has read.
func TestSettledWantsEverybodyParked(t *testing.T) {
	for _, release := range []string{"v1.1.2", "v1.2.0", "v1.6.38"} {
		r := dumped(t, release)
		if err := r.settled(false); err != nil {
			t.Fatalf("%s at rest: %v", release, err)
		}
		for _, tt := range []struct {
			in, state string
			busy      bool
		}{
			{".(*Service).processExits", "runnable", true},
			{".(*Service).forward", "runnable", true},
			{".(*channel).recv", "runnable", true},
			{".(*channel).recv", "syscall", false}, // unless its thread is not held: TestReaderInASystemCallMustBeHeld
			{".(*Server).Serve", "runnable", true},
			{"main.main.func1", "runnable", true},
			{"os/signal.loop", "runnable", false}, // it has passed on the signal that asks for the dump
			{"os/signal.loop", "syscall", false},
		} {
			r := dumped(t, release)
			found := false
			for i := range r.dump.Goroutines {
				g := &r.dump.Goroutines[i]
				if slices.ContainsFunc(g.Frames, func(f stackdump.Frame) bool { return strings.HasSuffix(f.Func, tt.in) }) {
					g.State, found = tt.state, true
				}
			}
			if !found {
				t.Fatalf("%s has no %s", release, tt.in)
			}
			if err := r.settled(true); errors.Is(err, ErrBusy) != tt.busy || err != nil && !tt.busy {
				t.Errorf("%s with %s %s: %v", release, tt.in, tt.state, err)
			}
		}
	}
}

// TestSettledRefusesWhatIsNotBound: a goroutine that waits to write goes on once the log is read, as
// it is for the dump; one without frames may be anywhere.
func TestSettledRefusesWhatIsNotBound(t *testing.T) {
	for _, release := range []string{"v1.1.2", "v1.2.0", "v1.6.38"} {
		for what, change := range map[string]func(*stackdump.Goroutine){
			"a write": func(g *stackdump.Goroutine) {
				g.State, g.Frames = "IO wait", append([]stackdump.Frame{{Func: "internal/poll.(*FD).Write"}}, g.Frames...)
			},
			"no frame": func(g *stackdump.Goroutine) { g.State, g.Frames = "running", nil },
		} {
			r := dumped(t, release)
			i := slices.IndexFunc(r.dump.Goroutines, func(g stackdump.Goroutine) bool { return has(&g, r.Release.service+".(*Service).processExits") })
			change(&r.dump.Goroutines[i])
			if err := r.settled(true); !errors.Is(err, ErrBusy) {
				t.Errorf("%s: %s: %v", release, what, err)
			}
		}
	}
}

// TestRequestIsNotBelievedOnceItMayBeFreed: in releases from v1.2.6 on a handler waits for a
// process's lock with its request copied, and another one may be decoded into its place.
func TestRequestIsNotBelievedOnceItMayBeFreed(t *testing.T) {
	r := dumped(t, "v1.6.38")
	method := stackdump.Frame{Func: r.Release.service + ".(*Service).Exec", Args: "0x1, {0x2, 0x3}, 0x4"}
	g := &stackdump.Goroutine{Frames: []stackdump.Frame{{Func: "sync.(*Mutex).Lock"}, method}}
	r.Program.Era = &goheap.Era{}
	if got := r.shown(g, &method); got != 4 {
		t.Errorf("at the Service's lock: %#x", got)
	}
	g.Frames = []stackdump.Frame{{Func: "sync.(*Mutex).Lock"}, {Func: r.process + ".(*Init).Exec"}, method}
	if got := r.shown(g, &method); got != 0 {
		t.Errorf("at the process's: %#x", got)
	}
}

// TestSettledInFaults: shims whose goroutines hang where nothing is lost can be healed. In
// others the reaper goes on by itself, after a second for each exit.
func TestSettledInFaults(t *testing.T) {
	for fault, of := range map[string]map[string]bool{
		"B01": {"v1.1.2": true, "v1.2.0": true, "v1.2.6": true},
		"B02": {"v1.6.38": false, "v1.7.35": false},
		"B03": {"v1.2.0": true, "v1.2.13": false, "v1.6.38": false},
		"B05": {"v1.2.0": true, "v1.6.38": true},
		"B08": {"v1.2.0": true, "v1.2.13": true, "v1.6.38": true},
		"B12": {"v1.2.0": true, "v1.2.13": true, "v1.6.38": true},
		"B25": {"v1.2.0": true, "v1.2.13": true, "v1.6.38": true},
	} {
		for release, ok := range of {
			if err := dumpedWith(t, fault, release).settled(true); ok && err != nil || !ok && !errors.Is(err, ErrBusy) {
				t.Errorf("%s of %s: %v", fault, release, err)
			}
		}
	}
}

// TestSettledWantsCopiersToWait: the bytes that a copier has read but not written would be
// lost.
func TestSettledWantsCopiersToWait(t *testing.T) {
	const (
		copies = "github.com/containerd/containerd/pkg/process.copyPipes.func2"
		read   = "internal/poll.(*FD).Read"
	)
	for _, tt := range []struct {
		state string
		calls []string
		busy  bool
	}{
		{"IO wait", []string{read, copies}, false},
		{"runnable", []string{read, copies}, true},
		{"syscall", []string{"syscall.read", read, copies}, true},
		{"IO wait", []string{"internal/poll.(*FD).Write", copies}, true},
		{"sync.Mutex.Lock", []string{copies}, true},
		{"select", []string{"github.com/containerd/fifo.(*fifo).Read", copies}, false},
		{"runnable", []string{"github.com/containerd/fifo.(*fifo).Read", copies}, true},
		{"sync.Cond.Wait", []string{"sync.(*Cond).Wait", "github.com/containerd/console.(*EpollConsole).Read", "main.(*unixPlatform).CopyConsole.func2"}, false},
		{"runnable", []string{"github.com/containerd/console.(*EpollConsole).Read", "main.(*unixPlatform).CopyConsole.func2"}, true},
	} {
		r := dumped(t, "v1.6.38")
		g := stackdump.Goroutine{ID: 1000, State: tt.state}
		for _, f := range tt.calls {
			g.Frames = append(g.Frames, stackdump.Frame{Func: f})
		}
		r.dump.Goroutines = append(r.dump.Goroutines, g)
		if err := r.settled(false); errors.Is(err, ErrBusy) != tt.busy || err != nil && !tt.busy {
			t.Errorf("%s in %q: %v", tt.state, tt.calls, err)
		}
	}
}
