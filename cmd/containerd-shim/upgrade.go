// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"containerd-shim.v1/internal/early"
	"containerd-shim.v1/internal/errclass"
	"containerd-shim.v1/internal/state"
	"containerd-shim.v1/proc"
	"containerd-shim.v1/reaper"

	"github.com/containerd/errdefs"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

const (
	// stateFile is the file in the bundle through which a shim hands itself over. The
	// bundle exists as long as the shim, and no exec has a file of such a name.
	stateFile = ".shim.state.json"
	// restTime is how long the shim may take to come to rest. If it does not, its
	// work goes on, and the upgrade is refused. Meanwhile requests are not read for
	// stillTime, so that new ones do not keep the shim busy, and then read for as
	// long, because a runtime that hangs must not keep the shim from answering, and
	// so on by turns.
	restTime  = 10 * time.Second
	stillTime = time.Second
	// checkTime bounds the new program's check of the state.
	checkTime = 20 * time.Second
	// diskTime bounds each step on the state's file while the shim stands still.
	diskTime = 5 * time.Second
)

// upgrade executes binary in place of this program. It returns only if that cannot
// be done; the error says why, and nothing has changed.
func (p *program) upgrade(binary string) error { return p.exchange(binary, restTime) }

// exchange is upgrade with a limit for the shim to come to rest. The shim does so
// twice: first for a state that the new program, run as a child, has to read while
// everything goes on; then for the state with which the new program begins.
func (p *program) exchange(binary string, patience time.Duration) error {
	path := filepath.Join(p.bundle, stateFile)
	// After a failure the file is of no use; if the disk hangs it goes with the bundle.
	defer func() { _ = p.disk.do(diskTime, func() error { return os.Remove(path) }) }()
	args := append(withoutAdopt(os.Args), "-adopt", path)
	err := p.handOver(path, patience, func(*state.Shim) error { return nil })
	if err == nil {
		err = p.checkProgram(append([]string{binary}, append(args[1:], "-check")...))
	}
	if err == nil {
		err = p.handOver(path, patience, func(st *state.Shim) error {
			logrus.WithField("binary", binary).Info("the program is exchanged")
			return p.env.Reaper.Exec(context.Background(), binary, args, os.Environ(), p.keep(st), early.Ends)
		})
	}
	// execve(2) does not return.
	if errclass.Exhausted(err) { // as good as busy: neither the program nor the disk is to blame
		err = fmt.Errorf("%w: %w", err, errdefs.ErrUnavailable)
	}
	logrus.WithError(err).WithField("binary", binary).Warn("the program is not exchanged")
	return err
}

// handOver writes the shim's state to path and calls then, all while the shim stands
// still. Afterwards everything goes on.
func (p *program) handOver(path string, patience time.Duration, then func(*state.Shim) error) error {
	if err := p.rest(patience); err != nil {
		return fmt.Errorf("%w: %w", err, errdefs.ErrUnavailable)
	}
	defer p.sup.Thaw()
	st, err := p.sup.Save()
	if err != nil {
		return fmt.Errorf("%w: %w", err, errdefs.ErrUnavailable)
	}
	st.Writer = fmt.Sprintf("containerd-shim %s %s", version, revision)
	if err := st.Check(); err != nil {
		return err
	}
	if err := p.disk.do(diskTime, func() error { return state.Write(path, st) }); err != nil {
		return err
	}
	return then(st)
}

// rest makes the shim stand still; on success the caller must call Thaw. It tries once
// and then until patience is over, and gives up if a signal has told the shim to end.
func (p *program) rest(patience time.Duration) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(stillTime) {
		ctx, cancel := context.WithTimeout(context.Background(), stillTime)
		err := p.sup.Freeze(ctx)
		cancel()
		switch {
		case len(early.Ends) > 0:
			if err == nil {
				p.sup.Thaw()
			}
			return errors.New("the shim was told to end")
		case err == nil, !time.Now().Before(deadline):
			return err
		}
	}
}

// adoptable is what -check prints if the state can be adopted. The status 0 alone
// would prove little: /bin/true ends with it, too.
const adoptable = "the state can be adopted"

// checkProgram runs the new program, with these arguments, to find out whether it can
// read the state.
func (p *program) checkProgram(args []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), checkTime)
	defer cancel()
	out, status, err := p.env.Monitor.Run(ctx, reaper.Command{Args: args, Env: os.Environ()})
	switch {
	case errclass.Exhausted(err):
		return fmt.Errorf("%s: %w", args[0], err)
	case err == nil && status == proc.NeverExecuted && len(out) == 0:
		return &os.PathError{Op: "execve", Path: args[0], Err: unix.ENOMEM}
	case err != nil:
		return fmt.Errorf("%s: %w: %w", args[0], err, errdefs.ErrInvalidArgument)
	case status != 0 || !bytes.Contains(out, []byte(adoptable)):
		return fmt.Errorf("%s cannot take over (status %d): %.512s: %w", args[0], status, bytes.TrimSpace(out), errdefs.ErrInvalidArgument)
	}
	return nil
}

// keep returns the descriptors that the new program gets. The log's FIFOs are among
// them only so that they stay open until it has opened them again: a daemon that reads
// the log must not see its end.
func (p *program) keep(st *state.Shim) (fds []int) {
	for _, fd := range st.FDs() {
		fds = append(fds, int(fd))
	}
	return append(fds, p.logs...)
}

// withoutAdopt returns the arguments without -adopt and its file.
func withoutAdopt(args []string) (rest []string) {
	for i := 0; i < len(args); i++ {
		if args[i] == "-adopt" {
			i++
			continue
		}
		rest = append(rest, args[i])
	}
	return rest
}
