// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/scan"
)

// The daemons that used abstract names for shims were built with a Go that counted a NUL
// at the end into the name: Docker 18.06 and containerd up to 1.3.8 on real hosts. Built
// with today's Go they do not.
func TestDialFindsAbstractNamesWithAndWithoutFinalNUL(t *testing.T) {
	// A process without descriptors, so that only the known name leads to the socket.
	blind := t.TempDir()
	if err := os.MkdirAll(filepath.Join(blind, strconv.Itoa(os.Getpid()), "cwd"), 0o700); err != nil {
		t.Fatal(err)
	}
	unique := fmt.Sprint("dial", os.Getpid())
	for _, c := range []struct{ how, root, name, final string }{
		{"by its namespace and id", blind, "/containerd-shim/" + unique + "/c1/shim.sock", ""},
		{"by its namespace and id", blind, "/containerd-shim/" + unique + "/c1/shim.sock", "\x00"},
		{"among its descriptors", "/proc", "/somewhere/" + unique, ""},
		{"among its descriptors", "/proc", "/somewhere/" + unique, "\x00"},
	} {
		t.Run(fmt.Sprintf("%s%q", c.how, c.final), func(t *testing.T) {
			l, err := net.Listen("unix", "@"+c.name+c.final)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			conn, err := dial(c.root, &scan.Shim{PID: os.Getpid(), Namespace: unique, ID: "c1"}, time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if got := conn.RemoteAddr().String(); strings.TrimRight(got, "\x00@") != "@"+c.name {
				t.Errorf("connected to %q", got)
			}
			conn.Close()
		})
	}
}
