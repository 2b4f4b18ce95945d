// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"testing"

	"github.com/containerd/errdefs"
)

func TestPanicInAVerbIsAnError(t *testing.T) {
	err := detach(t.Context(), t.Context(), func(context.Context) error { panic("boom") })
	if !errdefs.IsInternal(err) {
		t.Errorf("got %v, want an error of class Internal", err)
	}
}
