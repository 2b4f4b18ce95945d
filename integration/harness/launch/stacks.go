// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"containerd-shim.v1/integration/harness/wait"
)

// Stacks asks the shim for its goroutines with SIGUSR1, and takes them from
// the file that appears in its stack directory or its work directory, or, for every
// upstream shim, from its output.
func (s *Shim) Stacks(d time.Duration) (string, error) {
	from, had := len(s.Output()), len(s.dumps())
	if err := s.process.Signal(syscall.SIGUSR1); err != nil {
		return "", err
	}
	text := func() string { return s.Output()[from:] }
	if err := wait.For(d, "a stack dump", func() bool {
		return len(s.dumps()) > had || strings.Contains(text(), "goroutine ")
	}); err != nil {
		return "", err
	}
	if files := s.dumps(); len(files) > had {
		data, err := os.ReadFile(files[len(files)-1])
		return string(data), err
	}
	// Upstream writes the dump as one record; its end is marked.
	_ = wait.For(d, "its end", func() bool { return strings.Contains(text(), "END goroutine stack dump") })
	return strings.NewReplacer(`\n`, "\n", `\t`, "\t").Replace(text()), nil
}

// dumps lists the files in the stack directory and the work directory, oldest
// first: a shim writes them aside, and names them so that they sort by time.
func (s *Shim) dumps() []string {
	var files []string
	for _, dir := range []string{s.stackDir, s.workDir} {
		found, _ := filepath.Glob(filepath.Join(dir, "[^.]*.stacks")) // the pattern is right; what begins with a dot is not finished
		files = append(files, found...)
	}
	slices.SortFunc(files, func(a, b string) int { return strings.Compare(filepath.Base(a), filepath.Base(b)) })
	return files
}
