// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"

	"containerd-shim.v1/proc/internal/errclass"
)

// Exhausted is errclass.Exhausted, for others, too.
func Exhausted(err error) bool { return errclass.Exhausted(err) }

// WhileExhausted is errclass.WhileExhausted, for others, too.
func WhileExhausted[T any](ctx context.Context, fn func() (T, error)) (T, error) {
	return errclass.WhileExhausted(ctx, fn)
}
