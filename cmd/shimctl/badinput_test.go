// SPDX-License-Identifier: Apache-2.0

//go:build baseline

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/cmd/shimctl/internal/shimtest"
	"containerd-shim.v1/cmd/shimctl/internal/takeover"
)

// oneLine wants the exit status and one line that says what is wrong.
func oneLine(t *testing.T, what string, status, want int, said, text string) {
	t.Helper()
	if status != want || strings.Count(said, "\n") != 1 || !strings.Contains(said, text) {
		t.Errorf("%s: status %d, want %d and one line with %q\n%s", what, status, want, text, said)
	}
}

// full mounts a file system without room over the directory, as the shim sees it, too.
func full(t *testing.T, dir string) (unmount func()) {
	t.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4k"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "all"), make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	return func() {
		names, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil || len(names) != 1 {
			t.Errorf("left behind: %q, %v", names, err)
		}
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}
}

func TestUpgradeNoShim(t *testing.T) {
	for what, pid := range map[string]int{"another program": os.Getpid(), "nobody": 1 << 22} {
		for _, args := range [][]string{{}, {"-yes", "-binary", shimtest.Own(t)}} {
			args = append([]string{"upgrade", "-dir", t.TempDir()}, append(args, strconv.Itoa(pid))...)
			status, o, e := capture(t, args...)
			oneLine(t, what, status, exitCheck, o+e, "no shim has the pid")
		}
	}
}

func TestUpgradeFails(t *testing.T) {
	shim, s, wg, clients := withWaits(t, "v1.2.6")
	pid, own := strconv.Itoa(shim.PID), shimtest.Own(t)
	dir := t.TempDir()

	// No place for the state.
	unmount := full(t, shim.Bundle)
	status, o, e := capture(t, "upgrade", "-yes", "-binary", own, "-dir", dir, pid)
	unmount()
	oneLine(t, "a full /run", status, exitSome, o+e, "no space left on device")

	// No place for the evidence.
	if err := os.MkdirAll(filepath.Join(dir, "evidence"), 0o700); err != nil {
		t.Fatal(err)
	}
	unmount = full(t, filepath.Join(dir, "evidence"))
	status, o, e = capture(t, "upgrade", "-yes", "-binary", own, "-dir", dir, pid)
	unmount()
	oneLine(t, "no room for evidence", status, exitSome, o+e, "no space left on device")

	// No rights.
	for _, args := range [][]string{{pid}, {"-all"}} {
		cmd := exec.Command("setpriv", append([]string{"--reuid", "65534", "--regid", "65534", "--clear-groups", shimtest.Shimctl(t), "upgrade"}, args...)...)
		said, err := cmd.CombinedOutput()
		if err == nil {
			t.Errorf("%q: no error\n%s", args, said)
		}
		oneLine(t, "no rights", cmd.ProcessState.ExitCode(), exitCheck, string(said), "needs root, with CAP_SYS_PTRACE")
	}

	if now, ok := scan.One(procRoot, shim.PID, s.StartTicks); !ok || now.Build.Ours || now.Tracer != 0 {
		t.Errorf("got %+v", now)
	}
	endLate(t, shim, clients)
	wg.Wait()
	lifeGoesOn(t, shim)
}

// The shim ends after it was found.
func TestUpgradeOfOneThatEnds(t *testing.T) {
	shim := started(t, shimtest.Baseline(t, "v1.2.6"))
	s, ok := scan.One(procRoot, shim.PID, 0)
	if !ok {
		t.Fatalf("%d is no shim", shim.PID)
	}
	if err := unix.Kill(shim.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-shim.Exited()
	for _, yes := range []bool{false, true} {
		p := underTest()
		status, o, e := p.with(t, func(p program) int {
			u := &upgrader{program: p, yes: yes, binary: shimtest.Own(t), dir: t.TempDir(), maxFailures: 1}
			o := u.one(t.Context(), &s)
			if err := upgradeText(p, &s, &o); err != nil {
				t.Error(err)
			}
			return o.status()
		})
		oneLine(t, "it has ended", status, exitSome, o+e, "the shim has ended meanwhile")
	}
	if o, err := underTest().tracer().Run(t.Context(), &s, takeover.Request{}, 0); err != nil || o.Error == "" || o.Busy {
		t.Errorf("a look at it: %+v, %v", o, err)
	}
}
