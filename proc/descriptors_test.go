// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"

	"containerd-shim.v1/integration/harness/wait"

	"golang.org/x/sys/unix"
)

// TestStartWithoutDescriptors: an exec that the runtime has started is either started or
// ended, although there is no descriptor left to learn its pid with.
func TestStartWithoutDescriptors(t *testing.T) {
	for name, waits := range map[string]string{"the pid file is read later": "readPidFile", "the container dies meanwhile": "findStray"} {
		t.Run(name, func(t *testing.T) {
			census(t)
			var old unix.Rlimit
			if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
				t.Fatal(err)
			}
			restore := func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &old) } // it was so before
			defer restore()
			f := &fakeRuntime{process: []string{"sleep"}}
			p := newTestExec(t, running(t, f, InitConfig{}), "e1", Stdio{})
			ctx, die := context.WithCancel(t.Context())
			defer die()
			f.after = map[string]func(context.Context) error{"exec": func(context.Context) error {
				return unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: old.Max})
			}}
			started := make(chan error, 1)
			go func() { started <- p.Start(ctx) }()
			await := func(function string) {
				if !wait.Until(patience, func() bool { return len(started) > 0 || waitsIn(function) }) {
					t.Errorf("it does not wait in %s", function)
				}
			}
			await("readPidFile")
			if waits == "findStray" {
				die()
				await("findStray")
			}
			restore()
			err := <-started
			switch {
			case waits == "readPidFile":
				if err != nil || p.Snapshot().Pid != f.lastPid() {
					t.Errorf("%v, pid %d, want %d", err, p.Snapshot().Pid, f.lastPid())
				}
			case !errors.Is(err, unix.EMFILE) || !dead(f.lastPid()):
				t.Errorf("%v, and the process lives", err)
			}
		})
	}
}

// waitsIn reports whether some goroutine is in this function.
func waitsIn(function string) bool {
	buf := make([]byte, 1<<20)
	return strings.Contains(string(buf[:runtime.Stack(buf, true)]), "proc."+function+"(")
}
