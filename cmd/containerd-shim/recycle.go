// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
)

// recyclePause is for how long a program that has taken over from another is not
// recycled.
const recyclePause = 10 * time.Minute

// giveBack gives memory back to the kernel in a pause after many calls: the Go
// runtime's free heap, and, if that is not enough for -recycle, everything that a new
// program would not need, by asking the serving goroutine for one.
func (p *program) giveBack() {
	p.sup.DropEnded()
	debug.FreeOSMemory()
	touchSignalStacks() // those of the threads that the calls have made
	if p.recycle == 0 || !p.born.IsZero() && time.Since(p.born) < recyclePause {
		return
	}
	if size := anonymous(); size > p.recycle {
		logrus.WithField("bytes", size).Debug("recycle")
		select {
		case p.grown <- struct{}{}:
		default: // it was asked already
		}
	}
}

// exchangeSelf executes the same program anew. It tries once, and gives up if the shim
// is busy. It returns only on failure, which it logs.
func (p *program) exchangeSelf() {
	self, err := sameProgram()
	if err != nil {
		logrus.WithError(err).Warn("the program is not recycled")
		return
	}
	_ = p.exchange(self, 0) // the error was logged
}

// sameProgram returns the path of this program's file. It is an error if another file
// is there by now, because nobody has asked for that program.
func sameProgram() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", err
	}
	running, err := os.Stat("/proc/self/exe")
	if err != nil {
		return "", err
	}
	if there, err := os.Stat(path); err != nil || !os.SameFile(running, there) {
		return "", fmt.Errorf("another program is at %s by now", path)
	}
	return path, nil
}

// begun notes that this program has taken over. If it has more memory than -recycle
// allows from the beginning, recycling would gain nothing, and is switched off.
func (p *program) begun() {
	p.born = time.Now()
	if size := anonymous(); p.recycle != 0 && size > p.recycle {
		logrus.WithField("bytes", size).Warn("-recycle: a new program has more than that; it is not recycled again")
		p.recycle = 0
	}
}

// anonymous returns how many bytes of anonymous memory the program has, or 0 if that
// is not known: the resident pages less the shared ones (proc(5), statm).
func anonymous() uint64 {
	text, _ := os.ReadFile("/proc/self/statm") // empty if it fails
	fields := strings.Fields(string(text))
	if len(fields) < 3 {
		return 0
	}
	resident, _ := strconv.ParseUint(fields[1], 10, 64) // they are numbers
	shared, _ := strconv.ParseUint(fields[2], 10, 64)
	return (resident - min(shared, resident)) * uint64(os.Getpagesize())
}
