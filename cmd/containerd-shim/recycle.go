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

// giveBack gives memory back in a pause after many calls: what the Go runtime lets
// go of, and with -recycle, where that is not enough, all that a new program does
// not need.
func (p *program) giveBack() {
	p.sup.DropEnded()
	debug.FreeOSMemory()
	if p.recycle == 0 || !p.born.IsZero() && time.Since(p.born) < recyclePause {
		return
	}
	if size := anonymous(); size > p.recycle {
		logrus.WithField("bytes", size).Debug("recycle")
		select {
		case p.grown <- struct{}{}:
		default: // it is told already
		}
	}
}

// exchangeSelf hands over to the same program, unless the shim is busy: it is tried
// once. It returns if it fails.
func (p *program) exchangeSelf() {
	self, err := sameProgram()
	if err != nil {
		logrus.WithError(err).Warn("the program is not recycled")
		return
	}
	_ = p.exchange(self, 0) // the error was logged
}

// sameProgram returns the path of this program's file. Where another file has taken
// its place nobody has asked for that one.
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
		return "", fmt.Errorf("%s is another program by now", path)
	}
	return path, nil
}

// begun notes that this program has taken over. One that begins with more than it
// may have would gain nothing by being recycled.
func (p *program) begun() {
	p.born = time.Now()
	if size := anonymous(); p.recycle != 0 && size > p.recycle {
		logrus.WithField("bytes", size).Warn("-recycle: a new program has more than that; it is not recycled again")
		p.recycle = 0
	}
}

// anonymous returns how many bytes of anonymous memory the program has, 0 if that
// is not known (proc(5), statm: resident and shared pages).
func anonymous() uint64 {
	text, _ := os.ReadFile("/proc/self/statm") // see above
	fields := strings.Fields(string(text))
	if len(fields) < 3 {
		return 0
	}
	resident, _ := strconv.ParseUint(fields[1], 10, 64) // they are numbers
	shared, _ := strconv.ParseUint(fields[2], 10, 64)
	return (resident - min(shared, resident)) * uint64(os.Getpagesize())
}
