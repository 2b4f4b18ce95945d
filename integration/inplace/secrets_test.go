// SPDX-License-Identifier: Apache-2.0

package inplace_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	task "github.com/containerd/containerd/runtime/v1/shim/v1"
	"google.golang.org/protobuf/types/known/anypb"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/suite"
)

// TestNothingIsWrittenForOthers: whatever the umask, what a shim writes in a container's life and
// in an exchange can be read by nobody but root; and its stack dumps hold nothing of a
// process's arguments and environment, although these are in its memory. The pid files are
// the runtime's, whose umask is the daemon's: only numbers, which are not trusted (B24).
func TestNothingIsWrittenForOthers(t *testing.T) {
	const secret = "hunter2"
	suite.Run(t, "others", limit, func(c *harness.Case) {
		umask := 0
		b := c.Fixture(harness.Options{Umask: &umask, Container: harness.Container{Args: []string{"echo:" + secret, "sleep"}}})
		dirs := []string{b.Bundle, b.Workdir, b.Path("stacks")}
		before := map[string]bool{}
		written := func(see func(path string, info fs.FileInfo)) {
			for _, dir := range dirs {
				err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
					if err != nil { // it may be gone meanwhile
						return nil
					}
					if path == b.Rootfs {
						return fs.SkipDir
					}
					if info, err := d.Info(); err == nil && path != dir && !before[path] && filepath.Ext(path) != ".pid" {
						see(path, info)
					}
					return nil
				})
				c.Need(err, "walk")
			}
		}
		written(func(path string, _ fs.FileInfo) { before[path] = true })
		seen := 0
		look := func(when string) {
			written(func(path string, info fs.FileInfo) {
				seen++
				if info.Mode().Perm()&0o077 != 0 {
					c.Errorf("%s: %s has mode %v", when, path, info.Mode())
				}
			})
		}
		b.Up()
		for i := range 3 {
			id := fmt.Sprint("e", i)
			c.Must(b.ExecProcess(&task.ExecProcessRequest{ID: id, Terminal: i == 1, Spec: &anypb.Any{
				TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Process",
				Value:   fmt.Appendf(nil, `{"args":[%q,"echo:%s","sleep"],"env":["TOKEN=%s"],"cwd":"/"}`, harness.Init, secret, secret),
			}}), "Exec")
			b.MustStart(id)
		}
		look("running")
		swap(c, b)
		look("after an exchange")
		stacks, err := b.Shim.Stacks(soon)
		c.Must(err, "SIGUSR1")
		if !strings.Contains(stacks, "goroutine ") || strings.Contains(stacks, secret) {
			c.Errorf("a stack dump of %d bytes; it holds the secret: %v", len(stacks), strings.Contains(stacks, secret))
		}
		look("after a dump")
		ends(c, b)
		look("deleted")
		if seen == 0 {
			c.Errorf("nothing was written")
		}
		if _, err := os.Stat(b.Path("stacks")); err != nil {
			c.Errorf("no directory of dumps: %v", err)
		}
	})
}
