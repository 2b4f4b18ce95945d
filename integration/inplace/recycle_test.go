// SPDX-License-Identifier: Apache-2.0

package inplace_test

import (
	"bytes"
	"os"
	"testing"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/procfs"
	"containerd-shim.v1/integration/harness/suite"
)

// TestRecycle: a shim that is quiet after many calls takes over from itself, and the
// container, and who waits for it, notice nothing.
func TestRecycle(t *testing.T) {
	suite.Run(t, "recycle", limit, func(c *harness.Case) {
		b := c.Fixture(harness.Options{Env: []string{"CONTAINERD_SHIM_RECYCLE=1M"}})
		b.Up()
		wait := b.BeginWait(b.ID)
		args := func() []byte {
			text, err := os.ReadFile(procfs.File(b.Shim.Pid, "cmdline"))
			c.Need(err, "command line")
			return text
		}
		lives(c, b, "before")
		for range 100 {
			_, err := b.ShimInfo()
			c.Must(err, "ShimInfo")
		}
		c.Await(soon+soon, "it has taken over", func() bool { return bytes.Contains(args(), []byte("\x00-adopt\x00")) })
		lives(c, b, "after")
		ends(c, b)
		c.Must(wait.Await(soon), "Wait of init")
	})
}
