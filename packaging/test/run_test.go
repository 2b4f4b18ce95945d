// SPDX-License-Identifier: Apache-2.0

//go:build packages

package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// tree is the root directory of the repository.
var tree = func() string {
	path, err := filepath.Abs("../..")
	if err != nil {
		panic(err)
	}
	return path
}()

// scratch returns a new directory that every user may enter, unlike t.TempDir's.
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

// built is the directory of the packages, for all tests.
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

// kinds has a function for each kind of artefact, which makes them once, in a clone of
// its own, and returns their directory. Making them includes the packages' linters.
var kinds = map[string]func() (string, error){
	"release":   once("release"),
	"build-deb": once("build-deb"),
	"build-rpm": once("build-rpm"),
}

func once(kind string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		dir, checkout := filepath.Join(built, kind), filepath.Join(built, "checkout-"+kind)
		if out, err := command(tree, "git", "clone", "-q", tree, checkout).CombinedOutput(); err != nil {
			return "", fmt.Errorf("clone: %w\n%s", err, out)
		}
		begin := time.Now()
		out, err := command(checkout, "packaging/"+kind, dir).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("packaging/%s: %w\n%s", kind, err, out)
		}
		fmt.Printf("packaging/%s: %.0f s\n", kind, time.Since(begin).Seconds())
		return dir, nil
	})
}

// made returns the directory with the artefacts of that kind.
func made(t *testing.T, kind string) string {
	t.Helper()
	dir, err := kinds[kind]()
	if err != nil {
		t.Fatal(err)
	}
	return dir
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

// clone makes another checkout of the commit in dir.
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
