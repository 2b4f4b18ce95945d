// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// listenFD is the descriptor by which containerd passes the listening socket.
	listenFD = 3
	// maxSocketPath is upstream's limit, in bytes; sun_path has 108 (unix(7)).
	maxSocketPath = 106
)

// listen returns a listener on socket, the value of -socket, or the inherited one if
// that is empty.
func listen(socket string) (net.Listener, error) {
	if socket == "" {
		return inherited()
	}
	path, isPath := strings.CutPrefix(socket, "unix://")
	if !isPath {
		path = "\x00" + socket // an abstract name
	}
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("socket %q: longer than %d bytes", socket, maxSocketPath)
	}
	if isPath {
		// No other user may connect, not even in the moment before a chmod.
		defer unix.Umask(unix.Umask(0o177))
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("socket %q: %w", socket, err)
	}
	return l, nil
}

// inherited takes over the listener that containerd passes. The descriptor itself
// is closed: a child that inherited it would keep the socket of a dead shim open, and
// clients waiting on it. The daemon removes the socket's path.
func inherited() (net.Listener, error) {
	accepts, err := unix.GetsockoptInt(listenFD, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil || accepts == 0 {
		return nil, fmt.Errorf("file descriptor %d is not a listening socket: the shim is started by containerd, or with -socket", listenFD)
	}
	f := os.NewFile(listenFD, "socket")
	l, err := net.FileListener(f)
	_ = f.Close() // l has a duplicate, closed on exec
	if err != nil {
		return nil, fmt.Errorf("file descriptor %d: %w", listenFD, err)
	}
	return l, nil
}
