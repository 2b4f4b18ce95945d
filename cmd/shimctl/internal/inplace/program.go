// SPDX-License-Identifier: Apache-2.0

package inplace

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// Image is the program that takes a process over.
type Image struct {
	Path string // as the process sees it
	Args []string
	Env  []string
	Keep []int  // descriptors that it gets; of all others those that are close-on-exec end
	Mask uint64 // signals that it starts with blocked, bit 0 for signal 1
}

// Limits of what goes to the bottom of a stack.
const (
	maxData  = 100 << 10 // the kernel gives 132 KiB at once
	maxKeep  = 4096
	wordSize = 8
)

// syscallEntry is one line of the table that the code runs through: a number, which
// ends the table when it is negative, and four arguments.
type syscallEntry [5]uint64

const tableEnd = ^uint64(0)

// What is written begins with a mark and its own length: a tracer that dies before the
// commit leaves it behind, for the next one to know it by.
const (
	mark     = 0x6563616c702d6e69 // "in-place"
	markSize = 2 * wordSize
)

// leftover is the length of what an earlier tracer has left where b begins, 0 for nothing.
func leftover(b []byte) uint64 {
	if len(b) < markSize || binary.LittleEndian.Uint64(b) != mark {
		return 0
	}
	return binary.LittleEndian.Uint64(b[wordSize:])
}

// layout is what is written into the process, and where the thread starts.
type layout struct {
	data  []byte
	table uint64 // address of the first syscallEntry
	frame uint64 // address of the signal frame, the stack pointer
}

// lay arranges table, strings, vectors and frame from the address base on. was is the
// thread's signal mask, which a failure restores before the frame does.
func lay(base uint64, x *Image, was uint64, frame func(at uint64) []byte) (*layout, error) {
	if len(x.Keep) > maxKeep {
		return nil, fmt.Errorf("%d descriptors are more than %d", len(x.Keep), maxKeep)
	}
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

	l.table = at()
	entry := func(e syscallEntry) {
		for _, v := range e {
			word(v)
		}
	}
	for _, fd := range x.Keep {
		entry(syscallEntry{unix.SYS_FCNTL, uint64(fd), unix.F_SETFD, 0})
	}
	entry(syscallEntry{unix.SYS_RT_SIGPROCMASK, sigSetMask, newMask, 0, wordSize})
	entry(syscallEntry{unix.SYS_EXECVE, path, argv, envp})
	// It has failed. No signal may come between here and rt_sigreturn.
	entry(syscallEntry{unix.SYS_RT_SIGPROCMASK, sigSetMask, all, 0, wordSize})
	for _, fd := range x.Keep {
		entry(syscallEntry{unix.SYS_FCNTL, uint64(fd), unix.F_SETFD, unix.FD_CLOEXEC})
	}
	entry(syscallEntry{tableEnd})
	for at()%16 != 0 { // base is the beginning of a page
		l.data = append(l.data, 0)
	}
	l.frame = at()
	l.data = append(l.data, frame(was)...)
	binary.LittleEndian.PutUint64(l.data[wordSize:], uint64(len(l.data)))
	if len(l.data) > maxData {
		return nil, fmt.Errorf("arguments and environment need %d bytes, more than %d", len(l.data), maxData)
	}
	return l, nil
}

// sigSetMask is SIG_SETMASK.
const sigSetMask = 2
