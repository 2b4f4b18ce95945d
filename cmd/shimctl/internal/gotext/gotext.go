// SPDX-License-Identifier: Apache-2.0

// Package gotext finds functions in the program of a running Go process, in the
// table that the runtime itself uses (pclntab). A stripped program has it, too.
package gotext

import (
	"bytes"
	"debug/elf"
	"debug/gosym"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Table is the function table of a program, at the addresses of one process.
type Table struct {
	gosym   *gosym.Table
	bias    uint64            // added to the file's addresses in the process
	entries map[string]uint64 // by name, in the file
	file    *elf.File
}

// ErrNoTable is returned for a program without a readable function table.
var ErrNoTable = errors.New("the program has no readable Go function table")

// Open reads the table of the process's program through /proc/PID/exe, which leads
// to the file even after it was replaced. The caller must Close the table.
func Open(pid int) (*Table, error) {
	f, err := elf.Open(filepath.Join("/proc", strconv.Itoa(pid), "exe"))
	if err != nil {
		return nil, err
	}
	t, err := read(pid, f)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return t, nil
}

// Close closes the file.
func (t *Table) Close() error { return t.file.Close() }

func read(pid int, f *elf.File) (*Table, error) {
	bias, err := loadedAt(pid, f)
	if err != nil {
		return nil, err
	}
	section, text := f.Section(".gopclntab"), f.Section(".text")
	if section == nil {
		section = f.Section(".data.rel.ro.gopclntab")
	}
	if section == nil || text == nil {
		return nil, ErrNoTable
	}
	data, err := section.Data()
	if err != nil {
		return nil, err
	}
	// If C code precedes it, Go's own text does not begin where the section does. The
	// header of the table says where, if the program is at a fixed address and was
	// built by Go 1.25 or earlier.
	start := text.Addr
	if len(data) > 32 && f.Type == elf.ET_EXEC && f.ByteOrder == binary.LittleEndian {
		if at := binary.LittleEndian.Uint64(data[24:]); at > text.Addr && at < text.Addr+text.Size {
			start = at
		}
	}
	table, err := gosym.NewTable(nil, gosym.NewLineTable(data, start))
	if err != nil || len(table.Funcs) == 0 {
		return nil, ErrNoTable
	}
	t := &Table{gosym: table, bias: bias, entries: make(map[string]uint64, len(table.Funcs)), file: f}
	for i := range table.Funcs {
		if fn := &table.Funcs[i]; t.entries[fn.Name] == 0 {
			t.entries[fn.Name] = fn.Entry
		}
	}
	return t, nil
}

// Name returns the full name of the function that begins at addr, or "" if none does.
func (t *Table) Name(addr uint64) string {
	f := t.gosym.PCToFunc(addr - t.bias)
	if f == nil || f.Entry != addr-t.bias {
		return ""
	}
	return f.Name
}

// Entry returns the address of the function in the process, or 0 if there is none.
func (t *Table) Entry(name string) uint64 {
	if at, ok := t.entries[name]; ok {
		return at + t.bias
	}
	return 0
}

// Variables returns the range of the program's variables that begin as zero and may
// hold pointers (.bss); the size is 0 if there is none.
func (t *Table) Variables() (addr uint64, size int) {
	s := t.file.Section(".bss")
	if s == nil {
		return 0, 0
	}
	return s.Addr + t.bias, int(s.Size)
}

// jumpsTo are the functions that end in a jump to runtime.rt0_go, and the code before
// the jump: the start of a program, which loads argc and argv, and the main function of
// one that was linked with C.
var jumpsTo = []struct {
	name   string
	before []byte
}{
	{"_rt0_amd64", []byte{0x48, 0x8b, 0x3c, 0x24, 0x48, 0x8d, 0x74, 0x24, 0x08}},
	{"main", nil},
}

// StartCode returns the address and the size of the code of runtime.rt0_go, which runs
// once, when a program starts, and is not used afterwards. The table is not trusted: the
// jump that leads there must lead to that address.
func (t *Table) StartCode() (addr uint64, size int, err error) {
	f := t.gosym.LookupFunc("runtime.rt0_go")
	if f == nil {
		return 0, 0, fmt.Errorf("%w: no runtime.rt0_go", ErrNoTable)
	}
	text := t.file.Section(".text")
	for _, j := range jumpsTo {
		from := t.gosym.LookupFunc(j.name)
		if from == nil {
			continue
		}
		jump := append(bytes.Clone(j.before), 0xe9) // jmp rel32
		b := make([]byte, len(jump)+4)
		if _, err := text.ReadAt(b, int64(from.Entry-text.Addr)); err != nil {
			return 0, 0, err
		}
		distance := int32(binary.LittleEndian.Uint32(b[len(jump):]))
		if bytes.HasPrefix(b, jump) && from.Entry+uint64(len(b))+uint64(int64(distance)) == f.Entry {
			return f.Entry + t.bias, int(f.End - f.Entry), nil
		}
	}
	return 0, 0, errors.New("the program's start-up code is not where its function table says")
}

// loadedAt returns the difference between the addresses in a position-independent
// program's file and those in the process; 0 for a program at a fixed address.
func loadedAt(pid int, f *elf.File) (uint64, error) {
	if f.Type == elf.ET_EXEC {
		return 0, nil
	}
	first := uint64(0)
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD {
			first = p.Vaddr - p.Off
			break
		}
	}
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	exe, err := os.Readlink(filepath.Join(dir, "exe"))
	if err != nil {
		return 0, err
	}
	maps, err := os.ReadFile(filepath.Join(dir, "maps"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(maps)) {
		fields := strings.Fields(line) // range, rights, offset, device, inode, name
		if len(fields) < 6 || strings.Join(fields[5:], " ") != exe {
			continue
		}
		var low, off uint64
		if _, err := fmt.Sscanf(fields[0]+" "+fields[2], "%x-%x %x", &low, new(uint64), &off); err != nil {
			return 0, err
		}
		return low - off - first, nil
	}
	return 0, errors.New("the program is not among the process's mappings")
}
