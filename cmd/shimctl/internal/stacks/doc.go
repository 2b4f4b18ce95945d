// SPDX-License-Identifier: Apache-2.0

// Package stacks gets the full goroutine dump of a running shim.
//
// This project's shims write one file for each SIGUSR1; [File] picks it up.
// Every other shim formats the dump in its memory and gives it to its logger,
// whose sink is /dev/null, a pipe that nobody reads, or a FIFO. There are three
// ways to it, in the order in which [Auto] tries them:
//
//	ptrace   a child process seizes the shim's threads, sends SIGUSR1 and copies
//	         the buffer of the write(2) that carries the dump. PTRACE_SEIZE sends
//	         no SIGSTOP, and PTRACE_O_EXITKILL is never set: when the tracer dies,
//	         at any point, the kernel detaches and the shim runs on.
//	scrape   SIGUSR1, then search the shim's private memory for the text. It never
//	         attaches, so it works on a shim that strace holds.
//	fifo     SIGUSR1, and read shim.stdout.log (v1.2.7 and later) when nobody else
//	         does: with the daemon down. The other two drain that FIFO meanwhile,
//	         because a dump of more than 64 KiB would stop the shim's logger.
package stacks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/internal/stackdump"
)

// Method is a way to get a dump.
type Method string

// The methods.
const (
	Auto   Method = "auto"
	File   Method = "file"
	Ptrace Method = "ptrace"
	Scrape Method = "scrape"
	FIFO   Method = "fifo"
)

// MarshalText returns the flag's value.
func (m Method) MarshalText() ([]byte, error) { return []byte(m), nil }

// UnmarshalText returns an error unless text is one of the constants.
func (m *Method) UnmarshalText(text []byte) error {
	switch v := Method(text); v {
	case Auto, File, Ptrace, Scrape, FIFO:
		*m = v
		return nil
	}
	return fmt.Errorf("want %s, %s, %s, %s or %s", Auto, File, Ptrace, Scrape, FIFO)
}

// Result is a captured dump.
type Result struct {
	Text   []byte
	Method Method
	Dump   *stackdump.Dump
	Trace  TraceStats // of the ptrace method
	Notes  []string   // ways that were tried and failed
}

// Refused is the error for a process that must not be sent SIGUSR1.
type Refused struct{ Why string }

func (r *Refused) Error() string { return "refused: " + r.Why }

// errNothing is returned when the time is up and no dump came.
var errNothing = errors.New("no dump within the time limit")

// Check refuses what a SIGUSR1 could end, or what cannot answer it now. Go
// ignores an unhandled SIGUSR1 nobody asked for; another program dies of it.
func Check(s *scan.Shim) error {
	switch {
	case s.Hidden:
		return fmt.Errorf("its executable cannot be read: %w", os.ErrPermission)
	case s.Build.Go == "":
		return &Refused{"the executable is not a Go program, or cannot be read"}
	case !s.Catches(int(unix.SIGUSR1)):
		return &Refused{"it has no handler for SIGUSR1 (SigCgt in /proc/PID/status)"}
	case s.State == "Z" || s.State == "X":
		return &Refused{"the process has ended"}
	case s.State == "T" && s.Tracer == 0:
		return &Refused{"the process is stopped; send SIGCONT first"}
	}
	return nil
}

// Taker takes dumps of the shims of one host.
type Taker struct {
	Proc    string // where /proc is mounted
	Program string // shimctl itself, which is run with TracerArg to trace a shim
}

// Take gets a dump of the shim. It returns an incomplete dump rather than none,
// with Dump.Complete false.
func (t Taker) Take(ctx context.Context, s *scan.Shim, m Method, limit time.Duration) (*Result, error) {
	if err := Check(s); err != nil {
		return nil, err
	}
	if _, frozen := scan.Sleep(t.Proc, s.PID); frozen {
		return nil, &Refused{"its cgroup is frozen; thaw it first"}
	}
	methods := []Method{m}
	if m == Auto {
		methods = []Method{Ptrace, Scrape, FIFO}
		if s.Build.Ours {
			methods = []Method{File, Ptrace, Scrape}
		}
	}
	var (
		best  *Result
		notes []string
		errs  []error
	)
	for _, m := range methods {
		r, err := t.try(ctx, s, m, limit)
		if err != nil {
			notes, errs = append(notes, fmt.Sprintf("%s: %v", m, err)), append(errs, fmt.Errorf("%s: %w", m, err))
			continue
		}
		if best == nil || r.Dump.Complete {
			best = r
		}
		if r.Dump.Complete {
			break
		}
		notes = append(notes, fmt.Sprintf("%s: incomplete: %s", m, r.Dump.Why))
	}
	if best == nil {
		return nil, errors.Join(errs...)
	}
	best.Notes = notes
	return best, nil
}

func (t Taker) try(ctx context.Context, s *scan.Shim, m Method, limit time.Duration) (*Result, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	r := &Result{Method: m}
	var err error
	if m == File {
		r.Text, err = fromFile(ctx, t.Proc, s)
	} else {
		drain := openDrain(t.Proc, s) // nil when somebody else reads, or there is no FIFO
		defer drain.close()
		switch m {
		case Ptrace:
			r.Text, r.Trace, err = t.trace(ctx, s)
		case Scrape:
			r.Text, err = scrape(ctx, s)
		case FIFO:
			r.Text, err = drain.collect(ctx, s)
		default:
			return nil, fmt.Errorf("unknown method %q", m)
		}
	}
	if err != nil {
		return nil, err
	}
	r.Dump, err = stackdump.Parse(r.Text)
	return r, err
}

// sendUSR1 sends SIGUSR1 to the very process that was scanned.
func sendUSR1(s *scan.Shim) error {
	return scan.Signal("/proc", s, unix.SIGUSR1)
}
