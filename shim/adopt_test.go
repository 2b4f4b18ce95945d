// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"containerd-shim.v1/integration/harness/procfs"
	"containerd-shim.v1/internal/state"

	api "github.com/containerd/containerd/runtime/v1/shim/v1"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// longLimits are for tests in which no time-out may pass.
var longLimits = Limits{Reply: time.Minute, Asked: time.Minute}

// deadPid is of a process of which only the state knows.
const deadPid = 1 << 22

// left returns the state of a container with these execs. init is its process, nil if
// it is dead and its exit is still to be told.
func (r *rig) left(init *fakeProcess, execs ...state.Exec) *state.Shim {
	c := &state.Container{Process: state.Process{ID: containerID}, Bundle: r.bundle}
	st := &state.Shim{Container: c, Execs: execs}
	if init == nil {
		c.Pid, c.Phase, c.Exit = deadPid, state.Stopped, &state.Exit{Status: 137, At: time.Now()}
		st.Seq, st.Held = 1, []state.Held{{ID: containerID, Pid: deadPid, Status: 137, At: c.Exit.At, Seq: 1}}
		return st
	}
	r.runtime.init, r.runtime.exists = init, true
	c.Pid, c.Phase = init.pid, state.Running
	return st
}

// starting is an exec whose start was begun by this runtime.
func starting(id string, runtime *fakeProcess) state.Exec {
	return state.Exec{Process: state.Process{
		ID: id, Phase: state.Created, Start: &state.Start{Stage: state.Underway, Runtime: runtime.pid},
	}}
}

// zombie returns a child that is dead and not reaped: the Reaper is paused.
func (r *rig) zombie() int {
	r.Helper()
	p := r.spawn("zombie.pid")
	r.must(p.gate.Close())
	eventually(r.T, "its death", func() bool { return !procfs.Alive(p.pid) })
	return p.pid
}

// startOf starts a process in a goroutine.
func (r *rig) startOf(id string) <-chan error {
	return calling(func() error {
		_, err := r.client.Start(r.ctx(), &api.StartRequest{ID: id})
		return err
	})
}

func (r *rig) refused(what string, err error) {
	r.Helper()
	if status.Code(err) != codes.FailedPrecondition {
		r.Errorf("%s: got %v, want FailedPrecondition", what, err)
	}
}

// gone waits for the end of a process.
func (r *rig) gone(what string, pid int) {
	r.Helper()
	eventually(r.T, "the end of "+what, func() bool { return !procfs.Exists(pid) })
}

// TestAdoptedExitOfTheContainerComesLast: upstream's shim had recorded it, and did not
// reap an exec that has died, too. Whoever writes the state does not know when an exit
// was taken.
func TestAdoptedExitOfTheContainerComesLast(t *testing.T) {
	r := startRig(t, false, testLimits, func(r *rig) *state.Shim {
		return r.left(nil, state.Exec{Process: state.Process{ID: "e", Phase: state.Running, Pid: r.zombie()}})
	})
	if got, want := r.published(2), []string{"e", containerID}; !slices.Equal(got, want) {
		t.Errorf("published %q, want %q", got, want)
	}
}

// TestAdoptedExitWaitsForItsStart: the exec has died, and its start is not answered.
func TestAdoptedExitWaitsForItsStart(t *testing.T) {
	var runtime *fakeProcess
	r := startRig(t, false, longLimits, func(r *rig) *state.Shim {
		runtime = r.spawn("runtime.pid")
		e := starting("e", runtime)
		e.Phase, e.Pid, e.Exit = state.Stopped, deadPid, &state.Exit{Status: 3, At: time.Now()}
		st := r.left(r.spawn("init.pid"), e)
		st.Seq, st.Held = 1, []state.Held{{ID: "e", Pid: deadPid, Status: 3, At: time.Now(), Seq: 1}}
		return st
	})
	r.sup.exits.mu.Lock()
	n := len(r.sup.exits.held)
	r.sup.exits.mu.Unlock()
	if n != 1 {
		t.Errorf("%d exits wait, want 1: it was sent before the start is answered", n)
	}
	r.must(runtime.gate.Close())
	if pid := r.start("e"); pid != deadPid {
		t.Errorf("started as %d, want %d", pid, deadPid)
	}
	r.published(1)
}

// TestAdoptedStartInADeadContainer: the process comes when all that was left in the
// container has been killed.
func TestAdoptedStartInADeadContainer(t *testing.T) {
	var runtime *fakeProcess
	r := startRig(t, true, longLimits, func(r *rig) *state.Shim {
		runtime = r.spawn("runtime.pid")
		return r.left(r.spawn("init.pid"), starting("e", runtime))
	})
	r.runtime.endInit(t)
	eventually(t, "the kill of what is left", func() bool {
		r.sup.exits.mu.Lock()
		defer r.sup.exits.mu.Unlock()
		return r.sup.exits.cleared
	})
	late := r.spawn("e.pid")
	r.must(runtime.gate.Close())
	r.refused("start", receive(t, "the answer", r.startOf("e")))
	r.gone("the process", late.pid)
	if got := r.published(1); !slices.Equal(got, []string{containerID}) {
		t.Errorf("published %q", got)
	}
}

// TestAdoptedStartComesTooLate: the container's exit was told, the runtime has
// returned, and its process is dead.
func TestAdoptedStartComesTooLate(t *testing.T) {
	r := startRig(t, false, testLimits, func(r *rig) *state.Shim {
		r.must(os.WriteFile(filepath.Join(r.bundle, "e.pid"), []byte(strconv.Itoa(deadPid)), 0o600))
		st := r.left(nil, starting("e", new(fakeProcess)))
		st.Told, st.Held = true, nil
		return st
	})
	r.refused("start", receive(t, "the answer", r.startOf("e")))
}

// TestAdoptedStartIsGivenUp: the runtime hangs when the container dies. Its process is
// known by the pid file, or, if there is none yet, by its output.
func TestAdoptedStartIsGivenUp(t *testing.T) {
	for name, c := range map[string]struct {
		told    bool
		pidFile string
	}{
		"the container dies later": {false, "e.pid"}, "it was dead": {true, "e.pid"}, "there is no pid file": {false, "other.pid"},
	} {
		t.Run(name, func(t *testing.T) {
			var runtime, process *fakeProcess
			r := startRig(t, false, testLimits, func(r *rig) *state.Shim {
				var out [2]int
				r.must(unix.Pipe2(out[:], unix.O_CLOEXEC))
				w := os.NewFile(uintptr(out[1]), "pipe")
				defer w.Close()
				runtime, process = r.spawn("runtime.pid"), r.spawnOn(w, c.pidFile)
				e := starting("e", runtime)
				e.Stdout = filepath.Join(r.bundle, "log")
				r.must(os.WriteFile(e.Stdout, nil, 0o600))
				e.Streams = &state.Streams{Outputs: []state.Output{{Path: e.Stdout, Kind: state.File, From: state.FD(out[0])}}}
				if !c.told {
					return r.left(r.spawn("init.pid"), e)
				}
				st := r.left(nil, e)
				st.Told, st.Held = true, nil
				return st
			})
			if !c.told {
				r.runtime.endInit(t)
			}
			r.refused("start", receive(t, "the answer", r.startOf("e")))
			r.gone("the runtime", runtime.pid)
			r.gone("the process", process.pid)
		})
	}
}

// TestAdoptedStartWhoseRuntimeHangs: it fails like any other start whose runtime does, and
// nothing is at work any more, which would keep the program from being exchanged.
func TestAdoptedStartWhoseRuntimeHangs(t *testing.T) {
	var runtime, process *fakeProcess
	r := startRig(t, false, testLimits, func(r *rig) *state.Shim {
		r.sup.env.Limits.Start = 200 * time.Millisecond
		runtime, process = r.spawn("runtime.pid"), r.spawn("e.pid")
		return r.left(r.spawn("init.pid"), starting("e", runtime))
	})
	if err := receive(t, "the answer", r.startOf("e")); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("start: got %v, want DeadlineExceeded", err)
	}
	r.gone("the runtime", runtime.pid)
	r.gone("the process", process.pid)
	r.must(r.freeze())
	r.sup.Thaw()
}

// TestAdoptedStartWhoseCallerGivesUp: nobody will publish the start, and so the exit does
// not wait for that.
func TestAdoptedStartWhoseCallerGivesUp(t *testing.T) {
	var runtime *fakeProcess
	r := startRig(t, false, longLimits, func(r *rig) *state.Shim {
		runtime = r.spawn("runtime.pid")
		return r.left(r.spawn("init.pid"), starting("e", runtime))
	})
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.sup.Start(gone, "e"); !errors.Is(err, context.Canceled) {
		t.Errorf("start: %v", err)
	}
	process := r.spawn("e.pid")
	r.must(runtime.gate.Close())
	r.must(process.gate.Close())
	if got := r.published(1); !slices.Equal(got, []string{"e"}) {
		t.Errorf("published %q", got)
	}
}

// TestAdoptedStartThatNobodyAskedFor: its result is not that of a later exec with the
// same id.
func TestAdoptedStartThatNobodyAskedFor(t *testing.T) {
	var runtime *fakeProcess
	r := startRig(t, false, testLimits, func(r *rig) *state.Shim {
		runtime = r.spawn("runtime.pid")
		return r.left(r.spawn("init.pid"), starting("e", runtime))
	})
	first := r.spawn("e.pid")
	r.must(runtime.gate.Close())
	eventually(t, "the start", func() bool { return r.state("e").Pid == uint32(first.pid) })
	r.must(first.gate.Close())
	r.wait("e")
	_, err := r.client.DeleteProcess(r.ctx(), &api.DeleteProcessRequest{ID: "e"})
	r.must(err)
	if pid := r.execRun("e", "exit", "5"); pid == 0 || pid == first.pid {
		t.Errorf("started as %d", pid)
	}
	if got := r.wait("e").ExitStatus; got != 5 {
		t.Errorf("status %d, want 5", got)
	}
}

// TestAdoptedContainerThatDiedPaused: what is left in it can die only once it is resumed,
// and nobody has written down that it was paused.
func TestAdoptedContainerThatDiedPaused(t *testing.T) {
	for status, want := range map[string]int{"paused": 1, "stopped": 0} {
		t.Run(status, func(t *testing.T) {
			killed := make(chan int, 1) // how often it was resumed before
			r := startRig(t, true, testLimits, func(r *rig) *state.Shim {
				r.runtime.status = status
				r.runtime.on("kill", func(string) error { killed <- r.runtime.called("resume"); return nil })
				return r.left(nil)
			})
			if got := receive(t, "the kill of what is left", killed); got != want {
				t.Errorf("resumed %d times before the kill, want %d", got, want)
			}
			r.runtime.on("kill", nil)
			r.published(1)
		})
	}
}
