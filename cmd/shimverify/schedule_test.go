// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"containerd-shim.v1/integration/catalogue"
	"containerd-shim.v1/integration/harness"
)

// TestWhatWasNotBegunIsReported: in the reports of an interrupted run the checks that were
// not begun were absent, so that they were all green.
func TestWhatWasNotBegunIsReported(t *testing.T) {
	const any = "/bin/true" // nothing is run
	cfg, err := harness.Setup(any, any, any)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Interrupt()
	var jobs []job
	for _, check := range catalogue.All()[:2] {
		jobs = append(jobs, job{cfg: cfg, path: any, name: check.ID, check: check})
	}
	out := work(jobs, 1, func(j job) { t.Errorf("%s was begun", j.check) }, func(job, outcome) {})
	if err := cfg.Close(); err != nil {
		t.Error(err)
	}
	if suite := junitOf(t, out, byVerdict).Suites[0]; suite.Tests != 2 || suite.Errors != 2 {
		t.Errorf("%d cases, %d errors, want 2 and 2", suite.Tests, suite.Errors)
	}
}
