// SPDX-License-Identifier: Apache-2.0

//go:build model

package reaper

import (
	"os"
	"strconv"
	"testing"
	"time"

	"containerd-shim.v1/integration/harness/wait"
	"containerd-shim.v1/integration/model"

	"golang.org/x/sys/unix"
)

// succession is two starts, and a stranger, whose processes have one pid after each other;
// what the Reaper shows of that is written down.
type succession struct {
	*testing.T
	pid     int
	tickets [2]*Ticket
	written [2]time.Time
	gates   [3]*os.File
	events  []model.Event
}

func (s *succession) note(what model.What, who int) {
	s.events = append(s.events, model.Event{What: what, Process: who})
}

func (s *succession) begin(who int) {
	s.tickets[who] = testReaper.Begin()
	s.Cleanup(s.tickets[who].Close)
	s.note(model.Begun, who)
}

// fork starts a process that waits; its status is its number.
func (s *succession) fork(who int) {
	s.Helper()
	if s.pid == 0 {
		r, w, err := os.Pipe()
		if err != nil {
			s.Fatal(err)
		}
		defer r.Close()
		cmd := roleCmd("wait", strconv.Itoa(who))
		cmd.Stdin = r
		if err := cmd.Start(); err != nil {
			s.Fatal(err)
		}
		s.pid, s.gates[who] = cmd.Process.Pid, w
	} else {
		_, s.gates[who] = forkWithPid(s.T, s.pid, strconv.Itoa(who))
	}
	if who < len(s.written) {
		s.written[who] = time.Now()
	}
	s.note(model.Forked, who)
}

// end ends it, and waits until it is reaped.
func (s *succession) end(who int) {
	s.Helper()
	if err := s.gates[who].Close(); err != nil {
		s.Fatal(err)
	}
	if err := wait.For(5*time.Second, "its end", func() bool { return unix.Kill(s.pid, 0) == unix.ESRCH }); err != nil {
		s.Fatal(err)
	}
	s.note(model.Reaped, who)
}

// claim claims the pid for a start, and returns the child.
func (s *succession) claim(who int) *Child {
	s.Helper()
	c, err := s.tickets[who].Claim(s.pid, s.written[who], nil)
	if err != nil {
		s.Fatal(err)
	}
	select {
	case <-c.Done():
		s.note(model.Dead, who)
	default:
		s.note(model.Living, who)
	}
	return c
}

// TestRunsAreTheModels: what the Reaper shows of a pid that is given again and again is a
// run of pids.pml, in which spin has proved that every start comes to its own process.
func TestRunsAreTheModels(t *testing.T) {
	const first, second, stranger = 0, 1, 2
	stories := map[string]func(s *succession) []*Child{
		"claimed while the pid is another's, who is claimed later": func(s *succession) []*Child {
			s.begin(first)
			s.begin(second)
			s.fork(first)
			s.end(first)
			s.fork(second)
			all := []*Child{s.claim(first), s.claim(second)}
			s.end(second)
			return all
		},
		"claimed while the pid is another's, who has been claimed": func(s *succession) []*Child {
			s.begin(first)
			s.begin(second)
			s.fork(first)
			s.end(first)
			s.fork(second)
			claimed := s.claim(second)
			all := []*Child{s.claim(first), claimed}
			s.end(second)
			return all
		},
		"all are dead": func(s *succession) []*Child {
			s.begin(first)
			s.begin(second)
			s.fork(stranger)
			s.end(stranger)
			s.fork(second)
			s.end(second)
			s.fork(first)
			s.end(first)
			return []*Child{s.claim(first), s.claim(second)}
		},
		"a stranger lives": func(s *succession) []*Child {
			s.begin(first)
			s.fork(first)
			s.end(first)
			s.fork(stranger)
			dead := s.claim(first)
			s.end(stranger)
			s.begin(second)
			s.fork(second)
			all := []*Child{dead, s.claim(second)}
			s.end(second)
			return all
		},
	}
	var runs [][]model.Event
	for name, story := range stories {
		t.Run(name, func(t *testing.T) {
			s := &succession{T: t}
			for who, c := range story(s) {
				if e := waitExit(t, c); e.Status != who {
					t.Errorf("start %d came to process %d", who, e.Status)
				}
			}
			runs = append(runs, s.events)
		})
	}
	accepted, err := model.Replay(t.Context(), t.TempDir(), model.Pids(), runs)
	if err != nil {
		t.Fatal(err)
	}
	for i, run := range runs {
		if !accepted[i] {
			t.Errorf("no run of the model's: %v", run)
		}
	}
}
