// SPDX-License-Identifier: Apache-2.0

//go:build model

package inplace_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/client"
	"containerd-shim.v1/integration/harness/suite"
	"containerd-shim.v1/integration/model"
)

// shown is a shim of which is written down what it shows to those outside.
type shown struct {
	c *harness.Case
	*harness.Fixture
	mu     sync.Mutex
	events []moment // guarded by mu
}

type moment struct {
	model.Event
	at time.Time
}

func (s *shown) note(what model.What, id string) { s.noteAt(time.Now(), what, id) }

func (s *shown) noteAt(at time.Time, what model.What, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, moment{model.Event{What: what, Process: slices.Index([]string{s.ID, "e1"}, id)}, at})
}

// start starts an exec, and publishes that like a daemon.
func (s *shown) start(id string, steps ...string) {
	s.c.Must(s.Exec(id, harness.IO{}, steps...), "Exec")
	_, err := s.StartOnly(id)
	s.c.Must(err, "Start")
	s.note(model.Started, id)
	_, err = s.State(id)
	s.c.Must(err, "State")
}

// wait begins a Wait; the function that it returns waits for the answer.
func (s *shown) wait(id string) (answered func(status uint32)) {
	w, err := client.BeginWait(s.Shim.Address, id, client.V1{})
	s.c.Must(err, "Wait")
	return func(status uint32) {
		s.c.Must(w.Await(soon), "Wait")
		s.note(model.Told, id)
		if got := w.Reply.GetExitStatus(); got != status {
			s.c.Errorf("Wait of %s: status %d, want %d", id, got, status)
		}
		s.c.Must(w.Close(), "close")
	}
}

func (s *shown) exchange() {
	swap(s.c, s.Fixture)
	s.note(model.Exchanged, s.ID)
}

func (s *shown) remove(id string) {
	var err error
	if id == s.ID {
		_, err = s.Delete()
	} else {
		_, err = s.DeleteProcess(id)
	}
	s.c.Must(err, "Delete")
	s.note(model.Deleted, id)
}

func (s *shown) kill(id string) { s.c.Must(s.Kill(id, uint32(unix.SIGKILL), false), "Kill") }

// TestRunsAreTheModels: what a shim shows across an exchange of its program is a run of
// exchange.pml, in which spin has proved that no exit and no Wait is lost or told twice.
func TestRunsAreTheModels(t *testing.T) {
	stories := map[string]func(s *shown){
		"Waits": func(s *shown) {
			s.start("e1", "sleep")
			exec, init := s.wait("e1"), s.wait(s.ID)
			s.exchange()
			s.kill("e1")
			exec(137)
			s.remove("e1")
			s.kill(s.ID)
			init(137)
			s.remove(s.ID)
		},
		"an exit whose start is not published": func(s *shown) {
			s.c.Must(s.Exec("e1", harness.IO{}, "exit:7"), "Exec")
			_, err := s.StartOnly("e1")
			s.c.Must(err, "Start")
			s.wait("e1")(7)
			s.exchange()
			s.note(model.Started, "e1")
			_, err = s.State("e1")
			s.c.Must(err, "State")
			s.AwaitStatus(soon, "e1", 7)
			s.remove("e1")
			s.kill(s.ID)
		},
		"exits that the daemon takes when it is back": func(s *shown) {
			s.start("e1", "sleep")
			s.note(model.Away, s.ID)
			s.Daemon.Crash()
			s.kill("e1")
			s.wait("e1")(137)
			s.kill(s.ID)
			s.wait(s.ID)(137)
			s.exchange()
			s.note(model.Back, s.ID)
			s.c.Need(s.Daemon.Restart(), "restart fake daemon")
		},
		"an exec that is started by the next program": func(s *shown) {
			s.exchange()
			s.start("e1", "sleep")
			s.kill(s.ID)
			s.wait("e1")(137)
			s.remove("e1")
			s.wait(s.ID)(137)
			s.remove(s.ID)
		},
	}
	var runs [][]model.Event
	for name, story := range stories {
		t.Run(name, func(t *testing.T) {
			suite.Run(t, "model", limit, func(c *harness.Case) {
				s := &shown{c: c, Fixture: c.Fixture(harness.Options{})}
				s.Up()
				story(s)
				s.AwaitStatus(soon, s.ID, 137)
				for _, e := range s.Daemon.Events() {
					s.noteAt(e.Received, model.Taken, e.Exit.GetID())
				}
				slices.SortStableFunc(s.events, func(a, b moment) int { return a.at.Compare(b.at) })
				var run []model.Event
				for _, e := range s.events {
					run = append(run, e.Event)
				}
				runs = append(runs, run)
			})
		})
	}
	accepted, err := model.Replay(t.Context(), t.TempDir(), model.Shim(1).Deletes().Exchange(), runs)
	if err != nil {
		t.Fatal(err)
	}
	for i, run := range runs {
		if !accepted[i] {
			t.Errorf("no run of the model's: %v", run)
		}
	}
}
