// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
)

// TestDiskThatHangs: a call that hangs holds nobody up for longer than the limit, and
// until it has returned nothing else is tried.
func TestDiskThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d disk
		want := errors.New("full")
		if err := d.do(time.Second, func() error { return want }); !errors.Is(err, want) {
			t.Errorf("got %v", err)
		}
		goOn := make(chan struct{})
		start := time.Now()
		if err := d.do(time.Second, func() error { <-goOn; return nil }); !errdefs.IsUnavailable(err) || time.Since(start) != time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		if err := d.do(time.Second, func() error { t.Error("it was tried again while it hung"); return nil }); !errdefs.IsUnavailable(err) {
			t.Errorf("while it hangs: %v", err)
		}
		close(goOn)
		synctest.Wait()
		if err := d.do(time.Second, func() error { return nil }); err != nil {
			t.Errorf("after that: %v", err)
		}
	})
}
