// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"runtime"
	"sync"
	"time"
)

const (
	// startsPerCPU is how many exec starts run at once for each CPU. A start
	// costs the CPU time of one runc; more of them at once only take more memory,
	// of the shim and of runc, and more threads (ARCHITECTURE.md, Memory and
	// threads), and are no faster: docs/performance.md, Floods.
	startsPerCPU = 2
	// youngStart is how long a start counts. One that takes longer hangs or waits
	// for something, and must not hold up the others.
	youngStart = 2 * time.Second
)

// admission spreads a burst of exec starts over time.
type admission chan struct{}

func newAdmission() admission { return make(admission, startsPerCPU*runtime.NumCPU()) }

// enter waits until a start may begin, and returns the function to call when it has
// ended. A start that has run for youngStart no longer counts.
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
