// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// LoggerName is the name by which the helper is a Logger.
const LoggerName = "shimverify-logger"

// stayTime bounds the mode stay, for a harness that was killed.
const stayTime = 2 * time.Minute

// Logger is a logging process as a binary:// stdio URI names it: the
// shim starts it with the container's stdout on descriptor 3, its stderr on 4
// and a pipe on 5, and waits until that is closed or written to.
//
// Its first argument, the URI's key, says what it does, the second where its
// files go:
//
//	copy   says that it is ready, copies stdout and stderr to DIR/out and DIR/err
//	never  never says that it is ready, and reads until the end of both
//	die    says that it is ready and ends
//	stay   says that it is ready and does not end with its input; SIGKILL does
//
// It writes its environment to DIR/env and its pid to DIR/pid before anything
// else. As a shim gives it an environment of two variables only, it does not
// carry the mark of the case and has to end by itself: with the shim that
// started it, unless it is killed.
func Logger(args []string) int {
	if len(args) != 2 {
		fmt.Fprintln(os.Stderr, "logger: want MODE DIR, got", args)
		return 64
	}
	mode, dir := args[0], args[1]
	for name, text := range map[string]string{"env": strings.Join(os.Environ(), "\n"), "pid": strconv.Itoa(os.Getpid())} {
		aside := filepath.Join(dir, "."+name)
		if os.WriteFile(aside, []byte(text), 0o600) != nil || os.Rename(aside, filepath.Join(dir, name)) != nil {
			return 65
		}
	}
	out, errs, ready := os.NewFile(3, "stdout"), os.NewFile(4, "stderr"), os.NewFile(5, "ready")
	// Open to the end: the garbage collector closes a file that nothing refers to.
	defer runtime.KeepAlive([]*os.File{out, errs, ready})
	if mode != "never" {
		_ = ready.Close() // it may have no other end any more
	}
	switch mode {
	case "die":
		return 0
	case "stay":
		signal.Ignore(syscall.SIGTERM)
		time.Sleep(stayTime)
		return 0
	}
	done := make(chan struct{}) // receives once per stream
	for name, from := range map[string]*os.File{"out": out, "err": errs} {
		go func() {
			save(filepath.Join(dir, name), from)
			done <- struct{}{}
		}()
	}
	<-done
	<-done
	return 0
}

func save(path string, from io.Reader) {
	to, err := os.Create(path)
	if err != nil {
		return
	}
	_, _ = io.Copy(to, from) // ends with the stream; what is missing the check sees
	_ = to.Close()
}
