// SPDX-License-Identifier: Apache-2.0

// Package poll waits, in tests, for what nothing announces: a file, a state of
// another process, a goroutine that has come to where it waits.
package poll

import "time"

// pause is how often a condition is looked at.
const pause = time.Millisecond

// Until looks at cond until it holds, and reports whether it did within limit.
func Until(limit time.Duration, cond func() bool) bool {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	over := time.NewTimer(limit)
	defer over.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-over.C:
			return cond()
		}
	}
	return true
}
