// SPDX-License-Identifier: Apache-2.0

// Package inplace_test has a shim exchange its own program, in every state that
// the harness can bring it into.
package inplace_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/procfs"
	"containerd-shim.v1/integration/harness/suite"
)

func TestMain(m *testing.M) { os.Exit(suite.Main(m)) }

const (
	soon  = 20 * time.Second
	limit = 90 * time.Second
)

// exchange asks the shim to execute binary, and returns its error.
func exchange(b *harness.Fixture, binary string) error {
	conn, err := net.Dial("unix", b.Shim.Address)
	if err != nil {
		return err
	}
	c := ttrpc.NewClient(conn)
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*soon)
	defer cancel()
	var version wrapperspb.StringValue
	return c.Call(ctx, "containerd.shim.inplace.v1", "Upgrade", wrapperspb.String(binary), &version)
}

// swap exchanges the program for a new copy of itself, which /proc then shows.
func swap(c *harness.Case, b *harness.Fixture) {
	binary := program(c, b, "containerd-shim", nil)
	c.Need(exchange(b, binary), "exchange the program")
	if exe, err := os.Readlink(procfs.File(b.Shim.Pid, "exe")); err != nil || exe != binary {
		c.Errorf("the shim runs %s, %v, want %s", exe, err, binary)
	}
	if _, err := os.Stat(filepath.Join(b.Bundle, ".shim.state.json")); err == nil {
		c.Errorf("the state is left behind")
	}
}

var programs int

// program writes an executable file into a new directory: data, or a copy of the
// shim if that is nil.
func program(c *harness.Case, b *harness.Fixture, name string, data []byte) string {
	programs++
	dir := b.Path(fmt.Sprint("program", programs))
	if data == nil {
		var err error
		data, err = os.ReadFile(c.Shim)
		c.Need(err, "read the shim")
	}
	path := filepath.Join(dir, name)
	c.Need(os.Mkdir(dir, 0o700), "make directory")
	c.Need(os.WriteFile(path, data, 0o700), "write program")
	return path
}

// run makes a test of a case with a running container.
func run(t *testing.T, name string, check func(*harness.Case, *harness.Fixture)) {
	suite.Run(t, name, limit, func(c *harness.Case) {
		b := c.Fixture(harness.Options{})
		b.Up()
		check(c, b)
	})
}

// lives checks that the shim does all that it is for.
func lives(c *harness.Case, b *harness.Fixture, id string) {
	out := b.Stream(id).Read()
	b.MustExec(id, harness.IO{Stdout: out.Path}, "print:1000", "exit:9")
	w, err := b.Wait(id)
	c.Must(err, "Wait")
	if w.GetExitStatus() != 9 {
		c.Errorf("exec %s: status %d, want 9", id, w.GetExitStatus())
	}
	b.AwaitStatus(soon, id, 9)
	_, err = b.DeleteProcess(id)
	c.Must(err, "DeleteProcess")
	c.Await(soon, "the end of the output", out.Ended)
	c.Must(out.Matches(1000), "output")
	c.Must(b.Pause(), "Pause")
	c.Must(b.Resume(), "Resume")
}

// ends kills and deletes the container.
func ends(c *harness.Case, b *harness.Fixture) {
	c.Must(b.Kill(b.ID, 9, true), "Kill")
	b.AwaitStatus(soon, b.ID, 137)
	d, err := b.Delete()
	c.Must(err, "Delete")
	if d.GetExitStatus() != 137 || b.RuncHas() {
		c.Errorf("Delete: %v; runc has it: %v", d, b.RuncHas())
	}
	if n := len(b.Daemon.ExitsOf(b.ID)); n != 1 {
		c.Errorf("%d exits of the container, want 1", n)
	}
}
