// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"containerd-shim.v1/integration/daemons"
)

// local is where `make install` puts the shim.
const local = "/usr/local/lib/containerd-shim/containerd-shim"

// byHand runs the document's commands that put the shim in place without a package,
// and those that undo it, each under a real containerd.
func byHand(ctx context.Context, debs, doc string) error {
	scripts, err := blocks(doc)
	if err != nil {
		return err
	}
	theirs, err := sum("/usr/bin/containerd-shim")
	if err != nil {
		return err
	}
	if err := unpack(debs); err != nil {
		return err
	}
	ours, err := sum(local)
	if err != nil {
		return err
	}
	for _, way := range []struct {
		name, named string
		path        bool // found by the PATH in the drop-in that the commands write
	}{
		{"opt", "containerd-shim", false},
		{"swap", "docker-containerd-shim", false},
		{"drop-in", "docker-containerd-shim", true},
	} {
		if err := try(exec.Command("sh", "-ec", scripts[way.name])); err != nil {
			return err
		}
		if err := oneWay(ctx, way.named, way.path, ours, func() error {
			return try(exec.Command("sh", "-ec", scripts[way.name+" back"]))
		}, theirs); err != nil {
			return fmt.Errorf("%s, %s: %w", doc, way.name, err)
		}
		fmt.Printf("ok %s: %s, and back\n", doc, way.name)
	}
	return nil
}

// oneWay runs a container with the shim in place, calls back, and runs another. It
// checks that the shims of the two have the checksums ours and theirs.
func oneWay(ctx context.Context, named string, path bool, ours string, back func() error, theirs string) (err error) {
	rig, err := daemons.New(local)
	if err != nil {
		return err
	}
	rig.Bin = named
	defer func() { err = errors.Join(err, rig.Close()) }()
	// Containerd's [plugins.opt] points into the rig's directory.
	if err := os.Symlink("/opt/containerd", filepath.Join(rig.Dir, "opt")); err != nil {
		return err
	}
	if path {
		old := os.Getenv("PATH")
		defer func() { _ = os.Setenv("PATH", old) }() // cannot fail: it was set before
		dropIn, err := environment("/etc/systemd/system/docker.service.d/shim.conf")
		if err != nil {
			return err
		}
		if err := os.Setenv("PATH", dropIn); err != nil {
			return err
		}
	}
	if err := rig.StartContainerd(ctx); err != nil {
		return err
	}
	for _, step := range []struct {
		id, want string
		then     func() error
	}{{"first", ours, back}, {"second", theirs, func() error { return nil }}} {
		if err := rig.Run(ctx, step.id, nil, "sleep", "100000"); err != nil {
			return err
		}
		shim, err := rig.Shim(rig.Name, step.id)
		if err != nil {
			return err
		}
		if got, err := sum(fmt.Sprintf("/proc/%d/exe", shim.Pid)); err != nil || got != step.want {
			return fmt.Errorf("%s container: shim's checksum %s, %v, want %s", step.id, got, err, step.want)
		}
		if err := step.then(); err != nil {
			return err
		}
	}
	return nil
}

// blocks returns, by name, the indented lines that follow each `<!-- run: NAME -->`.
func blocks(doc string) (map[string]string, error) {
	file, err := os.Open(doc)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	found := map[string]string{}
	name := ""
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		line := lines.Text()
		if mark, ok := strings.CutPrefix(line, "<!-- run: "); ok {
			name = strings.TrimSuffix(mark, " -->")
		} else if code, ok := strings.CutPrefix(line, "    "); ok && name != "" {
			found[name] += code + "\n"
		} else if line != "" {
			name = ""
		}
	}
	for _, n := range []string{"opt", "opt back", "swap", "swap back", "drop-in", "drop-in back"} {
		if found[n] == "" {
			return nil, fmt.Errorf("%s has no commands called %q", doc, n)
		}
	}
	return found, lines.Err()
}

// environment returns the PATH that a drop-in of systemd gives to its service.
func environment(dropIn string) (string, error) {
	text, err := os.ReadFile(dropIn)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "Environment=PATH="); ok {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s sets no PATH", dropIn)
}

// unpack puts the package's shim where `make install` would put it.
func unpack(debs string) error {
	found, err := filepath.Glob(filepath.Join(debs, "containerd-shim_*.deb"))
	if err != nil || len(found) != 1 {
		return fmt.Errorf("package containerd-shim in %s: found %q, %v", debs, found, err)
	}
	dir, err := os.MkdirTemp("", "unpacked")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	return errors.Join(
		try(exec.Command("dpkg-deb", "--extract", found[0], dir)),
		try(exec.Command("install", "-D", filepath.Join(dir, installed), local)))
}
