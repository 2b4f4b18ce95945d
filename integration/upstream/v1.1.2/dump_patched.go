// SPDX-License-Identifier: Apache-2.0

//go:build patched

package main

import (
	"github.com/containerd/containerd/sys/stackdump"
	"github.com/sirupsen/logrus"
)

// dumpStacks writes all stacks to a file, as the patched main of the release
// does; see patches/v1.1.2. The package is only in the patched source.
func dumpStacks(logger *logrus.Entry) {
	path, err := stackdump.Write(stackdump.Dir)
	stackdump.Report(func() {
		if path == "" {
			logger.WithError(err).Infof("=== BEGIN goroutine stack dump ===\n%s\n=== END goroutine stack dump ===", stackdump.Stacks())
			return
		}
		logger.WithError(err).WithField("file", path).Info("goroutine stacks written")
	})
}
