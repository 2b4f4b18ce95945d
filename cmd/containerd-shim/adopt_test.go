// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"containerd-shim.v1/integration/harness/wait"
	"containerd-shim.v1/internal/state"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// TestNoListenerCanStandStill: the program of a shim that has lost its listener can
// be exchanged all the same.
func TestNoListenerCanStandStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l interface {
			net.Listener
			SetDeadline(time.Time) error
		} = newNoListener()
		accepted := make(chan error)
		go func() { _, err := l.Accept(); accepted <- err }()
		for range 2 {
			if err := l.SetDeadline(time.Time{}); err != nil {
				t.Error(err)
			}
			synctest.Wait()
			select {
			case err := <-accepted:
				t.Fatalf("accepted: %v", err)
			default:
			}
		}
		if err := errors.Join(l.SetDeadline(time.Unix(1, 0)), l.SetDeadline(time.Unix(1, 0))); err != nil {
			t.Error(err)
		}
		if err := <-accepted; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

// raise gives the process its descriptors back as soon as something is logged.
type raise struct{ limit unix.Rlimit }

func (r *raise) Write(p []byte) (int, error) {
	return len(p), unix.Setrlimit(unix.RLIMIT_NOFILE, &r.limit)
}

// TestListenerWithoutDescriptors: the listener is adopted although at first there is no
// descriptor to spare.
func TestListenerWithoutDescriptors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false)
	f, err := old.File()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0) // adoptListener becomes its owner
	_, _ = old.Close(), f.Close()
	if err != nil {
		t.Fatal(err)
	}
	var r raise
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r.limit); err != nil {
		t.Fatal(err)
	}
	logrus.SetOutput(&r)
	defer logrus.SetOutput(os.Stderr)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: r.limit.Max}); err != nil {
		t.Fatal(err)
	}
	l := adoptListener(t.Context(), state.FD(fd), false)
	defer l.Close()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatalf("%T: %v", l, err)
	}
	_ = c.Close() // nothing was written
}

// TestAdoptWithoutDescriptors: the state is read, the inherited descriptors are found, and
// the log is opened, although at first there is no descriptor to spare.
func TestAdoptWithoutDescriptors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(path, []byte(`{"version":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	given, err := unix.FcntlInt(0, unix.F_DUPFD, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(given) }()
	for name, adopt := range map[string]func(context.Context) error{
		"state": func(ctx context.Context) error { _, err := readState(ctx, path); return err },
		"descriptors": func(ctx context.Context) error {
			if fds := inheritedFDs(ctx); !slices.Contains(fds, given) {
				return fmt.Errorf("found %v, not %d", fds, given)
			}
			return nil
		},
		"log": func(context.Context) error {
			p := &program{options: options{workdir: t.TempDir()}}
			p.setLog(10 * time.Second)
			logrus.SetOutput(os.Stderr)
			for _, fd := range p.logs {
				_ = unix.Close(fd) // nothing was written
			}
			if len(p.logs) != 2 {
				return fmt.Errorf("%d FIFOs of the log are open", len(p.logs))
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) { withoutDescriptors(t, adopt) })
	}
}

// withoutDescriptors calls adopt with no descriptor to spare until it waits for one.
func withoutDescriptors(t *testing.T, adopt func(context.Context) error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	adopted := make(chan error, 1)
	go func() { adopted <- adopt(ctx) }()
	buf := make([]byte, 1<<20)
	wait.Until(10*time.Second, func() bool {
		stacks := string(buf[:runtime.Stack(buf, true)])
		return len(adopted) > 0 || strings.Contains(stacks, ".WhileExhausted[") || strings.Contains(stacks, ".readState(")
	})
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := <-adopted; err != nil {
		t.Error(err)
	}
}

// TestStateThatCannotBeReadAtFirst: one EIO at its open lost the container.
func TestStateThatCannotBeReadAtFirst(t *testing.T) {
	path, good := filepath.Join(t.TempDir(), "state"), filepath.Join(t.TempDir(), "good")
	if err := errors.Join(os.Mkdir(path, 0o700), os.WriteFile(good, []byte(`{"version":1}`), 0o600)); err != nil {
		t.Fatal(err)
	}
	read := make(chan error, 1)
	go func() { _, err := readState(t.Context(), path); read <- err }()
	buf := make([]byte, 1<<20)
	wait.Until(10*time.Second, func() bool {
		return len(read) > 0 || strings.Contains(string(buf[:runtime.Stack(buf, true)]), ".readState(")
	})
	if err := unix.Renameat2(unix.AT_FDCWD, good, unix.AT_FDCWD, path, unix.RENAME_EXCHANGE); err != nil {
		t.Fatal(err)
	}
	if err := <-read; err != nil {
		t.Error(err)
	}
}
