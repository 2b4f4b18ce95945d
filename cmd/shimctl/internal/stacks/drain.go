// SPDX-License-Identifier: Apache-2.0

package stacks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/internal/stackdump"
)

// drain reads a shim's log FIFO for as long as nobody else does. A nil drain
// does nothing.
type drain struct {
	f    *os.File
	done chan struct{} // closed by the reading goroutine when it ends

	mu   sync.Mutex
	text []byte
}

// openDrain opens shim.stdout.log when the shim has it open and no other
// process does, and reads whatever comes from now on.
func openDrain(root string, s *scan.Shim) *drain {
	name := logFIFO(root, s)
	if name == "" || hasReader(root, s) {
		return nil
	}
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		_ = f.Close()
		return nil
	}
	d := &drain{f: f, done: make(chan struct{})}
	go d.read()
	return d
}

// logFIFO is a path of the shim's log FIFO, through one of its descriptors:
// the work directory may be in another mount namespace, or be gone.
func logFIFO(root string, s *scan.Shim) string {
	dir := filepath.Join(root, strconv.Itoa(s.PID), "fd")
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		if to, err := os.Readlink(name); err == nil && strings.HasSuffix(to, "/shim.stdout.log") {
			return name
		}
	}
	return ""
}

// hasReader looks for another process with the same FIFO open; containerd has,
// unless it is down or of a release that does not drain it.
func hasReader(root string, s *scan.Shim) bool {
	want := filepath.Join(s.Workdir, "shim.stdout.log")
	fds, _ := filepath.Glob(filepath.Join(root, "[0-9]*", "fd", "*"))
	own := filepath.Join(root, strconv.Itoa(s.PID)) + "/"
	self := filepath.Join(root, strconv.Itoa(os.Getpid())) + "/"
	for _, fd := range fds {
		if strings.HasPrefix(fd, own) || strings.HasPrefix(fd, self) {
			continue
		}
		if to, err := os.Readlink(fd); err == nil && to == want {
			return true
		}
	}
	return false
}

func (d *drain) read() {
	defer close(d.done)
	b := make([]byte, 64<<10)
	for {
		n, err := d.f.Read(b)
		d.mu.Lock()
		if len(d.text) < maxDump {
			d.text = append(d.text, b[:n]...)
		}
		d.mu.Unlock()
		if err != nil {
			return // closed by close, or the shim has ended
		}
	}
}

// collect sends SIGUSR1 and waits for the end of the dump.
func (d *drain) collect(ctx context.Context, s *scan.Shim) ([]byte, error) {
	if d == nil {
		return nil, errors.New("no log FIFO of which we could be the only reader")
	}
	if err := sendUSR1(s); err != nil {
		return nil, fmt.Errorf("signal: %w", err)
	}
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		d.mu.Lock()
		text := bytes.Clone(d.text)
		d.mu.Unlock()
		if i := bytes.LastIndex(text, []byte(stackdump.BeginMark)); i >= 0 && bytes.Contains(text[i:], []byte(stackdump.EndMark)) {
			return text, nil
		}
		select {
		case <-ctx.Done():
			if len(text) > 0 {
				return text, nil // incomplete, and said to be
			}
			return nil, errNothing
		case <-tick.C:
		}
	}
}

func (d *drain) close() {
	if d == nil {
		return
	}
	_ = d.f.Close()
	<-d.done
}

// Drain reads the shim's log FIFO until stop is called, if it has one and nobody else
// does: a shim whose FIFO is full writes no dump.
func Drain(root string, s *scan.Shim) (stop func()) {
	d := openDrain(root, s)
	return d.close
}
