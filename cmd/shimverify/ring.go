// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"
)

// role is one of the parts in the deadlock of the shims up to 1.2.8.
type role struct {
	says   string     // what the goroutine does
	states []string   // one of these is in its header
	frames [][]string // all pieces of one of these are in its frames
}

// ring are the three goroutines, each of which waits for the next.
var ring = []role{
	{
		says:   "Reap holds the reaper's lock and sends an exit to a subscriber whose 32 places are full: it waits for the exit loop to take one",
		states: []string{"chan send"},
		frames: [][]string{{"Reap("}},
	},
	{
		says:   "the exit loop, which is to take them, waits for the service's mutex, or for a lock of an exec: it waits for the call that holds it",
		states: []string{"Mutex.Lock", "semacquire"},
		frames: [][]string{{"processExits("}, {"checkProcesses("}},
	},
	{
		says:   "the call holds that lock while it waits for the end of its runc, which only Reap can tell",
		states: []string{"chan receive", "select", "Mutex.Lock", "semacquire"},
		frames: [][]string{{"shim.(*Service).", "Monitor).Wait("}, {"shim.(*Service).", "Monitor).Subscribe("}, {"shim.(*Service).", "go-runc."}, {"shim.(*Service).", "runc.("}},
	},
}

// explain finds the goroutines of the ring in a stack dump and prints each
// with the frames that tell.
func explain(w io.Writer, stacks string) {
	if stacks == "" {
		fmt.Fprintln(w, "   (the shim gave no stacks)")
		return
	}
	for i, r := range ring {
		found, all := "", 0
		for _, g := range strings.Split(stacks, "\n\n") {
			if r.fits(g) {
				if all++; found == "" {
					found = g
				}
			}
		}
		if found == "" {
			fmt.Fprintf(w, "   (%d) not found in the stacks: %s\n", i+1, r.says)
			continue
		}
		fmt.Fprintf(w, "   (%d) %s", i+1, r.says)
		if all > 1 {
			fmt.Fprintf(w, " (one of %d)", all)
		}
		fmt.Fprintf(w, "\n")
		for _, line := range telling(found) {
			fmt.Fprintf(w, "         %s\n", line)
		}
	}
}

func (r role) fits(goroutine string) bool {
	head, _, _ := strings.Cut(goroutine, ":\n")
	return contains(head, r.states, false) && func() bool {
		for _, f := range r.frames {
			if contains(goroutine, f, true) {
				return true
			}
		}
		return false
	}()
}

// contains tells whether all pieces, or any of them, are in s.
func contains(s string, pieces []string, all bool) bool {
	for _, p := range pieces {
		if strings.Contains(s, p) != all {
			return !all
		}
	}
	return all
}

// telling are a goroutine's header and the functions of the shim and of runc's
// wrapper, without the runtime's and without arguments.
func telling(goroutine string) []string {
	const most = 7
	var out []string
	for i, line := range strings.Split(strings.TrimSpace(goroutine), "\n") {
		switch {
		case strings.HasPrefix(line, "goroutine "):
			out = append(out, line)
		case i == 0, strings.HasPrefix(line, "\t"), strings.HasPrefix(line, "created by"):
		case strings.Contains(line, "containerd/") || strings.Contains(line, "sync."):
			name, _, _ := strings.Cut(line, "(0x")
			name = strings.TrimSuffix(name, "(...)")
			if len(out) < most {
				out = append(out, "  "+name[strings.LastIndex(name, "/")+1:])
			}
		}
	}
	return out
}
