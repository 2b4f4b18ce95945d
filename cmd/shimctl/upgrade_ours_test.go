// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/containerd/containerd/api/types/task"
	shimapi "github.com/containerd/containerd/runtime/v1/shim/v1"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/shim"
)

// process starts one that does nothing, and returns what ends it.
func process(t *testing.T) (p scan.Process, kill func()) {
	t.Helper()
	cmd := exec.Command("sleep", "1h")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() { // twice is no error
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	t.Cleanup(kill)
	p, ok := scan.Any(procRoot, cmd.Process.Pid)
	if !ok {
		t.Fatal("it has ended")
	}
	return p, kill
}

// known is a shim that knows its container.
type known struct{ shimapi.ShimService }

func (known) ShimInfo(context.Context, *emptypb.Empty) (*shimapi.ShimInfoResponse, error) {
	return new(shimapi.ShimInfoResponse), nil
}

func (known) State(context.Context, *shimapi.StateRequest) (*shimapi.StateResponse, error) {
	return &shimapi.StateResponse{Status: task.Status_RUNNING}, nil
}

// TestAnswersOfOwnShim: how a shim of this project that does not say that it was exchanged is judged.
func TestAnswersOfOwnShim(t *testing.T) {
	busy := status.Error(codes.Unavailable, "another exchange of the program came first")
	for name, c := range map[string]struct {
		runs  bool // the new program
		ended bool // the container, before
		ends  bool // the container, meanwhile
		dies  bool // the shim, meanwhile
		asked bool // it has a socket
		says  error
		stops bool // shimctl, by a signal, meanwhile
		want  string
	}{
		"busy":                            {asked: true, says: busy, want: resultBusy},
		"another one has exchanged it":    {runs: true, asked: true, says: busy, want: resultCurrent},
		"it has, and does not answer":     {runs: true, want: resultUnanswered},
		"it dies of the exchange":         {asked: true, dies: true, want: resultUnanswered},
		"it dies busy":                    {asked: true, dies: true, says: busy, want: resultEnded},
		"it ends with its container":      {asked: true, dies: true, ends: true, want: resultEnded},
		"its container had ended before":  {asked: true, dies: true, ended: true, want: resultUnanswered},
		"it has ended before it is asked": {dies: true, want: resultEnded},
		"it cannot be asked":              {want: resultFailed},
		"exchanged after a signal":        {runs: true, asked: true, stops: true, want: resultDone},
		"it ends so after a signal":       {asked: true, stops: true, dies: true, ends: true, want: resultEnded},
		"busy when a signal comes":        {asked: true, stops: true, says: busy, want: resultSkipped},
		"it refuses after a signal":       {asked: true, stops: true, says: status.Error(codes.InvalidArgument, "it cannot take over"), want: resultFailed},
		"exchanged, and not asked again":  {runs: true, asked: true, stops: true, says: busy, want: resultSkipped},
	} {
		t.Run(name, func(t *testing.T) {
			p, kill := process(t)
			init, end := process(t)
			s := &scan.Shim{PID: p.PID, StartTicks: p.StartTicks, ID: "c1", Namespace: fmt.Sprint("ours", p.PID), Init: scan.Init{PID: init.PID, StartTicks: init.StartTicks}}
			if c.ended {
				end()
			}
			u := &upgrader{program: underTest(), yes: true, binary: "/another"}
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			if c.runs {
				exe, err := os.Readlink(filepath.Join(procRoot, strconv.Itoa(s.PID), "exe"))
				if err != nil {
					t.Fatal(err)
				}
				u.binary = exe
			}
			if !c.asked {
				if c.dies {
					kill()
				}
			} else {
				l, err := net.Listen("unix", "@/containerd-shim/"+s.Namespace+"/"+s.ID+"/shim.sock")
				if err != nil {
					t.Fatal(err)
				}
				server, err := ttrpc.NewServer()
				if err != nil {
					t.Fatal(err)
				}
				defer server.Close()
				shimapi.RegisterShimService(server, known{})
				server.RegisterService(shim.UpgradeService, &ttrpc.ServiceDesc{Methods: map[string]ttrpc.Method{
					shim.UpgradeMethod: func(context.Context, func(any) error) (any, error) {
						if c.stops {
							stop()
							<-time.After(20 * watchEvery) // a call that is cut short is so by then
						}
						if c.ends {
							end()
							<-time.After(20 * watchEvery) // it is looked at meanwhile
						}
						if c.dies {
							kill()
							if c.says == nil {
								_ = server.Close() // as the kernel does with what it has open
							}
						}
						return new(emptypb.Empty), c.says // as a string that is empty
					},
				}})
				go func() { _ = server.Serve(t.Context(), l) }() // until it is closed
			}
			if o := u.ours(ctx, s); o.result != c.want {
				t.Errorf("got %s, %v, want %s", o.result, o.err, c.want)
			}
		})
	}
}

// TestContainerEndsFirst: a daemon ends a shim after its container's end. One that an exchange has
// ended died before.
func TestContainerEndsFirst(t *testing.T) {
	for _, want := range []bool{true, false} {
		p, kill := process(t)
		init, end := process(t)
		s := &scan.Shim{PID: p.PID, StartTicks: p.StartTicks, Init: scan.Init{PID: init.PID, StartTicks: init.StartTicks}}
		first := (&upgrader{program: underTest()}).watch(t.Context(), s)
		if want {
			end()
		} else {
			kill()
		}
		if got := first(); got != want {
			t.Errorf("got %v, want %v", got, want)
		}
	}
}
