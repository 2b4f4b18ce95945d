// SPDX-License-Identifier: Apache-2.0

//go:build packages

package test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// watch looks for an executable file at a path as often as it can, as containerd does
// once for each container. It follows links as execve(2) does, but below the root
// (openat2(2), RESOLVE_IN_ROOT). It counts the looks that found none, and measures the
// longest time for which there was none.
type watch struct {
	root, path string
	stop       chan struct{} // closed once by end
	done       sync.WaitGroup

	// Written by the watching goroutine, read after done.
	looks, misses int
	longest       time.Duration
	last          error
}

// look starts to watch.
func look(root, path string) *watch {
	w := &watch{root: root, path: path, stop: make(chan struct{})}
	w.done.Add(1)
	go w.run()
	return w
}

func (w *watch) run() {
	defer w.done.Done()
	root, err := unix.Open(w.root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		w.misses, w.last = 1, err
		return
	}
	defer unix.Close(root)
	var missing time.Time
	for {
		select {
		case <-w.stop:
			return
		default:
		}
		w.looks++
		err := executable(root, w.path)
		if err == nil {
			missing = time.Time{}
			continue
		}
		w.misses, w.last = w.misses+1, err
		if missing.IsZero() {
			missing = time.Now()
		}
		w.longest = max(w.longest, time.Since(missing))
	}
}

// executable returns an error unless there is an executable file at the path.
func executable(root int, path string) error {
	fd, err := unix.Openat2(root, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer unix.Close(fd)
	var info unix.Stat_t
	if err := unix.Fstat(fd, &info); err != nil {
		return fmt.Errorf("stat: %w", err)
	}
	if info.Mode&0o111 == 0 || info.Size == 0 {
		return fmt.Errorf("mode %o, %d bytes", info.Mode, info.Size)
	}
	return nil
}

// manyLooks is how many looks a watch of a whole life must have made.
const manyLooks = 100_000

// lives is how often the whole life is repeated, to get as many looks.
const lives = 3

// end stops the watch, and checks that it has missed nothing in atLeast looks or more.
func (w *watch) end(t *testing.T, atLeast int) {
	t.Helper()
	close(w.stop)
	w.done.Wait()
	t.Logf("%s: %d misses in %d looks, longest gap %v", w.path, w.misses, w.looks, w.longest)
	if w.misses > 0 {
		t.Errorf("%s was missing: %v", w.path, w.last)
	}
	if w.looks < atLeast {
		t.Errorf("%s: %d looks are too few, want %d", w.path, w.looks, atLeast)
	}
}
