// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	shimapi "github.com/containerd/containerd/runtime/v1/shim/v1"
	"github.com/containerd/ttrpc"
)

// Shim is one shim process, found through the files that containerd writes
// into the bundle.
type Shim struct {
	Pid     int
	Address string // path of its socket
	Bundle  string
}

// Shim finds the shim of a container of this Rig.
func (r *Rig) Shim(namespace, id string) (*Shim, error) {
	s := &Shim{Bundle: r.path("state", Runtime, namespace, id)}
	pid, err := os.ReadFile(filepath.Join(s.Bundle, "shim.pid"))
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
		return nil, fmt.Errorf("shim of %s: address %q is no unix path", id, address)
	}
	s.Address = path
	return s, nil
}

// Client is a connection to a shim's ttrpc service.
type Client struct {
	shimapi.ShimService
	conn *ttrpc.Client
}

// Close closes the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Dial connects to the shim beside containerd; it serves any number of clients.
func (s *Shim) Dial() (*Client, error) {
	conn, err := net.Dial("unix", s.Address)
	if err != nil {
		return nil, err
	}
	c := ttrpc.NewClient(conn)
	return &Client{ShimService: shimapi.NewShimClient(c), conn: c}, nil
}

// Counts is what a shim holds at one moment.
type Counts struct {
	Fds, Threads, Children, Zombies int
}

// Counts reads /proc.
func (s *Shim) Counts() (Counts, error) {
	var c Counts
	var err error
	if c.Fds, err = countEntries(procFile(s.Pid, "fd")); err != nil {
		return c, err
	}
	if c.Threads, err = countEntries(procFile(s.Pid, "task")); err != nil {
		return c, err
	}
	kids, err := children(s.Pid)
	for _, state := range kids {
		c.Children++
		if state == 'Z' {
			c.Zombies++
		}
	}
	return c, err
}

// Anonymous is the shim's anonymous memory in bytes.
func (s *Shim) Anonymous() (int64, error) { return anonymous(s.Pid) }
