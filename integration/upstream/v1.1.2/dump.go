// SPDX-License-Identifier: Apache-2.0

//go:build !patched

package main

import (
	"runtime"

	"github.com/sirupsen/logrus"
)

// dumpStacks logs all stacks, with the marks that tools look for.
func dumpStacks(logger *logrus.Entry) {
	buf := make([]byte, 16384)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			logger.Infof("=== BEGIN goroutine stack dump ===\n%s\n=== END goroutine stack dump ===", buf[:n])
			return
		}
		buf = make([]byte, 2*len(buf))
	}
}
