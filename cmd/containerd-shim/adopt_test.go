// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// TestNoListenerCanStandStill: the program of a shim that has lost its listener can
// be exchanged all the same.
func TestNoListenerCanStandStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l interface {
			net.Listener
			SetDeadline(time.Time) error
		} = newNoListener()
		accepted := make(chan error)
		go func() { _, err := l.Accept(); accepted <- err }()
		for range 2 {
			if err := l.SetDeadline(time.Time{}); err != nil {
				t.Error(err)
			}
			synctest.Wait()
			select {
			case err := <-accepted:
				t.Fatalf("accepted: %v", err)
			default:
			}
		}
		if err := errors.Join(l.SetDeadline(time.Unix(1, 0)), l.SetDeadline(time.Unix(1, 0))); err != nil {
			t.Error(err)
		}
		if err := <-accepted; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}
