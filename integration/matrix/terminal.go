// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"

	"github.com/containerd/console"

	"containerd-shim.v1/integration/harness/wait"
)

const rows, columns = 31, 99

// atSize waits for its terminal to have that size, which a client sets after the start,
// and then for a line.
var atSize = fmt.Sprintf(`until [ "$(stty size)" = "%d %d" ]; do sleep 0.1; done; echo sized; read line; [ "$line" = quit ] && exit 11`, rows, columns)

// onTerminal runs a client whose command is atSize on a new terminal.
func onTerminal(cmd *exec.Cmd) error {
	master, path, err := console.NewPty()
	if err != nil {
		return err
	}
	defer master.Close()
	slave, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	if err := master.Resize(console.WinSize{Height: rows, Width: columns}); err != nil {
		slave.Close()
		return err
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	err = cmd.Start()
	slave.Close()
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var shown strings.Builder
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			mu.Lock()
			shown.Write(buf[:n])
			mu.Unlock()
			if err != nil {
				return // EIO once nobody has the slave open
			}
		}
	}()
	text := func() string { mu.Lock(); defer mu.Unlock(); return shown.String() }
	err = wait.For(soon, "it shows that it has the size", func() bool { return strings.Contains(text(), "sized") })
	if err == nil {
		_, err = master.Write([]byte("quit\r"))
	}
	if err != nil {
		_ = cmd.Process.Kill()
	}
	_ = cmd.Wait() // its exit code is what counts
	if err != nil {
		return fmt.Errorf("exec on a terminal: %w; it shows %q", err, text())
	}
	if got := cmd.ProcessState.ExitCode(); got != 11 {
		return fmt.Errorf("exec on a terminal: got exit %d, want 11; it shows %q", got, text())
	}
	return nil
}
