// SPDX-License-Identifier: Apache-2.0

//go:build packages

package test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// root makes a root directory in which the scripts of packages can run. It has the
// named programs of this host and the libraries that they load.
func root(t *testing.T, programs ...string) string {
	t.Helper()
	dir := filepath.Join(scratch(t), "root")
	for _, d := range []string{"dev", "etc", "tmp", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "var/lib/dpkg/updates", "var/lib/dpkg/info"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"bin", "sbin", "lib", "lib64"} {
		run(t, command("/", "ln", "-s", "usr/"+d, filepath.Join(dir, d)))
	}
	for _, f := range []string{"dev/null", "var/lib/dpkg/status"} {
		write(t, filepath.Join(dir, f), "", 0o666)
	}
	files := map[string]bool{}
	for _, program := range programs {
		path, err := exec.LookPath(program)
		if err != nil {
			t.Fatal(err)
		}
		files[path] = true
		libraries, err := exec.Command("ldd", path).Output()
		if err != nil {
			t.Fatalf("ldd %s: %v", path, err)
		}
		for word := range strings.FieldsSeq(string(libraries)) {
			if strings.HasPrefix(word, "/") {
				files[word] = true
			}
		}
	}
	for path := range files {
		run(t, command("/", "install", "-D", path, filepath.Join(dir, path)))
	}
	return dir
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
}

// is checks that the file at the path is the owner's, of that version.
func is(t *testing.T, path, version string) {
	t.Helper()
	if info, err := os.Lstat(path); err != nil {
		t.Error(err)
	} else if !info.Mode().IsRegular() {
		t.Errorf("%s: %v, want the owner's file", path, info.Mode())
	} else if got, want := read(t, path), shimOf(version); got != want {
		t.Errorf("%s holds %q, want %q", path, got, want)
	}
}

func shimOf(version string) string { return fmt.Sprintf("#!/bin/sh\necho %s\n", version) }

// none checks that nothing is at the paths, not even a dangling link.
func none(t *testing.T, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s exists (%v)", path, err)
		}
	}
}

// ours checks that path is the link to the new shim, and that the shim runs.
func ours(t *testing.T, dir, path string) {
	t.Helper()
	got, err := os.Readlink(filepath.Join(dir, path))
	if err != nil || got != libexec {
		t.Errorf("%s: link to %q (%v), want %s", path, got, err, libexec)
	}
	out, err := exec.Command("chroot", dir, path, "-version").CombinedOutput()
	if want := "Version:  " + version(t) + "\n"; err != nil || !strings.Contains(string(out), want) {
		t.Errorf("%s -version: %v, %q, want %q", path, err, out, want)
	}
}

// The new shim's file, the owners' paths, and where the owners' shims are moved to.
const (
	libexec        = "/usr/lib/containerd-shim/containerd-shim"
	plain          = "/usr/bin/containerd-shim"
	dockers        = "/usr/bin/docker-containerd-shim"
	distrib        = plain + ".distrib"
	dockersDistrib = dockers + ".distrib"
)
