// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"

	"containerd-shim.v1/proc/internal/errclass"
)

// WhileExhausted is errclass.WhileExhausted, for package shim, too.
func WhileExhausted[T any](ctx context.Context, fn func() (T, error)) (T, error) {
	return errclass.WhileExhausted(ctx, fn)
}
