// SPDX-License-Identifier: Apache-2.0

// Command guest is what runs under the shim in the flood test: the
// container's init, the exec'd process, and the stand-in for `containerd
// publish`. One static binary, so that the test needs no image.
//
//	guest init             wait until killed
//	guest exit FILE        write the time to FILE and exit
//	guest [...] publish    record one event in the directory FLOOD_EVENTS
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case slices.Contains(args, "publish"):
		return publish(os.Getenv("FLOOD_EVENTS"))
	case len(args) == 1 && args[0] == "init":
		select {
		case <-time.After(time.Hour): // a bound, should the test die
		}
		return nil
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
