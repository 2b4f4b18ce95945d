// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestCodeOfEachClass(t *testing.T) {
	for _, c := range []struct {
		err  error
		want codes.Code
	}{
		{errdefs.ErrInvalidArgument, codes.InvalidArgument},
		{errdefs.ErrNotFound, codes.NotFound},
		{errdefs.ErrAlreadyExists, codes.AlreadyExists},
		{errdefs.ErrFailedPrecondition, codes.FailedPrecondition},
		{errdefs.ErrUnavailable, codes.Unavailable},
		{errdefs.ErrPermissionDenied, codes.PermissionDenied},
		{errdefs.ErrResourceExhausted, codes.ResourceExhausted},
		{errdefs.ErrInternal, codes.Internal},
		{errdefs.ErrUnknown, codes.Internal},
		{context.DeadlineExceeded, codes.DeadlineExceeded},
		{context.Canceled, codes.Canceled},
		{errors.New("no class"), codes.Internal},
	} {
		for _, err := range []error{c.err, fmt.Errorf("op: %w", c.err), errors.Join(errors.New("other"), c.err)} {
			got := toStatus(err)
			if status.Code(got) != c.want || status.Code(got) == codes.Unknown {
				t.Errorf("%q: code %v, want %v", err, status.Code(got), c.want)
			}
			if status.Convert(got).Message() != err.Error() {
				t.Errorf("%q became %q", err, status.Convert(got).Message())
			}
		}
	}
	if err := toStatus(nil); err != nil {
		t.Errorf("toStatus(nil) = %v", err)
	}
}

// TestAnyTextIsSafe is contract §2.3: a status that is not UTF-8, or too long,
// would close the connection, and the daemon would give the task up.
func TestAnyTextIsSafe(t *testing.T) {
	for _, text := range []string{
		"\xff\xfe runc \x80", strings.Repeat("\xff", 1<<20), strings.Repeat("a\xff", 1<<20),
		strings.Repeat("x", maxStatusText-1) + "é", strings.Repeat("é", 1<<20), "100% done %d",
	} {
		got := status.Convert(toStatus(errors.New(text))).Message()
		if !utf8.ValidString(got) || len(got) > 3*maxStatusText || got == "" {
			t.Errorf("%.20q: %d bytes, valid %v", text, len(got), utf8.ValidString(got))
		}
	}
	r := newRig(t, false)
	r.run()
	for _, text := range []string{"broken \xff\xc3", strings.Repeat("long ", 200_000)} {
		r.runtime.on("pause", func(string) error { return errors.New(text) })
		_, err := r.client.Pause(r.ctx(), empty)
		if status.Code(err) != codes.Internal || !strings.Contains(err.Error(), text[:5]) {
			t.Errorf("pause: %.100v", err)
		}
	}
	if got := r.state(containerID).ID; got != containerID {
		t.Errorf("State after it: %q", got)
	}
}
