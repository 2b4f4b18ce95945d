// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

func TestIsV2(t *testing.T) {
	for path, want := range map[string]bool{
		"/usr/bin/containerd-shim": false, "/usr/bin/containerd-shim-runc-v2": true, "containerd-shim-kata-v2": true,
		"/x/containerd-shim-runc-v2/containerd-shim": false, "containerd-shim-v2": false,
	} {
		if got := IsV2(path); got != want {
			t.Errorf("IsV2(%q) = %v, want %v", path, got, want)
		}
	}
}

// TestParseBootstrap: the three forms in which shims have said their address.
func TestParseBootstrap(t *testing.T) {
	message := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 3)
	message = protowire.AppendString(protowire.AppendTag(message, 2, protowire.BytesType), "unix:///s")
	message = protowire.AppendString(protowire.AppendTag(message, 3, protowire.BytesType), "ttrpc")
	for said, want := range map[string]int{
		"unix:///s\n": 2,
		`{"version":3,"address":"unix:///s","protocol":"ttrpc"}`: 3,
		string(message): 3,
	} {
		if version, address := parseBootstrap([]byte(said)); version != want || address != "unix:///s" {
			t.Errorf("parseBootstrap(%q) = %d, %q, want %d, unix:///s", said, version, address, want)
		}
	}
	if version, address := parseBootstrap(message[:3]); version != 0 || address != "" {
		t.Errorf("half a message: %d, %q", version, address)
	}
}
