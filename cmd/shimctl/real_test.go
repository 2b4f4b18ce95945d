// SPDX-License-Identifier: Apache-2.0

//go:build baseline || ownshim

package main

import (
	"testing"

	"containerd-shim/cmd/shimctl/internal/shimtest"
	"containerd-shim/cmd/shimctl/internal/stacks"
)

// started starts a shim, for which the tracer is shimctl as it is in use: the
// test binary takes a second to start under the race detector.
func started(t *testing.T, binary string, args ...string) *shimtest.Shim {
	t.Helper()
	stacks.Tracer = shimtest.Shimctl(t)
	return shimtest.Start(t, binary, args...)
}
