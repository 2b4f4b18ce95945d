// SPDX-License-Identifier: Apache-2.0

package goheap

import (
	"encoding/binary"
	"slices"
	"strings"

	"containerd-shim.v1/cmd/shimctl/internal/ptrace"
)

// Goroutine is a goroutine that has not ended, as the scheduler knows it.
type Goroutine struct {
	Parked bool // at a channel, a lock, or for I/O: it does nothing until something wakes it
	sp, hi uint64
	start  uint64
}

// The status of a g, in every era (runtime2.go), and bounds.
const (
	statusIdle   = 0 // being made
	statusWaits  = 4
	statusDead   = 6
	statusExtra  = 11     // dead as well, kept for a thread that C has made
	statusMost   = 11     // the highest
	statusScan   = 0x1000 // a flag: the garbage collector scans its stack
	maxAllGs     = 1 << 20
	minUserSpace = 1 << 12
)

// FindGoroutines returns the address of the program's list of all goroutines
// (runtime.allgs): of the slice, among its variables, whose first element is the
// goroutine that runs runtime.main.
func (m *Memory) FindGoroutines() (list uint64) {
	addr, size := m.text.Variables()
	b := make([]byte, size)
	if size == 0 || !ptrace.Read(m.pid, b, uintptr(addr)) {
		m.Fail("no variables")
		return 0
	}
	word := func(at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }
	for at := 0; at+24 <= size; at += 8 {
		array, n, room := word(at), word(at+8), word(at+16)
		if array < minUserSpace || array%8 != 0 || n == 0 || n > room || room > maxAllGs {
			continue
		}
		first := false
		m.Try(func() {
			g := m.Word(array)
			first = m.Word(g+m.era.id) == 1 && m.Uint32(g+m.era.status)&^statusScan <= statusMost && m.text.Name(m.Word(g+m.era.startPC)) == "runtime.main"
		})
		if first {
			return addr + uint64(at)
		}
	}
	m.Fail("no list of goroutines")
	return 0
}

// Goroutines returns the goroutines that have not ended, by their numbers as a stack
// dump prints them. list is what FindGoroutines has returned.
func (m *Memory) Goroutines(list uint64) map[uint64]Goroutine {
	array, n := m.Word(list), m.Word(list+8)
	if n > maxAllGs {
		m.Fail("%d goroutines", n)
		return nil
	}
	all := map[uint64]Goroutine{}
	for i := range n {
		g := m.Word(array + 8*i)
		switch m.Uint32(g+m.era.status) &^ statusScan {
		case statusIdle, statusDead, statusExtra:
		default:
			all[m.Word(g+m.era.id)] = m.goroutine(g)
		}
		if m.err != nil {
			return nil
		}
	}
	return all
}

// System reports whether the goroutine is one of the runtime's own, which a stack dump
// leaves out.
func (m *Memory) System(g Goroutine) bool {
	name := m.text.Name(g.start)
	return strings.HasPrefix(name, "runtime.") && name != "runtime.main"
}

func (m *Memory) goroutine(g uint64) Goroutine {
	return Goroutine{Parked: m.Uint32(g+m.era.status) == statusWaits, sp: m.Word(g + gSchedSP), hi: m.Word(g + gStackHi), start: m.Word(g + m.era.startPC)}
}

// maxStack bounds the part of a stack that is searched.
const maxStack = 1 << 20

// Stack returns the words on the stack of a goroutine that is parked, from its stack
// pointer up.
func (m *Memory) Stack(g Goroutine) []uint64 {
	if g.sp >= g.hi || g.hi-g.sp > maxStack {
		m.Fail("a stack from %#x to %#x", g.sp, g.hi)
		return nil
	}
	b := m.Bytes(g.sp, int(g.hi-g.sp))
	words := make([]uint64, len(b)/8)
	for i := range words {
		words[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return words
}

// Inside reports whether the goroutine, which must be parked, is in calls that return
// to these addresses, the innermost first.
func (m *Memory) Inside(g Goroutine, returns []uint64) bool {
	stack := m.Stack(g)
	for _, want := range returns {
		i := slices.Index(stack, want)
		if i < 0 {
			return false
		}
		stack = stack[i+1:]
	}
	return true
}
