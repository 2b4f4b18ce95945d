// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"containerd-shim.v1/cmd/shimctl/internal/shimtest"
)

// Nothing may be done to it, whatever it looks like: its paths are not the host's, and an
// absolute link in its root directory leads out of that.
func TestForeign(t *testing.T) {
	p := newProc(t)
	argv := []string{"containerd-shim", "-namespace", "moby", "-workdir", v1dir + "moby/abc"}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	host, other, pod := t.TempDir(), t.TempDir(), t.TempDir()
	p.link("self/ns/pid", "pid:[1]")
	p.link("self/root", pod)
	p.link("1/root", host)
	for pid, of := range map[int]struct{ ns, root string }{
		10: {"pid:[1]", host}, // the host's
		20: {"pid:[2]", host},
		30: {"pid:[1]", other}, // of a pod with hostPID
		40: {"pid:[1]", pod},   // this one's own pod
		50: {"", host},         // nothing of it may be read
	} {
		p.process(pid, 1, "containerd-shim", "S", 9, self, argv...)
		p.link(fmt.Sprint(pid, "/cwd"), v1dir+"moby/abc")
		p.link(fmt.Sprint(pid, "/root"), of.root)
		if of.ns != "" {
			p.link(fmt.Sprint(pid, "/ns/pid"), of.ns)
		}
	}
	p.process(60, 1, "containerd-shim", "S", 9, "", argv...) // a user's, in the host's root directory
	p.link("60/cwd", v1dir+"moby/abc (deleted)")
	p.write("60/status", "Name:\tx\nUid:\t1000\t1000\t1000\t1000\n")
	shims, err := Shims(p.root)
	if err != nil || len(shims) != 6 {
		t.Fatalf("got %+v, %v", shims, err)
	}
	for _, s := range shims {
		if want := s.PID == 20 || s.PID == 30 || s.PID == 60 && os.Geteuid() == 0; s.Foreign != want {
			t.Errorf("%d: got %v, want %v", s.PID, s.Foreign, want)
		}
		if s.Name() != "moby/abc" || s.Kind != V1 {
			t.Errorf("got %+v", s)
		}
		// A program can be made that is read for hours.
		if s.Foreign && s.Build != (Build{}) || s.PID == 10 && s.Build.Go == "" {
			t.Errorf("%d: built as %+v", s.PID, s.Build)
		}
	}
}

// nobody is the status of another user's process.
const nobody = "Name:\tx\nUid:\t1000\t1000\t1000\t1000\n"

// TestForeignHangsNoScan: a user's process has its arguments, its working directory, and its root
// directory in a file system whose server does not answer. Its arguments stand for themselves as
// a FIFO here.
func TestForeignHangsNoScan(t *testing.T) {
	p := newProc(t)
	silent := filepath.Join(t.TempDir(), "io.containerd.runtime.v1.linux/moby/abc")
	if err := os.MkdirAll(silent, 0o700); err != nil {
		t.Fatal(err)
	}
	shimtest.Silent(t, silent)
	p.link("self/ns/pid", "pid:[1]")
	p.link("1/root", t.TempDir())
	hanging := func(pid, ppid int, comm string) {
		p.process(pid, ppid, comm, "S", 9, "", "containerd-shim")
		p.fifo(fmt.Sprint(pid, "/cmdline"))
		p.link(fmt.Sprint(pid, "/cwd"), silent)
		p.link(fmt.Sprint(pid, "/root"), silent)
		p.link(fmt.Sprint(pid, "/ns/pid"), "pid:[1]")
	}
	hanging(10, 1, "containerd-shim")
	p.write("10/status", nobody)
	hanging(20, 1, "docker-containe")  // root's by its user, but with another root directory
	hanging(30, 20, "docker-containe") // forked by it
	hanging(40, 20, "runc")
	p.process(50, 1, "containerd-shim", "S", 9, "", "containerd-shim", "-namespace", "moby", "-workdir", v1dir+"moby/def")
	hanging(60, 10, "containerd-shim") // no shim: its directory is no bundle
	p.link("60/cwd", "/tmp/moby/abc")
	// Root's, below a process that hangs.
	p.process(70, 10, "containerd-shim", "S", 9, "", "containerd-shim", "-namespace", "moby", "-workdir", v1dir+"moby/ghi")
	got := ""
	for _, s := range p.shims() {
		got += fmt.Sprintf("%d %s %v; ", s.PID, s.Name(), s.Foreign)
	}
	if want := "10 moby/abc true; 20 moby/abc true; 50 moby/def false; 70 moby/ghi false; "; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
