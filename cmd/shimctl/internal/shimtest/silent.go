// SPDX-License-Identifier: Apache-2.0

package shimtest

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Silent mounts a file system on an empty directory whose server never answers: whoever
// asks it for anything waits until the test ends.
func Silent(t testing.TB, dir string) {
	t.Helper()
	server, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	must(t, err)
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", server.Fd())
	if err := unix.Mount("silent", dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		server.Close()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// Whoever waits for an answer gets ENOTCONN.
		if err := errors.Join(server.Close(), unix.Unmount(dir, unix.MNT_DETACH)); err != nil {
			t.Error(err)
		}
	})
}
