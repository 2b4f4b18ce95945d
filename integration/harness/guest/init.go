// SPDX-License-Identifier: Apache-2.0

// Package guest is what runs in the harness's containers, and beside them, with
// no shell and no library, so that a root file system is one static file.
//
// Init is a container's init and its execs. Its arguments are steps, done one
// after the other:
//
//	sleep            block until a signal ends the process
//	sleep:DURATION   block for a while (only to stay alive, never to order events)
//	exit:N           exit with status N
//	echo:TEXT        write TEXT and a newline to stdout
//	eprint:TEXT      write TEXT and a newline to stderr
//	print:N          write N bytes of a fixed pattern to stdout
//	cat              copy stdin to stdout until end of file
//	winsize          print "ROWS COLS" of the terminal on stdin
//	children:N       start N children that sleep; they stay children
//	orphans:N        start N sleeping processes whose parent is gone
//	holdout:DURATION start a background process that keeps stdin, stdout and stderr open
//	ignore:SIGNAL    ignore a signal by number
//	term:N           from now on exit with status N on SIGTERM
//	gate:PATH        open the FIFO PATH for reading: blocks until somebody opens it for writing
//	touch:PATH       create an empty file
//	stamp:PATH       write the time into a file, in Unix nanoseconds
//	memory:N         use N bytes of memory
//	close:FD         close a file descriptor
//	env              print the environment
//	fds              print the open descriptors
//	pdeathsig:N      ask for signal N at the parent's end
//	leaderless       end the first thread and go on sleeping, a zombie by its state (only as the first step)
//	refused:ADDRESS  connect to a unix socket; exit 66 unless it is refused or closed at once
//
// Logger is a process that a binary:// stdio URI names.
package guest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// InitName is the name by which the helper is an Init, in and outside of
// containers.
const InitName = "testinit"

// Init runs the steps in args and returns the exit status.
func Init(args []string) int {
	for _, arg := range args {
		verb, value, _ := strings.Cut(arg, ":")
		step, ok := steps[verb]
		if !ok {
			fmt.Fprintf(os.Stderr, "testinit: unknown step %q\n", arg)
			return 64
		}
		if verb == "exit" {
			return number(value)
		}
		if err := step(value); err != nil {
			fmt.Fprintf(os.Stderr, "testinit: %s: %v\n", arg, err)
			return 65
		}
	}
	return 0
}

var steps map[string]func(string) error

func init() {
	steps = map[string]func(string) error{
		"exit":       func(string) error { return nil },
		"sleep":      sleep,
		"echo":       func(v string) error { return line(os.Stdout, v) },
		"eprint":     func(v string) error { return line(os.Stderr, v) },
		"print":      func(v string) error { return Pattern(os.Stdout, number(v)) },
		"cat":        func(string) error { _, err := io.Copy(os.Stdout, os.Stdin); return err },
		"winsize":    winsize,
		"children":   children,
		"orphans":    orphans,
		"holdout":    holdout,
		"ignore":     func(v string) error { signal.Ignore(syscall.Signal(number(v))); return nil },
		"term":       term,
		"gate":       gate,
		"stamp":      stamp,
		"touch":      func(v string) error { return os.WriteFile(v, nil, 0o644) },
		"memory":     func(v string) error { return memory(number(v)) },
		"close":      func(v string) error { return unix.Close(number(v)) },
		"env":        func(string) error { return line(os.Stdout, strings.Join(os.Environ(), "\n")) },
		"fds":        fds,
		"leaderless": leaderless,
		"pdeathsig":  func(v string) error { return unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(number(v)), 0, 0, 0) },
		"refused":    refused,
	}
}

// used is kept, so that the garbage collector does not give it back.
var used []byte

// memory writes into each page, because the kernel counts a page once it is written to.
func memory(n int) error {
	used = make([]byte, n)
	for i := 0; i < n; i += os.Getpagesize() {
		used[i] = 1
	}
	return nil
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		fmt.Fprintf(os.Stderr, "testinit: %v\n", err)
		os.Exit(64)
	}
	return n
}

func line(w io.Writer, s string) error {
	_, err := io.WriteString(w, s+"\n")
	return err
}

// Pattern writes n bytes whose value depends on their offset, so that a lost
// or repeated piece is seen as well as a short end.
func Pattern(w io.Writer, n int) error {
	const block = 4096
	buf := make([]byte, 0, block)
	for i := range n {
		buf = append(buf, PatternByte(i))
		if len(buf) == block || i == n-1 {
			if _, err := w.Write(buf); err != nil {
				return err
			}
			buf = buf[:0]
		}
	}
	return nil
}

// PatternByte is the byte at offset i of the pattern.
func PatternByte(i int) byte { return 'A' + byte((i/7+i/251)%26) }

// sleep blocks. A process that is pid 1 of its namespace does not get signals
// it has no handler for, so the wait for SIGTERM and SIGINT is explicit.
func sleep(v string) error {
	if v != "" {
		d, err := time.ParseDuration(v)
		if err != nil {
			return err
		}
		t := time.NewTimer(d)
		<-t.C
		return nil
	}
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	for range c {
		// A hang-up ends the process as it would without a handler.
		os.Exit(128 + int(syscall.SIGHUP))
	}
	return nil
}

func term(v string) error {
	status := number(v)
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	go func() {
		<-c
		os.Exit(status)
	}()
	return nil
}

// leaderless ends the thread that main runs on, and no other.
func leaderless(string) error {
	go func() { _ = sleep("") }()
	_, _, errno := unix.RawSyscall(unix.SYS_EXIT, 0, 0, 0)
	return errno
}

// A thread's goroutine may be any but for this.
func init() {
	if len(os.Args) > 1 && os.Args[1] == "leaderless" {
		runtime.LockOSThread()
	}
}

func winsize(string) error {
	ws, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
	if err != nil {
		return err
	}
	return line(os.Stdout, fmt.Sprintf("%d %d", ws.Row, ws.Col))
}

func self(args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = InitName
	return cmd
}

func children(v string) error {
	for range number(v) {
		if err := self("sleep").Start(); err != nil {
			return err
		}
	}
	return nil
}

// orphans starts one child that starts n sleepers and exits: the kernel then
// gives them to the nearest subreaper or to the init of the pid namespace.
func orphans(v string) error {
	return self("children:"+v, "exit:0").Run()
}

func holdout(v string) error {
	cmd := self("sleep:" + v)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // as a shell's job, of whose terminal's end it has no signal
	return cmd.Start()
}

func gate(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return f.Close()
}

func stamp(path string) error {
	return os.WriteFile(path, strconv.AppendInt(nil, time.Now().UnixNano(), 10), 0o644)
}

func fds(string) error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil {
			continue // the descriptor of the directory itself
		}
		if err := line(os.Stdout, e.Name()+" "+target); err != nil {
			return err
		}
	}
	return nil
}

// refused tells a server that turns this user away from one that serves it: a
// ttrpc server says nothing before it is asked.
func refused(address string) error {
	const patience = 3 * time.Second
	conn, err := net.Dial("unix", address)
	if err != nil {
		return nil
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		os.Exit(66)
	}
	return nil
}
