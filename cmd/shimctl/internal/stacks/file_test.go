// SPDX-License-Identifier: Apache-2.0

package stacks

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/cmd/shimctl/internal/shimtest"
	"containerd-shim.v1/internal/stackdump"
)

const limit = 10 * time.Second

// ownShim is the name under which the test binary answers SIGUSR1 with a file,
// by the contract of this project's shim.
const ownShim = "containerd-shim"

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == ownShim {
		answer(os.Getenv("CONTAINERD_SHIM_STACK_DIR"), os.Getenv("LAST_LINE"))
	}
	os.Exit(shimtest.Run(m))
}

func answer(dir, last string) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGUSR1)
	fmt.Println("ready")
	for seq := 1; ; seq++ {
		<-signals
		name := stackdump.FileName("ns", "id", os.Getpid(), time.Now(), seq)
		text := "pid: 1\n\ngoroutine 1 [running]:\nmain.main()\n\t/a.go:1\n\n" + last + "\n"
		_ = os.WriteFile(filepath.Join(dir, "."+name), []byte(text), 0o600)
		_ = os.Rename(filepath.Join(dir, "."+name), filepath.Join(dir, name))
	}
}

func startOwn(t *testing.T, last string) *scan.Shim {
	t.Helper()
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, ownShim)
	if err := os.Symlink(self, name); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(name, "-namespace", "ns", "-workdir", "/x/ns/id")
	cmd.Env = append(os.Environ(), "CONTAINERD_SHIM_STACK_DIR="+dir, "LAST_LINE="+last)
	ready, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if _, err := ready.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	s, ok := scan.One("/proc", cmd.Process.Pid, 0)
	if !ok {
		t.Fatal("it is not seen as a shim")
	}
	if !s.Build.Ours || s.StackDir != dir {
		t.Fatalf("got build %+v, directory %q", s.Build, s.StackDir)
	}
	return &s
}

func TestOwnShimWritesAFile(t *testing.T) {
	s := startOwn(t, stackdump.FileEnd)
	for range 3 { // each time a new file
		r, err := Taker{Proc: "/proc"}.Take(t.Context(), s, Auto, limit)
		if err != nil {
			t.Fatal(err)
		}
		if r.Method != File || !r.Dump.Complete || r.Dump.Header["pid"] != "1" {
			t.Errorf("got %s, %+v", r.Method, r.Dump)
		}
	}
}

func TestOwnShimFileWithoutEnd(t *testing.T) {
	r, err := Taker{Proc: "/proc"}.Take(t.Context(), startOwn(t, "cut"), File, limit)
	if err != nil || r.Dump.Complete || !strings.Contains(r.Dump.Why, stackdump.FileEnd) {
		t.Errorf("got %+v, %v", r, err)
	}
}
