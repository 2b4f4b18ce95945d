// SPDX-License-Identifier: Apache-2.0

//go:build engines

package enginetest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/cmd/shimctl/internal/shimtest"
)

// inside is set in the environment of the run that is in the namespaces.
const inside = "FLEET_INSIDE"

func TestMain(m *testing.M) {
	if os.Getenv(inside) == "" {
		os.Exit(enter())
	}
	for _, dir := range []string{"/run", "/var/lib"} {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			fmt.Fprintln(os.Stderr, "mount", dir, err)
			os.Exit(1)
		}
	}
	os.Exit(shimtest.Run(m))
}

// enter runs this program again. sh is the first process there: it reaps what
// is left to it, as a host's init does.
func enter() int {
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	args := append([]string{"--pid", "--mount", "--fork", "--kill-child", "--mount-proc", "sh", "-c", `"$0" "$@"; exit $?`, self}, os.Args[1:]...)
	cmd := exec.Command("unshare", args...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// shipped is a file of packaging/monitoring as it is installed: with the place
// where shimctl and the shim are.
func shipped(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../../../packaging/monitoring", name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer("/usr/bin/shimctl", shimtest.Shimctl(t), "/usr/lib/containerd-shim/containerd-shim", shimtest.Own(t)).Replace(string(b))
}

// pidOf finds the shim of a container.
func pidOf(t *testing.T) func(id string) int {
	return func(id string) int {
		t.Helper()
		all, err := scan.Shims("/proc")
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range all {
			if s.ID == id {
				return s.PID
			}
		}
		t.Fatalf("no shim of %s", id)
		return 0
	}
}

// shimctl runs it and returns what it prints.
func shimctl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(shimtest.Shimctl(t), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("shimctl %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// background starts an engine; it ends with the test, which shows its log when
// it has failed.
func background(t *testing.T, name string, args ...string) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), "NODE_NAME=node1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed, by us
		_ = log.Close()
		if b, _ := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("%s says:\n%s", name, b)
		}
	})
}

// freePort is one that nobody listens on at this moment.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// scrape gets an engine's metrics, "" while it does not answer.
func scrape(port string) string {
	client := http.Client{Timeout: 10 * time.Second}
	got, err := client.Get("http://127.0.0.1:" + port + "/metrics")
	if err != nil {
		return ""
	}
	defer got.Body.Close()
	b, err := io.ReadAll(got.Body)
	if err != nil || got.StatusCode != http.StatusOK {
		return ""
	}
	return string(b)
}

// awaitMetrics waits until a scrape has all these lines.
func awaitMetrics(t *testing.T, port string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		shimtest.Until(t, 30*time.Second, line, func() bool { return strings.Contains("\n"+scrape(port), "\n"+line+"\n") })
	}
}
