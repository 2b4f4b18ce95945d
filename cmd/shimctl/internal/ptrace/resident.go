// SPDX-License-Identifier: Apache-2.0

package ptrace

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
)

// Area is a range of a process's memory, up to End exclusively.
type Area struct{ Start, End uintptr }

// Resident returns the ranges of resident pages in the process's private, anonymous,
// writable mappings.
func Resident(pid int) ([]Area, error) {
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
	var areas []Area
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		f := strings.Fields(lines.Text()) // range, rights, offset, device, inode, name
		if len(f) < 5 || f[1] != "rw-p" || f[4] != "0" {
			continue
		}
		var a Area
		if _, err := fmt.Sscanf(f[0], "%x-%x", &a.Start, &a.End); err == nil {
			areas = append(areas, present(pagemap, a)...)
		}
	}
	return areas, lines.Err()
}

// present returns the resident ranges of an area: a Go heap reserves 64 MiB and may
// use one. Bit 63 of a pagemap entry says that the page is present (proc(5)).
func present(pagemap *os.File, a Area) (runs []Area) {
	page := uintptr(os.Getpagesize())
	const chunk = 4096
	entries := make([]byte, 8*chunk)
	inRun := false
	for at := a.Start; at < a.End; at += chunk * page {
		n := min(chunk, int((a.End-at)/page))
		if _, err := pagemap.ReadAt(entries[:8*n], int64(at/page)*8); err != nil {
			return runs
		}
		for i := range n {
			here := at + uintptr(i)*page
			switch in := binary.NativeEndian.Uint64(entries[8*i:])>>63 == 1; {
			case in && inRun:
				runs[len(runs)-1].End = here + page
			case in:
				runs = append(runs, Area{here, here + page})
				inRun = true
			default:
				inRun = false
			}
		}
	}
	return runs
}
