// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// decodeOptions reads an Any that holds a message of m's type. containerd's
// type URLs are bare message names; a prefix up to a slash is accepted too. An
// absent Any, or an empty one, means the defaults.
func decodeOptions(a *anypb.Any, m proto.Message) error {
	if a == nil || a.TypeUrl == "" && len(a.Value) == 0 {
		return nil
	}
	want := string(m.ProtoReflect().Descriptor().FullName())
	name := a.TypeUrl[strings.LastIndexByte(a.TypeUrl, '/')+1:]
	if name != want {
		return fmt.Errorf("options of type %q, want %q: %w", a.TypeUrl, want, errdefs.ErrInvalidArgument)
	}
	if err := proto.Unmarshal(a.Value, m); err != nil {
		return fmt.Errorf("options of type %q: %w: %w", a.TypeUrl, err, errdefs.ErrInvalidArgument)
	}
	return nil
}

// encodeAny is the reverse, with a bare name.
func encodeAny(m proto.Message) (*anypb.Any, error) {
	value, err := proto.Marshal(m)
	if err != nil {
		return nil, err
	}
	return &anypb.Any{TypeUrl: string(m.ProtoReflect().Descriptor().FullName()), Value: value}, nil
}
