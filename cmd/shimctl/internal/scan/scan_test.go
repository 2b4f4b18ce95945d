// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"containerd-shim.v1/integration/harness/procfs"
)

// proc is a fake /proc.
type proc struct {
	t    testing.TB
	root string
}

func newProc(t testing.TB) proc {
	p := proc{t, t.TempDir()}
	p.write("uptime", "1000.50 2000.00\n")
	return p
}

func (p proc) write(name, content string) {
	p.t.Helper()
	name = filepath.Join(p.root, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p proc) process(pid, ppid int, comm, state string, threads int, exe string, argv ...string) {
	p.t.Helper()
	dir := fmt.Sprint(pid)
	p.write(dir+"/stat", fmt.Sprintf("%d (%s) %s %d 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 %d 0 %d 0 0 0\n", pid, comm, state, ppid, threads, 50000+pid))
	p.write(dir+"/cmdline", strings.Join(argv, "\x00")+"\x00")
	p.write(dir+"/status", "Name:\tx\nTracerPid:\t0\nThreads:\t9\nSigCgt:\tfffffffd7fc1feff\n")
	p.write(dir+"/statm", "1000 500 200 0 0 0 0\n")
	p.write(dir+"/cwd/init.pid", fmt.Sprint(pid+1))
	p.link(dir+"/ns/mnt", "mnt:[1]")
	if exe != "" {
		p.link(dir+"/exe", exe)
	}
}

// link makes a symbolic link, also in the place of a file or directory.
func (p proc) link(name, to string) {
	p.t.Helper()
	name = filepath.Join(p.root, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.RemoveAll(name), os.Symlink(to, name)); err != nil {
		p.t.Fatal(err)
	}
}

const v1dir = "/run/docker/containerd/daemon/io.containerd.runtime.v1.linux/"

func TestShims(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := newProc(t)
	p.process(10, 1, "docker-containe", "S", 9, "/usr/bin/docker-containerd-shim (deleted)",
		"docker-containerd-shim", "-namespace", "moby", "-workdir", v1dir+"moby/abc", "-address", "/run/d.sock")
	p.process(11, 10, "sleep", "S", 1, "")
	p.write("11/wchan", "zap_pid_ns_processes")
	p.process(12, 10, "sh", "Z", 1, "")
	p.process(16, 10, "sh", "Z", 1, "")
	p.write("16/status", "Name:\tsh\nTracerPid:\t99\n") // a debugger's: the shim cannot wait for it
	p.process(13, 10, "leader) Z 1", "Z", 2, "")        // pthread_exit in the leader
	p.process(15, 10, "runc", "S", 5, "", "runc", "--root", "/run/runc/moby", "--log-format", "json", "kill", "--all", "abc", "9")
	p.process(14, 10, "runc", "S", 5, "", "runc", "--root", "/r", "exec", "--process", "/tmp/p", "--pid-file", "/b/start.pid", "other")
	p.process(20, 1, "containerd-shim", "S", 9, self, "/usr/bin/containerd-shim-runc-v2", "-namespace", "k8s.io", "-id", "def", "-address", "/a")
	p.process(30, 1, "containerd-shim", "S", 9, self, "/opt/x/containerd-shim", "--namespace=default", "--workdir="+v1dir+"default/ghi", "-stack-dir", "/s")
	p.process(40, 1, "vi", "S", 1, "/usr/bin/vi", "vi", "containerd-shim", "-namespace", "x", "-workdir", v1dir+"x/y")
	p.process(50, 1, "containerd-shim", "S", 1, "/usr/bin/containerd-shim", "containerd-shim", "-v")
	p.process(60, 2, "kthread", "S", 1, "")

	shims, err := Shims(p.root)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range shims {
		names = append(names, fmt.Sprintf("%s %s %d", s.Kind, s.Name(), s.PID))
	}
	if got, want := strings.Join(names, ", "), "v1 default/ghi 30, v2 k8s.io/def 20, v1 moby/abc 10"; got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	s := shims[2]
	if !s.Deleted || s.Exe != "/usr/bin/docker-containerd-shim" || s.Address != "/run/d.sock" {
		t.Errorf("got exe %q deleted %v address %q", s.Exe, s.Deleted, s.Address)
	}
	if len(s.Zombies) != 1 || s.Zombies[0].PID != 12 {
		t.Errorf("got zombies %+v, want 12 only", s.Zombies)
	}
	if got, want := fmt.Sprint(s.Runcs), "[runc 14, exec of other, for 8m20s runc 15, kill of abc, for 8m20s]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if s.Init != (Init{PID: 11, StartTicks: 50011, State: "S", WChan: "zap_pid_ns_processes"}) {
		t.Errorf("got init %+v", s.Init)
	}
	if !s.Catches(10) || s.Age != 500*time.Second+400*time.Millisecond || s.Anon != 300*int64(os.Getpagesize()) {
		t.Errorf("got SIGUSR1 %v, age %v, anonymous %d", s.Catches(10), s.Age, s.Anon)
	}
	if b := shims[0].Build; !b.Ours || b.Go == "" || shims[0].StackDir != "/s" {
		t.Errorf("got build %+v, stack directory %q", b, shims[0].StackDir)
	}
	if _, ok := One(p.root, 10, s.StartTicks+1); ok {
		t.Error("took a recycled pid for the same shim")
	}
}

// The goal is 1000 shims in under a second, with a container's worth of
// other processes beside each.
func TestThousandShimsInASecond(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := newProc(t)
	for i := range 1000 {
		pid := 1000 + 10*i
		p.process(pid, 1, "containerd-shim", "S", 9, self, "/usr/bin/containerd-shim", "-namespace", "moby", "-workdir", fmt.Sprintf("%smoby/c%d", v1dir, i))
		for j := range 2 {
			p.process(pid+1+j, pid, "app", "S", 1, self, "/app", "-x")
		}
	}
	took := time.Hour
	for range 5 {
		start := procfs.Spent()
		shims, err := Shims(p.root)
		took = min(took, procfs.Spent()-start)
		if err != nil || len(shims) != 1000 {
			t.Fatalf("got %d shims, error %v", len(shims), err)
		}
	}
	t.Logf("1000 shims among 3000 processes: %v", took)
	if took > time.Second {
		t.Errorf("took %v", took)
	}
}

func BenchmarkShims(b *testing.B) {
	for b.Loop() {
		if _, err := Shims("/proc"); err != nil {
			b.Fatal(err)
		}
	}
}
