// SPDX-License-Identifier: Apache-2.0

// Package testmain is what the TestMain functions of packages share that start
// processes.
package testmain

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"go.uber.org/goleak"
)

// Build compiles the program that plays the tests' processes, into a new
// directory. The race detector would make a re-exec of the test binary slow.
func Build(pkg string) (program, dir string) {
	dir, err := os.MkdirTemp("", "test")
	Must(err)
	program = filepath.Join(dir, "child")
	build := exec.Command("go", "build", "-o", program, pkg)
	build.Stderr = os.Stderr
	Must(build.Run())
	return program, dir
}

// Must ends the process if there is an error.
func Must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// End removes dir and ends the process with the tests' status; with 1 if a
// goroutine is left, or err says what else is.
func End(status int, dir string, err error) {
	_ = os.RemoveAll(dir)
	if status == 0 {
		Must(err)
		Must(goleak.Find(goleak.IgnoreAnyFunction("os/signal.loop")))
	}
	os.Exit(status)
}
