// SPDX-License-Identifier: Apache-2.0

package wait

import (
	"strings"
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
		"at last":  {time.Second, time.Second, time.Second, true},
		"too late": {2 * time.Second, time.Second, time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				got := Until(tt.limit, func() bool { return time.Since(begin) >= tt.holds })
				if took := time.Since(begin); got != tt.want || took < tt.took || took > tt.took+tt.took/slack {
					t.Errorf("%v after %v, want %v after %v", got, took, tt.want, tt.took)
				}
			})
		})
	}
}

func TestForNamesWhatDidNotCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if err := For(time.Second, "the moon", func() bool { return false }); err == nil || !strings.Contains(err.Error(), "1s: the moon") {
			t.Errorf("got %v", err)
		}
		if err := For(time.Second, "the sun", func() bool { return true }); err != nil {
			t.Errorf("got %v", err)
		}
	})
}
