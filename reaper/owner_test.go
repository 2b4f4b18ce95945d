// SPDX-License-Identifier: Apache-2.0

package reaper

import (
	"context"
	"testing"
	"time"
)

// A process's owner is told of its exit once, whether the process was claimed
// before its death or after it, and the numbers are those of the deaths.
func TestOwnerIsToldOnce(t *testing.T) {
	sub := testReaper.Subscribe()
	defer sub.Close()
	ticket := testReaper.Begin()
	defer ticket.Close()

	from := testReaper.Reaped()
	early := roleCmd("exit", "1")
	if err := early.Start(); err != nil {
		t.Fatal(err)
	}
	reapedAfter(t, from, 1)
	late := roleCmd("exit", "2")
	if err := late.Start(); err != nil {
		t.Fatal(err)
	}
	c, err := ticket.Claim(late.Process.Pid, time.Time{}, "late")
	if err != nil {
		t.Fatal(err)
	}
	waitExit(t, c)
	if _, err := ticket.Claim(early.Process.Pid, time.Time{}, "early"); err != nil {
		t.Fatal(err)
	}

	told := map[any]Exit{}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for len(told) < 2 {
		e, err := sub.Next(ctx)
		if err != nil {
			t.Fatalf("told of %v only: %v", told, err)
		}
		if e.Owner == nil {
			continue
		}
		if _, again := told[e.Owner]; again {
			t.Errorf("%v is told twice", e.Owner)
		}
		told[e.Owner] = e
	}
	if told["early"].Status != 1 || told["late"].Status != 2 || told["early"].Seq >= told["late"].Seq {
		t.Errorf("got %+v", told)
	}
	if e, ok := sub.Pop(); ok {
		t.Errorf("one more: %+v", e)
	}
}
