// SPDX-License-Identifier: Apache-2.0

// Command child is what the tests of package proc start in place of a
// container's process: it acts one of the roles below. It is built without the
// race detector, which would make its start slow.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

var roles map[string]func(args []string)

func init() {
	roles = map[string]func(args []string){
		// exit CODE
		"exit": func(args []string) { os.Exit(number(args[0])) },
		// wait CODE: until stdin ends
		"wait": func(args []string) {
			_, _ = io.Copy(io.Discard, os.Stdin) // returns at the end, which is all that is waited for
			os.Exit(number(args[0]))
		},
		// sleep: until a signal
		"sleep": func([]string) { _ = unix.Pause() },
		// out N M: N bytes to stdout, M to stderr
		"out": func(args []string) {
			write(os.Stdout, number(args[0]))
			write(os.Stderr, number(args[1]))
		},
		"cat": func([]string) {
			switch _, err := io.Copy(os.Stdout, os.Stdin); {
			case errors.Is(err, unix.EIO):
				_ = unix.Pause() // a terminal that is hung up says so before it sends SIGHUP (pty_close in drivers/tty/pty.c)
			case err != nil:
				fail(err)
			}
		},
		// hold: leave a child that keeps all streams open
		"hold": func([]string) {
			c := exec.Command(os.Args[0], "sleep")
			c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
			if err := c.Start(); err != nil {
				fail(err)
			}
			fmt.Println(c.Process.Pid)
		},
		// background ROLE...: leave a child in it, as a shell leaves a job, in a process
		// group of its own: a terminal that is hung up has no signal for it
		"background": func(args []string) {
			c := exec.Command(os.Args[0], args...)
			c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
			c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			check(c.Start())
			fmt.Println(c.Process.Pid)
		},
		// chat: a line all the time, until nobody takes it
		"chat": func([]string) {
			for range time.Tick(10 * time.Millisecond) {
				if _, err := fmt.Println("x"); err != nil {
					os.Exit(1)
				}
			}
		},
		// leave N: leave N children that keep all streams open
		"leave": func(args []string) {
			for range number(args[0]) {
				c := exec.Command(os.Args[0], "sleep")
				c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
				check(c.Start())
			}
		},
		// two: a line to stdout, close it, a line to stderr
		"two": func([]string) {
			fmt.Println("one")
			_ = os.Stdout.Close()
			fmt.Fprintln(os.Stderr, "two")
		},
		// count: the status is how many bytes stdin had
		"count": func([]string) {
			n, err := io.Copy(io.Discard, os.Stdin)
			check(err)
			os.Exit(int(n))
		},
		// mixed N: N lines, to stdout and stderr in turn
		"mixed": func(args []string) {
			for i := range number(args[0]) {
				fmt.Fprintln([]*os.File{os.Stdout, os.Stderr}[i%2], i)
			}
		},
		// stdio FILE: report there what the streams are
		"stdio": func(args []string) {
			report := ""
			for fd := range 3 {
				name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
				check(err)
				if name != "/dev/null" {
					name = "other"
				}
				report += fmt.Sprintf("%d %s\n", fd, name)
			}
			check(os.WriteFile(args[0], []byte(report), 0o600))
		},
		// winsize: of the terminal
		"winsize": func([]string) { fmt.Println(winsize()) },
		// onwinch WxH: the terminal's size each time it changes, until it is this
		"onwinch": func(args []string) {
			c := make(chan os.Signal, 1)
			signal.Notify(c, unix.SIGWINCH)
			fmt.Println("ready")
			for size := ""; size != args[0]; {
				<-c
				size = winsize()
				fmt.Println(size)
			}
		},
		// reopen: let go of the terminal, and come back to it unless it hangs up
		"reopen": func([]string) {
			hup := make(chan os.Signal, 1)
			signal.Notify(hup, unix.SIGHUP)
			fmt.Println("before")
			null, err := unix.Open(os.DevNull, unix.O_RDWR, 0)
			check(err)
			for fd := range 3 {
				check(unix.Dup3(null, fd, 0))
			}
			select {
			case <-hup:
				os.Exit(9)
			case <-time.After(300 * time.Millisecond):
			}
			tty, err := os.OpenFile("/dev/tty", os.O_WRONLY, 0)
			check(err)
			fmt.Fprintln(tty, "after")
			os.Exit(5)
		},
		"tty":    tty,
		"logger": logger,
	}
}

func winsize() string {
	ws, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
	check(err)
	return fmt.Sprintf("%dx%d", ws.Col, ws.Row)
}

// tty SOCKET ROLE...: do what a runtime does for a terminal, then be the
// process in it.
func tty(args []string) {
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	check(err)
	check(unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	check(err)
	_, err = unix.Setsid()
	check(err)
	slave, err := unix.Open(fmt.Sprintf("/dev/pts/%d", n), unix.O_RDWR, 0) // becomes the controlling terminal
	check(err)
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	check(err)
	check(unix.Connect(s, &unix.SockaddrUnix{Name: args[0]}))
	check(unix.Sendmsg(s, []byte("/dev/ptmx"), unix.UnixRights(master), nil, 0))
	for fd := range 3 {
		check(unix.Dup3(slave, fd, 0))
	}
	for _, fd := range []int{slave, master, s} {
		check(unix.Close(fd))
	}
	// The hang-up kills it, and not Go's own handler: that one may lose the signal to
	// an execve(2), and be late for the end of what is read.
	dfl := struct{ handler, flags, restorer, mask uintptr }{} // SIG_DFL
	if _, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGHUP), uintptr(unsafe.Pointer(&dfl)), 0, 8, 0, 0); errno != 0 {
		fail(errno)
	}
	roles[args[1]](args[2:])
	os.Exit(0)
}

// logger MODE [FILE]: a binary:// log driver.
func logger(args []string) {
	switch args[0] {
	case "copy": // both streams and the environment into FILE
		f, err := os.OpenFile(args[1], os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		check(err)
		fmt.Fprintf(f, "%s %s\n", os.Getenv("CONTAINER_NAMESPACE"), os.Getenv("CONTAINER_ID"))
		check(unix.Close(5)) // ready
		done := make(chan struct{})
		go func() { _, _ = io.Copy(f, os.NewFile(4, "stderr")); close(done) }()
		_, err = io.Copy(f, os.NewFile(3, "stdout"))
		check(err)
		<-done
		fmt.Fprintln(f, "end")
	case "sip": // a piece into FILE.out for each byte that comes through FILE, a FIFO
		f, err := os.Create(args[1] + ".out")
		check(err)
		sips, err := os.OpenFile(args[1], os.O_RDWR, 0) // does not wait for the test
		check(err)
		check(unix.Close(5))
		for {
			_, err := sips.Read(make([]byte, 1))
			check(err)
			if _, err := io.CopyN(f, os.NewFile(3, "stdout"), 4096); err != nil {
				break // the end
			}
		}
	case "gate": // ready once FILE, a FIFO, was opened and closed; then nothing but wait
		f, err := os.Open(args[1])
		check(err)
		_, _ = f.Read(make([]byte, 1)) // ends when the test closes it
		check(unix.Close(5))
		_, _ = io.Copy(io.Discard, os.NewFile(3, "stdout"))
	case "never":
		_ = unix.Pause()
	case "deaf": // not even to SIGTERM
		signal.Ignore(unix.SIGTERM)
		f, err := os.Create(args[1])
		check(err)
		check(f.Close())
		for {
			_ = unix.Pause()
		}
	case "crash":
		os.Exit(3)
	}
}

func write(f *os.File, n int) {
	line := []byte(fmt.Sprintf("%063d\n", 7))
	for ; n > 0; n -= len(line) {
		_, err := f.Write(line[:min(n, len(line))])
		check(err)
	}
}

func main() {
	if len(os.Args) < 2 || roles[os.Args[1]] == nil {
		fail(fmt.Errorf("no such role: %q", os.Args[1:]))
	}
	roles[os.Args[1]](os.Args[2:])
}

func check(err error) {
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	check(err)
	return n
}
