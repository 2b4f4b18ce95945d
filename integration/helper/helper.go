// SPDX-License-Identifier: Apache-2.0

// Package helper lets one static executable play every part that the harness
// needs beside the shim: the container's init, the fake OCI runtime, the
// daemon's publish command, and a logging process. The part is chosen by the name it is started
// under, so a symbolic link is all that it takes to make one.
package helper

import (
	"os"
	"path/filepath"

	"containerd-shim.v1/integration/fakerunc"
	"containerd-shim.v1/integration/logger"
	"containerd-shim.v1/integration/publish"
	"containerd-shim.v1/integration/testinit"
)

// The names under which an executable that calls Dispatch plays a part.
const (
	Testinit  = "testinit"
	Fakerunc  = "fakerunc"
	Publisher = "shimverify-publish"
	Logger    = "shimverify-logger"

	// Renamed is the publisher under the name that docker gave the daemon
	// before 18.09.
	Renamed = "docker-containerd"
)

// Dispatch plays the part that argv[0] names and exits, or returns when
// argv[0] is none of them. It is the first call of a main function.
func Dispatch() {
	switch filepath.Base(os.Args[0]) {
	case Testinit:
		os.Exit(testinit.Main(os.Args[1:]))
	case Fakerunc:
		os.Exit(fakerunc.Main(os.Args))
	case Publisher, Renamed:
		os.Exit(publish.Main(os.Args))
	case Logger:
		os.Exit(logger.Main(os.Args[1:]))
	}
}
