// SPDX-License-Identifier: Apache-2.0

package stacks

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/cmd/shimctl/internal/ptrace"
	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/internal/stackdump"
)

// scrapeEvery is the pause between two searches of the shim's memory.
const scrapeEvery = 20 * time.Millisecond

// window is how much memory is read at once: a shim has a few megabytes, but
// any Go program may call itself one.
const window = 16 << 20

// scrape sends SIGUSR1 and searches the shim's memory for a dump that was not
// there before. The heap's place is random since Go 1.26, so every private
// anonymous writable mapping is read, as far as it is resident.
func scrape(ctx context.Context, s *scan.Shim) ([]byte, error) {
	old, err := dumpsIn(ctx, s.PID)
	if err != nil {
		return nil, err
	}
	if err := sendUSR1(s); err != nil {
		return nil, fmt.Errorf("signal: %w", err)
	}
	tick := time.NewTicker(scrapeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, errNothing
		case <-tick.C:
		}
		now, err := dumpsIn(ctx, s.PID)
		if err != nil {
			return nil, err
		}
		for at, text := range now {
			if !bytes.Equal(old[at], text) {
				return text, nil
			}
		}
	}
}

// dumpsIn finds the complete dumps in a process's memory, by address.
func dumpsIn(ctx context.Context, pid int) (map[uintptr][]byte, error) {
	areas, err := ptrace.Resident(pid)
	if err != nil {
		return nil, err
	}
	if len(areas) == 0 {
		return nil, fmt.Errorf("no readable memory: %w", unix.EPERM)
	}
	found := map[uintptr][]byte{}
	b := make([]byte, window)
	for _, a := range areas {
		for a.Start < a.End {
			if ctx.Err() != nil {
				return nil, errNothing
			}
			part := b[:min(window, a.End-a.Start)]
			if ptrace.Read(pid, part, a.Start) { // else unmapped or freed meanwhile
				search(pid, part, a, found)
			}
			if a.Start += uintptr(len(part)); a.Start < a.End {
				a.Start -= uintptr(len(stackdump.BeginMark)) // one may lie across
			}
		}
	}
	return found, nil
}

// search finds the dumps that begin in b, which is the beginning of the area.
func search(pid int, b []byte, a ptrace.Area, found map[uintptr][]byte) {
	for at := 0; ; at += len(stackdump.BeginMark) {
		i := bytes.Index(b[at:], []byte(stackdump.BeginMark))
		if i < 0 {
			return
		}
		at += i
		from := a.Start + uintptr(at)
		text := record(b[at:])
		if text == nil && a.Start+uintptr(len(b)) < a.End { // its end may be behind b
			whole := make([]byte, min(maxDump, a.End-from))
			if ptrace.Read(pid, whole, from) {
				text = record(whole)
			}
		}
		if text != nil {
			found[from] = text
		}
	}
}

// record is the text from the BEGIN to the END mark. A half-overwritten buffer
// shows as a second BEGIN or as binary in between.
func record(b []byte) []byte {
	end := bytes.Index(b, []byte(stackdump.EndMark))
	if end < 0 || end > maxDump {
		return nil
	}
	text := b[:end+len(stackdump.EndMark)]
	if bytes.Contains(text[1:], []byte(stackdump.BeginMark)) || bytes.IndexByte(text, 0) >= 0 || !bytes.Contains(text, []byte("goroutine ")) {
		return nil
	}
	return bytes.Clone(text)
}
