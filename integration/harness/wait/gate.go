// SPDX-License-Identifier: Apache-2.0

package wait

import (
	"fmt"
	"os"
	"syscall"
)

// Gate is a FIFO that somebody waits for in open(2), which blocks until the
// other end is opened.
type Gate struct {
	path string
	open *os.File
}

// NewGate makes a gate, which is closed. Whoever makes it closes it.
func NewGate(path string) (*Gate, error) {
	if err := syscall.Mkfifo(path, 0o666); err != nil {
		return nil, fmt.Errorf("make gate %s: %w", path, err)
	}
	return &Gate{path: path}, nil
}

// Open lets everybody pass, whoever waits now or comes later: a FIFO that is open for
// reading and writing blocks nobody. The garbage collector closes a gate that
// nothing refers to.
func (g *Gate) Open() error {
	if g.open != nil {
		return nil
	}
	f, err := os.OpenFile(g.path, os.O_RDWR, 0)
	g.open = f
	return err
}

// Close shuts the gate for those that come later.
func (g *Gate) Close() error {
	if g.open == nil {
		return nil
	}
	err := g.open.Close()
	g.open = nil
	return err
}
