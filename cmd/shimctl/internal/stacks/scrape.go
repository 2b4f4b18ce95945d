// SPDX-License-Identifier: Apache-2.0

package stacks

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/cmd/shimctl/internal/ptrace"
	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/stackdump"
)

// scrapeEvery is the pause between two searches of the shim's memory.
const scrapeEvery = 20 * time.Millisecond

// window is how much memory is read at once: a shim has a few megabytes, but
// any Go program may call itself one.
const window = 16 << 20

// area is a range of resident private memory.
type area struct{ start, end uintptr }

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
	areas, err := resident(pid)
	if err != nil {
		return nil, err
	}
	if len(areas) == 0 {
		return nil, fmt.Errorf("no readable memory: %w", unix.EPERM)
	}
	found := map[uintptr][]byte{}
	b := make([]byte, window)
	for _, a := range areas {
		for a.start < a.end {
			if ctx.Err() != nil {
				return nil, errNothing
			}
			part := b[:min(window, a.end-a.start)]
			if ptrace.Read(pid, part, a.start) { // else unmapped or freed meanwhile
				search(pid, part, a, found)
			}
			if a.start += uintptr(len(part)); a.start < a.end {
				a.start -= uintptr(len(stackdump.BeginMark)) // one may lie across
			}
		}
	}
	return found, nil
}

// search finds the dumps that begin in b, which is the beginning of the area.
func search(pid int, b []byte, a area, found map[uintptr][]byte) {
	for at := 0; ; at += len(stackdump.BeginMark) {
		i := bytes.Index(b[at:], []byte(stackdump.BeginMark))
		if i < 0 {
			return
		}
		at += i
		from := a.start + uintptr(at)
		text := record(b[at:])
		if text == nil && a.start+uintptr(len(b)) < a.end { // its end may be behind b
			whole := make([]byte, min(maxDump, a.end-from))
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

// resident lists the present pages of the private anonymous rw mappings.
func resident(pid int) ([]area, error) {
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, err
	}
	defer maps.Close()
	pagemap, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", pid))
	if err != nil {
		return nil, err
	}
	defer pagemap.Close()
	var areas []area
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		f := strings.Fields(lines.Text()) // range, rights, offset, device, inode, name
		if len(f) < 5 || f[1] != "rw-p" || f[4] != "0" {
			continue
		}
		var a area
		if _, err := fmt.Sscanf(f[0], "%x-%x", &a.start, &a.end); err == nil {
			areas = append(areas, present(pagemap, a)...)
		}
	}
	return areas, lines.Err()
}

// present cuts an area down to its resident runs: a Go heap reserves 64 MiB and
// uses one. Bit 63 of a pagemap entry says that the page is in memory.
func present(pagemap *os.File, a area) (runs []area) {
	page := uintptr(os.Getpagesize())
	const chunk = 4096
	entries := make([]byte, 8*chunk)
	inRun := false
	for at := a.start; at < a.end; at += chunk * page {
		n := min(chunk, int((a.end-at)/page))
		if _, err := pagemap.ReadAt(entries[:8*n], int64(at/page)*8); err != nil {
			return runs
		}
		for i := range n {
			here := at + uintptr(i)*page
			switch in := binary.NativeEndian.Uint64(entries[8*i:])>>63 == 1; {
			case in && inRun:
				runs[len(runs)-1].end = here + page
			case in:
				runs = append(runs, area{here, here + page})
				inRun = true
			default:
				inRun = false
			}
		}
	}
	return runs
}
