// SPDX-License-Identifier: Apache-2.0

package stdio

import (
	"fmt"
	"os"
	"testing"

	"containerd-shim.v1/proc/internal/proctest"

	"golang.org/x/sys/unix"
)

// TestOwnsAsksNoFileSystem: a process of the container has a file whose server does not
// answer as its stdin.
func TestOwnsAsksNoFileSystem(t *testing.T) {
	census(t)
	server, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close() // whoever waits for an answer gets ENOTCONN
	dir := t.TempDir()
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", server.Fd())
	if err := unix.Mount("silent", dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }() // a child of a failed test has it
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)  // asks the server nothing
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), dir)
	defer file.Close()
	r, w := pipes(t)
	s := &Streams{pipes: make(map[string]bool)}
	s.note(int(r.Fd()))
	for _, c := range []struct {
		stdout *os.File
		want   bool
	}{{w, true}, {nil, false}} {
		child := proctest.Start(t, []*os.File{file, c.stdout, nil}, "sleep")
		owns := make(chan bool, 1)
		done := make(chan struct{})
		go func() { owns <- s.Owns(child.Pid()); close(done) }()
		within(t, patience, "what the process has", done)
		if got := <-owns; got != c.want {
			t.Errorf("owns: %v, want %v", got, c.want)
		}
		proctest.End(child)
	}
}
