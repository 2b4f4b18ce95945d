// SPDX-License-Identifier: Apache-2.0

package fakeruntime

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"containerd-shim.v1/integration/harness/wait"
)

// Runtime is the harness's end of the fake runtime: its script, its gates, and
// what it has recorded.
type Runtime struct {
	Path string // for CreateTaskRequest.runtime

	dir   string
	runc  string
	gates map[string]*wait.Gate
}

// New makes a fake runtime in dir from the helper, an executable that calls Main
// under the name Name. Calls that no rule covers go to runc; if that is "", the fake
// runtime keeps its own containers, each of which is one sleeping process.
func New(dir, helper, runc string, rules ...Rule) (*Runtime, error) {
	f := &Runtime{Path: filepath.Join(dir, Name), dir: dir, runc: runc, gates: map[string]*wait.Gate{}}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.Symlink(helper, f.Path); err != nil {
		return nil, err
	}
	return f, f.Play(rules...)
}

// Close shuts its gates.
func (f *Runtime) Close() {
	for _, g := range f.gates {
		_ = g.Close() // of a FIFO that is open: it cannot fail
	}
}

// Play replaces the script and makes the gates that it names.
func (f *Runtime) Play(rules ...Rule) error {
	for _, r := range rules {
		for _, s := range r.Steps {
			if s.Name == "" || f.gates[s.Name] != nil {
				continue
			}
			g, err := wait.NewGate(filepath.Join(f.dir, s.Name))
			if err != nil {
				return err
			}
			f.gates[s.Name] = g
		}
	}
	turns, _ := filepath.Glob(filepath.Join(f.dir, "turn-*"))
	for _, t := range turns {
		if err := os.Remove(t); err != nil {
			return err
		}
	}
	return Script{Runc: f.runc, Rules: rules}.write(f.dir)
}

// Gate is the gate of that name in the script.
func (f *Runtime) Gate(name string) *wait.Gate { return f.gates[name] }

// Arrived counts the calls that have come to a gate.
func (f *Runtime) Arrived(name string) int { return len(f.Waiting(name)) }

// Waiting lists the pids of the calls that have come to a gate.
func (f *Runtime) Waiting(name string) []int { return readPids(filepath.Join(f.dir, name+".arrived")) }

// Spawned lists the pids that the fake runtime has left to the shim.
func (f *Runtime) Spawned() []int { return readPids(filepath.Join(f.dir, spawnedFile)) }

// Calls are the recorded calls of a verb; "" means all.
func (f *Runtime) Calls(verb string) []Call {
	file, err := os.Open(filepath.Join(f.dir, callsFile))
	if err != nil {
		return nil
	}
	defer file.Close()
	var out []Call
	s := bufio.NewScanner(file)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var c Call
		if json.Unmarshal(s.Bytes(), &c) == nil && (verb == "" || c.Verb == verb) {
			out = append(out, c)
		}
	}
	return out
}

func readPids(path string) []int {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var out []int
	for _, f := range strings.Fields(string(data)) {
		if pid, err := strconv.Atoi(f); err == nil {
			out = append(out, pid)
		}
	}
	return out
}
