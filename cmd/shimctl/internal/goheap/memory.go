// SPDX-License-Identifier: Apache-2.0

// Package goheap reads values out of the memory of a stopped Go program: strings,
// slices, interfaces, maps, channels and goroutines. How the runtime lays them out
// depends on the release of Go that built the program; see [For].
//
// It reads another program's memory, at addresses that may be wrong. So no value is
// trusted: lengths are bounded, and a [Memory] remembers the first thing that cannot
// be true, for its user to ask for at the end.
package goheap

import (
	"encoding/binary"
	"errors"
	"fmt"

	"containerd-shim.v1/cmd/shimctl/internal/gotext"
	"containerd-shim.v1/cmd/shimctl/internal/ptrace"
)

// Bounds of what is taken for a value.
const (
	page      = 4096
	maxString = 1 << 20
	maxLength = 1 << 16 // of slices, maps and channels
)

// ErrLayout is wrapped by every error about the contents of memory.
var ErrLayout = errors.New("memory is not laid out as expected")

// Memory is the memory of a process that stands still. Pages are read once.
type Memory struct {
	pid   int
	era   *Era
	text  *gotext.Table
	pages map[uint64][]byte
	err   error
}

// New returns the memory of a process whose threads are stopped. text is its function
// table, which must stay open.
func New(pid int, era *Era, text *gotext.Table) *Memory {
	return &Memory{pid: pid, era: era, text: text, pages: map[uint64][]byte{}}
}

// Err returns the first failure, which wraps ErrLayout, or nil.
func (m *Memory) Err() error { return m.err }

// Fail notes that something is not as expected, unless something was before.
func (m *Memory) Fail(format string, args ...any) {
	if m.err == nil {
		m.err = fmt.Errorf("%w: %s", ErrLayout, fmt.Sprintf(format, args...))
	}
}

// Try calls f and forgets its failure, if it fails. ok reports whether it did not; after
// an earlier failure f is not called, and ok is false.
func (m *Memory) Try(f func()) (ok bool) {
	if m.err != nil {
		return false
	}
	f()
	ok, m.err = m.err == nil, nil
	return ok
}

// Bytes returns the n bytes at addr. If they cannot all be read it fails, and returns n
// zeros.
func (m *Memory) Bytes(addr uint64, n int) []byte {
	b := make([]byte, n)
	for at := 0; at < n; {
		from := addr + uint64(at)
		p := m.page(from &^ (page - 1))
		if p == nil {
			m.Fail("nothing at %#x", from)
			return make([]byte, n)
		}
		at += copy(b[at:], p[from%page:])
	}
	return b
}

func (m *Memory) page(addr uint64) []byte {
	p, ok := m.pages[addr]
	if !ok {
		p = make([]byte, page)
		if !ptrace.Read(m.pid, p, uintptr(addr)) {
			p = nil
		}
		m.pages[addr] = p
	}
	return p
}

// Word returns the machine word at addr.
func (m *Memory) Word(addr uint64) uint64 { return binary.LittleEndian.Uint64(m.Bytes(addr, 8)) }

// Int returns the int at addr.
func (m *Memory) Int(addr uint64) int { return int(m.Word(addr)) }

// Uint32 returns the uint32 at addr.
func (m *Memory) Uint32(addr uint64) uint32 { return binary.LittleEndian.Uint32(m.Bytes(addr, 4)) }

// Bool returns the bool at addr.
func (m *Memory) Bool(addr uint64) bool {
	b := m.Bytes(addr, 1)[0]
	if b > 1 {
		m.Fail("a bool of %d at %#x", b, addr)
	}
	return b == 1
}

// String returns the string whose header is at addr.
func (m *Memory) String(addr uint64) string {
	n := m.Word(addr + 8)
	if n == 0 {
		return ""
	}
	if n > maxString {
		m.Fail("a string of %d bytes at %#x", n, addr)
		return ""
	}
	return string(m.Bytes(m.Word(addr), int(n)))
}

// Slice returns the address of the array, and the length, of the slice whose header is
// at addr.
func (m *Memory) Slice(addr uint64) (array uint64, n int) {
	array, length, capacity := m.Word(addr), m.Word(addr+8), m.Word(addr+16)
	if length > capacity || length > maxLength {
		m.Fail("a slice of %d of %d at %#x", length, capacity, addr)
		return 0, 0
	}
	return array, int(length)
}

// Strings returns the []string whose header is at addr; nil if it is empty.
func (m *Memory) Strings(addr uint64) (list []string) {
	array, n := m.Slice(addr)
	for i := range n {
		list = append(list, m.String(array+16*uint64(i)))
	}
	return list
}

// Data returns the pointer in the interface at addr.
func (m *Memory) Data(addr uint64) uint64 { return m.Word(addr + 8) }

// firstMethod is the offset of the first method in an itab (internal/abi.ITab).
const firstMethod = 24

// Type returns the name of the pointer type in the interface at addr, such as
// "path/to/pkg.(*T)", or "" for a nil interface. It must be an interface with methods,
// because the name is taken from that of the first method's function.
func (m *Memory) Type(addr uint64) string {
	itab := m.Word(addr)
	if itab == 0 {
		return ""
	}
	name := m.text.Name(m.Word(itab + firstMethod))
	for i := len(name) - 1; i > 0; i-- {
		if name[i] == ')' {
			return name[:i+1]
		}
	}
	m.Fail("an interface of type %q at %#x", name, addr)
	return ""
}
