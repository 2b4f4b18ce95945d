// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/cmd/shimctl/internal/stacks"
)

// Limits of the parent.
const (
	traceLimit = 10 * time.Second       // for one attempt; then the tracer is killed, which lets the shim go
	between    = 100 * time.Millisecond // pause between two attempts at a busy shim
	drainAfter = 3                      // attempts
	mostDrains = 6                      // they hold calls, and a probe may wait for one
)

// ErrTracer is wrapped by the error if the tracer ended without an Outcome after it had printed
// Commit: the shim runs the old program, or the new one, or it has ended in between.
var ErrTracer = errors.New("the tracer has ended")

// Tracer runs the tracer, a child process.
type Tracer struct {
	// Program is run with Arg as its argument, and calls Main: shimctl itself.
	Program string
}

// Run makes attempts until the shim is no longer busy, or patience is over, and returns
// the outcome of the last one. It fills in PID, StartTicks and ID of req. An error is for an
// exchange without an outcome; what has kept it from beginning is in Outcome.Error.
func (t Tracer) Run(ctx context.Context, s *scan.Shim, req Request, patience time.Duration) (*Outcome, error) {
	req.PID, req.StartTicks, req.ID = s.PID, s.StartTicks, s.ID
	defer stacks.Drain("/proc", s)()
	deadline := time.Now().Add(patience)
	for tries, drains := 0, 0; ; tries++ {
		// The calls of a wedged shim do not end.
		req.Drain = !req.Wedged && !req.Dry && drains < mostDrains && (req.Drain || tries >= drainAfter)
		outcome, err := t.attempt(ctx, s, &req)
		if err != nil || !outcome.Busy && !outcome.Traced || time.Now().After(deadline) {
			return outcome, err
		}
		pause := between
		if req.Drain { // as long as the calls were held
			drains++
			pause = max(pause, outcome.Held)
		}
		select {
		case <-ctx.Done():
			return outcome, nil
		case <-time.After(pause):
		}
	}
}

func (t Tracer) attempt(ctx context.Context, s *scan.Shim, req *Request) (*Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, traceLimit)
	defer cancel()
	in, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, t.Program, Arg) // SIGKILL at the limit
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL, Setpgid: true} // a terminal's ^C is not for it
	done := make(chan error, 1)
	go func() { // the kernel sends the parent death signal when the thread that forked ends
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		done <- cmd.Run()
	}()
	err = <-done
	answer, committed := bytes.CutPrefix(stdout.Bytes(), []byte(Commit+"\n"))
	outcome := new(Outcome)
	if json.Unmarshal(answer, outcome) == nil {
		return outcome, nil
	}
	if err = errors.Join(err, ctx.Err()); err == nil {
		err = errors.New("it has said nothing")
	}
	err = fmt.Errorf("%w: %w %s", ErrTracer, err, strings.TrimSpace(stderr.String()))
	if !committed {
		// A signal that the tracer had just taken is lost with it. If it was that of an
		// exit, a shim of upstream's would not learn of it before the next one.
		_ = scan.Signal("/proc", s, unix.SIGCHLD) // it may have ended
		return &Outcome{Error: err.Error() + "; nothing was changed"}, nil
	}
	return nil, err
}

// ErrRefused is wrapped by the error of an Outcome that is Refused.
var ErrRefused = errors.New("refused")

// ErrBusy is wrapped by the error of an Outcome that is Busy.
var ErrBusy = errors.New("busy")

// Hopeless reports whether the error of a Swap of a wedged shim says that another attempt is
// not likely to succeed: it is refused, or was busy until patience was over. Others may pass:
// somebody else was tracing it, a disk was full, the machine too slow.
func Hopeless(err error) bool { return errors.Is(err, ErrRefused) || errors.Is(err, ErrBusy) }

// Err returns the outcome's error, or nil. It wraps os.ErrPermission if a right is missing.
func (o *Outcome) Err() error {
	switch {
	case o.Error == "":
		return nil
	case o.Denied:
		return fmt.Errorf("%s: %w", o.Error, os.ErrPermission)
	case o.Refused:
		return fmt.Errorf("%w: %s", ErrRefused, strings.TrimPrefix(o.Error, ErrRefused.Error()+": "))
	case o.Busy:
		return fmt.Errorf("%w: %s", ErrBusy, strings.TrimPrefix(o.Error, ErrBusy.Error()+": "))
	}
	return errors.New(o.Error)
}
