// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"containerd-shim.v1/integration/harness/wait"
)

// PatchedStacks is where an upstream shim with the series of patches/ leaves its dumps,
// as all such shims of a host do.
const PatchedStacks = "/run/containerd-shim-stacks"

// aGoroutine is in every dump, and not in what a shim logs of a file that it has written,
// which may come as late as after the next signal.
var aGoroutine = regexp.MustCompile(`goroutine \d+ \[`)

// Stacks asks the shim for its goroutines with SIGUSR1, and takes them from
// the file that appears in its stack directory, its work directory or PatchedStacks, or,
// for every unpatched upstream shim, from its output.
func (s *Shim) Stacks(d time.Duration) (string, error) {
	from, had := len(s.Output()), s.dumps()
	if err := s.process.Signal(syscall.SIGUSR1); err != nil {
		return "", err
	}
	text := func() string { return s.Output()[from:] }
	file := ""
	written := func() bool {
		for _, f := range s.dumps() {
			if !slices.Contains(had, f) {
				file = f
			}
		}
		return file != ""
	}
	if err := wait.For(d, "a stack dump", func() bool { return written() || aGoroutine.MatchString(text()) }); err != nil {
		return "", err
	}
	if written() {
		if filepath.Dir(file) == PatchedStacks {
			s.mu.Lock()
			s.foreign = append(s.foreign, file)
			s.mu.Unlock()
		}
		data, err := os.ReadFile(file)
		return string(data), err
	}
	// Upstream writes the dump as one record; its end is marked.
	_ = wait.For(d, "its end", func() bool { return strings.Contains(text(), "END goroutine stack dump") })
	return strings.NewReplacer(`\n`, "\n", `\t`, "\t").Replace(text()), nil
}

// dumps lists the shim's files in the stack directory, the work directory and
// PatchedStacks, oldest first in each: a shim writes them aside, and names them so that
// they sort by time.
func (s *Shim) dumps() (files []string) {
	for _, pattern := range []string{
		filepath.Join(s.stackDir, "[^.]*.stacks"), filepath.Join(s.workDir, "[^.]*.stacks"), // what begins with a dot is not finished
		filepath.Join(PatchedStacks, "[^.]*-"+strconv.Itoa(s.Pid)+".txt"),
	} {
		found, _ := filepath.Glob(pattern) // the pattern is right
		files = append(files, found...)
	}
	return files
}
