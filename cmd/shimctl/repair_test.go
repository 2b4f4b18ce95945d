// SPDX-License-Identifier: Apache-2.0

//go:build baseline

package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/cmd/shimctl/internal/shimtest"
)

// fakeDaemon does what containerd does when a shim is gone: it kills the
// container and forgets the task.
type fakeDaemon struct {
	shim *shimtest.Shim
	down bool
	deaf bool // does not notice
}

func (d *fakeDaemon) Version(context.Context) (string, error) {
	if d.down {
		return "", errors.New("connection refused")
	}
	return "test", nil
}

func (d *fakeDaemon) Close() error { return nil }

func (d *fakeDaemon) TaskGone(context.Context, string, string, int) (bool, error) {
	select {
	case <-d.shim.Exited():
		_ = syscall.Kill(d.shim.InitPID, syscall.SIGKILL) // a second time it is gone
		return !d.deaf, nil
	default:
		return false, nil
	}
}

func TestRepair(t *testing.T) {
	for _, version := range buildsOf("v1.1.2", "v1.2.0") {
		t.Run(version, func(t *testing.T) {
			shim := started(t, shimtest.Baseline(t, version))
			fake := &fakeDaemon{shim: shim}
			p := underTest()
			p.connect = func(*scan.Shim) (containerd, error) { return fake, nil }
			dir := t.TempDir()
			timeout := "5s"
			repair := func(args ...string) (int, string) {
				status, o, e := p.capture(t, append([]string{"repair", "-timeout", timeout, "-state-file", "", "-state", "always", "-kill", "-binary", "", "-dir", dir, strconv.Itoa(shim.PID)}, args...)...)
				return status, o + e
			}
			alive := func(step string) {
				select {
				case <-shim.Exited():
					t.Fatalf("%s: the shim was killed", step)
				default:
				}
			}
			if status, o := repair("-yes"); status != exitOK || !strings.Contains(o, "it is Healthy") {
				t.Fatalf("healthy: status %d\n%s", status, o)
			}
			shim.Wedge(t)
			timeout = "1s" // State is not answered from now on
			if status, o := repair(); status != exitSome || !strings.Contains(o, "exit status 137") || !strings.Contains(o, "repair -yes -kill") {
				t.Errorf("dry run: status %d\n%s", status, o)
			}
			alive("dry run")
			fake.down = true
			if status, o := repair("-yes"); status != exitSome || !strings.Contains(o, "unsupervised") {
				t.Errorf("daemon down: status %d\n%s", status, o)
			}
			alive("daemon down")
			fake.down = false
			if status, o := repair("-yes", "-max-per-hour", "0"); status != exitSome || !strings.Contains(o, "cap is 0") {
				t.Errorf("capped: status %d\n%s", status, o)
			}
			alive("capped")
			status, o := repair("-yes")
			if status != exitOK || !strings.Contains(o, "repaired (ReaperDeadlock)") {
				t.Errorf("status %d\n%s", status, o)
			}
			t.Log(strings.TrimSpace(o))
			found, err := filepath.Glob(filepath.Join(dir, "evidence", "*", "explain.txt"))
			if err != nil || len(found) != 1 {
				t.Fatalf("evidence: got %v, %v", found, err)
			}
			if b, err := os.ReadFile(found[0]); err != nil || !strings.Contains(string(b), "ReaperDeadlock") {
				t.Errorf("evidence: got %s, %v", b, err)
			}
		})
	}
}

func TestRepairThatDoesNotHeal(t *testing.T) {
	shim := started(t, shimtest.Baseline(t, "v1.2.0"))
	p := underTest()
	p.connect = func(*scan.Shim) (containerd, error) { return &fakeDaemon{shim: shim, deaf: true}, nil }
	shim.Wedge(t)
	status, o, e := p.capture(t, "repair", "-yes", "-kill", "-binary", "", "-verify", "2s", "-timeout", "1s", "-state-file", "", "-dir", t.TempDir(), strconv.Itoa(shim.PID))
	if status != exitUnverified || !strings.Contains(e, "containerd still lists the task") {
		t.Errorf("status %d\n%s%s", status, o, e)
	}
}

// A wedged shim is healed in place: each client that hung gets the answer to its call,
// and the container runs on. Its daemon need not be there.
func TestRepairInPlace(t *testing.T) {
	for _, version := range buildsOf("v1.1.2", "v1.2.0") {
		t.Run(version, func(t *testing.T) {
			shim := started(t, shimtest.Baseline(t, version))
			p := underTest()
			p.connect = func(*scan.Shim) (containerd, error) { return &fakeDaemon{shim: shim, down: true}, nil }
			dir := t.TempDir()
			memory := filepath.Join(dir, "check.json")
			check := func(want string) {
				if _, o, e := p.capture(t, "check", "-confirm", "-timeout", "1s", "-state-file", memory, strconv.Itoa(shim.PID)); !strings.Contains(o, want) {
					t.Errorf("want %s\n%s%s", want, o, e)
				}
			}
			repair := func(args ...string) (int, string) {
				status, o, e := p.capture(t, append([]string{"repair", "-timeout", "1s", "-state-file", memory,
					"-dir", dir, strconv.Itoa(shim.PID)}, args...)...)
				return status, o + e
			}
			wg, clients := wedgedWith(t, shim, 5)
			check("Wedged!")
			if status, o := repair("-yes", "-binary", "/nonexistent"); status != exitSome || !strings.Contains(o, "cannot be healed in place") {
				t.Errorf("no such binary: status %d\n%s", status, o)
			}
			if status, o := repair("-binary", shimtest.Own(t)); status != exitSome || !strings.Contains(o, "unanswered calls") || !strings.Contains(o, "would save evidence") {
				t.Errorf("dry run: status %d\n%s", status, o)
			}
			if shim.Answers() {
				t.Fatal("the dry run has healed it")
			}
			status, o := repair("-yes", "-binary", shimtest.Own(t))
			if status != exitOK || !strings.Contains(o, "healed in place (ReaperDeadlock)") {
				t.Fatalf("status %d\n%s", status, o)
			}
			t.Log(strings.TrimSpace(o))
			check("Healthy") // what is remembered is of the old program
			endLate(t, shim, clients)
			wg.Wait()
			lifeGoesOn(t, shim)
		})
	}
}
