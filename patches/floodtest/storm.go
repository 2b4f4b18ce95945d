// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// stormTimeout bounds the wait for the orphans to be reaped before the slow
// exec may go on: a shim that reaps none of them meanwhile is what we look for.
const stormTimeout = 3 * time.Second

// orphanStorm has a container without a pid namespace of its own leave its
// children to the shim, starts an exec whose runc waits at a gate, kills all
// the orphans at once, and opens the gate. The shim has to finish that exec.
func (s *subject) orphanStorm() row {
	r := row{name: s.name, n: s.storm, failed: 1, lost: 1}
	probe := s.sampleState()
	fail := func(err error) row {
		r.errors = append(r.errors, err.Error())
		r.state, r.statePending = probe()
		return r
	}
	if res := s.execArgs("orphans", "orphans", strconv.Itoa(s.storm), "/exits/orphans"); res.err != nil {
		return fail(res.err)
	}
	slow := make(chan result, 1)
	go func() { slow <- s.exec("slow") }()
	if !within(s.timeout, func() bool { _, err := os.Stat(s.path("gate.waiting")); return err == nil }) {
		return fail(errors.New("runc exec was not called"))
	}
	began := time.Now()
	if err := s.killOrphans(); err != nil {
		return fail(err)
	}
	within(stormTimeout, func() bool { return s.children() < s.storm/10 })
	if err := os.WriteFile(s.path("gate"), nil, 0o600); err != nil {
		return fail(err)
	}
	select {
	case res := <-slow:
		r.late = res.late
		if res.err == nil {
			r.failed = 0
		} else {
			r.errors = append(r.errors, res.err.Error())
		}
	case <-s.stalled(time.Now().Add(s.timeout)):
	}
	r.wall = time.Since(began)
	if within(s.settle, func() bool { return s.exitEvents()["slow"] }) {
		r.lost = 0
	}
	r.state, r.statePending = probe()
	s.examine(&r)
	return r
}

// killOrphans kills the process group that the guest named, if it did.
func (s *subject) killOrphans() error {
	text, err := os.ReadFile(filepath.Join(s.path("bundle"), "rootfs", "exits", "orphans"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	group, err := strconv.Atoi(string(text))
	if err != nil || group <= 1 {
		return fmt.Errorf("orphans' process group %q: %w", text, err)
	}
	if err := unix.Kill(-group, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill orphans: %w", err)
	}
	return nil
}

// children counts the shim's children, zombies too.
func (s *subject) children() int {
	n := 0
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", s.cmd.Process.Pid))
	for _, t := range tasks {
		pids, err := os.ReadFile(t)
		if err == nil {
			n += len(strings.Fields(string(pids)))
		}
	}
	return n
}
