// SPDX-License-Identifier: Apache-2.0

package shimtest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"containerd-shim.v1/integration/harness/sweep"
)

// Underneath starts a containerd of its own, with the shim binary as its v1
// shim and fake runc as its runtime, and runs a container in it. find returns
// the pid of the shim that has the container id.
func Underneath(t testing.TB, binary string, find func(id string) int) *Shim {
	t.Helper()
	dir := world(t)
	runc := fakeRuntime(t, dir)
	address := filepath.Join(dir, "d.sock")
	config := filepath.Join(dir, "config.toml")
	must(t, os.WriteFile(config, fmt.Appendf(nil, `version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
  address = %q
[plugins."io.containerd.runtime.v1.linux"]
  shim = %q
  runtime = %q
`, filepath.Join(dir, "root"), filepath.Join(dir, "state"), address, binary, runc.Path), 0o600))
	log, err := os.Create(filepath.Join(dir, "containerd.log"))
	must(t, err)
	defer log.Close()
	daemon := exec.Command("containerd", "--config", config)
	daemon.Stdout, daemon.Stderr = log, log
	daemon.Env = append(os.Environ(), sweep.Mark+"="+dir, "TMPDIR="+dir, "XDG_RUNTIME_DIR=") // its shims leave temporary files
	daemon.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	must(t, daemon.Start())
	ended := make(chan struct{})
	close(ended) // the shim is not our child: nobody waits for it here
	s := &Shim{Namespace: "default", ID: "c" + filepath.Base(dir), Daemon: address, runtime: runc, exited: ended}
	t.Cleanup(func() {
		if t.Failed() {
			b, _ := os.ReadFile(log.Name())
			t.Logf("containerd says:\n%s", b)
		}
		_ = daemon.Process.Kill()
		_ = daemon.Wait() // killed, by us
	})
	Until(t, 20*time.Second, "containerd", func() bool {
		c, err := net.Dial("unix", address)
		if err != nil {
			return false
		}
		_ = c.Close()
		return true
	})
	rootfs := filepath.Join(dir, "rootfs")
	must(t, os.Mkdir(rootfs, 0o700))
	run := exec.Command("ctr", "-a", address, "run", "-d", "--null-io", "--runtime", "io.containerd.runtime.v1.linux", "--rootfs", rootfs, s.ID, "sleep")
	if out, err := run.CombinedOutput(); err != nil {
		t.Fatalf("ctr run: %v\n%s", err, out)
	}
	s.PID = find(s.ID)
	s.Bundle, err = os.Readlink(fmt.Sprintf("/proc/%d/cwd", s.PID))
	must(t, err)
	pid, err := os.ReadFile(filepath.Join(s.Bundle, "init.pid"))
	must(t, err)
	init, err := strconv.Atoi(string(pid))
	must(t, err)
	s.created(init)
	s.API = s.Dial(t)
	return s
}
