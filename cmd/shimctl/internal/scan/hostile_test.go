// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A process of a container may call itself a shim.
func TestNamesThatNoContainerdGives(t *testing.T) {
	for _, id := range []string{"", ".", "..", "-x", "a b", "a\nb", "\x1b[2J", "a/b", "../../etc/cron.d/x", `a"b`, "é", strings.Repeat("a", 77)} {
		p := newProc(t)
		p.process(10, 1, "containerd-shim", "S", 9, "", "containerd-shim", "-namespace", "moby", "-workdir", v1dir+"moby/"+id)
		p.process(20, 1, "containerd-shim", "S", 9, "", "containerd-shim", "-namespace", id, "-id", "abc")
		p.process(30, 1, "containerd-shim", "S", 9, "", "containerd-shim", "-namespace", "moby", "-id", id)
		shims, err := Shims(p.root)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range shims {
			// A slash in a -workdir makes another id, which is harmless.
			if !identifier(s.ID) || !identifier(s.Namespace) {
				t.Errorf("%q: got %q of namespace %q", id, s.ID, s.Namespace)
			}
		}
	}
	for _, id := range []string{"a", "k8s.io", "0b6e455ae5fe", "my_app-1.2", strings.Repeat("a", 76)} {
		if !identifier(id) {
			t.Errorf("%q was refused", id)
		}
	}
}

// shims scans, and fails the test if that hangs, as in a FIFO.
func (p proc) shims() []Shim {
	p.t.Helper()
	done := make(chan []Shim, 1)
	go func() {
		shims, _ := Shims(p.root)
		done <- shims
	}()
	select {
	case shims := <-done:
		return shims
	case <-time.After(10 * time.Second):
		p.t.Fatal("the scan hangs")
		return nil
	}
}

// fifo makes a file hang.
func (p proc) fifo(name string) {
	p.t.Helper()
	name = filepath.Join(p.root, name)
	if err := errors.Join(os.Remove(name), syscall.Mkfifo(name, 0o600)); err != nil {
		p.t.Fatal(err)
	}
}

// Its working directory is of its own choice, too. A FIFO in it would hold the
// scan for ever.
func TestFilesOfAHostileBundle(t *testing.T) {
	p := newProc(t)
	argv := []string{"containerd-shim", "-namespace", "moby", "-workdir", v1dir + "moby/abc"}
	p.process(10, 1, "containerd-shim", "S", 9, "", argv...)
	p.process(20, 1, "containerd-shim", "S", 9, "", argv...)
	p.write("secret", "7\n")
	fifo, link := filepath.Join(p.root, "10/cwd/init.pid"), filepath.Join(p.root, "20/cwd/init.pid")
	if err := errors.Join(os.Remove(fifo), os.Remove(link), syscall.Mkfifo(fifo, 0o600), os.Symlink(filepath.Join(p.root, "secret"), link)); err != nil {
		t.Fatal(err)
	}
	if shims := p.shims(); len(shims) != 2 || shims[0].Init.PID != 0 || shims[1].Init.PID != 0 {
		t.Errorf("got %+v", shims)
	}
}

// TestLargeProgramIsNotRead: Go's buildinfo reads as much as the program's sections say.
func TestLargeProgramIsNotRead(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(name, b, 0o700); err != nil {
		t.Fatal(err)
	}
	if got := (builds{}).of(name); got.Go == "" {
		t.Errorf("got %+v", got)
	}
	if err := os.Truncate(name, maxProgram+1); err != nil { // a hole
		t.Fatal(err)
	}
	if got := (builds{}).of(name); got != (Build{}) {
		t.Errorf("got %+v of a large one", got)
	}
}

// TestArgumentsOfOthersAreNotRead: to read those of a process that hangs on storage may hang, as
// this one's do, a FIFO.
func TestArgumentsOfOthersAreNotRead(t *testing.T) {
	p := newProc(t)
	p.process(20, 1, "mysqld", "S", 9, "/usr/sbin/mysqld", "mysqld")
	p.fifo("20/cmdline")
	// One that was exchanged for a program of another name is known by its bundle.
	p.process(30, 1, "new", "S", 9, "/opt/new", "containerd-shim", "-namespace", "moby", "-workdir", v1dir+"moby/abc")
	bundle := filepath.Join(t.TempDir(), "io.containerd.runtime.v1.linux/moby/abc")
	p.link("30/cwd", bundle)
	if shims := p.shims(); len(shims) != 1 || shims[0].PID != 30 {
		t.Errorf("got %+v", shims)
	}
}

// TestRuntimeBehindAScript: a slow hook of a runtime that Docker starts by a script is no wedge.
func TestRuntimeBehindAScript(t *testing.T) {
	p := newProc(t)
	argv := []string{"/bin/sh", "/x/custom", "--root", "/run/runc", "--log", "/x/log.json", "create", "abc"}
	p.process(10, 1, "containerd-shim", "S", 9, "", "containerd-shim", "-namespace", "moby", "-workdir", v1dir+"moby/abc")
	p.process(11, 10, "custom", "S", 1, "/bin/dash", argv...)
	p.process(12, 10, "custom", "S", 1, "/bin/dash", argv...) // the container's
	p.link("12/ns/mnt", "mnt:[2]")
	s, ok := One(p.root, 10, 0)
	if !ok || len(s.Runcs) != 1 || s.Runcs[0].PID != 11 || s.Runcs[0].Verb != "create" {
		t.Errorf("got %+v", s.Runcs)
	}
}

// A container's process with the name of a runtime made a wedged shim look as if it waited for a
// runtime. Its arguments may hang, as a FIFO does.
func TestContainersRuncIsNoRuntime(t *testing.T) {
	p := newProc(t)
	p.process(10, 1, "containerd-shim", "S", 9, "", "containerd-shim", "-namespace", "moby", "-workdir", v1dir+"moby/abc")
	for i, name := range runtimes {
		pid := 11 + i
		p.process(pid, 10, name, "S", 1, "", name)
		p.link(fmt.Sprint(pid, "/ns/mnt"), "mnt:[2]")
		p.fifo(fmt.Sprint(pid, "/cmdline"))
	}
	if shims := p.shims(); len(shims) != 1 || len(shims[0].Runcs) != 0 {
		t.Errorf("got %+v", shims)
	}
}

func TestReadFileIsBounded(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(name, []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := ReadFile(name, 5); err != nil || string(b) != "12345" {
		t.Errorf("got %q, %v", b, err)
	}
	if b, err := ReadFile(name, 4); err == nil {
		t.Errorf("got %q of a file that is larger", b)
	}
	if _, err := ReadFile(name+"x", 4); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if _, err := ReadFile("/dev/zero", 1<<40); err == nil {
		t.Error("read a device")
	}
}

// Between fork and exec a shim's child has its command line. It made the
// container's id ambiguous.
func TestForkedChildIsNoShim(t *testing.T) {
	p := newProc(t)
	argv := []string{"containerd-shim", "-namespace", "moby", "-workdir", v1dir + "moby/abc"}
	p.process(10, 1, "containerd-shim", "S", 9, "", argv...)
	p.process(20, 10, "containerd-shim", "S", 1, "", argv...)
	shims, err := Shims(p.root)
	if err != nil || len(shims) != 1 || shims[0].PID != 10 {
		t.Errorf("got %+v, %v", shims, err)
	}
	if s, ok := One(p.root, 20, 0); ok {
		t.Errorf("got %+v", s)
	}
}

// A process may end between any two reads.
func TestProcessesVanish(t *testing.T) {
	p := newProc(t)
	p.process(10, 1, "containerd-shim", "S", 9, "", "containerd-shim", "-namespace", "moby", "-workdir", v1dir+"moby/abc")
	for _, gone := range []string{"10/status", "10/statm", "10/cwd/init.pid", "10/cwd", "uptime", "10/cmdline", "10/stat", "10"} {
		if err := os.RemoveAll(filepath.Join(p.root, gone)); err != nil {
			t.Fatal(err)
		}
		shims, err := Shims(p.root)
		if err != nil {
			t.Fatalf("without %s: %v", gone, err)
		}
		if want := gone[:2] == "10" && (gone == "10/cmdline" || gone == "10/stat" || gone == "10"); (len(shims) == 0) != want {
			t.Errorf("without %s: got %+v", gone, shims)
		}
	}
}

func TestFrozen(t *testing.T) {
	const ofInit = "1/root" // the root directory of the host's init, below /proc
	tests := map[string]struct {
		cgroup, file, content string
		want                  bool
	}{
		"v1":                 {"6:freezer:/a/b\n0::/\n", "cg/freezer/a/b/freezer.state", "FROZEN\n", true},
		"v1, on its way":     {"6:freezer:/a/b\n", "cg/freezer/a/b/freezer.state", "FREEZING\n", true},
		"v1, thawed":         {"6:freezer:/a/b\n", "cg/freezer/a/b/freezer.state", "THAWED\n", false},
		"v2":                 {"0::/a\n", "cg/a/cgroup.events", "populated 1\nfrozen 1\n", true},
		"v2 beside v1":       {"6:freezer:/\n0::/a\n", "cg/unified/a/cgroup.events", "populated 1\nfrozen 1\n", true},
		"v2, thawed":         {"0::/a\n", "cg/a/cgroup.events", "populated 1\nfrozen 0\n", false},
		"seen from a pod":    {"6:freezer:/a\n", ofInit + "/cg/freezer/a/freezer.state", "FROZEN\n", true},
		"another's":          {"6:freezer:/a\n", "cg/freezer/b/freezer.state", "FROZEN\n", false},
		"what it waits in":   {"0::/\n", "7/wchan", "__refrigerator", true},
		"a name with colons": {"1:name=x:/a:b\n6:freezer:/a:b\n", "cg/freezer/a:b/freezer.state", "FROZEN\n", true},
	}
	for name, tt := range tests {
		p := newProc(t)
		p.write("7/cgroup", tt.cgroup)
		// The mount is below the fake /proc here; a pod's way to it starts there as well.
		p.write(tt.file, tt.content)
		mount := filepath.Join(p.root, "cg")
		if strings.HasPrefix(tt.file, "1/root") {
			mount = "/cg"
		}
		if got := (&tree{root: p.root}).frozen(7, mount); got != tt.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}
