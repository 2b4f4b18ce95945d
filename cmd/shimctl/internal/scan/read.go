// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// MaxFile bounds the small files of a bundle. A config.json with thousands of
// mounts has a few hundred kilobytes.
const MaxFile = 4 << 20

// ReadFile reads a regular file of at most limit bytes in a directory that is not
// trusted: a process that calls itself a shim chooses its own working directory
// and root. A FIFO there would block the reader forever, /dev/zero would fill its
// memory, and a symbolic link could lead to any file of the host.
func ReadFile(name string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, limit)
	}
	return b, err
}
