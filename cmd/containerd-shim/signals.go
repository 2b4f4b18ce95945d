// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/signal"
	"strings"
	"sync/atomic"

	"containerd-shim.v1/internal/guard"
	"containerd-shim.v1/internal/stackdump"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// What the shim does with signals:
//
//	SIGUSR1, SIGQUIT    write a stack dump
//	SIGTERM, SIGINT     kill and remove the container, then exit 0
//	SIGCHLD             reap
//	SIGHUP, SIGUSR2, SIGALRM, SIGPIPE, SIGIO
//	                    nothing
//
// All but the first are handled by package early and by the reaper.

// maxPendingDumps is how many signals may wait for their dump; the other signals of a
// burst are dropped.
const maxPendingDumps = 4

// handleDumps writes a stack dump for each SIGUSR1 or SIGQUIT from now on, to the log
// if no directory takes it. log may still be nil when it is called.
func handleDumps(w *stackdump.Writer, log *atomic.Pointer[logFIFO]) {
	labelGoroutines()
	dumps := make(chan os.Signal, maxPendingDumps)
	signal.Notify(dumps, unix.SIGUSR1, unix.SIGQUIT)
	go func() {
		for range dumps {
			// Whatever takes the logger's lock comes last, so that nobody who holds it
			// can keep the stacks from being written.
			path := ""
			err := guard.Call("stack dump", func() (err error) {
				text := w.Take()
				if path, err = w.Save(text); path == "" {
					log.Load().writeStacks(text)
				}
				return err
			})
			if path != "" {
				logrus.WithField("file", path).Info("stack dump written")
			}
			if err != nil {
				logrus.WithError(err).Error("stack dump")
			}
		}
	}()
}

// labelGoroutines makes stack dumps show profiling labels, here the RPC and
// the process id of each goroutine (GODEBUG=tracebacklabels=1, since Go 1.26;
// go.mod cannot set it). The reaper's Monitor removes GODEBUG from the environment
// of children.
func labelGoroutines() {
	value := "tracebacklabels=1"
	switch old := os.Getenv("GODEBUG"); {
	case strings.Contains(old, value): // set by the program that this one has replaced
		return
	case old != "":
		value = old + "," + value
	}
	_ = os.Setenv("GODEBUG", value) // if it fails, dumps merely lack the labels
}
