// SPDX-License-Identifier: Apache-2.0

//go:build baseline

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/api/types/task"
	shimapi "github.com/containerd/containerd/runtime/v1/shim/v1"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"containerd-shim.v1/cmd/shimctl/internal/shimtest"
	"containerd-shim.v1/integration/harness/fakedaemon"
)

// fifos makes the FIFOs of an exec's streams, with their client's ends. Like Docker's by default,
// their paths lead over a symbolic link.
func fifos(t *testing.T, names ...string) (paths []string, ends []*os.File) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(t.TempDir(), dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		path := filepath.Join(dir, name)
		if err := unix.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		paths, ends = append(paths, path), append(ends, f)
	}
	return paths, ends
}

// reads wants the text from the client's end of a stream.
func reads(t *testing.T, f *os.File, want string) {
	t.Helper()
	if err := f.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	got, b := "", make([]byte, 100)
	for !strings.Contains(got, want) {
		n, err := f.Read(b)
		if got += string(b[:n]); err != nil {
			t.Fatalf("read %q, want %q: %v", got, want, err)
		}
	}
}

// A container stays paused, and a terminal works in both directions.
func TestSwapTerminalInPausedContainer(t *testing.T) {
	for _, version := range builds("v1.1.2", "v1.2.0", "v1.2.6", "v1.2.13", "v1.6.38", "v1.7.35", "debian") {
		t.Run(version, func(t *testing.T) {
			shim := started(t, shimtest.Baseline(t, version))
			ctx := t.Context()
			paths, ends := fifos(t, "in", "out")
			_, err := shim.API.Exec(ctx, &shimapi.ExecProcessRequest{ID: "tty", Terminal: true, Stdin: paths[0], Stdout: paths[1], Spec: &anypb.Any{
				TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Process",
				Value:   []byte(`{"terminal":true,"user":{"uid":0,"gid":0},"args":["testinit","cat"],"cwd":"/"}`)}})
			if err == nil {
				_, err = shim.API.Start(ctx, &shimapi.StartRequest{ID: "tty"})
			}
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(ends[0], "before")
			reads(t, ends[1], "before\r\nbefore\r\n") // its echo, and cat's
			if err := shim.Pause(ctx); err != nil {
				t.Fatal(err)
			}
			swapped(t, shim, false)
			if s, err := shim.API.State(ctx, &shimapi.StateRequest{ID: shim.ID}); err != nil || s.Status != task.Status_PAUSED {
				t.Errorf("got %v, %v", s, err)
			}
			if _, err := shim.API.Resume(ctx, &emptypb.Empty{}); err != nil {
				t.Error(err)
			}
			if _, err := shim.API.ResizePty(ctx, &shimapi.ResizePtyRequest{ID: "tty", Width: 77, Height: 33}); err != nil {
				t.Error(err)
			}
			fmt.Fprintln(ends[0], "after")
			reads(t, ends[1], "after\r\nafter\r\n")
			if _, err := shim.API.Kill(ctx, &shimapi.KillRequest{ID: "tty", Signal: uint32(unix.SIGKILL)}); err != nil {
				t.Error(err)
			}
			if err := (&client{id: "tty", status: 137}).finish(ctx, shim.API); err != nil {
				t.Error(err)
			}
			lifeGoesOn(t, shim)
		})
	}
}

// B12: a call that waits for output which a grandchild holds open is done by the new
// program, in its bounded time.
func TestSwapDeleteThatHangs(t *testing.T) {
	for _, version := range buildsOf("v1.1.2", "v1.2.6") {
		t.Run(version, func(t *testing.T) {
			shim := started(t, shimtest.Baseline(t, version))
			ctx := t.Context()
			paths, _ := fifos(t, "out", "err")
			_, err := shim.API.Exec(ctx, &shimapi.ExecProcessRequest{ID: "held", Stdout: paths[0], Stderr: paths[1], Spec: &anypb.Any{
				TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Process",
				Value:   []byte(`{"user":{"uid":0,"gid":0},"args":["testinit","holdout:10m","exit:5"],"cwd":"/"}`)}})
			if err == nil {
				_, err = shim.API.Start(ctx, &shimapi.StartRequest{ID: "held"})
			}
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- (&client{id: "held", status: 5}).finish(ctx, shim.API) }()
			shimtest.Until(t, 10*time.Second, "DeleteProcess to hang", func() bool {
				o, _ := looked(t, shim, true)
				return len(o.Report.Requests) == 1 && o.Report.Requests[0].Method == "DeleteProcess"
			})
			swapped(t, shim, true)
			select {
			case err := <-done:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(20 * time.Second):
				t.Error("it hangs")
			}
			lifeGoesOn(t, shim)
		})
	}
}

// unread is a connection on which nothing is received.
type unread struct {
	net.Conn
	closed chan struct{}
}

func (u *unread) Read([]byte) (int, error) {
	<-u.closed
	return 0, net.ErrClosed
}

// A client has gone with an answer unread, which the shim takes for an error of the connection:
// nobody receives from it any more, but a call on it is not over.
func TestSwapClientGoneWithAnAnswerUnread(t *testing.T) {
	for _, version := range builds("v1.2.6", "v1.6.38", "v1.7.35", "debian") {
		t.Run(version, func(t *testing.T) {
			shim := started(t, shimtest.Baseline(t, version))
			c := &client{id: "e1", status: 11, late: true}
			if err := shim.ExecSpec(t.Context(), c.id, c.spec()); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(filepath.Join(shim.Bundle, "address"))
			if err != nil {
				t.Fatal(err)
			}
			conn, err := net.Dial("unix", strings.TrimPrefix(string(b), "unix://"))
			if err != nil {
				t.Fatal(err)
			}
			u := &unread{conn, make(chan struct{})}
			gone := ttrpc.NewClient(u)
			api := shimapi.NewShimClient(gone)
			go func() { _, _ = api.Wait(t.Context(), &shimapi.WaitRequest{ID: c.id}) }() // never answered
			shimtest.Until(t, 10*time.Second, "a Wait", func() bool {
				o, _ := looked(t, shim, false)
				return len(o.Report.Requests) == 1
			})
			go func() { _, _ = api.ShimInfo(t.Context(), &emptypb.Empty{}) }() // nor is this, for the client
			raw, err := conn.(*net.UnixConn).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			shimtest.Until(t, 10*time.Second, "an answer", func() (there bool) {
				if err := raw.Control(func(fd uintptr) {
					n, err := unix.IoctlGetInt(int(fd), unix.TIOCINQ)
					there = err == nil && n > 0
				}); err != nil {
					t.Fatal(err)
				}
				return there
			})
			close(u.closed)
			if err := errors.Join(conn.Close(), gone.Close()); err != nil && !errors.Is(err, net.ErrClosed) {
				t.Fatal(err)
			}
			o := swapped(t, shim, false)
			if len(o.Report.Requests) != 0 || o.Report.Abandoned != 1 {
				t.Errorf("got %+v", o.Report)
			}
			endLate(t, shim, []*client{c})
			if err := c.finish(t.Context(), shim.API); err != nil {
				t.Error(err)
			}
			lifeGoesOn(t, shim)
		})
	}
}

// B05: the exit whose publisher hangs is published by the new program, and so are those
// behind it.
func TestSwapPublisherThatHangs(t *testing.T) {
	for _, version := range builds("v1.1.2", "v1.2.6", "v1.6.38") {
		t.Run(version, func(t *testing.T) {
			shim := started(t, shimtest.Baseline(t, version))
			ctx := t.Context()
			shim.Events.Behave(fakedaemon.Hang, 1) // the next ones are taken
			clients := []*client{{id: "e1", status: 11}, {id: "e2", status: 12}}
			for _, c := range clients {
				if err := shim.ExecSpec(ctx, c.id, c.spec()); err != nil {
					t.Fatal(err)
				}
			}
			for _, c := range clients {
				if w, err := shim.API.Wait(ctx, &shimapi.WaitRequest{ID: c.id}); err != nil || int(w.ExitStatus) != c.status {
					t.Fatalf("%s: %v, %v", c.id, w, err)
				}
			}
			shimtest.Until(t, 10*time.Second, "a publisher that hangs", func() bool { return shim.Events.Attempts() > 0 })
			o := swapped(t, shim, true)
			t.Logf("%+v", o.Report)
			for _, c := range clients {
				shimtest.Until(t, 30*time.Second, c.id+"'s exit", func() bool {
					all := shim.Events.ExitsOf(c.id)
					return len(all) > 0 && int(all[0].Exit.GetExitStatus()) == c.status
				})
			}
			lifeGoesOn(t, shim)
		})
	}
}
