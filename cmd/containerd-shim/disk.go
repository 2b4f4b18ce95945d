// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"time"

	"github.com/containerd/errdefs"
)

// disk is where something may hang. It is used by one goroutine.
type disk struct {
	hung <-chan struct{} // closed when what hung is over; nil if nothing hung
}

// do calls fn and waits for it, until limit has passed. While it still hangs nothing
// else is done.
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
