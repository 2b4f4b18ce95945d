// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ttrpc tells the shim the limit, too: its word that it is over may come before the own clock says so.
func TestLimitThatTheShimTells(t *testing.T) {
	a := call(t.Context(), time.Hour, func(context.Context) error { return status.Error(codes.DeadlineExceeded, "") })
	if !a.TimedOut || a.OK || a.Err != "" {
		t.Errorf("got %+v", a)
	}
}
