// SPDX-License-Identifier: Apache-2.0

package stacks

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/internal/stackdump"
)

// poll is how often a thing is looked for that nothing announces.
const poll = 2 * time.Millisecond

// fromFile sends SIGUSR1 and waits for the new file, which the shim renames into
// place when it is whole. Where its own directory takes nothing it is in the
// shim's work directory.
func fromFile(ctx context.Context, root string, s *scan.Shim) ([]byte, error) {
	dir := cmp.Or(s.StackDir, stackdump.DefaultDir)
	// The shim may live in another mount namespace than we do.
	own := filepath.Join(root, strconv.Itoa(s.PID), "root")
	dirs := []string{filepath.Join(own, dir), filepath.Join(own, s.Workdir)}
	before := stackFiles(dirs, s)
	if err := sendUSR1(s); err != nil {
		return nil, fmt.Errorf("signal: %w", err)
	}
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		for path := range stackFiles(dirs, s) {
			if !before[path] {
				return scan.ReadFile(path, maxDump)
			}
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: no new file of the shim in %s and %s", errNothing, dir, s.Workdir)
		case <-tick.C:
		}
	}
}

// stackFiles are the paths of the shim's dumps.
func stackFiles(dirs []string, s *scan.Shim) map[string]bool {
	found := map[string]bool{}
	prefix := stackdump.FilePrefix(s.Namespace, s.ID, s.PID)
	for _, dir := range dirs {
		entries, _ := os.ReadDir(dir) // the shim makes it with its first dump
		for _, e := range entries {
			if stackdump.IsFile(e.Name(), prefix) {
				found[filepath.Join(dir, e.Name())] = true
			}
		}
	}
	return found
}
