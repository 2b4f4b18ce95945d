// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/containerd/console"
	"golang.org/x/sys/unix"

	"containerd-shim.v1/cmd/shimctl/internal/sanitize"
	"containerd-shim.v1/cmd/shimctl/internal/scan"
)

// On a terminal the line stands while a shim is upgraded, and is gone when the result
// is printed; a file gets nothing.
func TestProgress(t *testing.T) {
	master, path, err := console.NewPty()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	slave, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := scan.Shim{Namespace: "moby", ID: "a\x1b]0;b", PID: 7}
	b := progress{to: sanitize.Writer{W: slave}, total: 3}
	b.at(1, &s)
	b.clear()
	if err := slave.Close(); err != nil { // what was written can be read still
		t.Fatal(err)
	}
	got, err := io.ReadAll(master) // a hung up terminal ends with EIO
	if want := "2 of 3: moby/a?]0;b pid 7\r\x1b[K"; !errors.Is(err, unix.EIO) || string(got) != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	var file bytes.Buffer
	b.to.W = &file
	b.at(1, &s)
	b.clear()
	if file.Len() > 0 {
		t.Errorf("got %q", file.String())
	}
}
