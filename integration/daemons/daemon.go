// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"containerd-shim.v1/integration/harness/wait"
)

const (
	// startLimit bounds the start of a daemon, which takes half a second on an idle
	// machine.
	startLimit = 30 * time.Second
	// stopLimit bounds its orderly end; dockerd gives each container 10 s to stop.
	stopLimit = 20 * time.Second
	// removeLimit bounds the removal of all containers that are left.
	removeLimit = 3 * time.Minute
)

// daemon is one running containerd or dockerd.
type daemon struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when the process was reaped and err is set
	err  error
}

// startDaemon starts cmd with its output appended to the file log, and in a process
// group of its own, so that a ^C at the terminal does not reach it before Close does.
func startDaemon(cmd *exec.Cmd, log string) (*daemon, error) {
	out, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	d := &daemon{cmd: cmd, log: log, done: make(chan struct{})}
	go func() {
		d.err = cmd.Wait()
		close(d.done)
	}()
	return d, nil
}

// ready waits until probe succeeds. If it never does, the error has the last one of
// probe and the end of the log.
func (d *daemon) ready(probe func() error) error {
	var last error
	ok := wait.Until(startLimit, func() bool {
		select {
		case <-d.done:
			return true
		default:
		}
		last = probe()
		return last == nil
	})
	if ok && last == nil {
		return nil
	}
	return errors.Join(fmt.Errorf("%s did not come up: %w", d.cmd.Path, errors.Join(last, d.ended())), errors.New(tail(d.log, 10)))
}

// answers waits until a client's command succeeds.
func (d *daemon) answers(client func() *exec.Cmd) error {
	return d.ready(func() error { _, err := output(client()); return err })
}

// ended returns an error if the process has ended, nil while it runs.
func (d *daemon) ended() error {
	select {
	case <-d.done:
		return fmt.Errorf("it ended: %v", d.err)
	default:
		return nil
	}
}

// stop sends sig and waits for the end of the process. After stopLimit it sends SIGKILL
// and returns an error.
func (d *daemon) stop(sig syscall.Signal) error {
	if err := d.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-d.done:
		return nil
	case <-time.After(stopLimit):
	}
	_ = d.cmd.Process.Kill() // the only error left is "already finished"
	<-d.done
	return fmt.Errorf("%s ignored %v for %v", d.cmd.Path, sig, stopLimit)
}

// tail returns the last n lines of a file, or the error of reading it.
func tail(file string, n int) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
