// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

func dpkg(args ...string) error {
	cmd := exec.Command("dpkg", append([]string{"--force-unsafe-io"}, args...)...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	return try(cmd)
}

// try runs a command. The error has its output.
func try(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%q: %w\n%s", cmd.Args, err, out)
	}
	return nil
}

// standIn installs a package that has a copy of a shim at the path.
func standIn(path, shim string) error {
	dir, err := os.MkdirTemp("", "standin")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	code, err := os.ReadFile(shim)
	if err != nil {
		return err
	}
	for file, content := range map[string][]byte{
		path:              code,
		"/DEBIAN/control": []byte("Package: docker-stand-in\nVersion: 18.06\nArchitecture: all\nMaintainer: nobody <nobody@localhost>\nDescription: a shim\n"),
	} {
		file = filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, content, 0o755); err != nil {
			return err
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	deb := dir + ".deb"
	defer os.Remove(deb)
	if err := try(exec.Command("dpkg-deb", "--build", dir, deb)); err != nil {
		return err
	}
	return dpkg("--install", deb)
}

// nothingLeft checks that nothing of the packages is left, and that the owner's files
// are as they were.
func nothingLeft(path string) error {
	var errs []error
	for _, p := range []string{path + ".distrib", path + ".new", filepath.Dir(installed), "/usr/bin/shimctl", "/usr/share/shimctl"} {
		if _, err := os.Lstat(p); !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("%s is left (%w)", p, err))
		}
	}
	for _, list := range [][]string{{"dpkg-divert", "--list", "*containerd-shim*"}, {"dpkg", "--verify", "containerd"}} {
		out, err := exec.Command(list[0], list[1:]...).CombinedOutput()
		if text := strings.TrimSpace(string(out)); err != nil || text != "" {
			errs = append(errs, fmt.Errorf("%q: %v: %q, want nothing", list, err, text))
		}
	}
	return errors.Join(errs...)
}

// pathWatch looks for an executable file again and again, with short pauses.
type pathWatch struct {
	path          string
	stop          chan struct{} // closed by end
	done          sync.WaitGroup
	looks, misses int // written by the watching goroutine; read them after done
}

func watchPath(path string) *pathWatch {
	w := &pathWatch{path: path, stop: make(chan struct{})}
	w.done.Go(func() {
		for {
			select {
			case <-w.stop:
				return
			default:
			}
			w.looks++
			if info, err := os.Stat(path); err != nil || info.Mode()&0o111 == 0 || info.Size() == 0 {
				w.misses++
			}
			// Without a pause the watcher would take one of two CPUs from the daemons.
			time.Sleep(50 * time.Microsecond)
		}
	})
	return w
}

func (w *pathWatch) end() error {
	close(w.stop)
	w.done.Wait()
	fmt.Printf("%s: %d misses in %d looks\n", w.path, w.misses, w.looks)
	if w.misses > 0 {
		return fmt.Errorf("%s was missing in %d of %d looks", w.path, w.misses, w.looks)
	}
	return nil
}
