// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"errors"
	"fmt"

	events "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// viaTTRPC forwards e over ADDRESS.ttrpc.
func viaTTRPC(ctx context.Context, address string, e *types.Envelope) error {
	conn, release, err := dial(ctx, ttrpcAddress(address))
	if err != nil {
		return err
	}
	defer release()
	client := ttrpc.NewClient(conn)
	defer client.Close() // the answer is in
	_, err = events.NewEventsClient(client).Forward(ctx, &events.ForwardRequest{Envelope: e})
	if err == nil {
		return nil
	}
	err = fmt.Errorf("ttrpc forward to %s: %w", address, err)
	switch c := status.Code(err); {
	case c == codes.Unimplemented || c == codes.NotFound:
		return fmt.Errorf("%w: %w", err, errUnsupported)
	case errors.Is(err, ttrpc.ErrClosed):
		return fmt.Errorf("%w: %w", err, errHungUp) // its gRPC socket may let us in
	}
	return err
}

func ttrpcAddress(address string) string {
	if address == "" {
		return ""
	}
	return address + ".ttrpc"
}
