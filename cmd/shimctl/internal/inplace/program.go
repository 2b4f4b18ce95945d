// SPDX-License-Identifier: Apache-2.0

package inplace

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// Image is the program that takes over a process.
type Image struct {
	Path string // as the process sees it
	Args []string
	Env  []string
	Keep []int  // descriptors whose FD_CLOEXEC is cleared; execve closes the others that have it
	Mask uint64 // the signals that are blocked when it starts, bit 0 for signal 1
}

// StepCommit is the name of the step of Exec that is the commit: if the tracer ends before it, the
// old program goes on.
const StepCommit = "registers"

// maxData bounds what is written to the bottom of a stack, in bytes: the kernel maps 132 KiB of a
// stack at once.
const maxData = 100 << 10

const (
	wordSize     = 8
	ucontextSize = 304 // struct ucontext of linux/uapi/asm/ucontext.h for amd64, with the mask
)

// syscallEntry is an entry of the code's table of system calls: the number, or a negative
// one for the end of the table, and four arguments. The first one of fcntl is a list.
type syscallEntry [5]uint64

const tableEnd = ^uint64(0)

// The data begins with a mark and its own length. A tracer that dies before the commit
// leaves the data behind, and the next one recognises it by the mark.
const (
	mark     = 0x6563616c702d6e69 // "in-place"
	markSize = 2 * wordSize
)

// leftover returns the length of the data that an earlier tracer has left where b was
// read, or 0 if there is none.
func leftover(b []byte) uint64 {
	if len(b) < markSize || binary.LittleEndian.Uint64(b) != mark {
		return 0
	}
	return binary.LittleEndian.Uint64(b[wordSize:])
}

// layout is the data that is written into the process, and where the code finds it.
type layout struct {
	data  []byte
	table uint64 // the address of the first syscallEntry
	frame uint64 // the address of the signal frame, which is the stack pointer
}

// lay arranges table, strings, vectors, descriptors and frame for the address base. was is the
// thread's signal mask, which the frame, made by the function, restores after a failure.
func lay(base uint64, x *Image, was uint64, frame func(at uint64) []byte) *layout {
	l := &layout{}
	at := func() uint64 { return base + uint64(len(l.data)) }
	word := func(v uint64) { l.data = binary.LittleEndian.AppendUint64(l.data, v) }
	text := func(s string) (addr uint64) {
		addr = at()
		l.data = append(append(l.data, s...), 0)
		return addr
	}
	vector := func(list []string) (addr uint64) {
		var pointers []uint64
		for _, s := range list {
			pointers = append(pointers, text(s))
		}
		for len(l.data)%wordSize != 0 {
			l.data = append(l.data, 0)
		}
		addr = at()
		for _, p := range append(pointers, 0) {
			word(p)
		}
		return addr
	}
	word(mark)
	word(0) // the length, below
	path, argv, envp := text(x.Path), vector(x.Args), vector(x.Env)
	newMask := at()
	word(x.Mask)
	all := at()
	word(^uint64(0))
	list := at()
	for _, fd := range append(slices.Clone(x.Keep), -1) {
		l.data = binary.LittleEndian.AppendUint32(l.data, uint32(fd))
	}

	l.table = at()
	entry := func(e syscallEntry) {
		for _, v := range e {
			word(v)
		}
	}
	entry(syscallEntry{unix.SYS_FCNTL, list, unix.F_SETFD, 0})
	entry(syscallEntry{unix.SYS_RT_SIGPROCMASK, sigSetMask, newMask, 0, wordSize})
	entry(syscallEntry{unix.SYS_EXECVE, path, argv, envp})
	// If execve has failed, no signal may come until rt_sigreturn.
	entry(syscallEntry{unix.SYS_RT_SIGPROCMASK, sigSetMask, all, 0, wordSize})
	entry(syscallEntry{unix.SYS_FCNTL, list, unix.F_SETFD, unix.FD_CLOEXEC})
	entry(syscallEntry{tableEnd})
	for at()%16 != 0 { // base is the beginning of a page
		l.data = append(l.data, 0)
	}
	l.frame = at()
	l.data = append(l.data, frame(was)...)
	binary.LittleEndian.PutUint64(l.data[wordSize:], uint64(len(l.data)))
	return l
}

// fits returns an ErrTooLarge if the data needs more than the room.
func (l *layout) fits(room int) error {
	if room = min(room, maxData); len(l.data) > room {
		return fmt.Errorf("%w: %d bytes, for %d", ErrTooLarge, len(l.data), room)
	}
	return nil
}

// Fits returns an ErrTooLarge if there is no room for the image in the process, which must be
// stopped.
func (t *Tracee) Fits(x *Image) error {
	base, room, err := t.stackBottom()
	if err != nil {
		return err
	}
	return lay(uint64(base), x, 0, func(uint64) []byte { return make([]byte, ucontextSize) }).fits(room)
}

// ErrTooLarge is wrapped by the error if there is no room for an image.
var ErrTooLarge = errors.New("arguments, environment and descriptors do not fit on the bottom of its stack")

// sigSetMask is SIG_SETMASK.
const sigSetMask = 2
