// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/shim"
)

// Upgrade asks a shim of this project to exchange its program for binary, a path
// as the shim sees it, and returns the version that the new program tells of
// itself. After an error that the shim answers with, or an ErrConnect, the old one runs on, unharmed. After
// any other, also at the limit, either may run, or the shim has ended.
func Upgrade(ctx context.Context, root string, s *scan.Shim, binary string, limit time.Duration) (version string, err error) {
	conn, err := dial(root, s, limit)
	if err != nil {
		return "", err
	}
	client := ttrpc.NewClient(conn)
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var answer wrapperspb.StringValue
	err = client.Call(ctx, shim.UpgradeService, shim.UpgradeMethod, wrapperspb.String(binary), &answer)
	if status.Code(err) == codes.Unimplemented {
		err = fmt.Errorf("its program is too old to exchange itself: %w", err)
	}
	return answer.Value, err
}

// Busy reports whether err of Upgrade says that the shim is at work: it may be asked
// again.
func Busy(err error) bool { return status.Code(err) == codes.Unavailable }
