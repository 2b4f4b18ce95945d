// SPDX-License-Identifier: Apache-2.0

//go:build packages

package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// tree is the repository.
var tree = func() string {
	path, err := filepath.Abs("../..")
	if err != nil {
		panic(err)
	}
	return path
}()

// scratch is a directory that every user may enter, unlike t.TempDir's.
func scratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "packages")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// built is where packages are, for all tests.
var built string

func TestMain(m *testing.M) {
	var err error
	if built, err = os.MkdirTemp("", "built"); err != nil {
		panic(err)
	}
	code := m.Run()
	if err := os.RemoveAll(built); err != nil {
		panic(err)
	}
	os.Exit(code)
}

// packages runs packaging/KIND, which builds and lints the packages.
func packages(kind string) (string, error) {
	dir := filepath.Join(built, kind)
	if out, err := command(tree, "packaging/"+kind, dir).CombinedOutput(); err != nil {
		return "", fmt.Errorf("packaging/%s: %w\n%s", kind, err, out)
	}
	return dir, nil
}

func command(dir string, argv ...string) *exec.Cmd {
	c := exec.Command(argv[0], argv[1:]...)
	c.Dir = dir
	if strings.HasPrefix(argv[0], "packaging/") {
		c.Path, c.Err = filepath.Join(dir, argv[0]), nil
	}
	return c
}

// run fails the test, with all the output, unless the command exits with 0.
func run(t *testing.T, c *exec.Cmd) string {
	t.Helper()
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", c.Args, err, out)
	}
	return string(out)
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// clone checks the commit out once more.
func clone(t *testing.T, dir string) string {
	t.Helper()
	run(t, command(tree, "git", "clone", "-q", tree, dir))
	return dir
}

func version(t *testing.T) string {
	t.Helper()
	return strings.TrimSpace(read(t, filepath.Join(tree, "VERSION")))
}

func tarball(t *testing.T) string {
	t.Helper()
	return "containerd-shim-" + version(t) + ".tar.gz"
}
