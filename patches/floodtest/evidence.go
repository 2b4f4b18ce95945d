// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/containerd/api/events"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// clockTick is more than a file's time may lag behind the clock.
const clockTick = 50 * time.Millisecond

const (
	beginMark = "=== BEGIN goroutine stack dump ==="
	endMark   = "=== END goroutine stack dump ==="
)

// awaitEvents waits until n execs have published their exit, or the limit.
// It returns how many have.
func (s *subject) awaitEvents(n int, limit time.Duration) int {
	seen := map[string]bool{}
	within(limit, func() bool {
		seen = s.exitEvents()
		return len(seen) >= n
	})
	return len(seen)
}

// exitEvents are the ids whose exit event was published.
func (s *subject) exitEvents() map[string]bool {
	ids := map[string]bool{}
	files, _ := filepath.Glob(filepath.Join(s.path("events"), "*"))
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		var envelope anypb.Any
		var exit events.TaskExit
		if proto.Unmarshal(data, &envelope) != nil || !strings.HasSuffix(envelope.TypeUrl, "TaskExit") {
			continue
		}
		if proto.Unmarshal(envelope.Value, &exit) == nil && exit.ID != s.id {
			ids[exit.ID] = true
		}
	}
	return ids
}

// dump sends SIGUSR1 and looks for a complete dump of this shim in its
// directory, which it removes. With -stderr it also names the ring, if that
// dump shows one.
func (s *subject) dump() (found bool, ring string) {
	pid := s.cmd.Process.Pid
	asked := time.Now()
	if err := unix.Kill(pid, unix.SIGUSR1); err != nil {
		return false, ""
	}
	var text []byte
	found = within(s.settle/3, func() bool {
		files, _ := filepath.Glob(filepath.Join(s.dumps, "*-"+strconv.Itoa(pid)+".txt"))
		for _, f := range files {
			info, err := os.Lstat(f)
			if err != nil || info.Mode() != 0o600 || info.ModTime().Before(asked.Add(-clockTick)) {
				continue // or left by an earlier shim that had this pid
			}
			text, _ = os.ReadFile(f)
			if complete(text) {
				return os.Remove(f) == nil
			}
		}
		return false
	})
	if !found && s.stderr != "" {
		within(s.settle/3, func() bool {
			text, _ = os.ReadFile(s.stderr)
			return complete(text)
		})
	}
	return found, findRing(text)
}

func complete(dump []byte) bool {
	begin := bytes.LastIndex(dump, []byte(beginMark))
	return begin >= 0 && bytes.Contains(dump[begin:], []byte(endMark))
}

// findRing names the three goroutines of the deadlock B01 in a dump.
func findRing(dump []byte) string {
	text := strings.ReplaceAll(string(dump), `\n`, "\n")
	var reap, loop, holder string
	for g := range strings.SplitSeq(text, "\n\n") {
		first, _, _ := strings.Cut(strings.TrimSpace(g), "\n")
		switch {
		case strings.Contains(g, ".Reap(") && strings.Contains(first, "[chan send"):
			reap = first
		case strings.Contains(g, "checkProcesses") && strings.Contains(g, "sync.(*Mutex).Lock"):
			loop = first
		case strings.Contains(g, "(*Service).") && strings.Contains(g, "(*Monitor).Wait("):
			holder = first
			for line := range strings.Lines(g) {
				if _, method, ok := strings.Cut(line, "(*Service)."); ok {
					method, _, _ = strings.Cut(method, "(")
					holder += " in " + method
				}
			}
		}
	}
	if reap == "" || loop == "" || holder == "" {
		return ""
	}
	return fmt.Sprintf("ring: Reap %q waits for the exit loop; the exit loop %q waits for the service lock; its holder %q waits for Reap", reap, loop, holder)
}

// within polls a condition until it holds or the limit is over.
func within(limit time.Duration, holds func() bool) bool {
	for deadline := time.Now().Add(limit); ; {
		if holds() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(50 * time.Millisecond)
	}
}
