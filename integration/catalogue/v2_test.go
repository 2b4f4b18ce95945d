// SPDX-License-Identifier: Apache-2.0

package catalogue_test

import (
	"os"
	"path/filepath"
	"testing"

	"containerd-shim.v1/integration/catalogue"
	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/suite"
)

// debianV2 is the v2 shim of Debian's package containerd.
const debianV2 = "/usr/bin/containerd-shim-runc-v2"

// TestV2 runs some checks of each sort on a v2 shim, which must do what it is known for.
func TestV2(t *testing.T) {
	release := catalogue.Release(debianV2)
	for _, pattern := range []string{"B19b", "B23", "B32c", "B66", "V02", "V03", "V04", "V06", "V07", "V08", "V09", "V10b", "V11", "V12"} {
		check := catalogue.Matching(pattern)[0]
		t.Run(check.ID, func(t *testing.T) {
			t.Parallel()
			want, ok := catalogue.Expected(release, check.ID)
			if !ok || !check.Asks(true) {
				t.Fatalf("%s has no verdict of %q", check, release)
			}
			r := suite.Result(t, debianV2, "v2-"+check.ID, check.Limit, check.Run)
			if r.Verdict != want { // once more, as by shimverify: on a busy host a pod may get two shims
				r = suite.Result(t, debianV2, "again-"+check.ID, check.Limit, check.Run)
			}
			if r.Verdict != want {
				t.Errorf("%s: %s %q, want %s", check, r.Verdict, r.Messages, want)
			}
		})
	}
}

// TestNoCheckPassesWithoutAV2Shim: neither do those that only v2 shims are asked.
func TestNoCheckPassesWithoutAV2Shim(t *testing.T) {
	none := filepath.Join(t.TempDir(), "containerd-shim-none-v2")
	if err := os.WriteFile(none, []byte("#!/bin/sh\necho Version: 1.0\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, check := range catalogue.All() {
		if !check.V2Only {
			continue
		}
		if r := suite.Result(t, none, "none-"+check.ID, check.Limit, check.Run); r.Verdict != harness.Fail {
			t.Errorf("%s: %s %q", check, r.Verdict, r.Messages)
		}
	}
}
