// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"containerd-shim.v1/integration/fakerunc"
	"containerd-shim.v1/integration/harness/wait"
	"containerd-shim.v1/integration/helper"
)

// Fake is the harness's end of the fake runtime: its script, its gates, and
// what it has recorded.
type Fake struct {
	Path string // for CreateTaskRequest.runtime

	dir   string
	runc  string
	rules []fakerunc.Rule
	gates map[string]*wait.Gate
}

func newFake(c *Case, dir string, rules []fakerunc.Rule) (*Fake, error) {
	f := &Fake{Path: filepath.Join(dir, helper.Fakerunc), dir: dir, runc: c.Runtime, gates: map[string]*wait.Gate{}}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.Symlink(c.Helper, f.Path); err != nil {
		return nil, err
	}
	return f, f.Play(rules...)
}

// Play replaces the script and makes the gates that it names.
func (f *Fake) Play(rules ...fakerunc.Rule) error {
	f.rules = rules
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
	return fakerunc.Script{Runc: f.runc, Rules: rules}.Write(f.dir)
}

// Gate is the gate of that name in the script.
func (f *Fake) Gate(name string) *wait.Gate { return f.gates[name] }

// Arrived counts the calls that have come to a gate.
func (f *Fake) Arrived(name string) int { return len(f.Waiting(name)) }

// Waiting lists the pids of the calls that have come to a gate.
func (f *Fake) Waiting(name string) []int { return readPids(filepath.Join(f.dir, name+".arrived")) }

// Spawned lists the pids that the fake runtime has left to the shim.
func (f *Fake) Spawned() []int { return readPids(filepath.Join(f.dir, fakerunc.SpawnedFile)) }

// Calls are the recorded calls of a verb; "" means all.
func (f *Fake) Calls(verb string) []fakerunc.Call {
	file, err := os.Open(filepath.Join(f.dir, fakerunc.CallsFile))
	if err != nil {
		return nil
	}
	defer file.Close()
	var out []fakerunc.Call
	s := bufio.NewScanner(file)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var c fakerunc.Call
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
