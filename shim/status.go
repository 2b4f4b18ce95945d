// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"strings"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// maxStatusText, in bytes, keeps a reply far below ttrpc's limit of 4 MiB a message.
const maxStatusText = 16 << 10

// toStatus turns an error into what goes over the wire. It is the only place
// where a class becomes a code. An error without a class is Internal: Unknown
// would say that nobody thought about it.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	return status.Error(codeOf(err), safeText(err.Error()))
}

func codeOf(err error) codes.Code {
	switch {
	case errdefs.IsResourceExhausted(err):
		return codes.ResourceExhausted
	case errdefs.IsInvalidArgument(err):
		return codes.InvalidArgument
	case errdefs.IsNotFound(err):
		return codes.NotFound
	case errdefs.IsAlreadyExists(err):
		return codes.AlreadyExists
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	case errdefs.IsFailedPrecondition(err):
		return codes.FailedPrecondition
	case errdefs.IsUnavailable(err):
		return codes.Unavailable
	case errdefs.IsPermissionDenied(err):
		return codes.PermissionDenied
	}
	return codes.Internal
}

// safeText makes s fit for a reply: shortened, and valid UTF-8. A status message
// that is not UTF-8 cannot be encoded, and the server would close the connection.
func safeText(s string) string {
	if len(s) > maxStatusText {
		s = s[:maxStatusText]
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
