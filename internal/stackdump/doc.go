// SPDX-License-Identifier: Apache-2.0

// Package stackdump writes goroutine dumps of this shim, reads those of every
// containerd shim, and says who waits for whom.
//
// A [Writer] makes this project's files. [FileName] is their name. A file has a
// header of "key: value" lines, an empty line, the goroutines, and [FileEnd] as
// its last line.
//
// [Parse] accepts a dump in any form that operators find it in: such a file, the
// raw or logrus-quoted record of upstream's SIGUSR1 handler, the output of
// strace -e write, a crash after SIGQUIT, a bare runtime.Stack, each also cut
// short. [Explain] names the known deadlocks and stalls in it. Both are pure:
// they read no file, ask no process, and never panic on any input (FuzzParse).
package stackdump

import "time"

// Form is the wrapping in which a dump was found.
type Form string

// The forms that Parse tells apart.
const (
	FormFile   Form = "file"   // this project's file: key: value lines, an empty line, goroutines
	FormRaw    Form = "raw"    // between upstream's BEGIN and END marks, with real newlines
	FormQuoted Form = "quoted" // the same as one quoted string: newer logrus, or strace
	FormCrash  Form = "crash"  // SIGQUIT, panic or fatal error on standard error
	FormBare   Form = "bare"   // goroutines without anything around them
)

// Dump is one parsed goroutine dump.
type Dump struct {
	Form Form
	// Header holds the key: value lines before the goroutines, or the logrus
	// fields (namespace, path, pid) after them.
	Header map[string]string
	// Goroutines are in the order of the dump.
	Goroutines []Goroutine
	// Complete reports whether the end of the dump was seen, and nothing is missing before it.
	Complete bool
	// Why says what is missing when Complete is false.
	Why string
}

// Goroutine is one goroutine of a dump.
type Goroutine struct {
	ID uint64
	// State is the wait reason, such as "chan send" or "sync.Mutex.Lock".
	State string
	// Since is how long it has waited, in whole minutes: the runtime prints
	// nothing below one minute, so 0 means "less than a minute, or running".
	Since time.Duration
	// Labels are the pprof labels, printed with GODEBUG=tracebacklabels=1.
	Labels map[string]string
	// Frames start with the innermost call.
	Frames []Frame
	// CreatedBy is the function that started it, empty for the main goroutine.
	CreatedBy string
	// CreatedIn is the number of the goroutine that did; 0 when the dump does not
	// say, as before Go 1.21.
	CreatedIn uint64
}

// Frame is one call of a goroutine's stack.
type Frame struct {
	Func string // with package path, without arguments
	Args string // as printed; empty for an inlined call
	File string
	Line int
	// Offset is where in the function it will continue, in bytes from its start; 0
	// if the dump does not say, as for an inlined call.
	Offset uint64
}

// Arg returns the i-th argument as printed, without the question mark that
// marks a value the runtime is not sure of, or "" when there is none.
func (f Frame) Arg(i int) string { return arg(f.Args, i) }
