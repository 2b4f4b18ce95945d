// SPDX-License-Identifier: Apache-2.0

package poll

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestUntil(t *testing.T) {
	for name, tt := range map[string]struct {
		holds, limit, took time.Duration
		want               bool
	}{
		"at once":  {0, time.Second, 0, true},
		"in time":  {500 * time.Millisecond, time.Second, 500 * time.Millisecond, true},
		"too late": {2 * time.Second, time.Second, time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				got := Until(tt.limit, func() bool { return time.Since(begin) >= tt.holds })
				if took := time.Since(begin); got != tt.want || took != tt.took {
					t.Errorf("%v after %v, want %v after %v", got, took, tt.want, tt.took)
				}
			})
		})
	}
}
