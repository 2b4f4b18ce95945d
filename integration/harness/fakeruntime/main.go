// SPDX-License-Identifier: Apache-2.0

package fakeruntime

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"containerd-shim.v1/integration/harness/procfs"
)

// Main plays one call of the runtime and returns its exit status.
func Main(argv []string) int {
	dir := filepath.Dir(argv[0])
	inv := parse(argv[1:])
	if err := record(dir, inv); err != nil {
		return fail(err)
	}
	script, err := read(dir)
	if err != nil {
		return fail(err)
	}
	rule, err := choose(dir, script, inv)
	if err != nil {
		return fail(err)
	}
	p := player{dir: dir, runc: script.Runc, inv: inv}
	if rule == nil && script.Runc == "" {
		if err := p.bare(); err != nil {
			return fail(err)
		}
		return 0
	}
	if rule == nil {
		err := syscall.Exec(script.Runc, append([]string{script.Runc}, inv.args...), os.Environ())
		return fail(fmt.Errorf("exec %s: %w", script.Runc, err))
	}
	for _, step := range rule.Steps {
		status, done, err := p.play(step)
		if err != nil {
			err = fmt.Errorf("%s: %w", step.Op, err)
			_ = p.logError(err.Error()) // for the shim's own error; there may be no log
			return fail(err)
		}
		if done {
			return status
		}
	}
	return 0
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, "fakeruntime:", err)
	return 99
}

// record appends one line with a single write, which O_APPEND makes atomic
// among concurrent calls.
func record(dir string, inv invocation) error {
	line, err := json.Marshal(Call{Verb: inv.verb, Pid: os.Getpid(), Args: inv.args, Env: os.Environ(), Fds: procfs.Inherited()})
	if err != nil {
		return fmt.Errorf("encode call: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, callsFile), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("record call: %w", err)
	}
	defer f.Close()
	if _, err := f.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("record call: %w", err)
	}
	return nil
}

func choose(dir string, s Script, inv invocation) (*Rule, error) {
	for i, r := range s.Rules {
		if r.Verb != inv.verb || !inv.contains(r.Match) {
			continue
		}
		if r.Times == 0 {
			return &s.Rules[i], nil
		}
		took, err := takeTurn(dir, i, r)
		if err != nil {
			return nil, err
		}
		if took {
			return &s.Rules[i], nil
		}
	}
	return nil, nil
}

// takeTurn claims one of the rule's turns: of several concurrent calls only one can
// create the file.
func takeTurn(dir string, i int, r Rule) (bool, error) {
	for n := range r.Times {
		name := "turn-" + strconv.Itoa(i) + "-" + r.Verb + "-" + strconv.Itoa(n)
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			return true, f.Close()
		}
		if !errors.Is(err, fs.ErrExist) {
			return false, fmt.Errorf("take turn: %w", err)
		}
	}
	return false, nil
}
