// SPDX-License-Identifier: Apache-2.0

package stacks

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/cmd/shimctl/internal/scan"
)

// TracerArg is the first argument of the child process that traces.
const TracerArg = "__trace"

// trace runs the tracer in a child process and kills it if it hangs: a tracer that
// hangs could hold the shim, a dead one cannot.
func (t Taker) trace(ctx context.Context, s *scan.Shim) ([]byte, TraceStats, error) {
	var stats TraceStats
	if s.Tracer != 0 {
		return nil, stats, &Refused{fmt.Sprintf("process %d traces it already", s.Tracer)}
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, t.Program, TracerArg, strconv.Itoa(s.PID), strconv.FormatUint(s.StartTicks, 10)) // SIGKILL at the limit
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	done := make(chan error, 1) // one result, from the thread that lives until it is there: Pdeathsig is of the thread
	go runLocked(cmd, done)
	if err := <-done; err != nil {
		if ctx.Err() != nil {
			return nil, stats, fmt.Errorf("%w; the tracer was ended and the shim runs on", errNothing)
		}
		if text := strings.TrimSpace(stderr.String()); text != "" {
			if strings.Contains(text, unix.EPERM.Error()) {
				return nil, stats, fmt.Errorf("%s: %w", text, unix.EPERM)
			}
			return nil, stats, errors.New(text)
		}
		return nil, stats, err
	}
	if err := json.Unmarshal(stderr.Bytes(), &stats); err != nil {
		return nil, stats, fmt.Errorf("the tracer's statistics: %w", err)
	}
	return stdout.Bytes(), stats, nil
}
