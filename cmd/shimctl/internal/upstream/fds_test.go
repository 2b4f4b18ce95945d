// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"errors"
	"os"
	"testing"
	"time"
)

// An exchange of v1.2.6 ended with "readlink /proc/PID/fd/26: no such file or directory":
// a healthy shim closes descriptors while they are read, and then the attempt is repeated.
func TestDescriptorClosedWhileReading(t *testing.T) {
	deadline := time.Now().Add(30 * time.Second)
	for seen := false; !seen; {
		if time.Now().After(deadline) {
			t.Fatal("no descriptor was closed in time to be missed")
		}
		var files []*os.File
		for range 100 {
			f, err := os.Open(os.DevNull)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, f)
		}
		go func() {
			for _, f := range files {
				_ = f.Close()
			}
		}()
		_, err := readDescriptors(os.Getpid())
		if err != nil && !errors.Is(err, ErrBusy) {
			t.Fatalf("got %v, want a busy shim", err)
		}
		seen = err != nil
	}
}
