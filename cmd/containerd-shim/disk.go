// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"time"

	"github.com/containerd/errdefs"
)

// disk does work on a disk that may hang. One goroutine uses it.
type disk struct {
	hung <-chan struct{} // closed when the call that hung has returned; nil if none hung
}

// do calls fn and returns its error. If fn does not return within limit, do returns an
// error that wraps errdefs.ErrUnavailable, fn goes on, and until it has returned every
// further do fails at once.
func (d *disk) do(limit time.Duration, fn func() error) error {
	hangs := fmt.Errorf("the disk hangs: %w", errdefs.ErrUnavailable)
	if d.hung != nil {
		select {
		case <-d.hung:
			d.hung = nil
		default:
			return hangs
		}
	}
	result, ended := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(ended)
		result <- fn()
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case err := <-result:
		return err
	case <-timer.C:
		d.hung = ended
		return hangs
	}
}
