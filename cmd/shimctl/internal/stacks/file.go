// SPDX-License-Identifier: Apache-2.0

package stacks

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"containerd-shim/cmd/shimctl/internal/scan"
	"containerd-shim/dump"
)

// DefaultDir is where this project's shim writes its dumps.
const DefaultDir = "/run/containerd-shim/stacks"

// poll is how often a thing is looked for that nothing announces.
const poll = 2 * time.Millisecond

// fromFile sends SIGUSR1 and waits for the new file. The shim renames it into
// place when it is whole, as NAMESPACE.ID.PID.TIME.SEQ.stacks; its last line
// proves it.
func fromFile(ctx context.Context, root string, s *scan.Shim) ([]byte, error) {
	dir := s.StackDir
	if dir == "" {
		dir = DefaultDir
	}
	// The shim may live in another mount namespace than we do.
	dir = filepath.Join(root, strconv.Itoa(s.PID), "root", dir)
	before := stackFiles(dir, s)
	if err := sendUSR1(s); err != nil {
		return nil, fmt.Errorf("signal: %w", err)
	}
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		for name := range stackFiles(dir, s) {
			if before[name] {
				continue
			}
			b, err := scan.ReadFile(filepath.Join(dir, name), maxDump)
			if err != nil {
				return nil, err
			}
			if !strings.HasSuffix(strings.TrimRight(string(b), "\n"), dump.FileEnd) {
				return nil, fmt.Errorf("%s does not end with %q", name, dump.FileEnd)
			}
			return b, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: no new file of the shim in %s", errNothing, dir)
		case <-tick.C:
		}
	}
}

func stackFiles(dir string, s *scan.Shim) map[string]bool {
	found := map[string]bool{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return found // the shim makes it with its first dump
	}
	prefix := fmt.Sprintf("%s.%s.%d.", fileName(s.Namespace), fileName(s.ID), s.PID)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) && strings.HasSuffix(e.Name(), ".stacks") {
			found[e.Name()] = true
		}
	}
	return found
}

// fileName is how the shim makes a part of a file name of an identifier: at
// most the 76 characters that containerd allows, and nothing that a file name
// cannot hold.
func fileName(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == '/' || r < ' ' || r > '~' {
			return '_'
		}
		return r
	}, s[:min(len(s), 76)])
	if s == "" {
		return "-"
	}
	return s
}
