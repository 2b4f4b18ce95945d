// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"containerd-shim.v1/reaper"

	"github.com/containerd/containerd/api/types"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

var monitor *reaper.Monitor

func TestMain(m *testing.M) {
	r := reaper.New(reaper.StartForker())
	monitor = reaper.NewMonitor(r, reaper.DefaultLimits())
	code := m.Run()
	r.Close()
	if code == 0 {
		if err := goleak.Find(goleak.IgnoreAnyFunction("os/signal.loop")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func event() *types.Envelope {
	return &types.Envelope{
		Timestamp: timestamppb.Now(), Namespace: "ns", Topic: "/tasks/exit",
		Event: &anypb.Any{TypeUrl: "containerd.events.TaskExit", Value: []byte("\x0a\x02c1")},
	}
}

// script writes a program that stands in for containerd. Each run appends a line
// with its arguments to the file "ran" in the program's directory, and saves its
// input in "stdin".
func script(t *testing.T, path, body string) {
	t.Helper()
	text := "#!/bin/sh\necho \"$0 $*\" >>" + filepath.Dir(path) + "/ran\ncat >" + filepath.Dir(path) + "/stdin\n" + body + "\n"
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
}

// ran returns the lines that scripts in dir have left.
func ran(t *testing.T, dir string) []string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "ran"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(data)), "\n")
}

func publish(t *testing.T, c Config) error {
	t.Helper()
	c.Monitor = monitor
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return New(c).Publish(ctx, event())
}

// listen serves each connection by fn until the test ends.
func listen(t *testing.T, path string, fn func(net.Conn)) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fn(c)
			_ = c.Close() // fn may have closed it
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-ended })
}
