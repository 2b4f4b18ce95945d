// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// gate is a FIFO in a container's root file system. Whoever opens it for
// reading waits until the gate is opened, and all go on at the same moment.
// The bundle's rootfs is the very mount that the container has as its root.
type gate struct{ path string }

func newGate(shim *Shim) (*gate, error) {
	g := &gate{filepath.Join(shim.Bundle, "rootfs", "gate")}
	if err := syscall.Mkfifo(g.path, 0o666); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("gate: %w", err)
	}
	return g, nil
}

// open lets everybody through who waits now or comes before done is closed.
// Opening for writing without blocking fails with ENXIO while nobody waits.
func (g *gate) open(done <-chan struct{}) error {
	for {
		f, err := os.OpenFile(g.path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		if err == nil {
			err = f.Close() // the readers see the end of the file
		}
		if err != nil && !errors.Is(err, syscall.ENXIO) {
			return fmt.Errorf("gate: %w", err)
		}
		select {
		case <-done:
			return nil
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// through is a shell command that waits at the gate and exits with code.
func through(code uint32) string { return fmt.Sprintf("read x </gate; exit %d", code) }
