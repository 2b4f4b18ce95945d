// SPDX-License-Identifier: Apache-2.0

//go:build model

package shim

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"containerd-shim.v1/integration/model"
	"containerd-shim.v1/reaper"

	api "github.com/containerd/containerd/runtime/v1/shim/v1"
)

// shown is a shim of which is written down what it shows.
type shown struct {
	*rig
	mu     sync.Mutex
	events []model.Event // guarded by mu
}

// show starts one, whose container runs.
func show(t *testing.T, hostPids bool) *shown {
	// No exit is sent for want of time: in the model time does not pass either.
	s := &shown{rig: newLimitedRig(t, hostPids, Limits{Reply: soon, Asked: soon})}
	record, send := s.sup.exits.record, s.sup.exits.send // nothing has a reason to call them yet
	s.sup.exits.record = func(o owner, e reaper.Exit) {
		s.mu.Lock() // whoever waits for the exit notes that afterwards
		defer s.mu.Unlock()
		record(o, e)
		s.write(model.Recorded, o.ID())
	}
	s.sup.exits.send = func(id string, e reaper.Exit) { s.note(model.Put, id); send(id, e) }
	s.daemon.tell(func(id string) { s.note(model.Taken, id) })
	s.run()
	return s
}

// tell has fn told of each exit that the daemon takes.
func (d *daemon) tell(fn func(id string)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.took = fn
}

// note writes down what has just happened, or is about to.
func (s *shown) note(what model.What, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write(what, id)
}

// write is note for a caller that holds mu.
func (s *shown) write(what model.What, id string) {
	s.events = append(s.events, model.Event{What: what, Process: slices.Index([]string{containerID, "e1", "e2"}, id)})
}

// launch starts an exec, up to the reply. It reports whether there is one.
func (s *shown) launch(id string, args ...string) bool {
	if s.exec(id, args...) != nil {
		return false // the container is dead
	}
	_, err := s.client.Start(s.ctx(), &api.StartRequest{ID: id})
	return err == nil
}

// publish does what a daemon does next.
func (s *shown) publish(id string) {
	s.note(model.Started, id)
	_, _ = s.client.State(s.ctx(), &api.StateRequest{ID: id}) // what it answers is no matter
}

// waited waits for an exit.
func (s *shown) waited(id string) {
	s.wait(id)
	s.note(model.Told, id)
}

// remove deletes an exec, or the container.
func (s *shown) remove(id string) {
	s.Helper()
	var err error
	if id == containerID {
		_, err = s.delete()
	} else {
		_, err = s.client.DeleteProcess(s.ctx(), &api.DeleteProcessRequest{ID: id})
	}
	s.must(err)
	s.note(model.Deleted, id)
}

// end kills the container, and returns what was shown once its exit and those of n
// execs are taken.
func (s *shown) end(n int) []model.Event {
	s.Helper()
	s.must(s.kill(containerID, 9))
	return s.over(n)
}

func (s *shown) over(n int) []model.Event {
	s.Helper()
	s.published(n + 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

// stories are what is done with a shim; each returns what was shown.
var stories = map[string]func(t *testing.T) []model.Event{
	"execs that end": func(t *testing.T) []model.Event {
		s := show(t, false)
		s.launch("e1", "exit", "0")
		s.publish("e1")
		s.launch("e2", "wait", "0")
		s.publish("e2")
		s.waited("e1")
		s.runtime.endExec(t)
		s.waited("e2")
		return s.end(2)
	},
	"an exec that is dead before runc returns": func(t *testing.T) []model.Event {
		s := show(t, false)
		before := testReaper.Reaped()
		s.runtime.on("exec-end", func(string) error {
			eventually(t, "the exec's death", func() bool { return testReaper.Reaped() > before })
			return nil
		})
		s.launch("e1", "exit", "0")
		s.publish("e1")
		s.waited("e1")
		return s.end(1)
	},
	"an exit that is held for its start, and another that passes": func(t *testing.T) []model.Event {
		s := show(t, false)
		s.launch("e1", "exit", "0")
		s.waited("e1")
		s.launch("e2", "exit", "0")
		s.publish("e2")
		s.published(1)
		s.publish("e1")
		s.published(2)
		return s.end(2)
	},
	"execs that die with the container": func(t *testing.T) []model.Event {
		s := show(t, true)
		for _, id := range []string{"e1", "e2"} {
			s.launch(id, "wait", "0")
			s.publish(id)
		}
		return s.end(2)
	},
	"a daemon that is away": func(t *testing.T) []model.Event {
		s := show(t, false)
		s.launch("e1", "wait", "0")
		s.publish("e1")
		s.note(model.Away, containerID)
		s.daemon.refuseBy(func() error { return errAway })
		s.runtime.endExec(t)
		s.waited("e1")
		s.note(model.Back, containerID)
		s.daemon.refuseBy(nil)
		return s.end(1)
	},
	"execs and the container are deleted": func(t *testing.T) []model.Event {
		s := show(t, false)
		for _, id := range []string{"e1", "e2"} {
			s.launch(id, "exit", "0")
			s.publish(id)
			s.waited(id)
			s.remove(id)
		}
		s.must(s.kill(containerID, 9))
		s.waited(containerID)
		s.remove(containerID)
		return s.over(2)
	},
	"an exec is deleted that nobody has asked for": func(t *testing.T) []model.Event {
		s := show(t, false)
		s.launch("e1", "exit", "0")
		s.note(model.Started, "e1")
		s.waited("e1")
		s.remove("e1")
		s.published(1)
		return s.end(1)
	},
	"all is deleted while the daemon is away": func(t *testing.T) []model.Event {
		s := show(t, false)
		s.launch("e1", "exit", "0")
		s.publish("e1")
		s.waited("e1")
		s.published(1)
		s.must(s.kill(containerID, 9))
		s.waited(containerID)
		s.note(model.Away, containerID)
		s.daemon.refuseBy(func() error { return errAway })
		s.remove("e1")
		s.remove(containerID)
		s.note(model.Back, containerID)
		s.daemon.refuseBy(nil)
		return s.over(1)
	},
	"a container dies and is deleted while an exec is": func(t *testing.T) []model.Event {
		s := show(t, true)
		s.launch("e1", "wait", "0")
		s.publish("e1")
		s.must(s.kill(containerID, 9))
		var all sync.WaitGroup
		for _, id := range []string{"e1", containerID} {
			all.Go(func() {
				s.waited(id)
				s.remove(id)
			})
		}
		all.Wait()
		return s.over(1)
	},
	"a shim that has stood still": func(t *testing.T) []model.Event {
		s := show(t, false)
		s.launch("e1", "wait", "0")
		s.publish("e1")
		s.must(s.freeze())
		s.runtime.endExec(t)
		s.sup.Thaw()
		s.waited("e1")
		s.must(s.freeze())
		s.sup.Thaw()
		return s.end(1)
	},
}

// crowd is two execs that start, end and are killed with the container, all at once.
func crowd(t *testing.T) []model.Event {
	s := show(t, true)
	var wg sync.WaitGroup
	var there [2]bool
	for i := range there {
		wg.Go(func() {
			id := fmt.Sprintf("e%d", i+1)
			if there[i] = s.launch(id, "exit", "0"); there[i] {
				s.publish(id)
			}
		})
	}
	s.must(s.kill(containerID, 9))
	wg.Wait()
	n := 0
	for _, is := range there {
		if is {
			n++
		}
	}
	receive(t, "the container's exit", s.sup.exits.over)
	s.published(n + 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

// TestRunsAreTheModels: what this code shows is a run of shim.pml, in which spin has
// proved that there is no deadlock, and that each exit is published once and the
// container's own last. So the one is a model of the other, as far as it is driven here.
func TestRunsAreTheModels(t *testing.T) {
	var runs [][]model.Event
	for name, story := range stories {
		t.Run(name, func(t *testing.T) { runs = append(runs, story(t)) })
	}
	for i := range 20 {
		t.Run(fmt.Sprint("a crowd ", i), func(t *testing.T) {
			run := crowd(t)
			if !slices.ContainsFunc(runs, func(r []model.Event) bool { return slices.Equal(r, run) }) {
				runs = append(runs, run)
			}
		})
	}
	accepted, err := model.Replay(t.Context(), t.TempDir(), model.Shim(2).Deletes(), runs)
	if err != nil {
		t.Fatal(err)
	}
	for i, run := range runs {
		if !accepted[i] {
			t.Errorf("no run of the model's: %v", run)
		}
	}
	t.Logf("%d different runs", len(runs))
}
