// SPDX-License-Identifier: Apache-2.0

// Package wait lets tests wait for what nothing announces: a file, a state of another
// process, a goroutine that has reached the place where it blocks. It also has the
// opposite: a Gate makes another process wait.
package wait

import (
	"fmt"
	"time"
)

// A condition is looked at every millisecond at first, and less often the
// longer it has been waited for: many read all of /proc, and two processors
// have other work. A wait is at most one part in slack late.
const (
	shortest = time.Millisecond
	longest  = 20 * time.Millisecond
	slack    = 50
)

// Until polls cond until it is true, and reports whether that was within limit.
func Until(limit time.Duration, cond func() bool) bool {
	begun := time.Now()
	for {
		if cond() {
			return true
		}
		waited := time.Since(begun)
		if waited >= limit {
			return false
		}
		time.Sleep(min(limit-waited, max(shortest, min(longest, waited/slack))))
	}
}

// For is Until, but returns an error that says what was waited for.
func For(limit time.Duration, what string, cond func() bool) error {
	if Until(limit, cond) {
		return nil
	}
	return fmt.Errorf("not within %v: %s", limit, what)
}
