// SPDX-License-Identifier: Apache-2.0

package catalogue_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"containerd-shim.v1/integration/catalogue"
	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/client"
	"containerd-shim.v1/integration/harness/fakeruntime"
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

// TestExplainSaysWhichContainerHangs: `shimctl explain` of a v2 shim, in which State of one
// container waits for the runc of another, names the lock and that other one.
func TestExplainSaysWhichContainerHangs(t *testing.T) {
	shimctl := filepath.Join(t.TempDir(), "shimctl")
	build := exec.Command("go", "build", "-o", shimctl, "./cmd/shimctl")
	build.Dir = suite.Module(t)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build shimctl: %v: %s", err, out)
	}
	hang := func(c *harness.Case) {
		pod := harness.Container{Edit: func(s *specs.Spec) { s.Annotations = map[string]string{"io.kubernetes.cri.sandbox-id": "pod"} }}
		first := c.Fixture(harness.Options{Container: pod})
		first.Up()
		second := c.Fixture(harness.Options{Container: pod, With: first, Fake: []fakeruntime.Rule{
			{Verb: "create", Steps: []fakeruntime.Step{{Op: fakeruntime.Gate, Name: "slow"}, {Op: fakeruntime.Real}}},
		}})
		create := client.Async("Create", func() error {
			_, err := second.Within(time.Minute).CreateTask(second.CreateRequest(harness.IO{}))
			return err
		})
		c.Await(10*time.Second, "runc create is at its gate", func() bool { return second.Fake.Arrived("slow") > 0 })
		state := client.Async("State", func() error {
			_, err := first.Within(time.Minute).State(first.ID)
			return err
		})
		c.Await(20*time.Second, "explain names the lock and the container", func() bool {
			out, _ := exec.Command(shimctl, "explain", strconv.Itoa(first.Shim.Pid)).CombinedOutput()
			c.Logf("%s", out)
			return strings.Contains(string(out), "RuncHoldsService (B06)") && strings.Contains(string(out), ", create of "+second.ID)
		})
		c.Need(second.Fake.Gate("slow").Open(), "open gate")
		c.Must(create.Await(20*time.Second), "Create")
		c.Must(state.Await(20*time.Second), "State")
	}
	r := suite.Result(t, debianV2, "v2-explain", time.Minute, hang)
	if r.Verdict != harness.Pass { // once more: on a busy host a pod may get two shims
		r = suite.Result(t, debianV2, "v2-explain-again", time.Minute, hang)
	}
	if r.Verdict != harness.Pass {
		t.Errorf("%s %q", r.Verdict, r.Messages)
	}
}
