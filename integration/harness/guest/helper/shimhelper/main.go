// SPDX-License-Identifier: Apache-2.0

// Shimhelper is the smallest executable with the harness's helpers in it. The
// tests build it (statically, so that it runs in an otherwise empty rootfs);
// shimverify has the same helpers in itself.
package main

import (
	"fmt"
	"os"

	"containerd-shim.v1/integration/harness/fakedaemon/publish"
	"containerd-shim.v1/integration/harness/fakeruntime"
	"containerd-shim.v1/integration/harness/guest"
	"containerd-shim.v1/integration/harness/guest/helper"
)

func main() {
	helper.Dispatch()
	fmt.Fprintf(os.Stderr, "shimhelper: start me as %s, %s or %s\n", guest.InitName, fakeruntime.Name, publish.Name)
	os.Exit(64)
}
