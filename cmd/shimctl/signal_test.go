// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/cmd/shimctl/internal/health"
	"containerd-shim.v1/cmd/shimctl/internal/repair"
	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/cmd/shimctl/internal/shimtest"
)

// TestHangUp: the terminal goes away. shimctl ends by itself, unless nohup has started it.
func TestHangUp(t *testing.T) {
	for _, how := range []string{"", "nohup"} {
		dir := t.TempDir()
		argv := []string{shimtest.Shimctl(t), "export", "-state", "never", "-textfile-directory", dir, "-state-file", "", "-ledger", filepath.Join(dir, "none"), "-interval", "1h"}
		if how != "" {
			argv = append([]string{how}, argv...)
		}
		cmd := exec.Command(argv[0], argv[1:]...)
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &said, &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		shimtest.Until(t, 30*time.Second, "the first export", func() bool {
			_, err := os.Stat(filepath.Join(dir, textfile))
			return err == nil
		})
		sig := unix.SIGHUP
		if how != "" {
			status, err := os.ReadFile(filepath.Join(procRoot, strconv.Itoa(cmd.Process.Pid), "status"))
			ignored, _, _ := strings.Cut(strings.SplitN(string(status)+"SigIgn:\t", "SigIgn:\t", 2)[1], "\n")
			if mask, e := strconv.ParseUint(ignored, 16, 64); err != nil || e != nil || mask&1 == 0 {
				t.Errorf("nohup: it does not ignore SIGHUP: %q, %v", ignored, errors.Join(err, e))
			}
			sig = unix.SIGTERM
		}
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v\n%s", how, err, said.String())
		}
	}
}

// TestExportThatCannotBegin: a pod that cannot export must not look as if it did.
func TestExportThatCannotBegin(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	status, _, e := fakeProc(t, "another").with(t, func(p program) int {
		return p.run(ctx, []string{"export", "-textfile-directory", filepath.Join(t.TempDir(), "none"), "-state-file", "", "-interval", "1h"})
	})
	if status != exitSome || !strings.Contains(e, fs.ErrNotExist.Error()) && !strings.Contains(e, "no such file") {
		t.Errorf("status %d\n%s", status, e)
	}
}

// TestExportGoesOn: one that fails later is tried again.
func TestExportGoesOn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	name := filepath.Join(dir, textfile)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	p := fakeProc(t, "another")
	failed := make(chan struct{}, 1)
	p.errs.W = writerFunc(func(b []byte) (int, error) {
		select {
		case failed <- struct{}{}:
		default:
		}
		return len(b), nil
	})
	ended := make(chan int, 1)
	go func() {
		ended <- p.run(ctx, []string{"export", "-textfile-directory", dir, "-state-file", "", "-ledger", filepath.Join(dir, "none"), "-interval", "1ms"})
	}()
	exported := func() bool { _, err := os.Stat(name); return err == nil }
	shimtest.Until(t, 10*time.Second, "the first export", exported)
	if err := os.Rename(dir, dir+".gone"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-failed:
	case status := <-ended:
		t.Fatalf("it has ended with status %d", status)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	shimtest.Until(t, 10*time.Second, "another export", exported)
	cancel()
	if status := <-ended; status != exitOK {
		t.Errorf("status %d", status)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// forgetful is a containerd that has forgotten the task, and calls asked when it is asked.
type forgetful struct{ asked func() }

func (forgetful) Version(context.Context) (string, error) { return "test", nil }

func (f forgetful) TaskGone(ctx context.Context, _, _ string, _ int) (bool, error) {
	f.asked()
	return true, ctx.Err()
}

// TestKillIsVerified: also after a signal, and where the ledger cannot be written any more the shim is
// repaired all the same.
func TestKillIsVerified(t *testing.T) {
	for _, c := range []struct {
		name              string
		interrupt, noRoom bool
		status            int
		says              string
	}{
		{"interrupted", true, false, exitOK, "repaired (ReaperDeadlock)"},
		{"no room for the ledger", false, true, exitCheck, "healed, and not all of that was written down"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.interrupt {
				cancel()
			}
			dir := filepath.Join(t.TempDir(), "d")
			ledger, err := repair.OpenLedger(filepath.Join(dir, "repairs.json"))
			if err != nil {
				t.Fatal(err)
			}
			p, _ := process(t)
			shim := &repair.Case{Shim: scan.Shim{PID: p.PID, StartTicks: p.StartTicks}, Result: health.Result{Reason: "ReaperDeadlock"}}
			daemon := forgetful{func() {
				if c.noRoom {
					cannotBeWritten(t, dir)
				}
			}}
			status, o, e := underTest().with(t, func(p program) int {
				r := &repairer{checkFlags: p.checker(), Policy: repair.Default}
				return r.kill(ctx, shim, daemon, ledger)
			})
			if status != c.status || !strings.Contains(o, "repaired (ReaperDeadlock)") || !strings.Contains(o+e, c.says) {
				t.Errorf("status %d\n%s%s", status, o, e)
			}
		})
	}
}

// cannotBeWritten puts a file where a directory was, unless that was done.
func cannotBeWritten(t *testing.T, dir string) {
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		return
	}
	if err := errors.Join(os.Rename(dir, dir+".gone"), os.WriteFile(dir, nil, 0o600)); err != nil {
		t.Error(err)
	}
}
