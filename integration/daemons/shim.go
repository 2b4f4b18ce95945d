// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	shimapi "github.com/containerd/containerd/runtime/v1/shim/v1"
	"github.com/containerd/ttrpc"

	"containerd-shim.v1/integration/harness/procfs"
	"containerd-shim.v1/integration/harness/wait"
)

// Shim is a shim's process, found through the files that containerd writes into the
// bundle, or, of a containerd before 1.3, which writes none, by its command line.
type Shim struct {
	Pid     int
	Address string // path of its socket, or @ and the name of an abstract one
	Bundle  string
	stacks  string // where it writes stack dumps
}

// Shim finds the shim of a container of this Rig.
func (r *Rig) Shim(namespace, id string) (*Shim, error) {
	s := &Shim{Bundle: r.path("state", Runtime, namespace, id), stacks: r.path("stacks")}
	pid, err := os.ReadFile(filepath.Join(s.Bundle, "shim.pid"))
	if errors.Is(err, os.ErrNotExist) {
		if s.Pid = r.shimProcess(namespace, id); s.Pid == 0 {
			return nil, err
		}
		// With the NUL that the Go of their time counted into the name.
		s.Address = "@/containerd-shim/" + namespace + "/" + id + "/shim.sock\x00"
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	if s.Pid, err = strconv.Atoi(strings.TrimSpace(string(pid))); err != nil {
		return nil, err
	}
	address, err := os.ReadFile(filepath.Join(s.Bundle, "address"))
	if err != nil {
		return nil, err
	}
	path, ok := strings.CutPrefix(strings.TrimSpace(string(address)), "unix://")
	if !ok {
		return nil, fmt.Errorf("shim of %s: address %q is not that of a unix socket", id, address)
	}
	s.Address = path
	return s, nil
}

// shimProcess returns the pid of the shim of this Rig whose work directory is that of the
// container; 0 if there is none.
func (r *Rig) shimProcess(namespace, id string) int {
	flag := " -workdir " + r.path("root", Runtime, namespace, id) + " "
	for _, p := range procfs.All() {
		if line := procfs.Command(p.Pid); strings.HasPrefix(line, r.Bin+" ") && strings.Contains(line, flag) {
			return p.Pid
		}
	}
	return 0
}

// gate makes a gate in the container's root file system, at which its processes wait
// with the command of through. The bundle's rootfs is the mount that they have as
// their root.
func (s *Shim) gate() (*wait.Gate, error) {
	return wait.NewGate(filepath.Join(s.Bundle, "rootfs", "gate"))
}

// through returns a shell command that waits at the gate and exits with code.
func through(code uint32) string { return fmt.Sprintf(": </gate; exit %d", code) }

// Client is a connection to a shim's ttrpc service.
type Client struct {
	shimapi.ShimService
	conn *ttrpc.Client
}

// Close closes the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Dial connects to the shim, which serves any number of clients besides containerd.
// The caller must Close the client.
func (s *Shim) Dial() (*Client, error) {
	conn, err := net.Dial("unix", s.Address)
	if err != nil {
		return nil, err
	}
	c := ttrpc.NewClient(conn)
	return &Client{ShimService: shimapi.NewShimClient(c), conn: c}, nil
}

// Counts are numbers of what a shim has at one moment.
type Counts struct {
	Fds, Threads, Children, Zombies int
}

// Counts reads them from /proc.
func (s *Shim) Counts() (Counts, error) {
	fds, err := os.ReadDir(procfs.File(s.Pid, "fd"))
	if err != nil {
		return Counts{}, err
	}
	c := procfs.Count(s.Pid)
	return Counts{Fds: len(fds), Threads: c.Threads, Children: len(c.Living) + len(c.Zombies), Zombies: len(c.Zombies)}, nil
}

// dumpLimit bounds the time from SIGUSR1 to the file.
const dumpLimit = 10 * time.Second

// Goroutines sends SIGUSR1 and counts the goroutines in the stack dump that is
// written. It does not work with shims of upstream's, which write no such file.
func (s *Shim) Goroutines() (int, error) {
	pattern := filepath.Join(s.stacks, fmt.Sprintf("[^.]*.%d.*.stacks", s.Pid))
	old, err := filepath.Glob(pattern)
	if err != nil {
		return 0, err
	}
	if err := syscall.Kill(s.Pid, syscall.SIGUSR1); err != nil {
		return 0, err
	}
	var fresh string
	if !wait.Until(dumpLimit, func() bool {
		var now []string
		now, err = filepath.Glob(pattern)
		for _, f := range now {
			if !slices.Contains(old, f) {
				fresh = f
			}
		}
		return fresh != "" || err != nil
	}) {
		return 0, fmt.Errorf("no stack dump of shim %d in %s within %v", s.Pid, s.stacks, dumpLimit)
	}
	if err != nil {
		return 0, err
	}
	text, err := os.ReadFile(fresh)
	return strings.Count("\n"+string(text), "\ngoroutine "), err
}

// Anonymous returns the shim's anonymous memory in bytes.
func (s *Shim) Anonymous() (int64, error) { return procfs.Anonymous(s.Pid) }
