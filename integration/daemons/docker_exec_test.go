// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/console"
)

// dockerd 20.10 answers 126 whenever an exec cannot be started, and the client prints
// the reason, which came from runc through the shim, exactly once: what runc itself
// writes must not appear as the process's output (F23).
func TestDockerExecExitCodes(t *testing.T) {
	id := container(t, shared, nil, "sleep", "100000")
	for _, c := range []struct {
		argv []string
		code int
		text string // what the client is told
	}{
		{[]string{"true"}, 0, ""},
		{[]string{"sh", "-c", "exit 42"}, 42, ""},
		{[]string{"sh", "-c", "exit 255"}, 255, ""},
		{[]string{"sh", "-c", "kill -TERM $$"}, 143, ""},
		{[]string{"sh", "-c", "kill -KILL $$"}, 137, ""},
		{[]string{"nosuchbinary"}, 126, "executable file not found"},
		{[]string{"/no/such/binary"}, 126, "no such file or directory"},
		{[]string{"/etc/passwd"}, 126, "permission denied"},
	} {
		got := do(t, docker(t, append([]string{"exec", id}, c.argv...)...))
		if all := got.stdout + got.stderr; got.code != c.code || c.text != "" && strings.Count(all, c.text) != 1 {
			t.Errorf("exec %q: got %v, want exit %d and %q once", c.argv, got, c.code, c.text)
		}
	}
}

func TestDockerExecSeparatesStreams(t *testing.T) {
	id := container(t, shared, nil, "sleep", "100000")
	got := do(t, docker(t, "exec", id, "sh", "-c", "echo out; echo err >&2"))
	if want := (result{0, "out\n", "err\n"}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestDockerExecHasUserEnvAndDirectory(t *testing.T) {
	id := container(t, shared, nil, "sleep", "100000")
	got := must(t, docker(t, "exec", "--user", "nobody", "--env", "COLOUR=blue", "--workdir", "/tmp", id,
		"sh", "-c", "id -un; echo $COLOUR; pwd"))
	if want := "nobody\nblue\n/tmp"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDockerExecReadsStdinToItsEnd(t *testing.T) {
	id := container(t, shared, nil, "sleep", "100000")
	cmd := docker(t, "exec", "-i", id, "sh", "-c", "cat; echo end")
	cmd.Stdin = strings.NewReader("one\ntwo\n")
	if got, want := must(t, cmd), "one\ntwo\nend"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDockerExecCarries64MiBThroughStdinAndStdout(t *testing.T) {
	id := container(t, shared, nil, "sleep", "100000")
	carries(t, docker(t, "exec", "-i", id, "cat"))
}

func TestDockerExecDetachedRunsOn(t *testing.T) {
	id := container(t, shared, nil, "sleep", "100000")
	must(t, docker(t, "exec", "--detach", id, "sh", "-c", "echo done > /result"))
	eventually(t, 10*time.Second, "the detached exec has written its file", func() bool {
		return do(t, docker(t, "exec", id, "cat", "/result")).stdout == "done\n"
	})
	eventually(t, 10*time.Second, "docker has forgotten every exec", func() bool {
		return inspect(t, shared, id, "{{.ExecIDs}}") == "[]"
	})
}

// screen is a client on a pseudo terminal.
type screen struct {
	cmd    *exec.Cmd
	master console.Console

	mu   sync.Mutex
	text strings.Builder
}

// onTerminal starts cmd with a new terminal of the given size as its stdio.
func onTerminal(t *testing.T, cmd *exec.Cmd, rows, columns uint16) *screen {
	t.Helper()
	master, path, err := console.NewPty()
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	s := &screen{cmd: cmd, master: master}
	s.resize(t, rows, columns)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			s.mu.Lock()
			s.text.Write(buf[:n])
			s.mu.Unlock()
			if err != nil {
				return // EIO once the last holder of the slave is gone
			}
		}
	}()
	t.Cleanup(func() { _ = master.Close() })
	return s
}

func (s *screen) resize(t *testing.T, rows, columns uint16) {
	t.Helper()
	if err := s.master.Resize(console.WinSize{Height: rows, Width: columns}); err != nil {
		t.Fatal(err)
	}
}

func (s *screen) keys(t *testing.T, text string) {
	t.Helper()
	if _, err := s.master.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

func (s *screen) shows(t *testing.T, text string) {
	t.Helper()
	eventually(t, 20*time.Second, fmt.Sprintf("%q on the terminal", text), func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return strings.Contains(s.text.String(), text)
	})
}

// ends waits for the client's end, and checks its exit status.
func (s *screen) ends(t *testing.T, want int) {
	t.Helper()
	if got := s.wait(); got != want {
		t.Errorf("got exit %d, want %d", got, want)
	}
}

func (s *screen) wait() int {
	_ = s.cmd.Wait() // its exit code is what counts
	return s.cmd.ProcessState.ExitCode()
}

// sizes prints the terminal's size whenever it changes, until it reads "quit".
const sizes = `old=; while :; do new=$(stty size); [ "$new" = "$old" ] || echo "size=$new"; old=$new; read -t 1 line; [ "$line" = quit ] && exit 11; done`

func TestDockerExecTerminalResizesAndEchoes(t *testing.T) {
	id := container(t, shared, nil, "sleep", "100000")
	s := onTerminal(t, docker(t, "exec", "-it", id, "sh", "-c", sizes), 33, 101)
	s.shows(t, "size=33 101")
	s.resize(t, 44, 122)
	// The kernel signals only the terminal's foreground group. docker is not in it,
	// because here it has no controlling terminal.
	if err := s.cmd.Process.Signal(syscall.SIGWINCH); err != nil {
		t.Fatal(err)
	}
	s.shows(t, "size=44 122")
	s.keys(t, "quit\r")
	s.ends(t, 11)
}

func TestDockerRunTerminalInterruptsOnControlC(t *testing.T) {
	quiet(t, shared)
	cmd := foreground(t, []string{"-it"}, "sh", "-c", "trap 'echo caught; exit 12' INT; echo ready; while :; do sleep 0.1; done")
	s := onTerminal(t, cmd, 24, 80)
	s.shows(t, "ready")
	s.keys(t, "\x03")
	s.shows(t, "caught")
	s.ends(t, 12)
}

func TestDockerRunCarries64MiBThroughStdinAndStdout(t *testing.T) {
	quiet(t, shared)
	carries(t, foreground(t, []string{"-i", "--log-driver", "none"}, "cat"))
}
