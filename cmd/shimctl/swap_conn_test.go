// SPDX-License-Identifier: Apache-2.0

//go:build baseline

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	shimapi "github.com/containerd/containerd/runtime/v1/shim/v1"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/anypb"

	"containerd-shim.v1/cmd/shimctl/internal/probe"
	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/cmd/shimctl/internal/shimtest"
	"containerd-shim.v1/cmd/shimctl/internal/takeover"
)

// halting is a connection that sends the beginning of what is written first, and the rest when it
// may go on.
type halting struct {
	net.Conn
	sent int // bytes of the beginning
	once sync.Once
	held chan struct{} // closed when the beginning is sent
	goOn chan struct{}
}

func (h *halting) Write(b []byte) (n int, err error) {
	h.once.Do(func() {
		if n, err = h.Conn.Write(b[:h.sent]); err == nil {
			close(h.held)
			<-h.goOn
		}
	})
	if err != nil {
		return n, err
	}
	m, err := h.Conn.Write(b[n:])
	return n + m, err
}

// again exchanges this project's program for a copy of itself, by its own way.
func again(t *testing.T, shim *shimtest.Shim) {
	t.Helper()
	b, err := os.ReadFile(shimtest.Own(t))
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(t.TempDir(), "containerd-shim")
	if err := os.WriteFile(binary, b, 0o755); err != nil {
		t.Fatal(err)
	}
	s, ok := scan.One(procRoot, shim.PID, 0)
	if !ok {
		t.Fatalf("%d is no shim", shim.PID)
	}
	shimtest.Until(t, 20*time.Second, "a second exchange", func() bool {
		_, err = probe.Upgrade(t.Context(), procRoot, &s, binary, 10*time.Second)
		return !probe.Busy(err)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestSwapInMidRequest: of a second client's request the shim has read half a header, a header, or
// half a payload. The new program gets the rest, and answers, and so does the one after it.
func TestSwapInMidRequest(t *testing.T) {
	for _, version := range builds("v1.1.2", "v1.2.0", "v1.2.6", "v1.2.13", "v1.6.38", "v1.7.35", "debian") {
		for what, sent := range map[string]int{"half a header": 5, "a header": 10, "half a payload": 25} {
			t.Run(fmt.Sprint(version, " ", what), func(t *testing.T) {
				shim, _, wg, clients := withWaits(t, version)
				address, err := os.ReadFile(filepath.Join(shim.Bundle, "address"))
				if err != nil {
					t.Fatal(err)
				}
				conn, err := net.Dial("unix", strings.TrimPrefix(string(address), "unix://"))
				if err != nil {
					t.Fatal(err)
				}
				h := &halting{Conn: conn, sent: sent, held: make(chan struct{}), goOn: make(chan struct{})}
				client := ttrpc.NewClient(h)
				defer client.Close()
				var state *shimapi.StateResponse
				asked := make(chan error, 1)
				go func() {
					var err error
					state, err = shimapi.NewShimClient(client).State(t.Context(), &shimapi.StateRequest{ID: shim.ID})
					asked <- err
				}()
				<-h.held
				unread := func() bool { // by the shim, SIOCOUTQ
					raw, err := conn.(*net.UnixConn).SyscallConn()
					if err != nil {
						t.Fatal(err)
					}
					n := -1
					_ = raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
					return n != 0
				}
				shimtest.Until(t, 10*time.Second, "the shim to read that", func() bool { return !unread() })
				o := swapped(t, shim, false)
				if len(o.Report.Requests) != 2 {
					t.Errorf("got %+v", o.Report)
				}
				again(t, shim)
				close(h.goOn)
				if err := <-asked; err != nil || int(state.Pid) != shim.InitPID {
					t.Errorf("State: %v, %v", state, err)
				}
				endLate(t, shim, clients)
				wg.Wait()
				lifeGoesOn(t, shim)
			})
		}
	}
}

// TestSwapBothOutputsIntoOneFile: a process that writes both there is not handed over yet, but one
// that has ended, or was never started, does not keep its shim from that.
func TestSwapBothOutputsIntoOneFile(t *testing.T) {
	for _, version := range builds("v1.2.6", "v1.7.35", "debian") {
		t.Run(version, func(t *testing.T) {
			shim := started(t, shimtest.Baseline(t, version))
			s, ok := scan.One(procRoot, shim.PID, 0)
			if !ok {
				t.Fatalf("%d is no shim", shim.PID)
			}
			log := filepath.Join(t.TempDir(), "log")
			if err := os.WriteFile(log, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			for _, id := range []string{"added", "lives"} {
				if _, err := shim.API.Exec(t.Context(), &shimapi.ExecProcessRequest{ID: id, Stdout: log, Stderr: log, Spec: &anypb.Any{
					TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Process",
					Value:   []byte(`{"user":{"uid":0,"gid":0},"args":["testinit","sleep"],"cwd":"/"}`)}}); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := shim.API.Start(t.Context(), &shimapi.StartRequest{ID: "lives"}); err != nil {
				t.Fatal(err)
			}
			_, err := underTest().tracer().Look(t.Context(), &s, shimtest.Own(t), false, 10*time.Second)
			if !errors.Is(err, takeover.ErrRefused) || !strings.Contains(err.Error(), "the one file") {
				t.Errorf("it lives: %v", err)
			}
			if _, err := shim.API.Kill(t.Context(), &shimapi.KillRequest{ID: "lives", Signal: uint32(unix.SIGKILL)}); err != nil {
				t.Fatal(err)
			}
			if _, err := shim.API.Wait(t.Context(), &shimapi.WaitRequest{ID: "lives"}); err != nil {
				t.Fatal(err)
			}
			swapped(t, shim, false)
			lifeGoesOn(t, shim)
		})
	}
}

// TestSwapOutputIntoAFile: what comes later is added to a log that is a file.
func TestSwapOutputIntoAFile(t *testing.T) {
	for _, version := range builds("v1.2.6", "v1.2.13", "v1.6.38", "v1.7.35", "debian") {
		t.Run(version, func(t *testing.T) {
			shim := started(t, shimtest.Baseline(t, version))
			log := filepath.Join(t.TempDir(), "log")
			if err := os.WriteFile(log, []byte("first\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			paths, ends := fifos(t, "in", "err")
			_, err := shim.API.Exec(t.Context(), &shimapi.ExecProcessRequest{ID: "logs", Stdin: paths[0], Stdout: log, Stderr: paths[1], Spec: &anypb.Any{
				TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Process",
				Value:   []byte(`{"user":{"uid":0,"gid":0},"args":["testinit","cat"],"cwd":"/"}`)}})
			if err == nil {
				_, err = shim.API.Start(t.Context(), &shimapi.StartRequest{ID: "logs"})
			}
			if err != nil {
				t.Fatal(err)
			}
			has := func(want string) {
				t.Helper()
				var got []byte
				shimtest.Until(t, 10*time.Second, "output in the file", func() bool {
					if got, err = os.ReadFile(log); err != nil {
						t.Fatal(err)
					}
					return len(got) >= len(want)
				})
				if string(got) != want {
					t.Fatalf("got %q, want %q", got, want)
				}
			}
			for i, exchange := range []func(){func() { swapped(t, shim, false) }, func() { again(t, shim) }, func() {}} {
				if _, err := io.WriteString(ends[0], fmt.Sprintln(i)); err != nil {
					t.Fatal(err)
				}
				has(string("first\n0\n1\n2\n"[:6+2*(i+1)]))
				exchange()
			}
			if _, err := shim.API.Kill(t.Context(), &shimapi.KillRequest{ID: "logs", Signal: uint32(unix.SIGKILL)}); err != nil {
				t.Error(err)
			}
			if err := (&client{id: "logs", status: 137}).finish(t.Context(), shim.API); err != nil {
				t.Error(err)
			}
			lifeGoesOn(t, shim)
		})
	}
}
