// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"containerd-shim.v1/integration/harness/procfs"
	"containerd-shim.v1/integration/harness/sweep"
)

// traces are what a run has on the host: its directory, its processes, its
// cgroups, its mounts.
type traces struct{ dir string }

func tracesOf(pid int) traces {
	dirs, _ := filepath.Glob(filepath.Join(sweep.Root, fmt.Sprintf("%d-*", pid)))
	if len(dirs) == 0 {
		return traces{filepath.Join(sweep.Root, fmt.Sprintf("%d-none", pid))}
	}
	return traces{dirs[0]}
}

func (tr traces) processes() []int {
	var out []int
	for _, p := range procfs.All() {
		if of, _ := procfs.Env(p.Pid, sweep.Mark); !p.Dead() && strings.HasPrefix(of, tr.dir+"/") {
			out = append(out, p.Pid)
		}
	}
	return out
}

func (tr traces) left() error {
	var errs []error
	if _, err := os.Stat(tr.dir); err == nil {
		errs = append(errs, fmt.Errorf("directory %s is left", tr.dir))
	}
	if pids := tr.processes(); len(pids) > 0 {
		errs = append(errs, fmt.Errorf("processes %v are left", pids))
	}
	if mounts := procfs.MountsUnder(tr.dir); len(mounts) > 0 {
		errs = append(errs, fmt.Errorf("mounts %v are left", mounts))
	}
	if groups, _ := filepath.Glob("/sys/fs/cgroup/*/shimverify-" + filepath.Base(tr.dir)); len(groups) > 0 {
		errs = append(errs, fmt.Errorf("cgroups %v are left", groups))
	}
	return errors.Join(errs...)
}

// busy starts a run that has many checks under way for several seconds.
func busy(t *testing.T) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	cmd := bare(built(t), "run", "-n", "20", "-j", "6", "--only", "B05,B22,B36,B54,B50,B12", "--shim", "./containerd-shim")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // it was killed: only to reap it
		}
	})
	return cmd, &out
}

// moments are when a run is interrupted, from its first trace on.
var moments = map[string]func(traces) bool{
	"the directory is made":     func(tr traces) bool { return true },
	"the first process runs":    func(tr traces) bool { return len(tr.processes()) > 0 },
	"many processes run":        func(tr traces) bool { return len(tr.processes()) > 8 },
	"a first case has ended":    func(tr traces) bool { return cases(tr, "B54c-") > 0 }, // all workers had begun others
	"containers have been made": func(tr traces) bool { return containers(tr) > 2 },
}

func containers(tr traces) int {
	states, _ := filepath.Glob(filepath.Join(tr.dir, "*", "*", "r", "*", "*", "state.json"))
	return len(states)
}

func cases(tr traces, piece string) int {
	dirs, _ := filepath.Glob(filepath.Join(tr.dir, "*"+piece+"*"))
	return len(dirs)
}

// A signal at any moment ends the run within seconds, with status 2, and leaves
// nothing. Seen before: "directory not empty", when checks went on below the
// clean-up.
func TestInterrupt(t *testing.T) {
	for when, come := range moments {
		for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
			t.Run(when+", "+sig.String(), func(t *testing.T) {
				cmd, out := busy(t)
				within(t, "the run's directory", func() bool { return tracesOf(cmd.Process.Pid).left() != nil })
				tr := tracesOf(cmd.Process.Pid)
				within(t, when, func() bool { return come(tr) })
				begun := time.Now()
				if err := cmd.Process.Signal(sig); err != nil {
					t.Fatal(err)
				}
				_ = cmd.Wait() // its status is looked at
				if took := time.Since(begun); took > 25*time.Second {
					t.Errorf("it took %v", took)
				}
				text := out.String()
				if cmd.ProcessState.ExitCode() != exitBroken || !strings.Contains(text, "interrupted") {
					t.Errorf("%v, want status %d\n%s", cmd.ProcessState, exitBroken, text)
				}
				if err := tr.left(); err != nil {
					t.Errorf("%v\n%s", err, text)
				}
				if strings.Contains(text, "clean up:") {
					t.Errorf("%s", text)
				}
			})
		}
	}
}

// Nobody may read the output any more, as with `| head`: that ends the run, too.
func TestReaderGoesAway(t *testing.T) {
	cmd := bare(built(t), "run", "-n", "20", "-j", "6", "--only", "B05,B22,B36,B54,B50,B12", "--shim", "./containerd-shim")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, err = bufio.NewReader(out).ReadString('\n')
	within(t, "many processes run", func() bool { return len(tracesOf(cmd.Process.Pid).processes()) > 8 })
	tr := tracesOf(cmd.Process.Pid)
	if err := errors.Join(err, out.Close()); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // its status is looked at
	if cmd.ProcessState.ExitCode() != exitBroken {
		t.Errorf("%v, want status %d", cmd.ProcessState, exitBroken)
	}
	if err := tr.left(); err != nil {
		t.Error(err)
	}
}

// What a killed harness leaves, the next run removes, and nothing else: not
// what belongs to a harness that lives, and not what only looks alike.
func TestSweepAfterKill(t *testing.T) {
	living, _ := busy(t)
	within(t, "processes of the living run", func() bool { return len(tracesOf(living.Process.Pid).processes()) > 3 })

	bystander := exec.Command("sleep", "100")
	bystander.Env = append(os.Environ(), sweep.Mark+"=/run/shimverify-of-somebody-else")
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	defer bystander.Wait()         //nolint:errcheck // only to reap it
	defer bystander.Process.Kill() //nolint:errcheck // it runs

	killed, _ := busy(t)
	within(t, "processes of the run", func() bool { return len(tracesOf(killed.Process.Pid).processes()) > 8 })
	tr := tracesOf(killed.Process.Pid)
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = killed.Wait() // it was killed
	if len(tr.processes()) == 0 {
		t.Fatal("a killed harness left no process: nothing is tested")
	}
	status, out, errs := ended(t, bare(built(t), "run", "--only", "B59b", "--shim", "./containerd-shim"))
	if status != exitPass {
		t.Errorf("the next run: status %d\n%s%s", status, out, errs)
	}
	if err := tr.left(); err != nil {
		t.Error(err)
	}
	if !procfs.Alive(bystander.Process.Pid) {
		t.Error("a process that was not the harness's was killed")
	}
	if !procfs.Alive(living.Process.Pid) || tracesOf(living.Process.Pid).left() == nil {
		t.Error("the next run has swept a harness that lives")
	}
	within(t, "processes of the living run", func() bool { return len(tracesOf(living.Process.Pid).processes()) > 0 })
	if err := living.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = living.Wait() // its status is TestInterrupt's
	if err := tracesOf(living.Process.Pid).left(); err != nil {
		t.Error(err)
	}
}
