// SPDX-License-Identifier: Apache-2.0

package health

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/internal/atomicfile"
)

// Memory is the records of a host's shims by pid.
type Memory map[int]*Record

// Load reads the memory of the last run. A file that does not exist, or is broken,
// is an empty memory: at worst a verdict takes one more sample.
func Load(name string) (Memory, error) {
	m := Memory{}
	b, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) || name == "" {
		return m, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read state file: %w", err)
	}
	if json.Unmarshal(b, &m) != nil {
		return Memory{}, nil
	}
	for pid, r := range m {
		if r == nil {
			delete(m, pid)
		}
	}
	return m, nil
}

// Of returns the record of a shim, a new one if its pid belonged to another process, or
// its process ran another program, or the clock was set back: by a time that is yet to come
// nobody can tell how long something has lasted.
func (m Memory) Of(s *scan.Shim, now time.Time) *Record {
	if r := m[s.PID]; r != nil && r.of(s) && !r.newest().After(now) {
		return r
	}
	m[s.PID] = &Record{PID: s.PID, StartTicks: s.StartTicks, Build: s.Build}
	return m[s.PID]
}

// Store writes the memory by a rename, so that a reader never sees half of it.
// Only the pids in keep are written: the others have ended.
func (m Memory) Store(name string, keep map[int]bool) error {
	if name == "" {
		return nil
	}
	for pid := range m {
		if !keep[pid] {
			delete(m, pid)
		}
	}
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	return atomicfile.Write(name, b, 0o600)
}
