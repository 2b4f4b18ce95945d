// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"fmt"
	"path"
	"runtime/debug"
	"runtime/pprof"

	"github.com/containerd/errdefs"
	"github.com/containerd/ttrpc"
	"github.com/sirupsen/logrus"
)

// Interceptor wraps every call: its goroutine, and all that it starts, carry
// the method and the process id as labels, which a stack dump shows; its error
// becomes a status; a panic becomes an error, because the container must not
// lose its supervisor to one bad request.
func Interceptor(ctx context.Context, unmarshal ttrpc.Unmarshaler, info *ttrpc.UnaryServerInfo, method ttrpc.Method) (resp any, err error) {
	name := path.Base(info.FullMethod)
	defer func() {
		if r := recover(); r != nil {
			logrus.WithField("rpc", name).Errorf("panic: %v\n%s", r, debug.Stack())
			resp, err = nil, fmt.Errorf("%s: panic: %v", name, r)
		}
		if err != nil {
			resp, err = nil, toStatus(err)
		}
	}()
	labelled := func(req any) error {
		if err := unmarshal(req); err != nil {
			return fmt.Errorf("%s: %w: %w", name, err, errdefs.ErrInvalidArgument)
		}
		id := ""
		if r, ok := req.(interface{ GetID() string }); ok {
			id = r.GetID()
		}
		labels := pprof.Labels("rpc", name, "id", id)
		pprof.SetGoroutineLabels(pprof.WithLabels(ctx, labels))
		return nil
	}
	return method(ctx, labelled)
}
