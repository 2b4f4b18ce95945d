// SPDX-License-Identifier: Apache-2.0

// Command shimctl finds the containerd shims of a host, picks out the wedged ones,
// takes and explains their goroutine stacks, and repairs them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"containerd-shim.v1/cmd/shimctl/internal/daemon"
	"containerd-shim.v1/cmd/shimctl/internal/repair"
	"containerd-shim.v1/cmd/shimctl/internal/sanitize"
	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/cmd/shimctl/internal/stacks"
	"containerd-shim.v1/cmd/shimctl/internal/takeover"
)

var (
	version  = "unknown"
	revision = ""
)

// Exit statuses that all verbs share; check and repair add to them.
const (
	exitOK    = 0
	exitSome  = 1  // done, and something is wrong or has failed: each verb says what
	exitCheck = 2  // could not be done: rights, no such shim
	exitUsage = 64 // EX_USAGE
)

// verb is one command of shimctl.
type verb struct {
	name, args, short, long string
	flags                   func(*flag.FlagSet) func(context.Context, []string) int
}

// minor are the commands about shimctl itself. They have no flags.
var minor = []struct{ name, args, short string }{
	{"help", "[COMMAND]", "say how a command is used"},
	{"version", "", "print the version and the commit"},
	{"manual", "", "print the manual page, in troff"},
	{"completion", "[bash|zsh|fish]", "print the completion for a shell"},
}

// program is shimctl with everything outside it that it uses; tests replace that.
type program struct {
	in        io.Reader
	out, errs sanitize.Writer // what is written to them may come from any process
	proc      string          // where /proc is mounted
	self      string          // this program, run again as the process that traces
	now       func() time.Time
	connect   func(*scan.Shim) (containerd, error) // to the shim's daemon
}

// containerd is a connection to a daemon.
type containerd interface {
	repair.Daemon
	io.Closer
}

func newProgram(in io.Reader, out, errs io.Writer) program {
	p := program{in: in, out: sanitize.Writer{W: out}, errs: sanitize.Writer{W: errs}, proc: "/proc", self: "/proc/self/exe", now: time.Now}
	p.connect = func(s *scan.Shim) (containerd, error) { return daemon.Of(p.proc, s) }
	return p
}

// taker takes the stacks of running shims.
func (p program) taker() stacks.Taker { return stacks.Taker{Proc: p.proc, Program: p.self} }

// tracer exchanges the programs of running shims.
func (p program) tracer() takeover.Tracer { return takeover.Tracer{Program: p.self} }

func main() {
	if childMain() {
		return
	}
	logrus.SetOutput(io.Discard) // the ttrpc client logs each late answer of a shim
	ctx, stop := signal.NotifyContext(context.Background(), interrupts()...)
	status := newProgram(os.Stdin, os.Stdout, os.Stderr).run(ctx, os.Args[1:])
	stop()
	os.Exit(status)
}

// interrupts are the signals after which nothing new is begun. A terminal that is gone is no
// reason to cut an exchange short, and none to stop for who has started shimctl with nohup.
func interrupts() []os.Signal {
	all := []os.Signal{os.Interrupt, unix.SIGTERM}
	if !signal.Ignored(unix.SIGHUP) {
		all = append(all, unix.SIGHUP)
	}
	return all
}

// run does one command line and returns its exit status.
func (p program) run(ctx context.Context, args []string) int {
	if len(args) == 0 {
		p.usage(p.errs)
		return exitUsage
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		if len(args) > 1 {
			return p.run(ctx, []string{args[1], "-h"})
		}
		p.usage(p.out)
		return exitOK
	case "version", "-v", "-version", "--version":
		fmt.Fprintln(p.out, strings.TrimSpace("shimctl "+version+" "+revision))
		return exitOK
	case "manual": // for the packages: shimctl manual > shimctl.1
		manual(p.out, p.verbs())
		return exitOK
	case "completion":
		shell := append(args, "bash")[1]
		if completions[shell] == nil || len(args) > 2 {
			return p.fail(exitUsage, "completion", fmt.Errorf("give one of bash, zsh and fish"))
		}
		completions[shell](p.out, p.verbs())
		return exitOK
	}
	for _, v := range p.verbs() {
		if v.name == args[0] {
			return p.do(ctx, v, args[1:])
		}
	}
	fmt.Fprintf(p.errs, "shimctl: unknown command %q; `shimctl help` lists them\n", args[0])
	return exitUsage
}

// do does one verb. Its flags may stand anywhere among the arguments.
func (p program) do(ctx context.Context, v verb, args []string) int {
	set := flag.NewFlagSet(v.name, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	do := v.flags(set)
	var rest []string
	for {
		err := set.Parse(args)
		if errors.Is(err, flag.ErrHelp) {
			v.help(p.out, set)
			return exitOK
		}
		if err != nil {
			fmt.Fprintf(p.errs, "shimctl %s: %v; `shimctl %s -h` lists the flags\n", v.name, err, v.name)
			return exitUsage
		}
		if args = set.Args(); len(args) == 0 {
			return do(ctx, rest)
		}
		rest, args = append(rest, args[0]), args[1:]
	}
}

func (v verb) help(out io.Writer, set *flag.FlagSet) {
	fmt.Fprintf(out, "usage: shimctl %s [flags] %s\n\n%s\n\nflags:\n", v.name, v.args, strings.TrimSpace(v.long))
	set.SetOutput(out)
	set.PrintDefaults()
}

func (p program) usage(w io.Writer) {
	fmt.Fprint(w, "shimctl finds, explains and repairs wedged containerd shims.\n\nusage: shimctl COMMAND [flags] [arguments]\n\n")
	for _, v := range p.verbs() {
		fmt.Fprintf(w, "  %-10s %s\n", v.name, v.short)
	}
	for _, m := range minor {
		fmt.Fprintf(w, "  %-10s %s\n", m.name, m.short)
	}
	fmt.Fprint(w, "\n`shimctl COMMAND -h` has flags, exit statuses and examples.\n"+
		"At 3 a.m.: shimctl check; shimctl explain PID; shimctl repair PID (says what it would do).\n")
}

// fail prints an error, with a hint if there is one, and returns the status.
func (p program) fail(status int, verb string, err error) int {
	fmt.Fprintf(p.errs, "shimctl %s: %v%s\n", verb, err, hint(err))
	return status
}

// hint says how to get a permission that is missing; it is "" for other errors.
func hint(err error) string {
	if !errors.Is(err, os.ErrPermission) {
		return ""
	}
	return " (needs root, with CAP_SYS_PTRACE; in a pod runAsUser: 0, capabilities add: [SYS_PTRACE], and hostPID: true)"
}
