// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"testing"
	"time"

	"containerd-shim.v1/integration/harness/wait"
)

const (
	floodSize = 400
	stormSize = 1000
	// A shim that hangs does so for ever, so the limits are generous: for machines that
	// take a third of a second of CPU time to start a client and a runc.
	floodLimit = 4 * time.Minute
	stormLimit = 6 * time.Minute
	// roundLimit bounds a flood with all the waits after it.
	roundLimit = 8 * time.Minute
)

// judge fails the test for every problem of a report.
func judge(t *testing.T, report *Report, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Log(report)
	for _, p := range report.Problems() {
		t.Error(p)
	}
}

// calm fails the test unless the container is still listed as running.
func calm(t *testing.T, r *Rig, id string) {
	t.Helper()
	if got := statusOn(t, r, id); got != "RUNNING" {
		t.Errorf("afterwards `ctr tasks ls` says %s, want RUNNING", got)
	}
}

// B01, B02: the incident. With Debian's shim most of these execs fail.
func TestFloodOfCtrExecs(t *testing.T) {
	r := ownRig(t)
	idle(t, r, "flood")
	report, err := r.Flood(limited(t, roundLimit), Flood{Container: "flood", N: floodSize, Prefix: "f", Limit: floodLimit})
	judge(t, report, err)
	calm(t, r, "flood")
}

// The same, but all 400 are alive at the same time and then exit together.
func TestFloodOfCtrExecsThatEndTogether(t *testing.T) {
	r := ownRig(t)
	idle(t, r, "gated")
	report, err := r.Flood(limited(t, roundLimit), Flood{Container: "gated", N: floodSize, Prefix: "g", Gated: true, Limit: floodLimit})
	judge(t, report, err)
	calm(t, r, "gated")
	if report.Peak != floodSize {
		t.Errorf("got %d in flight at most, want %d", report.Peak, floodSize)
	}
}

func TestStormOfExecsStraightToTheShim(t *testing.T) {
	r := ownRig(t)
	idle(t, r, "storm")
	shim, err := r.Shim(r.Name, "storm")
	if err != nil {
		t.Fatal(err)
	}
	// Without a dump goroutines cannot be counted, but the storm can be judged.
	before, dumpErr := shim.Goroutines()
	if dumpErr != nil {
		t.Error(dumpErr)
	}
	report, err := r.Storm(limited(t, roundLimit), Storm{Container: "storm", N: stormSize, Limit: stormLimit})
	judge(t, report, err)
	calm(t, r, "storm")
	if dumpErr != nil {
		return
	}
	after := 0
	if !wait.Until(shimSettles, func() bool {
		after, err = shim.Goroutines()
		return err != nil || after <= before
	}) || err != nil {
		t.Errorf("%d goroutines before, %d after: %v", before, after, err)
	}
}
