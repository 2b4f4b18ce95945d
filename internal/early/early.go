// SPDX-License-Identifier: Apache-2.0

// Package early handles signals from the first moment that Go allows: it needs only
// os/signal, and so is initialised before nearly all others (Go 1.21 and later take
// them in the order of their paths). A program that was executed in place of another
// must not die of a SIGTERM before main.
package early

import (
	"os"
	"os/signal"
	"syscall"
)

// Ends receives the first signal that ends the shim.
var Ends <-chan os.Signal = notify(syscall.SIGTERM, syscall.SIGINT)

// These mean nothing to the shim, and would end it by default. They are not ignored,
// for what is ignored stays so in children. SIGQUIT has a second handler, from main
// on.
var _ = notify(syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR2, syscall.SIGALRM, syscall.SIGPIPE, syscall.SIGIO)

// notify returns a channel that holds one signal: the first is enough.
func notify(signals ...os.Signal) chan os.Signal {
	c := make(chan os.Signal, 1)
	signal.Notify(c, signals...)
	return c
}
