// SPDX-License-Identifier: Apache-2.0

// Package helper lets one static executable play every part that the harness
// needs beside the shim: the container's init, the fake OCI runtime, the
// daemon's publish command, the parent of a v2 shim, and a logging process. The part is chosen by the name it is started
// under, so a symbolic link is all that it takes to make one.
package helper

import (
	"os"
	"path/filepath"

	"containerd-shim.v1/integration/harness/fakedaemon/publish"
	"containerd-shim.v1/integration/harness/fakeruntime"
	"containerd-shim.v1/integration/harness/faults"
	"containerd-shim.v1/integration/harness/guest"
	"containerd-shim.v1/integration/harness/launch/starter"
)

// Dispatch plays the part that argv[0] names and exits, or returns when
// argv[0] is none of them. It is the first call of a main function.
func Dispatch() {
	switch filepath.Base(os.Args[0]) {
	case guest.InitName:
		os.Exit(guest.Init(os.Args[1:]))
	case fakeruntime.Name:
		os.Exit(fakeruntime.Main(os.Args))
	case publish.Name, publish.Renamed:
		os.Exit(publish.Main(os.Args))
	case faults.Name:
		os.Exit(faults.Main(os.Args))
	case starter.Name:
		os.Exit(starter.Main(os.Args[1:]))
	case guest.LoggerName:
		os.Exit(guest.Logger(os.Args[1:]))
	}
}
