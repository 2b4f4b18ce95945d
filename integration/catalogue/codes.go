// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"containerd-shim.v1/integration/harness"
)

// The classes of errors that daemons tell apart.
const (
	notFound     = codes.NotFound
	precondition = codes.FailedPrecondition
	exists       = codes.AlreadyExists
	invalid      = codes.InvalidArgument
)

// code is the class of an RPC's error.
func code(err error) codes.Code { return status.Code(err) }

// wantCode records an error of another class, or none.
func wantCode(c *harness.Case, what string, err error, want codes.Code) {
	if got := code(c.Prompt(err)); got != want {
		c.Errorf("%s: %v (%v), want %v", what, got, err, want)
	}
}
