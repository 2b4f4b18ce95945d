// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"containerd-shim.v1/integration/daemons"
)

const installed = "/usr/lib/containerd-shim/containerd-shim"

// stage is one life of the packages under a containerd and a dockerd.
type stage struct {
	ctx    context.Context
	rig    *daemons.Rig
	ctl    string            // a copy of shimctl that outlives its package
	owners string            // checksum of the distribution's shim
	ours   string            // checksum of the package's shim
	ids    []string          // of the containers, in the order of their start
	want   map[string]string // by container: the checksum of the shim that it must keep
}

// packages takes the packages through their whole life. path is the file that they
// replace, named what the daemon's configuration calls the shim.
func packages(ctx context.Context, debs, path, named string) (err error) {
	rig, err := daemons.New(path)
	if err != nil {
		return err
	}
	rig.Bin = named
	defer func() { err = errors.Join(err, rig.Close()) }()
	if err := errors.Join(rig.StartContainerd(ctx), rig.StartDockerd(ctx)); err != nil {
		return err
	}
	s := &stage{ctx: ctx, rig: rig, ctl: filepath.Join(rig.Dir, "shimctl"), want: map[string]string{}}
	if s.owners, err = sum(path); err != nil {
		return err
	}
	w := watchPath(path)
	defer func() { err = errors.Join(err, w.end()) }()

	for _, step := range []struct {
		what     string
		do       func() error
		shim     func() string   // the one that the next container must get
		replaced map[string]bool // by container: what shimctl ps must say of its shim's file
	}{
		{"the distribution's shim", func() error { return nil }, s.theirs, nil},
		{"packages installed", func() error { return s.install(debs, "containerd-shim", "containerd-shim-replace", "shimctl") },
			s.mine, map[string]bool{"0": true, "1": false}},
		{"containerd-shim upgraded", func() error { return s.install(debs, "containerd-shim") },
			s.mine, map[string]bool{"0": true, "1": true, "2": false}},
		{"containerd-shim-replace removed", func() error { return dpkg("--remove", "containerd-shim-replace") },
			s.theirs, map[string]bool{"1": true, "2": false, "3": false}},
		{"all purged", func() error { return dpkg("--purge", "containerd-shim-replace", "containerd-shim", "shimctl") },
			s.theirs, map[string]bool{"1": true, "2": true, "3": false, "4": false}},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
		if err := s.start(step.shim()); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
		if err := s.check(step.replaced); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
		fmt.Printf("ok %s: %s; %d containers answer, each with the shim that started it\n", path, step.what, len(s.ids))
	}
	if got, err := sum(path); err != nil || got != s.owners {
		return fmt.Errorf("%s after the purge: checksum %s, %w, want %s", path, got, err, s.owners)
	}
	return nothingLeft(path)
}

func (s *stage) theirs() string { return s.owners }
func (s *stage) mine() string   { return s.ours }

// install installs packages, and notes the checksum of the shim in them.
func (s *stage) install(debs string, names ...string) error {
	var files []string
	for _, n := range names {
		found, err := filepath.Glob(filepath.Join(debs, n+"_*.deb"))
		if err != nil || len(found) != 1 {
			return fmt.Errorf("package %s in %s: found %q, %v", n, debs, found, err)
		}
		files = append(files, found[0])
	}
	if err := dpkg(append([]string{"--install"}, files...)...); err != nil {
		return err
	}
	code, err := os.ReadFile("/usr/bin/shimctl")
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.ctl, code, 0o755); err != nil {
		return err
	}
	s.ours, err = sum(installed)
	if err == nil && s.ours == s.owners {
		err = errors.New("the package has the distribution's shim")
	}
	return err
}

// start runs one more container. Its shim must have that checksum; see check.
func (s *stage) start(shim string) error {
	id, err := s.rig.DockerRun(s.ctx, nil, "sleep", "100000")
	if err != nil {
		return err
	}
	s.ids, s.want[id] = append(s.ids, id), shim
	return nil
}

// check runs a process in every container, and checks which file each shim executes,
// and what shimctl says of it.
func (s *stage) check(replaced map[string]bool) error {
	for _, id := range s.ids {
		out, err := s.rig.Docker(s.ctx, "exec", id, "echo", "alive").CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != "alive" {
			return fmt.Errorf("exec in %.12s: %w: %q", id, errors.Join(err), out)
		}
		shim, err := s.rig.Shim("moby", id)
		if err != nil {
			return err
		}
		if got, err := sum(fmt.Sprintf("/proc/%d/exe", shim.Pid)); err != nil || got != s.want[id] {
			return fmt.Errorf("shim of %.12s: checksum %s, %v, want %s", id, got, err, s.want[id])
		}
	}
	if replaced == nil {
		return nil
	}
	out, err := exec.CommandContext(s.ctx, s.ctl, append([]string{"ps", "-o", "json"}, s.ids...)...).Output()
	if err != nil {
		return fmt.Errorf("shimctl ps: %w", err)
	}
	var list struct {
		Shims []struct {
			ID      string
			Deleted bool `json:"exe_deleted"`
			Build   struct{ Ours bool }
		}
	}
	if err := json.Unmarshal(out, &list); err != nil {
		return fmt.Errorf("shimctl ps: %w", err)
	}
	seen := 0
	for _, shim := range list.Shims {
		for n, id := range s.ids {
			if shim.ID != id {
				continue
			}
			seen++
			if got, want := shim.Build.Ours, s.want[id] == s.ours; got != want {
				return fmt.Errorf("shimctl ps: container %d: ours is %v, want %v", n, got, want)
			}
			if want, told := replaced[fmt.Sprint(n)]; told && shim.Deleted != want {
				return fmt.Errorf("shimctl ps: container %d: replaced is %v, want %v", n, shim.Deleted, want)
			}
		}
	}
	if seen != len(s.ids) {
		return fmt.Errorf("shimctl ps: %d of %d containers:\n%s", seen, len(s.ids), out)
	}
	return nil
}

// sum returns the SHA-256 of a file. That of /proc/PID/exe can be had even if the file
// was removed.
func sum(path string) (string, error) {
	content, err := os.ReadFile(path)
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:]), err
}
