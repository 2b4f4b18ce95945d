// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"containerd-shim.v1/integration/harness/wait"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// TestBinary checks what "containerd publish" is given (contract §6.2).
func TestBinary(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "containerd")
	script(t, path, "exit 0")
	if err := publish(t, Config{Address: "/nowhere/c.sock", Binary: path}); err != nil {
		t.Fatal(err)
	}
	want := []string{path + " --address /nowhere/c.sock publish --topic /tasks/exit --namespace ns"}
	if got := ran(t, dir); !slices.Equal(got, want) {
		t.Errorf("ran %q, want %q", got, want)
	}
	data, err := os.ReadFile(filepath.Join(dir, "stdin"))
	if err != nil {
		t.Fatal(err)
	}
	var a anypb.Any
	if err := proto.Unmarshal(data, &a); err != nil || a.TypeUrl != "containerd.events.TaskExit" {
		t.Errorf("stdin: %v, %v", &a, err)
	}
}

// TestRenamedBinary is contract §6.5: the daemon was upgraded under the shim.
func TestRenamedBinary(t *testing.T) {
	for _, c := range []struct{ there, flag string }{
		{"containerd", "containerd (deleted)"},
		{"containerd", "docker-containerd"},
		{"docker-containerd", "containerd"},
	} {
		dir := t.TempDir()
		script(t, filepath.Join(dir, c.there), "exit 0")
		if err := publish(t, Config{Address: "/nowhere/c.sock", Binary: filepath.Join(dir, c.flag)}); err != nil || len(ran(t, dir)) != 1 {
			t.Errorf("flag %s, file %s: %v, ran %q", c.flag, c.there, err, ran(t, dir))
		}
	}
	dir := t.TempDir()
	script(t, filepath.Join(dir, "containerd"), "exit 0")
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	for _, flag := range []string{"/opt/containerd-1.2/bin/containerd", ""} {
		_ = os.Remove(filepath.Join(dir, "ran")) // of the last round
		if err := publish(t, Config{Address: "/nowhere/c.sock", Binary: flag}); err != nil || len(ran(t, dir)) != 1 {
			t.Errorf("flag %q, file in PATH: %v", flag, err)
		}
	}
}

// TestBinaryFails is B04: the failure is reported, so that the caller tries again.
func TestBinaryFails(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "containerd")
	script(t, path, "echo no such daemon >&2; exit 1")
	err := publish(t, Config{Address: "/nowhere/c.sock", Binary: path})
	if err == nil || !strings.Contains(err.Error(), "exit status 1: no such daemon") {
		t.Errorf("Publish: %v", err)
	}
}

// TestBinaryHangs is B05: a binary that hangs is killed.
func TestBinaryHangs(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "containerd")
	script(t, path, "exec sleep 1000")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	err := New(Config{Address: "/nowhere/c.sock", Binary: path, Monitor: monitor}).Publish(ctx, event())
	if err == nil || time.Since(began) > 5*time.Second {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
}

// TestBinaryIsRunRarelyWithoutADaemon is F6: without a daemon, not every retry
// forks a process.
func TestBinaryIsRunRarelyWithoutADaemon(t *testing.T) {
	for name, c := range map[string]struct {
		socket bool
		most   int
	}{
		"no socket":                        {false, 1},
		"a socket on which nobody listens": {true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			address := filepath.Join(dir, "d.sock")
			if c.socket {
				l, err := net.Listen("unix", address)
				if err != nil {
					t.Fatal(err)
				}
				l.(*net.UnixListener).SetUnlinkOnClose(false)
				_ = l.Close() // its file stays, like that of a daemon that was killed
			}
			path := filepath.Join(dir, "containerd")
			script(t, path, "exit 1")
			p := New(Config{Address: address, Binary: path, Monitor: monitor})
			for range 20 {
				if err := p.Publish(t.Context(), event()); !errors.Is(err, ErrAway) {
					t.Fatalf("Publish: %v", err)
				}
			}
			if got := ran(t, dir); len(got) != c.most {
				t.Errorf("run %d times, want %d", len(got), c.most)
			}
			s := &taker{}
			_ = os.Remove(address) // as a daemon does that comes back
			serveGRPC(t, address, s)
			if err := p.Publish(t.Context(), event()); err != nil || s.n.Load() != 1 {
				t.Errorf("with a daemon: %v, taken %d", err, s.n.Load())
			}
		})
	}
}

// TestBinaryThatWorksIsRunAgain: a binary that works is used for every event.
func TestBinaryThatWorksIsRunAgain(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "containerd")
	script(t, path, "exit 0")
	p := New(Config{Address: "/nowhere/c.sock", Binary: path, Monitor: monitor})
	for range 3 {
		if err := p.Publish(t.Context(), event()); err != nil {
			t.Fatal(err)
		}
	}
	if got := ran(t, dir); len(got) != 3 {
		t.Errorf("run %d times, want 3", len(got))
	}
}

// TestBinaryIsGivenUpForASocket is F21: a binary that was run while there was no
// daemon is ended when one is there.
func TestBinaryIsGivenUpForASocket(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "containerd")
	script(t, path, "exec sleep 1000")
	address := filepath.Join(dir, "d.sock")
	p := New(Config{Address: address, Binary: path, Monitor: monitor})
	result := make(chan error, 1)
	go func() { result <- p.Publish(t.Context(), event()) }()
	if !wait.Until(5*time.Second, func() bool { return len(ran(t, dir)) > 0 }) {
		t.Fatal("the binary was not run")
	}
	s := &taker{}
	serveGRPC(t, address, s)
	began := time.Now()
	if err := <-result; !errors.Is(err, ErrAway) {
		t.Errorf("Publish: %v", err)
	}
	if err := p.Publish(t.Context(), event()); err != nil || s.n.Load() != 1 {
		t.Errorf("with a daemon: %v, taken %d", err, s.n.Load())
	}
	if d := time.Since(began); d > 5*time.Second { // of the ten that the binary has
		t.Errorf("took %v", d)
	}
}
