// SPDX-License-Identifier: Apache-2.0

//go:build amd64

package inplace

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/cmd/shimctl/internal/gotext"
)

var victimPath string

// kept is the descriptor that the victim looks for.
const kept = 20

// dieAt is the variable that turns this program into a tracer that is killed at a step.
const dieAt = "INPLACE_DIE_AT"

func TestMain(m *testing.M) {
	if os.Getenv(dieAt) != "" {
		os.Exit(dyingTracer())
	}
	dir, err := os.MkdirTemp("", "inplace")
	if err != nil {
		panic(err)
	}
	victimPath = filepath.Join(dir, "victim")
	build := exec.Command("go", "build", "-buildvcs=false", "-ldflags", "-s -w", "-o", victimPath, "./testdata/victim")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	status := 1
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
	} else {
		status = m.Run()
	}
	_ = os.RemoveAll(dir)
	os.Exit(status)
}

// victim is a running program to be exchanged.
type victim struct {
	pid int
	in  io.Writer
	out *bufio.Scanner
	n   int
}

func startVictim(t *testing.T) *victim {
	t.Helper()
	cmd := exec.Command(victimPath, "first")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	cmd.ExtraFiles = make([]*os.File, kept-2)
	cmd.ExtraFiles[kept-3] = r
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed, by us
	})
	v := &victim{pid: cmd.Process.Pid, in: in, out: bufio.NewScanner(out)}
	v.answers(t, "first", true)
	return v
}

// answers fails the test unless the program with this name answers; kept says whether
// it must have the descriptor.
func (v *victim) answers(t *testing.T, name string, kept bool) {
	t.Helper()
	for range 3 {
		v.n++
		fmt.Fprintf(v.in, "%d\n", v.n)
		if !v.out.Scan() {
			t.Fatalf("%s does not answer: %v", name, v.out.Err())
		}
		if want := fmt.Sprintf("%s %d %v", name, v.n, kept); v.out.Text() != want {
			t.Fatalf("got %q, want %q", v.out.Text(), want)
		}
	}
}

// swap exchanges a program, and tries again while it is busy.
func swap(pid int, x *Image, step func(string)) error {
	return attempts(pid, func(code Code) error { return try(pid, code, x, step) })
}

// attempts calls one in threads of their own while the program is busy.
func attempts(pid int, one func(Code) error) error {
	table, err := gotext.Open(pid)
	if err != nil {
		return err
	}
	defer table.Close()
	code, err := StartCode(table)
	if err != nil {
		return err
	}
	for range 50 {
		err = inThread(func() error { return one(code) })
		if !errors.Is(err, ErrBusy) {
			break
		}
	}
	return err
}

func try(pid int, code Code, x *Image, step func(string)) error {
	p, err := Seize(pid)
	if err != nil {
		return err
	}
	defer p.Detach()
	step("seized")
	if err := p.Stop(); err != nil {
		return err
	}
	step("stopped")
	tid, err := p.Forker(nil)
	if err != nil {
		return err
	}
	return p.Exec(tid, code, x, step)
}

// tryAtEntry is try with the first thread held at the entry of a system call.
func tryAtEntry(pid int, code Code, x *Image) error {
	p, err := Seize(pid)
	if err != nil {
		return err
	}
	defer p.Detach()
	if err := p.Gate(nil, func(c Call) Verdict {
		if c.TID == pid {
			return Finish
		}
		return Pass
	}); err != nil {
		return err
	}
	if err := p.Stop(); err != nil {
		return err
	}
	tid, err := p.Forker(nil)
	if err != nil {
		return err
	}
	if tid != pid || !p.threads[tid].entry {
		return errors.New("the first thread is not at an entry")
	}
	return p.Exec(tid, code, x, func(string) {})
}

// TestExecAtTheEntryOfACall: the gate holds threads there, and the first one may be among them;
// a wedged shim stayed busy for ever for that. After a failure the call is made.
func TestExecAtTheEntryOfACall(t *testing.T) {
	for range 10 {
		v := startVictim(t)
		tried := func(path string) error {
			return attempts(v.pid, func(code Code) error { return tryAtEntry(v.pid, code, image(path)) })
		}
		var failed *ExecError
		if err := tried("/nonexistent"); !errors.As(err, &failed) {
			t.Fatalf("got %v", err)
		}
		v.answers(t, "first", true)
		if err := tried(victimPath); err != nil {
			t.Fatal(err)
		}
		v.answers(t, "second", true)
	}
}

// inThread runs f in a thread of its own, whose end detaches whatever is still traced.
func inThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked
		done <- f()
	}()
	return <-done
}

func image(path string) *Image {
	return &Image{Path: path, Args: []string{path, "second"}, Env: []string{"A=b"}, Keep: []int{kept}}
}

// TestTracerDies: a tracer that is killed at any step leaves the old program running,
// or the new one.
func TestTracerDies(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ step, path, want string }{
		{"seized", victimPath, "first"},
		{"stopped", victimPath, "first"},
		{"data", victimPath, "first"},
		{"code", victimPath, "first"},
		{"registers", victimPath, "first"},
		{"mask", victimPath, "second"},
		{"continue", victimPath, "second"},
		{"exec", victimPath, "second"},
		{"mask", "/nonexistent", "first"},
		{"continue", "/nonexistent", "first"},
	} {
		t.Run(tt.step+" "+filepath.Base(tt.path), func(t *testing.T) {
			v := startVictim(t)
			waitFor(t, func() bool {
				cmd := exec.Command(self)
				cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d %s", dieAt, tt.step, v.pid, tt.path))
				out, err := cmd.CombinedOutput()
				if bytes.Contains(out, []byte("busy: ")) { // a thread is new, or ends: tried again, as shimctl does
					return false
				}
				if err == nil || len(out) > 0 {
					t.Fatalf("the tracer: %v %s", err, out)
				}
				return true
			})
			if tt.want == "second" {
				waitFor(t, func() bool {
					b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", v.pid))
					return strings.HasSuffix(string(b), "second\x00")
				})
			}
			v.answers(t, tt.want, true)
			if tt.want == "first" { // what the tracer has left does not hinder the next one
				if err := swap(v.pid, image(victimPath), func(string) {}); err != nil {
					t.Fatal(err)
				}
				v.answers(t, "second", true)
			}
		})
	}
}

// signalled sends the process a signal, and waits until one of its threads, which must be
// traced, has stopped for it.
func signalled(pid int, signal syscall.Signal) {
	_ = unix.Kill(pid, signal) // what is missing is seen
	for !stoppedThread(pid) {
	}
}

// stoppedThread reports whether a thread of the process is in a stop for its tracer.
func stoppedThread(pid int) bool {
	stats, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, name := range stats {
		b, _ := os.ReadFile(name) // it has ended
		if i := bytes.LastIndexByte(b, ')'); i > 0 && bytes.HasPrefix(b[i:], []byte(") t ")) {
			return true
		}
	}
	return false
}

// TestSignalIsKept: a signal for which a thread has stopped is not lost, neither if the tracer is
// killed then nor if the program is exchanged.
func TestSignalIsKept(t *testing.T) {
	busy := 0
	told := func(v *victim, want string) {
		t.Helper()
		said := make(chan string, 1)
		go func() {
			for v.out.Scan() && busy > 0 && v.out.Text() == "first got a signal" {
				busy--
			}
			said <- v.out.Text()
		}()
		select {
		case got := <-said:
			if got != want+" got a signal" {
				t.Fatalf("got %q", got)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s got no signal", want)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	v := startVictim(t)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=signalled %d /nonexistent", dieAt, v.pid))
	if out, err := cmd.CombinedOutput(); err == nil || len(out) > 0 {
		t.Fatalf("the tracer: %v %s", err, out)
	}
	told(v, "first")
	x := image(victimPath)
	x.Mask = ^uint64(0) &^ (1 << (unix.SIGURG - 1))
	tries := 0
	err = swap(v.pid, x, func(now string) {
		if now == "seized" {
			signalled(v.pid, unix.SIGUSR2)
			tries++
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	busy = tries - 1 // those the first program was given back
	told(v, "second")
	v.answers(t, "second", true)
}

// TestNoExecInMidClone: a thread that has stopped in the middle of clone(2) cannot make the call
// again, and is left alone.
func TestNoExecInMidClone(t *testing.T) {
	v := startVictim(t)
	table, err := gotext.Open(v.pid)
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	code, err := StartCode(table)
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool {
		found := false
		err := inThread(func() error {
			p, err := Seize(v.pid)
			if err != nil {
				return err
			}
			defer p.Detach()
			for !stoppedThread(v.pid) { // it clones all the time
			}
			if err := p.Stop(); err != nil {
				return err
			}
			for tid, th := range p.threads {
				if th.cloning {
					found = true
					return p.Exec(tid, code, image("/nonexistent"), func(string) {})
				}
			}
			return nil
		})
		if err != nil && !errors.Is(err, ErrBusy) {
			t.Fatal(err)
		}
		return found
	})
	v.answers(t, "first", true)
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("not within 10 s")
		}
	}
}

func dyingTracer() int {
	var step, path string
	var pid int
	if _, err := fmt.Sscan(os.Getenv(dieAt), &step, &pid, &path); err != nil {
		fmt.Println(err)
		return 1
	}
	err := swap(pid, image(path), func(now string) {
		if now == "seized" && step == "signalled" {
			signalled(pid, unix.SIGUSR2)
		}
		if now == step || now == "stopped" && step == "signalled" {
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			select {}
		}
	})
	fmt.Println("not killed:", err)
	return 0
}
