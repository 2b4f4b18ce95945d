// SPDX-License-Identifier: Apache-2.0

//go:build baseline

package main

import (
	"strconv"
	"strings"
	"testing"

	"containerd-shim/cmd/shimctl/internal/shimtest"
	"containerd-shim/cmd/shimctl/internal/stacks"
)

// The whole way with a real containerd (Debian's): a wedged shim of v1.1.2 and
// v1.2.0 is found, proven and ended, and containerd forgets the task.
func TestRepairUnderContainerd(t *testing.T) {
	for _, version := range []string{"v1.1.2", "v1.2.0"} {
		t.Run(version, func(t *testing.T) {
			stacks.Tracer = shimtest.Shimctl(t)
			shim := shimtest.Underneath(t, shimtest.Baseline(t, version), func(id string) int {
				all, err := shims()
				if err != nil {
					t.Fatal(err)
				}
				found, err := choose(all, []string{id})
				if err != nil {
					t.Fatal(err)
				}
				return found[0].PID
			})
			pid := strconv.Itoa(shim.PID)
			if status, o, e := capture(t, "check", "-state", "always", "-state-file", "", pid); status != exitOK || !strings.Contains(o, "Healthy") {
				t.Fatalf("before: status %d\n%s%s", status, o, e)
			}
			shim.Wedge(t)
			status, o, e := capture(t, "check", "-confirm", "-state", "always", "-state-file", "", pid)
			if status != exitSome || !strings.Contains(o, "ReaperDeadlock") {
				t.Fatalf("check: status %d\n%s%s", status, o, e)
			}
			t.Log("\n" + o)
			status, o, e = capture(t, "repair", "-yes", "-state", "always", "-state-file", "", "-dir", t.TempDir(), pid)
			if status != exitOK || !strings.Contains(o, "repaired (ReaperDeadlock)") {
				t.Fatalf("repair: status %d\n%s%s", status, o, e)
			}
			t.Log("\n" + o)
		})
	}
}
