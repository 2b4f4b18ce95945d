// SPDX-License-Identifier: Apache-2.0

package catalogue_test

import (
	"os"
	"testing"

	"containerd-shim.v1/integration/catalogue"
	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/suite"
)

func TestMain(m *testing.M) { os.Exit(suite.Main(m)) }

// TestShim runs every check on the shim under test, which must pass all of them. The
// light ones run in parallel: go test begins them once the last of the others has
// ended.
func TestShim(t *testing.T) {
	for _, check := range catalogue.All() {
		if !check.Asks(suite.Config(t).V2) {
			continue
		}
		t.Run(check.ID, func(t *testing.T) {
			if check.Load == catalogue.Light {
				t.Parallel()
			}
			t.Logf("%s: %s", check.Name, check.Asserts)
			suite.Run(t, check.ID, check.Limit, check.Run)
		})
	}
}

// TestNoCheckPassesWithoutAShim: B25 once passed on /bin/true, because it accepts a
// Create that fails and leaves nothing.
func TestNoCheckPassesWithoutAShim(t *testing.T) {
	for _, check := range catalogue.All() {
		if check.V2Only {
			continue // TestNoCheckPassesWithoutAV2Shim
		}
		t.Run(check.ID, func(t *testing.T) {
			if check.Load != catalogue.Alone {
				t.Parallel() // also the heavy ones: there is no shim
			}
			if r := suite.Result(t, "/bin/true", "none-"+check.ID, check.Limit, check.Run); r.Verdict != harness.Fail {
				t.Errorf("%s: %s %q", check, r.Verdict, r.Messages)
			}
		})
	}
}
