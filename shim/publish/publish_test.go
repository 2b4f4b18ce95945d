// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/containerd/containerd/api/types"
)

// TestLimitThatTheDaemonTellsFirst is F07: a daemon that is told the limit may answer that it is
// over before this program's own timer has run. The event was then sent a third time.
func TestLimitThatTheDaemonTellsFirst(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // no timer runs while this goroutine does
	p := &Publisher{first: time.Millisecond, later: time.Hour}
	e := &types.Envelope{}
	told := func(ctx context.Context, _ string, _ *types.Envelope) error {
		for over, _ := ctx.Deadline(); time.Now().Before(over); {
		}
		return errors.New("told")
	}
	if err := p.try(t.Context(), "", e, told); !errors.Is(err, context.DeadlineExceeded) || p.unanswered != e {
		t.Errorf("got %v, unanswered %p, want %p", err, p.unanswered, e)
	}
	p.first = time.Hour
	refuses := func(context.Context, string, *types.Envelope) error { return errors.New("told") }
	if err := p.try(t.Context(), "", &types.Envelope{}, refuses); errors.Is(err, context.DeadlineExceeded) || p.unanswered != e {
		t.Errorf("one that refuses at once: %v", err)
	}
}
