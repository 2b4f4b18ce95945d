// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"runtime"
	"sync"
	"time"
)

const (
	// startsPerCPU is how many exec starts run at once for each CPU. A start is
	// the CPU time of a runc; more of them at once only cost memory, the shim's
	// and runc's.
	startsPerCPU = 4
	// youngStart is for how long a start counts. One that takes longer hangs or
	// waits for something, and must hold up nobody else.
	youngStart = 2 * time.Second
)

// admission spreads a burst of exec starts over time.
type admission chan struct{}

func newAdmission() admission { return make(admission, startsPerCPU*runtime.NumCPU()) }

// enter waits until a start may begin and returns what ends it. Nobody waits
// for a start that has run for youngStart.
func (a admission) enter(ctx context.Context) (leave func(), err error) {
	select {
	case a <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	var once sync.Once
	release := func() { once.Do(func() { <-a }) }
	timer := time.AfterFunc(youngStart, release)
	return func() { timer.Stop(); release() }, nil
}
