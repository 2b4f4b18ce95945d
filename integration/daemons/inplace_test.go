// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"containerd-shim.v1/integration/harness/procfs"
)

// exchange has a shim exchange its program for binary, and returns the version that the
// new program reports.
func exchange(ctx context.Context, s *Shim, binary string) (string, error) {
	conn, err := net.Dial("unix", s.Address)
	if err != nil {
		return "", err
	}
	c := ttrpc.NewClient(conn)
	defer c.Close()
	var version wrapperspb.StringValue
	err = c.Call(ctx, "containerd.shim.inplace.v1", "Upgrade", wrapperspb.String(binary), &version)
	return version.Value, err
}

// swap exchanges a shim's program for a copy of the shim under test, and checks in
// /proc that the copy runs.
func swap(t *testing.T, s *Shim) {
	t.Helper()
	copied := t.TempDir() + "/containerd-shim"
	data, err := os.ReadFile(shared.Bin)
	if err == nil {
		err = os.WriteFile(copied, data, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := exchange(limited(t, commandLimit), s, copied); err != nil {
		t.Fatal(err)
	}
	if exe, err := os.Readlink(procfs.File(s.Pid, "exe")); err != nil || exe != copied {
		t.Fatalf("the shim runs %s, %v, want %s", exe, err, copied)
	}
}

// typing is a client of an exec, to whose input the test writes.
type typing struct {
	*exec.Cmd
	in   io.WriteCloser
	done chan struct{}

	mu  sync.Mutex
	out strings.Builder
}

// Write takes the client's output.
func (c *typing) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.Write(b)
}

// text returns the output so far.
func (c *typing) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.String()
}

func startTyping(t *testing.T, cmd *exec.Cmd) *typing {
	t.Helper()
	c := &typing{Cmd: cmd, done: make(chan struct{})}
	in, err := cmd.StdinPipe()
	cmd.Stdout = c
	if err = errors.Join(err, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	c.in = in
	go func() { _ = cmd.Wait(); close(c.done) }() // its status is in ProcessState
	return c
}

func (c *typing) types(t *testing.T, line string) {
	t.Helper()
	if _, err := io.WriteString(c.in, line); err != nil {
		t.Fatal(err)
	}
}

func (c *typing) ends(t *testing.T, code int, out string) {
	t.Helper()
	select {
	case <-c.done:
	case <-time.After(commandLimit):
		t.Fatalf("%v does not end", c.Args)
	}
	if got := c.ProcessState.ExitCode(); got != code || c.text() != out {
		t.Errorf("%v: exit %d, output %q, want %d, %q", c.Args, got, clip(c.text()), code, out)
	}
}

// TestExchangedUnderRunningProcesses: the container, and execs with pipes, with input
// and with a terminal, each with a client that waits for its end, go on across
// exchanges of the program. So does everything that is asked for afterwards.
func TestExchangedUnderRunningProcesses(t *testing.T) {
	const id = "swapped"
	idle(t, shared, id)
	s, err := shared.Shim(shared.Name, id)
	if err != nil {
		t.Fatal(err)
	}
	before, err := s.Counts()
	if err != nil {
		t.Fatal(err)
	}
	said := "read x; echo one $x; read x; echo two $x; read x; echo three $x; exit "
	piped := startTyping(t, ctrExec(t, id, "piped", nil, "sh", "-c", said+"21"))
	tty := onTerminal(t, ctrExec(t, id, "tty", []string{"--tty"}, "sh", "-c", sizes), 31, 99)
	tty.shows(t, "size=31 99")
	piped.types(t, "a\n")
	eventually(t, commandLimit, "the exec has read", func() bool {
		return status(t, id) == "RUNNING" // any call: the shim is there
	})
	swap(t, s)
	if got := do(t, ctrExec(t, id, "next", nil, "sh", "-c", "echo next; exit 5")); got != (result{5, "next\n", ""}) {
		t.Errorf("exec after it: %v", got)
	}
	piped.types(t, "b\n")
	swap(t, s)
	piped.types(t, "c\n")
	piped.ends(t, 21, "one a\ntwo b\nthree c\n")
	tty.keys(t, "quit\r")
	if got := tty.wait(); got != 11 {
		t.Errorf("terminal: exit %d, want 11", got)
	}
	must(t, ctr(t, "tasks", "pause", id))
	swap(t, s)
	if got := status(t, id); got != "PAUSED" {
		t.Errorf("status %s, want PAUSED", got)
	}
	must(t, ctr(t, "tasks", "resume", id))
	eventually(t, commandLimit, "descriptors and children are as before", func() bool {
		after, err := s.Counts()
		return err == nil && after.Fds <= before.Fds && after.Children == before.Children && after.Zombies == 0
	})
}
