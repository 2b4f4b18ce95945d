// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"debug/buildinfo"
	"os"
	"syscall"
)

// builds remembers the build of each executable file: a thousand shims run one
// or two of them.
type builds map[[2]uint64]Build

// maxProgram bounds the size in bytes of a program that is read: what its sections say may have all
// of it read, and a file with a hole can have terabytes.
const maxProgram = 256 << 20

// of reads the build information through /proc/PID/exe, which leads to the file
// even after it was replaced or deleted. Stripped binaries have it, too. Before
// Go 1.12 there was no module information in it, and before 1.9 there was none.
func (b builds) of(exe string) Build {
	info, err := os.Stat(exe)
	if err != nil {
		return Build{}
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return Build{}
	}
	key := [2]uint64{uint64(st.Dev), st.Ino}
	if known, ok := b[key]; ok {
		return known
	}
	var found Build
	if info.Size() > maxProgram {
		b[key] = found
		return found
	}
	if bi, err := buildinfo.ReadFile(exe); err == nil {
		found = Build{Go: bi.GoVersion, Path: bi.Path, Module: bi.Main.Path, Version: bi.Main.Version}
		found.Ours = bi.Main.Path == Module
	}
	b[key] = found
	return found
}
