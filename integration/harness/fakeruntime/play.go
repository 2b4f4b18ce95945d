// SPDX-License-Identifier: Apache-2.0

package fakeruntime

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"containerd-shim.v1/integration/harness/guest"
)

// player does the steps of one call.
type player struct {
	dir  string
	runc string
	inv  invocation
}

// play does one step; done ends the call with status.
func (p *player) play(s Step) (status int, done bool, err error) {
	switch s.Op {
	case Gate:
		return 0, false, p.gate(s.Name)
	case Stop:
		if err = p.arrive(s.Name); err == nil {
			err = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		}
	case Stdout:
		_, err = os.Stdout.Write(bytes.Repeat([]byte("o"), s.N))
	case Stderr:
		_, err = os.Stderr.Write(bytes.Repeat([]byte("e"), s.N))
	case Byte:
		_, err = os.Stderr.Write([]byte{byte(s.N)})
	case Log:
		err = p.logError(s.Text)
	case RawLog:
		err = p.appendLog(s.Text)
	case Exit:
		if s.Text != "" {
			fmt.Fprintln(os.Stderr, s.Text)
		}
		return s.N, true, nil
	case Real:
		return p.real()
	case Hold:
		cmd := sleeper()
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		err = p.start(cmd)
	case Spawn:
		for range s.N {
			if err = p.start(sleeper(strings.Fields(s.Text)...)); err != nil {
				break
			}
		}
	case Process, Sibling:
		return 0, false, p.process(s)
	case PidFile:
		if s.Text == "" {
			err = os.Remove(p.inv.pidFile)
		} else {
			err = os.WriteFile(p.inv.pidFile, []byte(s.Text), 0o644)
		}
	case NextPid:
		err = os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(s.N-1)), 0)
	case Pids:
		err = printPids(s.N)
	case Print:
		_, err = fmt.Print(s.Text)
	case Without:
		p.inv.args = slices.DeleteFunc(p.inv.args, func(a string) bool { return a == s.Text })
	default:
		err = errors.New("unknown operation")
	}
	return 0, false, err
}

// gate announces the arrival and then blocks in open(2) of a FIFO until the
// harness opens the other end; a killed call leaves nothing behind.
func (p player) gate(name string) error {
	if err := p.arrive(name); err != nil {
		return err
	}
	fifo, err := os.Open(filepath.Join(p.dir, name))
	if err != nil {
		return err
	}
	return fifo.Close()
}

// arrive writes this call's pid into a file that the harness looks at.
func (p player) arrive(name string) error {
	f, err := os.OpenFile(filepath.Join(p.dir, name+".arrived"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%d\n", os.Getpid())
	return errors.Join(err, f.Close())
}

func (p player) logError(text string) error {
	line, _ := json.Marshal(map[string]string{"level": "error", "msg": text, "time": "2026-01-01T00:00:00Z"})
	return p.appendLog(string(line) + "\n")
}

func (p player) appendLog(text string) error {
	f, err := os.OpenFile(p.inv.log, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(text)
	return err
}

func (p player) real() (int, bool, error) {
	if p.runc == "" {
		return 0, false, p.bare()
	}
	cmd := exec.Command(p.runc, p.inv.args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		status := exit.ExitCode()
		if status < 0 {
			status = 98 // ended by a signal: not a status that runc uses
		}
		return status, true, nil
	}
	return 0, false, err
}

func sleeper(steps ...string) *exec.Cmd {
	if len(steps) == 0 {
		steps = []string{"sleep"}
	}
	cmd := exec.Command("/proc/self/exe", steps...)
	cmd.Args[0] = guest.InitName
	return cmd
}

// start starts cmd, which the shim inherits when this call ends.
func (p player) start(cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(p.dir, spawnedFile), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = fmt.Fprintf(f, "%d\n", cmd.Process.Pid)
	return err
}

// process starts what the shim takes for the container's or the exec's process: a
// child that becomes the shim's when this call ends, because the shim is a
// subreaper. If Text is a pid, the process has to get that one; another process may
// take it first, so it is tried again.
func (p player) process(s Step) error {
	const tries = 200
	want, _ := strconv.Atoi(s.Text)
	for range tries {
		steps := []string{"exit:" + strconv.Itoa(s.N)}
		if s.Name != "" {
			steps = []string{"gate:" + filepath.Join(p.dir, s.Name), steps[0]}
		}
		if want != 0 {
			if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(want-1)), 0); err != nil {
				return err
			}
		}
		cmd := sleeper(steps...)
		if s.Op == Sibling {
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_PARENT}
		}
		if err := p.start(cmd); err != nil {
			return err
		}
		if want != 0 && cmd.Process.Pid != want {
			if err := cmd.Process.Kill(); err != nil {
				return err
			}
			_ = cmd.Wait() // it was killed: only to reap it
			continue
		}
		if p.inv.pidFile == "" {
			return nil
		}
		return os.WriteFile(p.inv.pidFile, []byte(strconv.Itoa(cmd.Process.Pid)), 0o644)
	}
	return fmt.Errorf("pid %d "+NoPid, want)
}

func printPids(n int) error {
	pids := make([]int, n)
	for i := range pids {
		pids[i] = i + 1
	}
	return json.NewEncoder(os.Stdout).Encode(pids)
}
