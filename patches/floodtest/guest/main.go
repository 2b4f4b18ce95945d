// SPDX-License-Identifier: Apache-2.0

// Command guest is what runs under the shim in the flood test: the
// container's init, the exec'd process, and the stand-in for `containerd
// publish`. One static binary, so that the test needs no image.
//
//	guest init             wait until killed
//	guest exit FILE        write the time to FILE and exit
//	guest [...] publish    record one event in the directory FLOOD_EVENTS
//	guest orphans N FILE   leave N children behind, in the process group FILE names
//	gated-runc ...         FLOOD_RUNC, but the exec of "slow" waits for the file FLOOD_GATE
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// limit bounds the life of whatever waits here, should the test die.
const limit = time.Hour

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case filepath.Base(os.Args[0]) == "gated-runc":
		return gatedRunc(args)
	case slices.Contains(args, "publish"):
		return publish(os.Getenv("FLOOD_EVENTS"))
	case len(args) == 1 && args[0] == "init":
		<-time.After(limit)
		return nil
	case len(args) == 3 && args[0] == "orphans":
		return orphans(args[1], args[2])
	case len(args) == 2 && args[0] == "exit":
		return os.WriteFile(args[1], []byte(strconv.FormatInt(time.Now().UnixNano(), 10)), 0o600)
	}
	return fmt.Errorf("unknown arguments %q", args)
}

// publish keeps the event under a name that is its own, so that
// concurrent publishers need no lock.
func publish(dir string) error {
	event, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%d-%d", time.Now().UnixNano(), os.Getpid())
	return os.WriteFile(filepath.Join(dir, name), event, 0o600)
}

// orphans starts n children that outlive it. In a container without a pid
// namespace of its own they become the shim's.
func orphans(n, file string) error {
	count, err := strconv.Atoi(n)
	if err != nil {
		return err
	}
	if syscall.Getpgrp() != os.Getpid() { // else runc has made it a leader
		if err := syscall.Setpgid(0, 0); err != nil {
			return err
		}
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	for range count {
		if _, err := os.StartProcess("/guest", []string{"/guest", "init"}, &os.ProcAttr{Files: []*os.File{null, null, null}}); err != nil {
			return err
		}
	}
	return os.WriteFile(file, []byte(strconv.Itoa(os.Getpid())), 0o600)
}

// gatedRunc tells that it waits by making FLOOD_GATE.waiting. exec keeps the
// pid, so that the shim waits for runc itself.
func gatedRunc(args []string) error {
	gate := os.Getenv("FLOOD_GATE")
	slow := slices.ContainsFunc(args, func(a string) bool { return strings.HasSuffix(a, "/slow.pid") })
	if slow && slices.Contains(args, "exec") {
		if err := os.WriteFile(gate+".waiting", nil, 0o600); err != nil {
			return err
		}
		for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			if _, err := os.Stat(gate); err == nil {
				break
			}
		}
	}
	runc := os.Getenv("FLOOD_RUNC")
	return syscall.Exec(runc, append([]string{runc}, args...), os.Environ())
}
