// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// together runs n commands at the same time, and returns an error for each that did not
// exit with its code.
func together(n int, make func(i int) (cmd *exec.Cmd, code int)) []error {
	var (
		mu   sync.Mutex
		errs []error
		all  sync.WaitGroup
	)
	for i := range n {
		cmd, code := make(i)
		all.Add(1)
		go func() {
			defer all.Done()
			out, err := cmd.CombinedOutput()
			if cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == code {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, fmt.Errorf("%d: %w, want exit %d: %s", i, errors.Join(err), code, out))
		}()
	}
	all.Wait()
	return errs
}

func TestDockerExecsAtOnceAllReturnTheirCode(t *testing.T) {
	id := container(t, shared, nil, "sleep", "100000")
	ctx := limited(t, commandLimit)
	for _, err := range together(60, func(i int) (*exec.Cmd, int) {
		return shared.Docker(ctx, "exec", id, "sh", "-c", fmt.Sprint("exit ", i)), i
	}) {
		t.Error(err)
	}
}

// dockerd stores a container's pid after the answer to Start. An exit that comes before
// that is taken for an exec's, and forgotten, and `docker run` never returns. So the
// exit of a container that ends at once must not come too early.
func TestDockerContainersAtOnceAllReturnTheirCode(t *testing.T) {
	quiet(t, shared)
	ctx := limited(t, 3*commandLimit)
	for _, err := range together(12, func(i int) (*exec.Cmd, int) {
		return shared.Docker(ctx, "run", "--rm", "--network", "none", ImageName, "sh", "-c", fmt.Sprint("exit ", i)), i
	}) {
		t.Error(err)
	}
}

// B32: if the client's input ends before the process has started, the process sees the
// end, too, each time.
func TestDockerExecSeesEndOfEmptyInput(t *testing.T) {
	id := container(t, shared, nil, "sleep", "100000")
	for i := range 20 {
		cmd := docker(t, "exec", "-i", id, "cat")
		cmd.Stdin = strings.NewReader("")
		if got := do(t, cmd); got != (result{}) {
			t.Fatalf("exec %d: got %v, want exit 0 and no output", i, got)
		}
	}
}

// B12: a background process that an exec leaves behind holds its output open, and must
// hold up neither the exec nor the container.
func TestDockerExecReturnsThoughABackgroundChildHoldsItsOutput(t *testing.T) {
	id := container(t, shared, nil, "sleep", "100000")
	begin := time.Now()
	if got := do(t, docker(t, "exec", id, "sh", "-c", "sleep 100000 & echo ok; exit 3")); got.code != 3 || got.stdout != "ok\n" {
		t.Errorf("got %v, want exit 3 and ok", got)
	}
	if took := time.Since(begin); took > 15*time.Second {
		t.Errorf("the exec took %v", took)
	}
	if got, want := must(t, docker(t, "exec", id, "echo", "alive")), "alive"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDockerRestartEndsARunningExec(t *testing.T) {
	id := container(t, shared, nil, "sleep", "100000")
	cmd := docker(t, "exec", id, "sleep", "100004")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "the exec runs", func() bool {
		return strings.Contains(must(t, docker(t, "top", id)), "sleep 100004")
	})
	must(t, docker(t, "restart", "--time", "0", id))
	_ = cmd.Wait() // its exit code is what counts
	if got, want := cmd.ProcessState.ExitCode(), 137; got != want {
		t.Errorf("got exit %d, want %d", got, want)
	}
	must(t, docker(t, "exec", id, "true"))
}

// A shim that is killed costs only its own container: containerd can clean up after it.
func TestContainerOfAKilledShimEndsWith137(t *testing.T) {
	id := container(t, shared, nil, "sleep", "100000")
	shim, err := shared.Shim(dockerNamespace, id)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(shim.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got, want := ended(t, shared, id), "137"; got != want {
		t.Errorf("got exit code %s, want %s", got, want)
	}
	must(t, docker(t, "start", id))
	must(t, docker(t, "exec", id, "true"))
}
